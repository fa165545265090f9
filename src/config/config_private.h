/* What the files of the configuration share. Private to config*.c and its tests.
 *
 *   config_table.c    the rows: what can be set
 *   config_type.c     the types of settings: text to field and back
 *   config_address.c  addresses to listen on, URLs to forward to
 *   config_read.c     a file to sections and entries (inih)
 *   config_report.c   what a user is told: problems and notes, the dump, the help
 *   config.c          the parts of a snapshot; its life
 *   config_check.c    what one value cannot tell: conflicts, key files
 *   config_files.c    files whose contents are a part of the configuration: reading, renewing
 *   config_secrets.c  ... API keys, passwords, certificates
 *   config_route.c    which route a request takes */
#ifndef RETRYD_CONFIG_CONFIG_PRIVATE_H
#define RETRYD_CONFIG_CONFIG_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "config/config.h"

/* --- rows ------------------------------------------------------------------------------------ */

enum config_type {
    CONFIG_DURATION,  /* uint64_t, milliseconds */
    CONFIG_SIZE,      /* uint64_t, bytes */
    CONFIG_INTEGER,   /* unsigned; `zero_word` stands for 0 where the row has one */
    CONFIG_DECIMAL,   /* double */
    CONFIG_PERCENT,   /* unsigned */
    CONFIG_YES_NO,    /* bool */
    CONFIG_ENUM,      /* an enum that counts up with the row's `choices` */
    CONFIG_SET,       /* unsigned; bit n is choices[n]; "none": no bit */
    CONFIG_LIST,      /* struct string_list, every item once */
    CONFIG_WEIGHTS,   /* struct string_list, whole numbers, which may repeat */
    CONFIG_ADDRESSES, /* struct string_list, at least one address to listen on */
    CONFIG_ADDRESS,   /* char *, an address to listen on, or "off" */
    CONFIG_PATH,      /* char *, a file or folder; "" for none */
    CONFIG_TOKEN,     /* char *, a header's name; "" for none where the default is "" */
    CONFIG_VARIABLE,  /* char *, an environment variable's name; "" for none */
    CONFIG_URL,       /* char *, an upstream's base URL */
    CONFIG_PROXY,     /* char *, a proxy's URL; "" for none */
    CONFIG_BASE,      /* char *, a path prefix; "/" is kept as "" */
    CONFIG_GLOB,      /* char *, a pattern */
    CONFIG_SERVER,    /* char *, a server to connect to; "" for none */
    CONFIG_PREFIX,    /* char *, what names begin with */
    CONFIG_TEXT,      /* char *, any one line */
    CONFIG_HEADER,    /* the key is a prefix: header.NAME; struct config_upstream's headers */
    CONFIG_MODEL,     /* the key is a prefix: model.NAME; struct config_upstream's models */
};

/* What a row's offset counts from. */
enum config_owner { OWNER_CONFIG, OWNER_UPSTREAM, OWNER_SETTINGS, OWNER_ROUTE };

/* One setting. Bounds are in the type's unit, max 0: none. */
struct config_row {
    const char *section;
    const char *key;
    enum config_type type;
    enum config_owner owner;
    size_t offset;
    uint64_t min, max;
    const char *fallback;       /* the default, as a user would write it */
    const char *const *choices; /* NULL-terminated */
    const char *zero_word;
    const char *zero_means; /* what 0 (or nothing) does, for the help; NULL where it is obvious */
    bool restart;           /* a reload does not change it */
    const char *later;      /* the clause that a later version brings into force; NULL: in force */
    const char *help;       /* one line */
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

#define CONFIG_ROWS_MAX 96 /* config_row_count is below it */

/* The row of `key` in a section of that kind; of a [route], also those of the sections that it may
 * override, as "retry.max_attempts". NULL when there is none. */
const struct config_row *config_row_find(const char *section, const char *key);
unsigned config_row_index(const struct config_row *row);

/* Whether the key is only the beginning: header.NAME, model.NAME. */
bool config_row_is_prefix(const struct config_row *row);
const struct config_section_row *config_section_find(const char *name);

/* The nearest name a user may have meant, or NULL when nothing is near. For a key, `out` gets what
 * to say: "did you mean x?" or "it belongs in [retry]"; "" when nothing is near. */
const char *config_section_nearest(const char *name);
void config_key_hint(const char *section, const char *key, struct buf *out);

/* Whether a route may override the rows of that section. */
bool config_section_overridable(const char *section);

/* --- values ---------------------------------------------------------------------------------- */

/* Parses `text` into the row's field at `field`; a list is appended to. 0, -ENOMEM, or -EINVAL:
 * `field` is as before (a list: as far as it went), `*ret_bad` is the piece at fault and
 * `*ret_expected` what would be right, or NULL where config_value_expected says it. */
int config_value_parse(const struct config_row *row, struct str text, void *field,
                       struct str *ret_bad, const char **ret_expected);

/* Frees what the field holds and leaves it empty. */
void config_value_clear(const struct config_row *row, void *field);

/* Writes the value as config_value_parse reads it; a masked part as "***". */
void config_value_text(const struct config_row *row, const void *field, struct buf *out);

/* Writes what is expected: "a duration such as 250ms, 30s or 10m (at least 1ms)". */
void config_value_expected(const struct config_row *row, struct buf *out);

/* Writes the kind of value in a few words: "duration, 1ms to 1h". */
void config_value_kind(const struct config_row *row, struct buf *out);

/* Writes what the help says of a row: what it is for, what it expects, when it counts. */
void config_row_describe(const struct config_row *row, struct buf *out);

/* The row's field in the thing that owns it. */
void *config_field(const struct config_row *row, void *owner);
const void *config_field_const(const struct config_row *row, const void *owner);

/* --- addresses and URLs ---------------------------------------------------------------------- */

struct config_url {
    bool tls;
    struct str scheme;    /* empty for unix: */
    struct str authority; /* host[:port], as written */
    struct str host;      /* with the brackets of an IPv6 address */
    struct str socket;    /* unix:PATH */
    struct str path;      /* without trailing slashes; with {model} once or not at all */
    struct str query;     /* without the ? */
};

#define CONFIG_LISTEN_MAX 16 /* addresses of [server] listen */

/* NULL, or what is wrong with an address to listen on. `ret_loopback` (may be NULL): only this
 * machine can reach it. */
const char *config_address_check(struct str address, bool *ret_loopback);

/* NULL, or what is wrong with an upstream's URL. */
const char *config_url_parse(struct str url, struct config_url *ret_url);
const char *config_proxy_check(struct str url);

/* NULL, or what is wrong with a server to connect to: HOST:PORT, [IPV6]:PORT or unix:/PATH. */
const char *config_server_check(struct str server);

/* A good URL in its plain form: the scheme in lower case, no slash at the end. On the heap; NULL
 * when out of memory. */
char *config_url_text(struct str url);

/* --- reports --------------------------------------------------------------------------------- */

/* Why a load failed; the first of these that happened decides errno. */
enum config_fault {
    FAULT_MEMORY,   /* ENOMEM */
    FAULT_VALUE,    /* EINVAL */
    FAULT_DENIED,   /* EACCES: the user may not read the file; FAULT_FILE is set too */
    FAULT_FILE,     /* ENOENT: the file itself cannot be read */
    FAULT_UPSTREAM, /* ENXIO: a route names an upstream that is not there */
    FAULT_KEY,      /* ENOKEY: the API keys, the password of the shared view */
    FAULT_COUNT,
};

struct config_line {
    unsigned line; /* 0: the file as a whole */
    unsigned order;
    char *text;
};

struct config_lines {
    struct config_line *items;
    unsigned count, size, total;
};

struct config_report {
    const char *path; /* NULL: the built-in defaults */
    struct config_lines problems, notes;
    bool faults[FAULT_COUNT];
    bool examined; /* nothing is to run by it: credentials that are not there are no problem */
};

void config_report_init(struct config_report *r, const char *path);
void config_report_deinit(struct config_report *r);

/* `fmt` follows "FILE:LINE: ". */
void config_problem(struct config_report *r, enum config_fault fault, unsigned line,
                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void config_note(struct config_report *r, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void config_no_memory(struct config_report *r);

bool config_report_bad(const struct config_report *r);

/* Appends the lines, sorted by line number, to the callers' buffers; either may be NULL. */
void config_report_write(struct config_report *r, struct buf *problems, struct buf *notes);

/* The errno for what was reported. */
int config_report_errno(const struct config_report *r);

/* `text` in quotes with control characters escaped and long text cut, into `out`. What looks like
 * a secret is not shown. */
#define CONFIG_QUOTED_MAX 400
const char *config_quote(struct str text, char out[CONFIG_QUOTED_MAX]);

/* --- reading --------------------------------------------------------------------------------- */

struct config_entry {
    char *key;
    char *value;
    unsigned line;
    bool continues; /* an indented line that continues the value of the entry before it */
};

struct config_section {
    char *kind; /* "server", "upstream", ... */
    char *name; /* "" for a section without one */
    unsigned line;
    struct config_entry *entries;
    unsigned count, size;
};

struct config_text {
    struct config_section *sections;
    unsigned count, size;
};

/* Reads the file into `text` (empty at the start); all that is wrong with its form is reported,
 * and what could be read is there all the same. */
void config_read(const char *path, struct config_text *text, struct config_report *r);
void config_text_deinit(struct config_text *text);

/* --- checks across values -------------------------------------------------------------------- */

/* Where the values of one thing (the globals, an upstream, a route) stand in the file. */
struct config_origin {
    const char *title;               /* "server", "upstream openai" */
    unsigned line;                   /* of the section; 0: not in the file */
    unsigned lines[CONFIG_ROWS_MAX]; /* of each row's key; 0: not set */
};

/* The line of a key; 0 where it is not set. */
unsigned config_key_line(const struct config_origin *o, const char *section, const char *key);

/* The line of a key, else of its section. */
unsigned config_origin_line(const struct config_origin *o, const char *section, const char *key);

void config_check_listeners(const struct config *c, const struct config_origin *o,
                            struct config_report *r);
/* Notes a spool_dir that cannot be used; makes a file there to see. */
void config_check_spool(const struct config *c, const struct config_origin *o,
                        struct config_report *r);
void config_check_settings(const struct route_settings *s, const struct config_origin *o,
                           struct config_report *r);

/* Fills the parts of the URL in, checks what belongs together, loads the keys. */
void config_finish_upstream(struct config *c, struct config_upstream *u,
                            const struct config_origin *o, struct config_report *r);
/* Whether its url, or the proxy before it, is one of this daemon's own listeners. */
void config_check_own(const struct config *c, const struct config_upstream *u,
                      const struct config_origin *o, struct config_report *r);

/* --- files ------------------------------------------------------------------------------------ */

/* Each loads what its keys of [upstream] name, or, while a configuration is renewed, keeps what there was
 * before where that cannot be used. */
void config_load_keys(struct config *c, struct config_upstream *u, const struct config_origin *o,
                      struct config_report *r);
void config_load_client(struct config *c, struct config_upstream *u, const struct config_origin *o,
                        struct config_report *r);
void config_load_authorities(struct config *c, struct config_upstream *u,
                             const struct config_origin *o, struct config_report *r);
void config_load_proxy_password(struct config *c, struct config_upstream *u,
                                const struct config_origin *o, struct config_report *r);

#define CONFIG_READING_MAX ((size_t)1024 * 1024)

/* A file while it is read. */
struct config_reading {
    struct config *config;
    const char *title; /* of the section */
    const char *key;   /* that names the file */
    unsigned line;
    enum config_fault fault; /* of one that cannot be read: FAULT_KEY, unless it is set otherwise */
    bool secret;             /* it is nobody else's business: true, unless ... */
    size_t most;             /* bytes: CONFIG_READING_MAX, unless ... */
    struct str text;         /* what it holds */
    struct config_report *report; /* where problems go */

    /* config_files.c's own. */
    struct config_report *to, own;
    const char *remark; /* what to add where it cannot be read */
    unsigned index;     /* among the snapshot's files */
    bool found;
    char *space;     /* wiped before it is freed */
    char path[4096]; /* what is opened */
};

/* Begins with the file that is configured as `name`, and lists it as one of the snapshot's. NULL when out
 * of memory. */
struct config_reading *config_reading_new(struct config *c, const char *title, const char *key,
                                          const char *name, unsigned line, struct config_report *r);
/* Whether it is, while a configuration is renewed, as it was before, and need not be read. */
bool config_reading_as_before(struct config_reading *f);
/* Reads it; false where that was reported, or `f` is NULL. */
bool config_reading_read(struct config_reading *f);
/* Whether it was read without a problem; not where `f` is NULL. */
bool config_reading_good(const struct config_reading *f);
struct config_file *config_reading_file(struct config_reading *f);
/* Wipes and frees it. While a configuration is renewed its problem becomes the file's. NULL is fine. */
void config_reading_free(struct config_reading *f);

/* The same upstream of the configuration that is renewed; NULL: none is. */
const struct config_upstream *config_upstream_before(const struct config *c,
                                                     const struct config_upstream *u);

bool config_same_secret(const struct secret *a, const struct secret *b); /* NULL: none */
/* A copy of what there was before. */
struct secret *config_keep_secret(const struct secret *was, struct config_report *r);
/* The file's first line is a password; `was`: the one before. */
void config_take_password(struct config_reading *f, const struct secret *was, struct secret **ret);
void config_files_free(struct config *c);

/* Loads the password of the shared view, and checks what belongs together. */
void config_finish_shared(struct config *c, const struct config_origin *o, struct config_report *r);
void config_load_password(struct config *c, const struct config_origin *o, struct config_report *r);

/* Finds the upstreams that the route names, and notes what has no effect. */
void config_finish_route(const struct config *c, struct config_route *route,
                         const struct config_origin *o, struct config_report *r);

#endif
