/* Declarations that the files of the configuration share. Private to config*.c and its tests. Each
 * file calls only those above it:
 *
 *   config_address.c  addresses to listen on, URLs to forward to
 *   config_type.c     the types of settings: how a value is read, checked and written
 *   config_table.c    the settings, a row each, and how a row is found
 *   config_report.c   texts for the user: problems and notes, the dump
 *   config_read.c     the file as sections and entries (inih)
 *   config_env.c      the environment as further entries
 *   config_files.c    other files whose contents belong to the configuration
 *   config_secrets.c  their contents: API keys, passwords, certificates, clients' tokens
 *   config_check.c    conflicts between settings, and values that follow from them
 *   config_route.c    the upstreams of a route, and the route of a request
 *   config_manual.c   the reference of the settings, for --help and as a manual page
 *   config.c          loading, renewing and freeing a configuration */
#ifndef RETRYD_CONFIG_CONFIG_PRIVATE_H
#define RETRYD_CONFIG_CONFIG_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/str.h"
#include "config/config.h"

/* Returns the array with room for one more item, or NULL if out of memory. `count` is its present
 * number of items: its memory doubles at each power of two. */
static inline void *config_grow(void *items, unsigned count, size_t size)
{
    return count & (count - 1) ? items : realloc(items, (count ? 2 * (size_t)count : 1) * size);
}

/* --- rows ------------------------------------------------------------------------------------- */

enum config_type {
    CONFIG_DURATION,  /* uint64_t, milliseconds */
    CONFIG_SIZE,      /* uint64_t, bytes */
    CONFIG_INTEGER,   /* unsigned */
    CONFIG_DECIMAL,   /* double */
    CONFIG_PERCENT,   /* unsigned */
    CONFIG_YES_NO,    /* bool */
    CONFIG_ENUM,      /* an enum whose values are indexes into `choices` */
    CONFIG_SET,       /* unsigned; bit n stands for choices[n] */
    CONFIG_LIST,      /* struct string_list without duplicates */
    CONFIG_WEIGHTS,   /* struct string_list of whole numbers, up to CONFIG_WEIGHT_MAX */
    CONFIG_ADDRESSES, /* struct string_list of at least one address to listen on */
    CONFIG_ADDRESS,   /* char *, an address to listen on, or "off" */
    CONFIG_PATH,      /* char *, a file or folder */
    CONFIG_TOKEN,     /* char *, the name of a header */
    CONFIG_VARIABLE,  /* char *, the name of an environment variable */
    CONFIG_URL,       /* char *, an upstream's base URL */
    CONFIG_PROXY,     /* char *, a proxy's URL */
    CONFIG_BASE,      /* char *, a path prefix; "/" is kept as "" */
    CONFIG_GLOB,      /* char *, a pattern */
    CONFIG_PATH_GLOB, /* char *, a pattern for a path */
    CONFIG_SERVER,    /* char *, a server to connect to */
    CONFIG_PREFIX,    /* char *, the prefix of names */
    CONFIG_TEXT,      /* char *, any one line */
    CONFIG_HEADER,    /* struct config_pairs; the key is header.NAME */
    CONFIG_MODEL,     /* struct config_pairs; the key is model.NAME */
};

/* The struct that a row's offset is in. */
enum config_owner { OWNER_CONFIG, OWNER_UPSTREAM, OWNER_SETTINGS, OWNER_ROUTE };

/* One setting. */
struct config_row {
    const char *section;
    const char *key;
    enum config_type type;
    enum config_owner owner;
    size_t offset;
    uint64_t min, max;    /* in the type's unit; max 0: none */
    const char *fallback; /* the default as a user would write it; "": the setting may be empty */
    const char *const *choices; /* NULL-terminated */
    const char *zero_word;      /* a word for 0, such as "auto"; NULL: none */
    const char *zero_means;     /* the meaning of 0 or an empty value; NULL: help says it */
    bool restart;               /* a reload does not change it */
    const char *help;           /* one line */
};

struct config_section_row {
    const char *name;
    bool named;       /* [upstream NAME] */
    bool overridable; /* a route may set its keys too: retry.max_attempts */
    const char *help;
};

extern const struct config_row config_rows[];
extern const unsigned config_row_count;
extern const struct config_section_row config_sections[];
extern const unsigned config_section_count;

#define CONFIG_ROWS_MAX 96 /* more than config_row_count */

#define CONFIG_KEY_MAX 64 /* of "SECTION.KEY" */

/* Writes the row's key in a section of that kind: "url", or "retry.max_attempts" in a route.
 * Returns false if such a section does not have the key. */
bool config_row_key(const char *section, const struct config_row *row, char out[CONFIG_KEY_MAX]);

/* Returns the row of `key` in a section of that kind, or NULL. A [route] also has the rows of the
 * sections that it may override, as "retry.max_attempts". */
const struct config_row *config_row_find(const char *section, const char *key);
unsigned config_row_index(const struct config_row *row);
const struct config_section_row *config_section_find(const char *name);

/* Returns the section that a misspelt name is nearest to, or NULL. */
const char *config_section_nearest(const char *name);

/* Whether `typed` may be a misspelt `name`, and is nearer to it than `*far`, which starts at
 * CONFIG_FAR. `word` is the part of `name` that counts. */
#define CONFIG_FAR 40
bool config_name_nearer(const char *typed, const char *name, const char *word, size_t *far);

/* Writes a hint for an unknown key: "; did you mean x?" or "; it belongs in [retry]"; nothing if no
 * key is near. */
void config_key_hint(const char *section, const char *key, struct buf *out);

/* Returns the row's field. `owner` is the struct that the row's owner names. */
static inline void *config_field(const struct config_row *row, const void *owner)
{
    return (char *)(uintptr_t)owner + row->offset;
}

/* Whether the row's key is a prefix: header.NAME, model.NAME. */
bool config_row_is_prefix(const struct config_row *row);

/* Whether the value is a list, which may continue over indented lines. */
bool config_row_is_list(const struct config_row *row);

/* Whether `text`, a value for the row, may contain a secret and must not be shown. */
bool config_row_hides(const struct config_row *row, const char *text);

/* --- values ----------------------------------------------------------------------------------- */

#define CONFIG_VALUE_MAX (1024 * 1024) /* of a value's text */

/* The reason why a text is not a valid value. */
struct config_mistake {
    struct str found;     /* the part that is wrong */
    const char *expected; /* a valid value; NULL: see config_value_expected */
};

/* Parses `text` into the row's field of `owner`; a list is appended to. Returns 0, -ENOMEM, or
 * -EINVAL: then the mistake is filled in, and the field is unchanged, except that a list keeps the
 * items before the wrong one. */
int config_value_parse(const struct config_row *row, struct str text, void *owner,
                       struct config_mistake *ret_mistake);

/* Frees the field's value and leaves it empty. */
void config_value_clear(const struct config_row *row, void *owner);

/* Writes the value for config_value_parse, with secrets masked by "***". */
void config_value_text(const struct config_row *row, const void *owner, struct buf *out);

/* Whether two owners have the same value, secrets apart. */
bool config_value_same(const struct config_row *row, const void *a, const void *b);

/* Writes the expected kind of value: "a duration such as 250ms, 30s or 10m (at least 1ms)". */
void config_value_expected(const struct config_row *row, struct buf *out);

/* Writes the type and the bounds of a value: "duration, 1ms to 1h". */
void config_value_kind(const struct config_row *row, struct buf *out);

/* Writes the reference's text about a row. */
void config_row_describe(const struct config_row *row, struct buf *out);

/* --- addresses and URLs ----------------------------------------------------------------------- */

struct config_url {
    bool tls;
    struct str scheme;    /* empty with unix: */
    struct str authority; /* host[:port], as written */
    struct str host;      /* an IPv6 address keeps its brackets */
    struct str socket;    /* the path after unix: */
    struct str path;      /* without trailing slashes; has {model} at most once */
    struct str query;     /* without the ? */
};

#define CONFIG_LISTEN_MAX 16 /* addresses of [server] listen */

/* The checks return NULL if the text is valid, else a description of what is expected. */

/* An address to listen on. `ret_loopback` (may be NULL): whether only this machine can reach it. */
const char *config_address_check(struct str address, bool *ret_loopback);

/* An upstream's URL, a proxy's URL, a server to connect to (HOST:PORT, unix:/PATH). */
const char *config_url_parse(struct str url, struct config_url *ret_url);
const char *config_proxy_check(struct str url);
const char *config_server_check(struct str server);

/* Returns a valid upstream URL in its normal form: scheme in lower case, no trailing slash. The
 * caller frees it. NULL if out of memory. */
char *config_url_text(struct str url);

/* --- reports ---------------------------------------------------------------------------------- */

/* The kinds of a load's faults. The first of these that occurred decides errno. */
enum config_fault {
    FAULT_MEMORY,   /* ENOMEM */
    FAULT_VALUE,    /* EINVAL: a value, or the form of the file */
    FAULT_DENIED,   /* EACCES: the user may not read the file; FAULT_FILE is set too */
    FAULT_FILE,     /* ENOENT: the file cannot be read */
    FAULT_UPSTREAM, /* ENXIO: a route names an unknown upstream */
    FAULT_KEY,      /* ENOKEY: an API key or the Redis password */
    FAULT_COUNT,
};

struct config_line {
    unsigned line; /* 0: the file as a whole */
    unsigned order;
    char *text;
};

struct config_lines {
    struct config_line *items;
    unsigned count, total;
};

struct config_report {
    const char *path;               /* NULL: the built-in defaults */
    const struct config_text *text; /* NULL: no line is a variable */
    struct config_lines problems, notes;
    bool faults[FAULT_COUNT];
    bool examined; /* for --check and --dump-config: a missing credential is no problem */
};

/* The place in the file that a message is about. */
struct config_place {
    unsigned line;     /* 0: the file as a whole */
    const char *title; /* of the section, "upstream openai"; NULL: the message names none */
    const char *group; /* "retry" if a route overrides retry.KEY; else NULL */
    const char *key;
};

void config_report_init(struct config_report *r, const char *path);
void config_report_deinit(struct config_report *r);

/* Add a line "FILE:LINE: [TITLE] KEY: ..." */
void config_problem(struct config_report *r, enum config_fault fault, struct config_place place,
                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void config_note(struct config_report *r, struct config_place place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void config_no_memory(struct config_report *r);

/* Whether there was a problem. */
bool config_report_bad(const struct config_report *r);

/* Appends the lines in the order of their numbers. Either buffer may be NULL. */
void config_report_write(struct config_report *r, struct buf *problems, struct buf *notes);

/* Returns the errno for the reported problems, or 0. */
int config_report_errno(const struct config_report *r);

/* Whether the text has a control character, also a tab. */
bool config_has_control(struct str text);

/* Writes `text` to `out` for use in a message, and returns `out`: in quotes, control characters
 * escaped, long text cut. A text that looks like a key is not shown. */
#define CONFIG_QUOTED_MAX 400
const char *config_quote(struct str text, char out[CONFIG_QUOTED_MAX]);

/* --- reading ---------------------------------------------------------------------------------- */

struct config_entry {
    char *key;
    char *value;
    unsigned line;
    bool continues; /* an indented line, which continues the value of the entry before it */
};

struct config_section {
    char *kind; /* "server", "upstream", ... */
    char *name; /* "" for a section without one */
    unsigned line;
    struct config_entry *entries;
    unsigned count;
};

/* Line numbers from here on stand for variables of the environment. */
#define CONFIG_LINE_VARIABLES (1u << 24)

struct config_text {
    struct config_section *sections;
    unsigned count;
    char **variables; /* the names, in the order of their lines */
    unsigned variable_count;
};

/* Reads the file into the empty `text`. Reports faults in the file's form, and continues after
 * them. */
void config_read(const char *path, struct config_text *text, struct config_report *r);
void config_text_deinit(struct config_text *text);

/* Appends the contents of a file. Returns 0 or -errno. */
int config_read_file(const char *path, struct buf *out);

/* Whether `name` may name an upstream or a route. */
bool config_is_name(struct str name);

/* Returns the index of a section, which is added if there is none. -1 if out of memory. */
int config_text_section(struct config_text *text, const char *kind, const char *name,
                        unsigned line);

/* Returns the line of a key in a section of that kind and name ("" for none), or 0. */
unsigned config_text_line(const struct config_text *text, const char *kind, const char *name,
                          const char *key);

/* Replaces the section's entries for the key. "models" stands for all model.NAME. */
void config_text_set(struct config_text *text, unsigned section, const char *key, const char *value,
                     unsigned line, struct config_report *r);

/* Returns the entries of the file and of the environment. */
const struct config_text *config_source_text(const struct config *c);

/* Adds the entries of the environment, which replace those of the file. */
void config_environment(struct config_text *text, struct config_report *r);

/* --- checks across settings ------------------------------------------------------------------- */

/* The lines of the settings of one section, or of all unnamed sections together. */
struct config_origin {
    struct config_report *report;
    const char *title;               /* "upstream openai"; NULL: the unnamed sections */
    unsigned line;                   /* of the section; 0: it is not in the file */
    unsigned lines[CONFIG_ROWS_MAX]; /* of each row's key; 0: not set */
};

/* Returns the line of a key, 0 if it is not set. */
unsigned config_key_line(const struct config_origin *o, const char *section, const char *key);

/* Returns the place of a key: its line or, if it is not set, that of its section. */
struct config_place config_place_of(const struct config_origin *o, const char *section,
                                    const char *key);

void config_check_listeners(const struct config *c, const struct config_origin *o);

/* Notes a spool_dir that is not usable. Creates a file there to find out. */
void config_check_spool(const struct config *c, const struct config_origin *o);
void config_check_settings(const struct route_settings *s, const struct config_origin *o);

/* Loads the password of the shared view, and checks [shared]. */
void config_finish_shared(struct config *c, const struct config_origin *o);

/* Fills in the parts of the URL, loads the keys and certificates, and checks the upstream. */
void config_finish_upstream(struct config *c, struct config_upstream *u,
                            const struct config_origin *o);

/* Finds the route's upstreams, and notes settings without effect. */
void config_finish_route(const struct config *c, struct config_route *route,
                         const struct config_origin *o);

/* --- files ------------------------------------------------------------------------------------ */

#define CONFIG_READING_MAX ((size_t)1024 * 1024)

/* A file while it is read. */
struct config_reading {
    struct config *config;
    struct config_place place; /* of the key that names the file */
    enum config_fault fault;   /* FAULT_KEY unless set otherwise before it is read */
    bool secret;     /* other users should not be able to read it; true unless set otherwise */
    size_t most;     /* bytes; CONFIG_READING_MAX unless set otherwise */
    struct str text; /* the contents */
    struct config_report *report; /* where problems go */
    const char *quoted;           /* the path, for messages */

    /* Used by config_files.c alone. */
    struct config_report *to, own;
    const char *remark; /* added to the message that the file cannot be read */
    unsigned index;     /* in the snapshot's files */
    bool found;
    char *space;     /* wiped before it is freed */
    char path[4096]; /* the path to open */
    char quote[CONFIG_QUOTED_MAX];
};

/* Begins to read the file that the setting `key` of [upstream], [shared] or [server] names, and
 * adds it to the snapshot's files. NULL if out of memory. */
struct config_reading *config_reading_new(struct config *c, const struct config_origin *o,
                                          const char *section, const char *key, const char *name);

/* During config_renew: whether the file is unchanged, so that it need not be read. */
bool config_reading_as_before(struct config_reading *f);

/* Reads the file. Returns false, after a report, if that failed, or if `f` is NULL. */
bool config_reading_read(struct config_reading *f);

/* Whether no problem was reported; false if `f` is NULL. */
bool config_reading_good(const struct config_reading *f);
struct config_file *config_reading_file(struct config_reading *f);

/* Wipes and frees it; NULL is fine. During config_renew, the problem becomes the file's. */
void config_reading_free(struct config_reading *f);

void config_files_free(struct config *c);

/* During config_renew: returns the same upstream of the previous configuration; else NULL. */
const struct config_upstream *config_upstream_before(const struct config *c,
                                                     const struct config_upstream *u);

/* Each loads the files and variables that settings of [upstream], [shared] or [server] name. During
 * config_renew, the previous contents are kept if a file is not usable. */
void config_load_keys(struct config *c, struct config_upstream *u, const struct config_origin *o);
void config_load_client(struct config *c, struct config_upstream *u, const struct config_origin *o);
void config_load_authorities(struct config *c, struct config_upstream *u,
                             const struct config_origin *o);
void config_load_proxy_password(struct config *c, struct config_upstream *u,
                                const struct config_origin *o);
void config_load_password(struct config *c, const struct config_origin *o);
void config_load_tokens(struct config *c, const struct config_origin *o);

#endif
