/* Puts the entries of a section into the fields that their rows name. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_table.h"

#define PAIRS_MAX 100 /* headers or models of an upstream */

/* --- defaults --------------------------------------------------------------------------------- */

static void *owner_of(const struct config_target *t, const struct config_row *row)
{
    switch (row->owner) {
    case OWNER_CONFIG:
        return t->config;
    case OWNER_UPSTREAM:
        return t->upstream;
    case OWNER_ROUTE:
        return t->route;
    case OWNER_SETTINGS:
        return t->route ? &t->route->settings : &t->config->defaults;
    }
    return NULL;
}

static void set_default(const struct config_target *t, const struct config_row *row)
{
    void *owner = owner_of(t, row);
    const char *expected;
    struct str bad;
    int rc;

    if (config_row_is_prefix(row))
        return;
    rc =
        config_value_parse(row, str_from(row->fallback), config_field(row, owner), &bad, &expected);
    if (rc == -ENOMEM)
        config_no_memory(t->report);
    assert(rc != -EINVAL);
}

void config_apply_defaults(const struct config_target *t, enum config_owner owner)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        if (config_rows[i].owner == owner)
            set_default(t, &config_rows[i]);
    }
}

/* --- header.NAME and model.NAME ---------------------------------------------------------------- */

/* What belongs to the connection, or is ours to say. */
static bool reserved_header(struct str name)
{
    static const struct str names[] = {
        STR("Connection"), STR("Content-Length"), STR("Transfer-Encoding"),
        STR("TE"),         STR("Trailer"),        STR("Upgrade"),
        STR("Keep-Alive"), STR("Expect"),         STR("Proxy-Connection"),
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (str_ieq(name, names[i]))
            return true;
    }
    return false;
}

/* NULL, or what is expected of header.NAME or model.NAME. */
static const char *pair_problem(const struct config_row *row, struct str name, struct str value,
                                unsigned count)
{
    if (row->type == CONFIG_HEADER && !str_is_token(name))
        return "the name of a header behind header.";
    if (row->type == CONFIG_HEADER && reserved_header(name))
        return "a header that does not belong to the connection";
    if (!name.n)
        return "the name of a model behind model.";
    if (!value.n || value.p[0] == ';')
        return "a value that is not empty and does not start with a semicolon";
    if (row->type == CONFIG_MODEL && (!str_is_visible(value) || memchr(value.p, '=', value.n)))
        return "the name of a model, without spaces and =";
    return count == PAIRS_MAX ? "no more than 100 of them" : NULL;
}

/* The line of an earlier header.NAME or model.NAME of the same name, in any case; 0: none. */
static unsigned same_key_before(const struct config_target *t, const struct config_entry *e)
{
    for (const struct config_entry *p = t->section->entries; p < e; p++) {
        if (!p->continues && str_ieq(str_from(p->key), str_from(e->key)))
            return p->line;
    }
    return 0;
}

static void second_time(const struct config_target *t, const struct config_entry *e, unsigned first)
{
    config_problem(t->report, FAULT_VALUE, e->line,
                   "[%s] %.80s: is set a second time; the first is on line %u", t->origin.title,
                   e->key, first);
}

static bool pair_add(struct config_header **pairs, unsigned *count, struct str name,
                     struct str value)
{
    struct config_header *all = realloc(*pairs, (*count + 1) * sizeof *all);
    struct config_header pair;

    if (!all)
        return false;
    *pairs = all;
    pair = (struct config_header){str_dup(name), str_dup(value)};
    if (!pair.name || !pair.value) {
        free(pair.name);
        free(pair.value);
        return false;
    }
    all[(*count)++] = pair;
    return true;
}

/* A header's value may be a secret: it is never shown. */
static bool apply_pair(struct config_target *t, const struct config_row *row,
                       const struct config_entry *e)
{
    struct config_upstream *u = t->upstream;
    bool header = row->type == CONFIG_HEADER;
    struct config_header **pairs = header ? &u->headers : &u->models;
    unsigned *count = header ? &u->header_count : &u->model_count;
    struct str name = str_from(e->key + strlen(row->key)), value = str_from(e->value);
    const char *why = pair_problem(row, name, value, *count);
    unsigned first = same_key_before(t, e);

    if (first) {
        second_time(t, e, first);
        return false;
    }
    if (why) {
        config_problem(t->report, FAULT_VALUE, e->line, "[%s] %.80s: expected %s", t->origin.title,
                       e->key, why);
        return false;
    }
    if (!pair_add(pairs, count, name, value))
        config_no_memory(t->report);
    return true;
}

/* --- one entry -------------------------------------------------------------------------------- */

static bool is_url(const struct config_row *row)
{
    return row->type == CONFIG_URL || row->type == CONFIG_PROXY || row->type == CONFIG_SERVER;
}

static void bad_value(const struct config_target *t, const struct config_row *row,
                      const struct config_entry *e, struct str bad, const char *expected)
{
    char quoted[CONFIG_QUOTED_MAX];
    struct buf what;
    const char *found;

    buf_init(&what, 512);
    if (expected)
        buf_add_str(&what, str_from(expected));
    else
        config_value_expected(row, &what);
    /* A password has its place before the @ of a URL, a key behind its ?, and a key is easily
     * put where its variable's name belongs. */
    if (row->type == CONFIG_VARIABLE || (is_url(row) && strpbrk(e->value, "@?#")))
        found = "something that is not shown";
    else
        found = config_quote(bad, quoted);
    config_problem(t->report, FAULT_VALUE, e->line, "[%s] %s: found %s; expected %.*s",
                   t->origin.title, e->key, found, (int)what.len, what.p ? what.p : "");
    buf_deinit(&what);
}

static void unknown_key(const struct config_target *t, const char *section,
                        const struct config_entry *e)
{
    char quoted[CONFIG_QUOTED_MAX];
    struct buf hint;

    buf_init(&hint, 256);
    config_key_hint(section, e->key, &hint);
    config_problem(t->report, FAULT_VALUE, e->line, "[%s] %s: there is no such key%.*s",
                   t->origin.title, config_quote(str_from(e->key), quoted), (int)hint.len,
                   hint.p ? hint.p : "");
    buf_deinit(&hint);
}

static bool is_list(const struct config_row *row)
{
    return row->type == CONFIG_LIST || row->type == CONFIG_WEIGHTS ||
           row->type == CONFIG_ADDRESSES || row->type == CONFIG_SET;
}

/* An indented line is a part of the value above it: right for a list, else most likely a slip. */
static bool may_continue(const struct config_target *t, const struct config_entry *e)
{
    bool list = is_list(t->last);

    if (list && !strchr(e->value, '='))
        return true;
    config_problem(t->report, FAULT_VALUE, e->line,
                   "[%s] %s: this indented line continues the value above it%s", t->origin.title,
                   e->key,
                   list ? ", but holds a =; a key of its own starts without a space"
                        : ", which takes one line only; a key starts without a space");
    return false;
}

/* Sets that say "nothing" or "as before" promise nothing. */
static bool says_nothing(const struct config_row *row, const char *value)
{
    return value[0] == '\0' || !strcmp(value, "0") ||
           (row->type == CONFIG_ENUM && str_ieq(str_from(value), str_from(row->fallback)));
}

static void note_later(const struct config_target *t, const struct config_row *row,
                       const struct config_entry *e)
{
    if (row->later && !says_nothing(row, e->value))
        config_note(t->report, e->line, "[%s] %s: accepted, not in force in this version (%s)",
                    t->origin.title, e->key, row->later);
    if (!strcmp(row->key, "allowed_origins") && e->value[0])
        config_note(t->report, e->line,
                    "[%s] %s: requests from these origins are let in; the CORS answers that "
                    "browsers ask for are not in force in this version (C30)",
                    t->origin.title, e->key);
}

/* The first line of a key: no other may have set it. */
static bool start_row(struct config_target *t, const struct config_row *row,
                      const struct config_entry *e)
{
    unsigned *line = &t->origin.lines[config_row_index(row)];

    t->last = NULL;
    if (*line && !config_row_is_prefix(row)) {
        second_time(t, e, *line);
        return false;
    }
    *line = e->line;
    note_later(t, row, e);
    return true;
}

static void apply_value(struct config_target *t, const struct config_row *row,
                        const struct config_entry *e)
{
    void *field = config_field(row, owner_of(t, row));
    const char *expected;
    struct str bad;
    int rc;

    /* A text is replaced when the new one is good; a list starts anew and then grows. */
    if (!e->continues && is_list(row))
        config_value_clear(row, field);
    rc = config_value_parse(row, str_from(e->value), field, &bad, &expected);
    if (rc == -ENOMEM)
        config_no_memory(t->report);
    else if (rc < 0)
        bad_value(t, row, e, bad, expected);
}

static void apply_entry(struct config_target *t, const char *section, const struct config_entry *e)
{
    const struct config_row *row;

    if (e->continues) {
        if (t->last && may_continue(t, e))
            apply_value(t, t->last, e);
        return;
    }
    t->last = NULL;
    row = config_row_find(section, e->key);
    if (!row) {
        unknown_key(t, section, e);
        return;
    }
    if (!start_row(t, row, e))
        return;
    if (config_row_is_prefix(row)) {
        if (!apply_pair(t, row, e))
            return;
    } else {
        apply_value(t, row, e);
    }
    t->last = row;
}

void config_apply_section(struct config_target *t, const struct config_section *s)
{
    if (s->name[0])
        snprintf(t->title, sizeof t->title, "%s %s", s->kind, s->name);
    else
        snprintf(t->title, sizeof t->title, "%s", s->kind);
    t->origin.title = t->title;
    t->origin.line = s->line;
    t->section = s;
    t->last = NULL;
    for (unsigned i = 0; i < s->count; i++)
        apply_entry(t, s->kind, &s->entries[i]);
}
