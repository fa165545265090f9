/* Loads a configuration from a file, renews it when other files change, and frees it. */
#include "config/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_private.h"

#define NAMED_MAX 1000 /* upstreams, routes */
#define PAIRS_MAX 100  /* headers or models of an upstream */

/* The entries of the file, which all configurations that are renewed from one another share. */
struct config_source {
    atomic_uint refs;
    struct config_text text;
};

/* The target of the entries of one section, or of all unnamed sections. */
struct config_target {
    struct config *config;
    struct config_upstream *upstream; /* of an [upstream] */
    struct config_route *route;       /* of a [route] */
    struct config_origin origin;
    const struct config_section *section;
    /* The row that a further line continues; NULL: it had a mistake. */
    const struct config_row *last;
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

static void apply_defaults(const struct config_target *t, enum config_owner owner)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        struct config_mistake mistake;
        int rc;

        if (row->owner != owner || config_row_is_prefix(row))
            continue;
        rc = config_value_parse(row, str_from(row->fallback), owner_of(t, row), &mistake);
        if (rc == -ENOMEM)
            config_no_memory(t->origin.report);
        assert(rc != -EINVAL);
    }
}

/* --- problems with entries -------------------------------------------------------------------- */

static struct config_place place_of(const struct config_target *t, const struct config_entry *e)
{
    return (struct config_place){.line = e->line, .title = t->origin.title, .key = e->key};
}

static void second_time(const struct config_target *t, const struct config_entry *e, unsigned first)
{
    config_problem(t->origin.report, FAULT_VALUE, place_of(t, e),
                   "is set twice; the first is on line %u", first);
}

static void bad_value(const struct config_target *t, const struct config_row *row,
                      const struct config_entry *e, const struct config_mistake *mistake)
{
    char quoted[CONFIG_QUOTED_MAX];
    struct buf expected;

    buf_init(&expected, 512);
    if (mistake->expected)
        buf_add_str(&expected, str_from(mistake->expected));
    else
        config_value_expected(row, &expected);
    config_problem(t->origin.report, FAULT_VALUE, place_of(t, e), "found %s; expected %.*s",
                   config_row_hides(row, e->value)
                       ? "a value that is not shown because it may be secret"
                       : config_quote(mistake->found, quoted),
                   (int)expected.len, expected.p ? expected.p : "");
    buf_deinit(&expected);
}

static void unknown_key(const struct config_target *t, const struct config_entry *e)
{
    struct config_place place = place_of(t, e);
    char quoted[CONFIG_QUOTED_MAX];
    struct buf hint;

    buf_init(&hint, 256);
    config_key_hint(t->section->kind, e->key, &hint);
    place.key = config_quote(str_from(e->key), quoted);
    config_problem(t->origin.report, FAULT_VALUE, place, "unknown key%.*s", (int)hint.len,
                   hint.p ? hint.p : "");
    buf_deinit(&hint);
}

/* --- header.NAME and model.NAME --------------------------------------------------------------- */

/* Whether a header belongs to the connection, or is set by retryd itself. */
static bool is_reserved(struct str name)
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

/* Returns NULL if a pair is valid, else a description of what is expected. */
static const char *pair_problem(const struct config_row *row, struct str name, struct str value,
                                unsigned count)
{
    bool header = row->type == CONFIG_HEADER;

    if (header && !str_is_token(name))
        return "the name of a header after header.";
    if (header && is_reserved(name))
        return "a header that does not belong to the connection";
    if (!name.n)
        return "the name of a model after model.";
    if (!value.n || value.p[0] == ';')
        return "a value that is not empty and does not start with a semicolon";
    if (!header && (!str_is_visible(value) || memchr(value.p, '=', value.n)))
        return "the name of a model, without spaces or =";
    return count == PAIRS_MAX ? "at most 100 of them" : NULL;
}

/* Returns the line of an earlier pair of that name, in any case, or 0. */
static unsigned same_key_before(const struct config_target *t, const struct config_entry *e)
{
    for (const struct config_entry *p = t->section->entries; p < e; p++) {
        if (!p->continues && str_ieq(str_from(p->key), str_from(e->key)))
            return p->line;
    }
    return 0;
}

static bool pair_add(struct config_pairs *pairs, struct str name, struct str value)
{
    struct config_pair *items = config_grow(pairs->items, pairs->count, sizeof *items);
    struct config_pair pair;

    if (!items)
        return false;
    pairs->items = items;
    pair = (struct config_pair){str_dup(name), str_dup(value)};
    if (!pair.name || !pair.value) {
        free(pair.name);
        free(pair.value);
        return false;
    }
    items[pairs->count++] = pair;
    return true;
}

/* Adds the pair. Its value is never shown, since a header's may be a secret. */
static bool apply_pair(const struct config_target *t, const struct config_row *row,
                       const struct config_entry *e)
{
    struct config_pairs *pairs = config_field(row, t->upstream);
    struct str name = str_from(e->key + strlen(row->key)), value = str_from(e->value);
    const char *why = pair_problem(row, name, value, pairs->count);
    unsigned first = same_key_before(t, e);

    if (first)
        second_time(t, e, first);
    else if (why)
        config_problem(t->origin.report, FAULT_VALUE, place_of(t, e), "expected %s", why);
    else if (!pair_add(pairs, name, value))
        config_no_memory(t->origin.report);
    return !first && !why;
}

/* --- entries ---------------------------------------------------------------------------------- */

/* Whether an indented line may continue the value above it. That is usual in a list, and most
 * likely a slip elsewhere. */
static bool may_continue(const struct config_target *t, const struct config_entry *e)
{
    bool list = config_row_is_list(t->last);

    if (list && !strchr(e->value, '='))
        return true;
    config_problem(t->origin.report, FAULT_VALUE, place_of(t, e),
                   "this indented line continues the value above it%s",
                   list ? ", but contains a =; a key must not be indented"
                        : ", which takes one line only; a key must not be indented");
    return false;
}

static void apply_value(const struct config_target *t, const struct config_row *row,
                        const struct config_entry *e)
{
    void *owner = owner_of(t, row);
    struct config_mistake mistake;
    int rc;

    /* A list starts anew and then grows. A text is replaced only if the new one is valid. */
    if (!e->continues && config_row_is_list(row))
        config_value_clear(row, owner);
    rc = config_value_parse(row, str_from(e->value), owner, &mistake);
    if (rc == -ENOMEM)
        config_no_memory(t->origin.report);
    else if (rc < 0)
        bad_value(t, row, e, &mistake);
}

/* Applies the first line of a key. Returns the row if further lines may continue it. */
static const struct config_row *apply_key(struct config_target *t, const struct config_entry *e)
{
    const struct config_row *row = config_row_find(t->section->kind, e->key);
    unsigned *line = row ? &t->origin.lines[config_row_index(row)] : NULL;

    if (!row) {
        unknown_key(t, e);
        return NULL;
    }
    if (*line && !config_row_is_prefix(row)) {
        second_time(t, e, *line);
        return NULL;
    }
    *line = e->line;
    if (config_row_is_prefix(row))
        return apply_pair(t, row, e) ? row : NULL;
    apply_value(t, row, e);
    return row;
}

static void apply_section(struct config_target *t, const struct config_section *s)
{
    snprintf(t->title, sizeof t->title, "%s%s%s", s->kind, s->name[0] ? " " : "", s->name);
    t->origin.title = t->title;
    t->origin.line = s->line;
    t->section = s;
    t->last = NULL;
    for (unsigned i = 0; i < s->count; i++) {
        const struct config_entry *e = &s->entries[i];

        if (!e->continues)
            t->last = apply_key(t, e);
        else if (t->last && may_continue(t, e))
            apply_value(t, t->last, e);
    }
}

/* --- the parts of a configuration ------------------------------------------------------------- */

static unsigned count_named(const struct config_text *text, const char *kind)
{
    unsigned n = 0;

    for (unsigned i = 0; i < text->count; i++)
        n += !strcmp(text->sections[i].kind, kind);
    return n;
}

static void load_globals(struct config *c, bool globals_only, struct config_report *r)
{
    const struct config_text *text = &c->source->text;
    struct config_target t = {.config = c, .origin.report = r};

    apply_defaults(&t, OWNER_CONFIG);
    apply_defaults(&t, OWNER_SETTINGS);
    for (unsigned i = 0; i < text->count; i++) {
        if (!text->sections[i].name[0])
            apply_section(&t, &text->sections[i]);
    }
    t.origin.title = NULL;
    t.origin.line = 0;
    if (r->faults[FAULT_MEMORY])
        return;
    config_check_listeners(c, &t.origin);
    if (!c->before)
        config_check_spool(c, &t.origin);
    /* --health needs neither, and may not be allowed to read them. */
    if (!globals_only) {
        config_finish_shared(c, &t.origin);
        config_load_tokens(c, &t.origin);
    }
    config_check_settings(&c->defaults, &t.origin);
}

/* Loads an upstream; the default one if `s` is NULL. */
static void load_upstream(struct config *c, const struct config_section *s, struct config_report *r)
{
    struct config_upstream *u = &c->upstreams[c->upstream_count++];
    struct config_target t = {
        .config = c, .upstream = u, .origin = {.report = r, .title = "upstream openai"}};

    u->name = str_dup(s ? str_from(s->name) : STR("openai"));
    if (!u->name)
        config_no_memory(r);
    apply_defaults(&t, OWNER_UPSTREAM);
    if (s)
        apply_section(&t, s);
    if (!r->faults[FAULT_MEMORY])
        config_finish_upstream(c, u, &t.origin);
}

/* Loads a route; the catch-all if `s` is NULL. */
static void load_route(struct config *c, const struct config_section *s, struct config_report *r)
{
    struct config_route *route = &c->routes[c->route_count++];
    struct config_target t = {
        .config = c, .route = route, .origin = {.report = r, .title = "route default"}};

    route->name = str_dup(s ? str_from(s->name) : STR("default"));
    if (!route->name)
        config_no_memory(r);
    apply_defaults(&t, OWNER_ROUTE);
    route->settings = c->defaults;
    if (s)
        apply_section(&t, s);
    if (r->faults[FAULT_MEMORY])
        return;
    config_check_settings(&route->settings, &t.origin);
    config_finish_route(c, route, &t.origin);
}

/* Loads all sections of a kind in the order of the file. */
static void load_each(struct config *c, const char *kind,
                      void (*load_one)(struct config *, const struct config_section *,
                                       struct config_report *),
                      struct config_report *r)
{
    const struct config_text *text = &c->source->text;

    for (unsigned i = 0; i < text->count; i++) {
        if (!strcmp(text->sections[i].kind, kind))
            load_one(c, &text->sections[i], r);
    }
}

static void load_named(struct config *c, struct config_report *r)
{
    unsigned upstreams = count_named(&c->source->text, "upstream"),
             routes = count_named(&c->source->text, "route");

    c->upstreams = calloc(upstreams ? upstreams : 1, sizeof *c->upstreams);
    c->routes = calloc(routes + 1, sizeof *c->routes);
    if (!c->upstreams || !c->routes) {
        config_no_memory(r);
        return;
    }
    load_each(c, "upstream", load_upstream, r);
    if (upstreams == 0)
        load_upstream(c, NULL, r);
    if (r->faults[FAULT_MEMORY])
        return;
    load_each(c, "route", load_route, r);
    load_route(c, NULL, r);
}

static bool too_many(const struct config *c, const char *kind, struct config_report *r)
{
    if (count_named(&c->source->text, kind) <= NAMED_MAX)
        return false;
    config_problem(r, FAULT_VALUE, (struct config_place){0}, "there are more than %d [%s] sections",
                   NAMED_MAX, kind);
    return true;
}

/* Loads the global settings first, whose values the others inherit, and upstreams before the routes
 * that name them. */
static void load_parts(struct config *c, bool globals_only, struct config_report *r)
{
    if (too_many(c, "upstream", r) || too_many(c, "route", r))
        return;
    load_globals(c, globals_only, r);
    if (!globals_only && !r->faults[FAULT_MEMORY])
        load_named(c, r);
}

/* --- freeing ---------------------------------------------------------------------------------- */

static void clear_rows(void *owner, enum config_owner kind)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        if (config_rows[i].owner == kind)
            config_value_clear(&config_rows[i], owner);
    }
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
}

static void config_free(struct config *c)
{
    clear_rows(c, OWNER_CONFIG);
    for (unsigned i = 0; i < c->upstream_count; i++)
        upstream_deinit(&c->upstreams[i]);
    for (unsigned i = 0; i < c->route_count; i++) {
        clear_rows(&c->routes[i], OWNER_ROUTE);
        free(c->routes[i].name);
        free(c->routes[i].upstreams);
        free(c->routes[i].weights);
    }
    secret_free(c->shared_password);
    tokens_unref(c->server.client_tokens);
    tokens_unref(c->admin.tokens);
    config_files_free(c);
    if (c->source && atomic_fetch_sub(&c->source->refs, 1) == 1) {
        config_text_deinit(&c->source->text);
        free(c->source);
    }
    free(c->upstreams);
    free(c->routes);
    free(c->path);
    free(c);
}

struct config *config_ref(struct config *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

const struct config_text *config_source_text(const struct config *c)
{
    return &c->source->text;
}

void config_unref(struct config *c)
{
    if (c && atomic_fetch_sub(&c->refs, 1) == 1)
        config_free(c);
}

/* --- loading ---------------------------------------------------------------------------------- */

/* The purpose of loading a configuration. */
enum purpose {
    TO_RUN,
    TO_EXAMINE,
    GLOBALS_ONLY,
};

static atomic_uint_fast64_t serials;

/* Returns an empty configuration with one reference; NULL if out of memory. */
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

static void read_source(struct config *c, struct config_report *r)
{
    c->source = calloc(1, sizeof *c->source);
    if (!c->source) {
        config_no_memory(r);
        return;
    }
    atomic_init(&c->source->refs, 1);
    if (c->path) {
        c->mark = config_mark(c->path);
        config_read(c->path, &c->source->text, r);
    }
    config_environment(&c->source->text, r);
    r->text = &c->source->text;
}

/* Settings that do not come from the file. */
struct beside {
    const struct config_setting *settings;
    unsigned count;
};

static struct config *load(const char *path, enum purpose purpose, struct beside beside,
                           struct buf *problems, struct buf *notes)
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
    for (unsigned i = 0; !report.faults[FAULT_MEMORY] && i < beside.count; i++) {
        const struct config_setting *s = &beside.settings[i];
        int section = config_text_section(&c->source->text, s->kind, s->name, 0);

        if (section < 0)
            config_no_memory(&report);
        else
            config_text_set(&c->source->text, (unsigned)section, s->key, s->value, 0, &report);
    }
    if (!report.faults[FAULT_MEMORY] && !report.faults[FAULT_FILE])
        load_parts(c, purpose == GLOBALS_ONLY, &report);
    config_report_write(&report, problems, notes);
    error = config_report_errno(&report);
    config_report_deinit(&report);
    if (!error)
        return c;
    if (c)
        config_free(c);
    errno = error;
    return NULL;
}

struct config *config_load(const char *path, struct buf *problems, struct buf *notes)
{
    return load(path, TO_RUN, (struct beside){0}, problems, notes);
}

struct config *config_load_with(const char *path, const struct config_setting *settings,
                                unsigned count, struct buf *problems, struct buf *notes)
{
    return load(path, TO_RUN, (struct beside){settings, count}, problems, notes);
}

bool config_has_section(const struct config *c, const char *kind, const char *name)
{
    const struct config_text *text = &c->source->text;

    for (unsigned i = 0; i < text->count; i++)
        if (!strcmp(text->sections[i].kind, kind) &&
            (!name || !strcmp(text->sections[i].name, name)))
            return true;
    return false;
}

struct config *config_examine(const char *path, struct buf *problems, struct buf *notes)
{
    return load(path, TO_EXAMINE, (struct beside){0}, problems, notes);
}

struct config *config_renew(const struct config *was)
{
    struct config *c = begin(was->path);
    struct config_report report;

    if (!c)
        return NULL;
    config_report_init(&report, was->path);
    report.text = &was->source->text;
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

bool config_same_source(const struct config *a, const struct config *b)
{
    return a->source == b->source;
}

bool config_wants_json(const char *path)
{
    struct config_text text = {0};
    struct config_report ignored;
    bool json = false;

    config_report_init(&ignored, path);
    if (path)
        config_read(path, &text, &ignored);
    config_environment(&text, &ignored);
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
    struct config *c = load(path, GLOBALS_ONLY, (struct beside){0}, problems, NULL);
    char *address = c ? strdup(c->admin.listen) : NULL;

    if (c && !address)
        buf_printf(problems, "%s: out of memory\n", path ? path : "defaults");
    config_unref(c);
    return address;
}
