/* Reads an INI file into sections and entries that know their lines.
 *
 * inih splits a line into key and value, strips comments and detects which lines continue a value.
 * It has four gaps, which this file closes by passing it the lines one by one:
 *  - It does not report line numbers. They are counted here; inih calls the handler for a line
 *    before it asks for the next one.
 *  - It cuts a line that does not fit its buffer of 200 bytes. Such a line is reported and
 *    withheld.
 *  - It reports only the first line that it cannot parse, and no section without keys, and it cuts
 *    the name of a section at 49 bytes. Section lines are parsed here; any other line that is
 *    neither blank nor a comment and does not reach the handler is reported.
 *  - It ends a key at the first colon, but names of models may contain colons. Those in the key of
 *    a model.NAME are hidden from it, and restored by the handler.
 * Here as in inih, an indented line after a key of the same section continues that key's value. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config_private.h"

#define FILE_MAX (1024 * 1024)
#define NAME_MAX_LEN 64
#define MODEL_NAME_MAX 512
#define READER_MAGIC 0x52454144u
#define HIDDEN_COLON '\1' /* a line that itself contains this character is refused */

struct reader {
    unsigned magic;
    struct str rest;
    struct config_place here; /* the current line */
    bool awaiting;            /* the line has to reach the handler */
    bool continues;           /* the line continues a value */
    bool key_seen;            /* since the section's line */
    bool headless;            /* the keys belong to no section, which has been reported */
    int section;              /* index into text->sections; -1: none */
    struct config_text *text;
    struct config_report *report;
};

/* --- sections and entries --------------------------------------------------------------------- */

static void entry_deinit(struct config_entry *e)
{
    free(e->key);
    /* The value may be a header with a token in it. */
    explicit_bzero(e->value, strlen(e->value));
    free(e->value);
}

void config_text_deinit(struct config_text *text)
{
    for (unsigned i = 0; i < text->count; i++) {
        struct config_section *s = &text->sections[i];

        for (unsigned k = 0; k < s->count; k++)
            entry_deinit(&s->entries[k]);
        free(s->entries);
        free(s->kind);
        free(s->name);
    }
    free(text->sections);
    for (unsigned i = 0; i < text->variable_count; i++)
        free(text->variables[i]);
    free(text->variables);
    *text = (struct config_text){0};
}

static int text_find(const struct config_text *text, struct str kind, struct str name)
{
    for (unsigned i = 0; i < text->count; i++) {
        if (str_eq(str_from(text->sections[i].kind), kind) &&
            str_eq(str_from(text->sections[i].name), name))
            return (int)i;
    }
    return -1;
}

static int text_add(struct config_text *text, struct str kind, struct str name, unsigned line)
{
    struct config_section *sections = config_grow(text->sections, text->count, sizeof *sections);
    struct config_section s = {.line = line};

    if (!sections)
        return -1;
    text->sections = sections;
    s.kind = str_dup(kind);
    s.name = str_dup(name);
    if (!s.kind || !s.name) {
        free(s.kind);
        free(s.name);
        return -1;
    }
    sections[text->count] = s;
    return (int)text->count++;
}

/* --- section lines ---------------------------------------------------------------------------- */

/* Names are shown everywhere, so a key that was pasted as one is refused. */
bool config_is_name(struct str s)
{
    if (str_istarts(s, STR("sk-")))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (!isalnum(c) && c != '_' && c != '-' && c != '.')
            return false;
    }
    return s.n > 0 && s.n <= NAME_MAX_LEN;
}

/* Returns the text between the brackets, or false if the line is not "[...]" and perhaps a
 * comment. */
static bool section_title(struct str line, struct str *ret_title)
{
    const char *end = memchr(line.p, ']', line.n);
    struct str after;

    if (!end)
        return false;
    *ret_title = str_trim((struct str){line.p + 1, (size_t)(end - line.p) - 1});
    after = str_trim((struct str){end + 1, line.n - (size_t)(end - line.p) - 1});
    return after.n == 0 || after.p[0] == ';' || after.p[0] == '#';
}

static const struct config_section_row *section_kind(struct reader *r, struct str kind)
{
    char name[NAME_MAX_LEN + 1], quoted[CONFIG_QUOTED_MAX];
    const struct config_section_row *row;
    const char *nearest;

    snprintf(name, sizeof name, "%.*s", (int)kind.n, kind.p);
    row = config_section_find(name);
    if (row)
        return row;
    nearest = config_section_nearest(name);
    if (nearest)
        config_problem(r->report, FAULT_VALUE, r->here, "unknown section %s; did you mean [%s]?",
                       config_quote(kind, quoted), nearest);
    else
        config_problem(
            r->report, FAULT_VALUE, r->here,
            "unknown section %s; expected [server], [admin], [log], [upstream NAME], [route NAME], "
            "[retry], [timeout], [stream], [breaker], [queue], [hedge] or [shared]",
            config_quote(kind, quoted));
    return NULL;
}

/* Returns the index of the section, or -1. Two [server] sections are merged; two upstreams or
 * routes with one name are a mistake. */
static int section_enter(struct reader *r, const struct config_section_row *row, struct str kind,
                         struct str name)
{
    char quoted[CONFIG_QUOTED_MAX];
    int at;

    if (row->named && !config_is_name(name)) {
        config_problem(r->report, FAULT_VALUE, r->here,
                       "[%s NAME]: found %s as the name; expected 1 to %d letters, digits, dots, "
                       "dashes or underscores",
                       row->name, config_quote(name, quoted), NAME_MAX_LEN);
        return -1;
    }
    if (!row->named && name.n) {
        config_problem(r->report, FAULT_VALUE, r->here, "[%s] takes no name; found %s", row->name,
                       config_quote(name, quoted));
        return -1;
    }
    at = text_find(r->text, kind, name);
    if (at >= 0 && row->named) {
        config_problem(r->report, FAULT_VALUE, r->here,
                       "[%s %.*s] is defined twice; the first is on line %u", row->name,
                       (int)name.n, name.p, r->text->sections[at].line);
        return -1;
    }
    if (at < 0) {
        at = text_add(r->text, kind, name, r->here.line);
        if (at < 0)
            config_no_memory(r->report);
    }
    return at;
}

static void section_line(struct reader *r, struct str line)
{
    const struct config_section_row *row;
    struct str title, kind, name;
    size_t n = 0;

    r->key_seen = false;
    r->section = -1;
    r->headless = true;
    if (!section_title(line, &title)) {
        config_problem(r->report, FAULT_VALUE, r->here,
                       "expected a section such as [server] on a line of its own");
        return;
    }
    while (n < title.n && title.p[n] != ' ' && title.p[n] != '\t')
        n++;
    kind = (struct str){title.p, n};
    name = str_trim(str_after(title, n));
    row = section_kind(r, kind);
    if (row)
        r->section = section_enter(r, row, kind, name);
    r->headless = r->section < 0;
}

/* --- lines for inih --------------------------------------------------------------------------- */

/* Reports the last line if it should have reached the handler and did not. Its text is not shown:
 * it may be a key that was pasted on a line of its own. */
static void settle(struct reader *r)
{
    if (r->awaiting)
        config_problem(r->report, FAULT_VALUE, r->here,
                       "expected key = value, a [section], or a comment that starts with # or ;");
    r->awaiting = false;
}

static bool has_control(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

/* Some releases of inih (55) leave the comment in a value that continues another. */
static struct str without_comment(struct str line)
{
    for (size_t i = 1; i < line.n; i++) {
        if (line.p[i] == ';' && (line.p[i - 1] == ' ' || line.p[i - 1] == '\t'))
            line.n = i;
    }
    return line;
}

static struct str cut_line(struct reader *r)
{
    const char *end = memchr(r->rest.p, '\n', r->rest.n);
    size_t n = end ? (size_t)(end - r->rest.p) : r->rest.n;
    struct str line = {r->rest.p, n};

    n += end ? 1 : 0;
    r->rest.p += n;
    r->rest.n -= n;
    r->here.line++;
    if (r->here.line == 1 && str_starts(line, STR("\xef\xbb\xbf")))
        line = str_after(line, 3);
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

/* Hides the colons of "model.llama3:8b = x". One before a blank ends the key, as it does
 * elsewhere. */
static void hide_colons(char *line, size_t n)
{
    const char *end = memchr(line, '=', n);
    size_t at = 0;

    while (at < n && (line[at] == ' ' || line[at] == '\t'))
        at++;
    if (!end || !str_starts((struct str){line + at, n - at}, STR("model.")))
        return;
    n = (size_t)(end - line);
    for (size_t i = at; i < n; i++)
        if (line[i] == ':' && (i + 1 == n || line[i + 1] == ' ' || line[i + 1] == '\t'))
            return;
    for (size_t i = at; i < n; i++)
        if (line[i] == ':')
            line[i] = HIDDEN_COLON;
}

static void show_colons(char *key)
{
    for (; *key; key++)
        if (*key == HIDDEN_COLON)
            *key = ':';
}

/* Returns the part of the line that inih gets: nothing if it is withheld. `room` is the size that
 * fits. */
static struct str filter_line(struct reader *r, struct str line, size_t room)
{
    static const struct str nothing = {NULL, 0};
    struct str text = line;

    while (text.n && (text.p[0] == ' ' || text.p[0] == '\t'))
        text = str_after(text, 1);
    if (text.n == 0 || text.p[0] == ';' || text.p[0] == '#')
        return nothing;
    if (has_control(line)) {
        config_problem(r->report, FAULT_VALUE, r->here, "the line contains a control character");
        return nothing;
    }
    r->continues = text.n < line.n && r->key_seen;
    if (!r->continues && text.p[0] == '[') {
        section_line(r, text);
        return STR("[section]");
    }
    if (line.n > room) {
        config_problem(
            r->report, FAULT_VALUE, r->here,
            "the line has %zu bytes; expected at most %zu; a list may continue on indented lines",
            line.n, room);
        return nothing;
    }
    /* A header's value must not be cut like one with a comment. */
    if (!r->continues && str_starts(text, STR("header.")) && without_comment(text).n < text.n) {
        config_problem(
            r->report, FAULT_VALUE, r->here,
            "the header's line contains a space and a semicolon, which would start a comment; "
            "expected the comment on a line of its own, or no space before the semicolon");
        return nothing;
    }
    r->awaiting = true;
    return r->continues ? without_comment(line) : line;
}

static char *next_line(char *out, int size, void *user)
{
    struct reader *r = user;
    struct str line;

    assert(r->magic == READER_MAGIC);
    assert(size > 16);
    settle(r);
    if (r->rest.n == 0)
        return NULL;
    line = cut_line(r);
    line = filter_line(r, line, (size_t)size - 2);
    if (line.n)
        memcpy(out, line.p, line.n);
    memcpy(out + line.n, "\n", 2);
    if (!r->continues)
        hide_colons(out, line.n);
    return out;
}

static void take_pair(struct reader *r, const char *key, const char *value)
{
    struct config_section *s = &r->text->sections[r->section];
    struct config_entry *entries = config_grow(s->entries, s->count, sizeof *entries);
    struct config_entry e = {strdup(key), strdup(value), r->here.line, r->continues};

    if (entries)
        s->entries = entries;
    if (entries && e.key && e.value) {
        show_colons(e.key);
        entries[s->count++] = e;
        return;
    }
    free(e.key);
    free(e.value);
    config_no_memory(r->report);
}

/* Whether `s` can be the NAME of model.NAME, so that a dump can be read again. */
static bool is_model_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == '=')
            return false;
    return s.n > 0 && s.n < MODEL_NAME_MAX && s.p[s.n - 1] != ':';
}

/* Takes "models = a -> b, c -> d" as one model.NAME each. */
static void take_models(struct reader *r, struct str list)
{
    struct str piece;

    r->continues = false;
    while (str_next(&list, ',', &piece)) {
        ptrdiff_t at = str_ifind(piece, STR("->"));
        struct str name = at < 0 ? piece : str_trim((struct str){piece.p, (size_t)at}), other;
        char key[sizeof("model.") + MODEL_NAME_MAX], value[MODEL_NAME_MAX];

        if (piece.n == 0) /* a comma at the end of a line */
            continue;
        if (at < 0 || !is_model_name(name) || piece.n >= sizeof(value)) {
            config_problem(
                r->report, FAULT_VALUE, r->here,
                "models: expected a comma-separated list of NAME -> other, with names without "
                "spaces or =");
            return;
        }
        other = str_trim(str_after(piece, (size_t)at + 2));
        snprintf(key, sizeof(key), "model.%.*s", (int)name.n, name.p);
        snprintf(value, sizeof(value), "%.*s", (int)other.n, other.p);
        take_pair(r, key, value);
    }
}

static int take_entry(void *user, const char *section, const char *name, const char *value)
{
    struct reader *r = user;

    (void)section;
    assert(r->magic == READER_MAGIC);
    if (!value) /* an inih built to allow keys without a value */
        return 1;
    r->awaiting = false;
    if (name[0] == '\0') {
        config_problem(r->report, FAULT_VALUE, r->here, "expected a key before the =");
        return 1;
    }
    r->key_seen = true;
    if (r->section >= 0 && !strcmp(name, "models") &&
        !strcmp(r->text->sections[r->section].kind, "upstream")) {
        take_models(r, str_from(value));
    } else if (r->section >= 0) {
        take_pair(r, name, value);
    } else if (!r->headless) {
        config_problem(r->report, FAULT_VALUE, r->here,
                       "this key is in no section; expected a line such as [server] above it");
        r->headless = true;
    }
    return 1;
}

/* --- entries from elsewhere ------------------------------------------------------------------- */

int config_text_section(struct config_text *text, const char *kind, const char *name, unsigned line)
{
    int at = text_find(text, str_from(kind), str_from(name));

    return at >= 0 ? at : text_add(text, str_from(kind), str_from(name), line);
}

/* Whether an entry is the one that `key` names. The names of headers have no case. */
static bool says(const char *entry, const char *key)
{
    if (!strcmp(key, "models"))
        return str_starts(str_from(entry), STR("model."));
    if (str_starts(str_from(key), STR("header.")))
        return str_ieq(str_from(entry), str_from(key));
    return !strcmp(entry, key);
}

unsigned config_text_line(const struct config_text *text, const char *kind, const char *name,
                          const char *key)
{
    int at = text_find(text, str_from(kind), str_from(name));

    for (unsigned i = 0; at >= 0 && i < text->sections[at].count; i++) {
        const struct config_entry *e = &text->sections[at].entries[i];

        if (!e->continues && says(e->key, key))
            return e->line;
    }
    return 0;
}

/* Drops the entries of a key, and the lines that continue them. */
static void drop(struct config_section *s, const char *key)
{
    unsigned kept = 0;
    bool dropped = false;

    for (unsigned i = 0; i < s->count; i++) {
        dropped = s->entries[i].continues ? dropped : says(s->entries[i].key, key);
        if (dropped)
            entry_deinit(&s->entries[i]);
        else
            s->entries[kept++] = s->entries[i];
    }
    s->count = kept;
}

void config_text_set(struct config_text *text, unsigned section, const char *key, const char *value,
                     unsigned line, struct config_report *r)
{
    struct reader reader = {.magic = READER_MAGIC,
                            .here.line = line,
                            .section = (int)section,
                            .text = text,
                            .report = r};

    drop(&text->sections[section], key);
    (void)take_entry(&reader, NULL, key, value);
}

/* --- the file --------------------------------------------------------------------------------- */

int config_read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), rc;
    char piece[4096];
    ssize_t n;

    if (fd < 0)
        return -errno;
    do {
        n = read(fd, piece, sizeof piece);
        rc = n < 0 ? -errno : buf_add(out, piece, n > 0 ? (size_t)n : 0);
    } while (rc == -EINTR || (rc == 0 && n > 0));
    explicit_bzero(piece, sizeof piece);
    close(fd);
    return rc;
}

static void report_unreadable(struct config_report *r, int error)
{
    struct config_place file = {.line = 0};

    if (error == EACCES || error == EPERM)
        r->faults[FAULT_DENIED] = true;
    if (error == ENOMEM)
        config_no_memory(r);
    else if (error == EFBIG)
        config_problem(r, FAULT_FILE, file, "is too large; expected at most %d bytes", FILE_MAX);
    else
        config_problem(r, FAULT_FILE, file, "cannot be read: %s", strerror(error));
}

void config_read(const char *path, struct config_text *text, struct config_report *r)
{
    struct reader reader = {.magic = READER_MAGIC, .section = -1, .text = text, .report = r};
    struct buf content;
    int rc;

    buf_init(&content, FILE_MAX);
    rc = config_read_file(path, &content);
    if (rc < 0)
        report_unreadable(r, -rc);
    if (rc == 0 && content.len > 0) {
        reader.rest = buf_str(&content);
        rc = ini_parse_stream(next_line, &reader, take_entry, &reader);
        settle(&reader);
        if (rc == -2)
            config_no_memory(r);
    }
    if (content.p)
        explicit_bzero(content.p, content.len);
    buf_deinit(&content);
}
