/* Reads an INI file into sections and entries that know their lines.
 *
 * inih splits a line into key and value, strips comments and tells which lines continue a value.
 * As packaged it has three gaps, which the reader function here closes, because every line goes
 * through it first:
 *  - it does not tell the handler line numbers: the reader counts, and inih calls the handler for
 *    a line before it asks for the next one;
 *  - it cuts a line that does not fit its buffer (200 bytes): such a line is reported and withheld;
 *  - it tells only the first line that it could not parse, nothing of a section without keys, and
 *    cuts a section's name at 49 bytes: the reader reads section lines itself, and a line that
 *    was neither blank, comment nor section and did not reach the handler is reported.
 *  - it ends a key at the first colon, which names of models have: the reader hides those in the key of
 *    a model.NAME from it, and the handler puts them back.
 * What inih calls a continuation (a line that starts with white space after a key of the same
 * section) is recognised by the same rule. */
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
#define HIDDEN_COLON '\1' /* a line with such a character of its own is refused */

struct reader {
    unsigned magic;
    struct str rest;
    unsigned line;
    bool awaiting;  /* the line must reach the handler */
    bool continues; /* the line continues a value */
    bool key_seen;  /* since the section's line; what inih keeps as its previous name */
    bool headless;  /* the keys here belong to no section, which has been reported */
    int section;    /* index into text->sections; -1: none */
    struct config_text *text;
    struct config_report *report;
};

/* --- what is collected ----------------------------------------------------------------------- */

void config_text_deinit(struct config_text *text)
{
    for (unsigned i = 0; i < text->count; i++) {
        struct config_section *s = &text->sections[i];

        for (unsigned k = 0; k < s->count; k++) {
            free(s->entries[k].key);
            /* A value may be a header with a token in it. */
            explicit_bzero(s->entries[k].value, strlen(s->entries[k].value));
            free(s->entries[k].value);
        }
        free(s->entries);
        free(s->kind);
        free(s->name);
    }
    free(text->sections);
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
    struct config_section s = {.line = line};

    if (text->count == text->size) {
        unsigned size = text->size ? text->size * 2 : 8;
        struct config_section *sections = realloc(text->sections, size * sizeof *sections);

        if (!sections)
            return -1;
        text->sections = sections;
        text->size = size;
    }
    s.kind = str_dup(kind);
    s.name = str_dup(name);
    if (!s.kind || !s.name) {
        free(s.kind);
        free(s.name);
        return -1;
    }
    text->sections[text->count] = s;
    return (int)text->count++;
}

static bool section_add(struct config_section *s, const char *key, const char *value, unsigned line,
                        bool continues)
{
    struct config_entry e = {.line = line, .continues = continues};

    if (s->count == s->size) {
        unsigned size = s->size ? s->size * 2 : 8;
        struct config_entry *entries = realloc(s->entries, size * sizeof *entries);

        if (!entries)
            return false;
        s->entries = entries;
        s->size = size;
    }
    e.key = strdup(key);
    e.value = strdup(value);
    if (!e.key || !e.value) {
        free(e.key);
        free(e.value);
        return false;
    }
    s->entries[s->count++] = e;
    return true;
}

/* --- section lines --------------------------------------------------------------------------- */

/* Names are shown wherever the thing is; a key pasted as one is not taken. */
static bool is_name(struct str s)
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

/* The text between the brackets; false when the line is not "[...]" and perhaps a comment. */
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

    memcpy(name, kind.p, kind.n < NAME_MAX_LEN ? kind.n : NAME_MAX_LEN);
    name[kind.n < NAME_MAX_LEN ? kind.n : NAME_MAX_LEN] = '\0';
    row = config_section_find(name);
    if (row)
        return row;
    nearest = config_section_nearest(name);
    if (nearest)
        config_problem(r->report, FAULT_VALUE, r->line, "%s is not a section; did you mean [%s]?",
                       config_quote(kind, quoted), nearest);
    else
        config_problem(
            r->report, FAULT_VALUE, r->line,
            "%s is not a section; there are [server], [admin], [log], [upstream NAME], "
            "[route NAME], [retry], [timeout], [stream], [breaker], [queue], [hedge] and [shared]",
            config_quote(kind, quoted));
    return NULL;
}

/* Two [server] sections are one; two upstreams or routes of a name are a mistake. */
static int section_enter(struct reader *r, const struct config_section_row *row, struct str kind,
                         struct str name)
{
    char quoted[CONFIG_QUOTED_MAX];
    int at;

    if (row->named && !is_name(name)) {
        config_problem(r->report, FAULT_VALUE, r->line,
                       "[%s NAME]: found %s as the name; expected 1 to %d letters, digits, dots, "
                       "dashes or underscores",
                       row->name, config_quote(name, quoted), NAME_MAX_LEN);
        return -1;
    }
    if (!row->named && name.n) {
        config_problem(r->report, FAULT_VALUE, r->line, "[%s] takes no name; found %s", row->name,
                       config_quote(name, quoted));
        return -1;
    }
    at = text_find(r->text, kind, name);
    if (at >= 0 && row->named) {
        config_problem(r->report, FAULT_VALUE, r->line,
                       "[%s %.*s] is here a second time; the first is on line %u", row->name,
                       (int)name.n, name.p, r->text->sections[at].line);
        return -1;
    }
    if (at < 0) {
        at = text_add(r->text, kind, name, r->line);
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
        config_problem(r->report, FAULT_VALUE, r->line,
                       "expected a section such as [server] on a line of its own");
        return;
    }
    while (n < title.n && title.p[n] != ' ' && title.p[n] != '\t')
        n++;
    kind = (struct str){title.p, n};
    name = str_trim((struct str){title.p + n, title.n - n});
    row = section_kind(r, kind);
    if (row)
        r->section = section_enter(r, row, kind, name);
    r->headless = r->section < 0;
}

/* --- between inih and the file --------------------------------------------------------------- */

/* A line that should have been a setting and did not reach the handler. Its text is not shown: it
 * may be a key that was pasted on a line of its own. */
static void settle(struct reader *r)
{
    if (r->awaiting)
        config_problem(r->report, FAULT_VALUE, r->line,
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

/* Some releases of inih leave the comment behind a continued value in it (55 does). */
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
    r->line++;
    if (r->line == 1 && str_starts(line, STR("\xef\xbb\xbf")))
        line = (struct str){line.p + 3, line.n - 3};
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

/* The colons of model.llama3:8b = x. One before a blank ends the key, as it does elsewhere. */
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

/* A header's value goes out as it stands, and half of it must not: elsewhere a comment begins there. */
static bool cuts_header(struct str line)
{
    return str_starts(line, STR("header.")) && without_comment(line).n < line.n;
}

/* What inih gets to see of the line; an empty slice withholds it. `room` is what fits. */
static struct str filter_line(struct reader *r, struct str line, size_t room)
{
    size_t indent = 0;

    while (indent < line.n && (line.p[indent] == ' ' || line.p[indent] == '\t'))
        indent++;
    if (indent == line.n || line.p[indent] == ';' || line.p[indent] == '#')
        return (struct str){0};
    if (has_control(line)) {
        config_problem(r->report, FAULT_VALUE, r->line, "there is a control character in the line");
        return (struct str){0};
    }
    r->continues = indent > 0 && r->key_seen;
    if (!r->continues && line.p[indent] == '[') {
        section_line(r, (struct str){line.p + indent, line.n - indent});
        return STR("[section]");
    }
    if (line.n > room) {
        config_problem(r->report, FAULT_VALUE, r->line,
                       "the line has %zu bytes and %zu are read; a list may go on over further "
                       "lines that are indented",
                       line.n, room);
        return (struct str){0};
    }
    if (!r->continues && cuts_header((struct str){line.p + indent, line.n - indent})) {
        config_problem(
            r->report, FAULT_VALUE, r->line,
            "there is a space and a semicolon in the line of a header, which would begin "
            "a comment; a comment has a line of its own there, and a value has the "
            "semicolon right behind the word before it");
        return (struct str){0};
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

static void take_pair(struct reader *r, const char *name, const char *value)
{
    if (!section_add(&r->text->sections[r->section], name, value, r->line, r->continues))
        config_no_memory(r->report);
}

/* What can stand in model.NAME, as the configuration is written out. */
static bool is_model_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == '=')
            return false;
    return s.n > 0 && s.n < MODEL_NAME_MAX && s.p[s.n - 1] != ':';
}

/* models = a -> b, c -> d: each is a model.NAME. */
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
                r->report, FAULT_VALUE, r->line,
                "models: expected a comma-separated list of NAME -> other, names without "
                "spaces and =");
            return;
        }
        other = str_trim((struct str){piece.p + at + 2, piece.n - (size_t)at - 2});
        snprintf(key, sizeof(key), "model.%.*s", (int)name.n, name.p);
        snprintf(value, sizeof(value), "%.*s", (int)other.n, other.p);
        take_pair(r, key, value);
    }
}

static bool is_models(const struct reader *r, const char *key)
{
    return strcmp(key, "models") == 0 &&
           strcmp(r->text->sections[r->section].kind, "upstream") == 0;
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
        config_problem(r->report, FAULT_VALUE, r->line, "there is no key before the =");
        return 1;
    }
    r->key_seen = true;
    if (r->section >= 0 && is_models(r, name)) {
        take_models(r, str_from(value));
    } else if (r->section >= 0) {
        char *key = strdup(name);

        if (key) {
            show_colons(key);
            take_pair(r, key, value);
        } else {
            config_no_memory(r->report);
        }
        free(key);
    } else if (!r->headless) {
        config_problem(r->report, FAULT_VALUE, r->line,
                       "a key before the first section; expected a line such as [server] above it");
        r->headless = true;
    }
    return 1;
}

/* --- the file -------------------------------------------------------------------------------- */

static int read_all(int fd, struct buf *out)
{
    for (;;) {
        char piece[4096];
        ssize_t n = read(fd, piece, sizeof piece);
        int rc = 0;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = -errno;
        if (n > 0)
            rc = buf_add(out, piece, (size_t)n);
        explicit_bzero(piece, sizeof piece);
        if (n == 0 || rc)
            return rc;
    }
}

static int read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int rc;

    if (fd < 0)
        return -errno;
    rc = read_all(fd, out);
    close(fd);
    return rc;
}

static void parse(struct str content, struct config_text *text, struct config_report *report)
{
    struct reader r = {
        .magic = READER_MAGIC, .rest = content, .section = -1, .text = text, .report = report};
    int rc = ini_parse_stream(next_line, &r, take_entry, &r);

    settle(&r);
    if (rc == -2)
        config_no_memory(report);
}

static void unreadable(struct config_report *r, int error)
{
    if (error == ENOMEM) {
        config_no_memory(r);
        return;
    }
    if (error == EACCES || error == EPERM)
        r->faults[FAULT_DENIED] = true;
    if (error == EFBIG)
        config_problem(r, FAULT_FILE, 0, "larger than %d bytes: not a configuration", FILE_MAX);
    else
        config_problem(r, FAULT_FILE, 0, "cannot be read: %s", strerror(error));
}

void config_read(const char *path, struct config_text *text, struct config_report *r)
{
    struct buf content;
    int rc;

    buf_init(&content, FILE_MAX);
    rc = read_file(path, &content);
    if (rc < 0)
        unreadable(r, -rc);
    else if (content.len > 0)
        parse(buf_str(&content), text, r);
    if (content.p)
        explicit_bzero(content.p, content.len);
    buf_deinit(&content);
}
