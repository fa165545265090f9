/* Puts a snapshot together from a file, and looks after its life. */
#include "config/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_private.h"

#define NAMED_MAX 1000 /* upstreams, routes */
#define PAIRS_MAX 100  /* headers or models of an upstream */

/* --- what the file said ----------------------------------------------------------------------- */

/* The same for all configurations that were renewed from one. */
struct config_source {
    atomic_uint refs;
    struct config_text text;
};

static void source_unref(struct config_source *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    config_text_deinit(&s->text);
    free(s);
}

static void read_source(struct config *c, struct config_report *r)
{
    c->source = calloc(1, sizeof *c->source);
    if (!c->source) {
        config_no_memory(r);
        return;
    }
    atomic_init(&c->source->refs, 1);
    if (!c->path)
        return;
    c->mark = config_mark(c->path);
    config_read(c->path, &c->source->text, r);
}

bool config_same_source(const struct config *a, const struct config *b)
{
    return a->source == b->source;
}

/* Where entries go while one section, or all that have no name, are applied. */
struct config_target {
    struct config *config;
    struct config_upstream *upstream; /* of an [upstream] */
    struct config_route *route;       /* of a [route] */
    struct config_origin origin;
    const struct config_section *section;
    struct config_report *report;
    const struct config_row *last; /* what a continuation adds to; NULL where that was in error */
    char title[96];
};

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

static void apply_defaults(const struct config_target *t, enum config_owner owner)
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

static void apply_section(struct config_target *t, const struct config_section *s)
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

/* --- the parts of a snapshot ------------------------------------------------------------------- */

static unsigned count_named(const struct config_text *text, const char *kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < text->count; i++)
        n += !strcmp(text->sections[i].kind, kind);
    return n;
}

static void load_globals(struct config *c, const struct config_text *text, bool only,
                         struct config_report *r)
{
    struct config_target t = {.config = c, .report = r};

    apply_defaults(&t, OWNER_CONFIG);
    apply_defaults(&t, OWNER_SETTINGS);
    for (unsigned i = 0; i < text->count; i++) {
        if (!text->sections[i].name[0])
            apply_section(&t, &text->sections[i]);
    }
    if (r->faults[FAULT_MEMORY])
        return;
    t.origin.line = 0;
    config_check_listeners(c, &t.origin, r);
    if (!c->before)
        config_check_spool(c, &t.origin, r);
    /* The pages of --health need no password, nor may whoever asks for them read it. */
    if (!only)
        config_finish_shared(c, &t.origin, r);
    t.origin.title = "retry";
    config_check_settings(&c->defaults, &t.origin, r);
}

/* `s` may be NULL: the default upstream. */
static void load_upstream(struct config *c, const struct config_section *s, struct config_report *r)
{
    struct config_upstream *u = &c->upstreams[c->upstream_count++];
    struct config_target t = {
        .config = c, .upstream = u, .report = r, .origin.title = "upstream openai"};

    u->name = str_dup(s ? str_from(s->name) : STR("openai"));
    if (!u->name)
        config_no_memory(r);
    apply_defaults(&t, OWNER_UPSTREAM);
    if (s)
        apply_section(&t, s);
    if (!r->faults[FAULT_MEMORY])
        config_finish_upstream(c, u, &t.origin, r);
    if (!r->faults[FAULT_MEMORY] && !c->before)
        config_check_own(c, u, &t.origin, r);
}

static void load_route(struct config *c, const struct config_section *s, struct config_report *r)
{
    struct config_route *route = &c->routes[c->route_count++];
    struct config_target t = {
        .config = c, .route = route, .report = r, .origin.title = "route default"};

    route->name = str_dup(s ? str_from(s->name) : STR("default"));
    if (!route->name)
        config_no_memory(r);
    apply_defaults(&t, OWNER_ROUTE);
    route->settings = c->defaults;
    if (s)
        apply_section(&t, s);
    if (r->faults[FAULT_MEMORY])
        return;
    config_check_settings(&route->settings, &t.origin, r);
    config_finish_route(c, route, &t.origin, r);
}

static void load_upstreams(struct config *c, const struct config_text *text,
                           struct config_report *r)
{
    unsigned n = count_named(text, "upstream");

    c->upstreams = calloc(n ? n : 1, sizeof *c->upstreams);
    if (!c->upstreams) {
        config_no_memory(r);
        return;
    }
    for (unsigned i = 0; i < text->count; i++) {
        if (!strcmp(text->sections[i].kind, "upstream"))
            load_upstream(c, &text->sections[i], r);
    }
    if (n == 0)
        load_upstream(c, NULL, r);
}

/* In file order, then the one that takes what the others leave. */
static void load_routes(struct config *c, const struct config_text *text, struct config_report *r)
{
    c->routes = calloc(count_named(text, "route") + 1, sizeof *c->routes);
    if (!c->routes) {
        config_no_memory(r);
        return;
    }
    for (unsigned i = 0; i < text->count; i++) {
        if (!strcmp(text->sections[i].kind, "route"))
            load_route(c, &text->sections[i], r);
    }
    load_route(c, NULL, r);
}

static bool too_many(const struct config_text *text, const char *kind, struct config_report *r)
{
    if (count_named(text, kind) <= NAMED_MAX)
        return false;
    config_problem(r, FAULT_VALUE, 0, "there are more than %d [%s] sections", NAMED_MAX, kind);
    return true;
}

/* Upstreams come before the routes that name them, and the global settings before both. */
static void load_parts(struct config *c, bool globals_only, struct config_report *r)
{
    const struct config_text *text = &c->source->text;

    if (too_many(text, "upstream", r) || too_many(text, "route", r))
        return;
    load_globals(c, text, globals_only, r);
    if (!globals_only && !r->faults[FAULT_MEMORY])
        load_upstreams(c, text, r);
    if (!globals_only && !r->faults[FAULT_MEMORY])
        load_routes(c, text, r);
}

/* --- life ------------------------------------------------------------------------------------- */

static void clear_rows(void *owner, enum config_owner kind)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->owner == kind && !config_row_is_prefix(row))
            config_value_clear(row, config_field(row, owner));
    }
}

static void free_pairs(struct config_header *pairs, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        free(pairs[i].name);
        explicit_bzero(pairs[i].value, strlen(pairs[i].value));
        free(pairs[i].value);
    }
    free(pairs);
}

static void upstream_deinit(struct config_upstream *u)
{
    clear_rows(u, OWNER_UPSTREAM);
    free(u->name);
    free(u->origin);
    free(u->base_path);
    free(u->host);
    free(u->unix_socket);
    free(u->query);
    for (unsigned i = 0; i < u->key_count; i++)
        secret_free(u->keys[i]);
    free(u->keys);
    secret_free(u->client_cert);
    secret_free(u->client_key);
    secret_free(u->proxy_password);
    secret_free(u->proxy_full);
    bundle_unref(u->ca);
    free_pairs(u->headers, u->header_count);
    free_pairs(u->models, u->model_count);
}

static void route_deinit(struct config_route *route)
{
    clear_rows(route, OWNER_ROUTE);
    free(route->name);
    free(route->upstreams);
    free(route->weights);
}

static void config_free(struct config *c)
{
    clear_rows(c, OWNER_CONFIG);
    for (unsigned i = 0; i < c->upstream_count; i++)
        upstream_deinit(&c->upstreams[i]);
    for (unsigned i = 0; i < c->route_count; i++)
        route_deinit(&c->routes[i]);
    secret_free(c->shared_password);
    config_files_free(c);
    source_unref(c->source);
    free(c->upstreams);
    free(c->routes);
    free(c->path);
    free(c);
}

static atomic_uint_fast64_t serials;

/* What a configuration is loaded for. */
enum purpose {
    TO_RUN,
    TO_EXAMINE,
    GLOBALS_ONLY,
};

/* Empty, with one reference; NULL when out of memory. */
static struct config *begin(const char *path)
{
    struct config *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    atomic_init(&c->refs, 1);
    c->serial = atomic_fetch_add(&serials, 1) + 1;
    c->path = path ? strdup(path) : NULL;
    if (path && !c->path) {
        free(c);
        return NULL;
    }
    return c;
}

static struct config *load(const char *path, enum purpose purpose, struct buf *problems,
                           struct buf *notes)
{
    struct config *c = begin(path);
    struct config_report report;
    int error;

    config_report_init(&report, path);
    report.examined = purpose == TO_EXAMINE;
    if (c)
        read_source(c, &report);
    else
        config_no_memory(&report);
    if (!report.faults[FAULT_MEMORY] && !report.faults[FAULT_FILE])
        load_parts(c, purpose == GLOBALS_ONLY, &report);
    config_report_write(&report, problems, notes);
    error = config_report_errno(&report);
    config_report_deinit(&report);
    if (error && c) {
        config_free(c);
        c = NULL;
    }
    if (error)
        errno = error;
    return c;
}

struct config *config_renew(const struct config *was)
{
    struct config *c = begin(was->path);
    struct config_report report;

    if (!c)
        return NULL;
    config_report_init(&report, was->path);
    c->before = was;
    c->mark = was->mark;
    c->source = was->source;
    atomic_fetch_add(&c->source->refs, 1);
    load_parts(c, false, &report);
    c->before = NULL;
    if (config_report_bad(&report)) {
        config_free(c);
        c = NULL;
    }
    config_report_deinit(&report);
    return c;
}

struct config *config_load(const char *path, struct buf *problems, struct buf *notes)
{
    return load(path, TO_RUN, problems, notes);
}

struct config *config_examine(const char *path, struct buf *problems, struct buf *notes)
{
    return load(path, TO_EXAMINE, problems, notes);
}

bool config_wants_json(const char *path)
{
    struct config_text text = {0};
    struct config_report ignored;
    bool json = false;

    config_report_init(&ignored, path);
    if (path)
        config_read(path, &text, &ignored);
    for (unsigned i = 0; i < text.count; i++) {
        const struct config_section *s = &text.sections[i];

        for (unsigned k = 0; !strcmp(s->kind, "log") && k < s->count; k++)
            if (!strcmp(s->entries[k].key, "format"))
                json = !strcmp(s->entries[k].value, "json");
    }
    config_text_deinit(&text);
    config_report_deinit(&ignored);
    return json;
}

char *config_admin_address(const char *path, struct buf *problems)
{
    struct config *c = load(path, GLOBALS_ONLY, problems, NULL);
    char *address = c ? strdup(c->admin.listen) : NULL;

    if (c && !address)
        buf_printf(problems, "%s: out of memory\n", path ? path : "defaults");
    config_unref(c);
    return address;
}

struct config *config_ref(struct config *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void config_unref(struct config *c)
{
    if (c && atomic_fetch_sub(&c->refs, 1) == 1)
        config_free(c);
}
