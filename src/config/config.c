/* Puts a snapshot together from a file, and looks after its life. */
#include "config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_table.h"

#define NAMED_MAX 1000 /* upstreams, routes */

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

    config_apply_defaults(&t, OWNER_CONFIG);
    config_apply_defaults(&t, OWNER_SETTINGS);
    for (unsigned i = 0; i < text->count; i++) {
        if (!text->sections[i].name[0])
            config_apply_section(&t, &text->sections[i]);
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
    config_apply_defaults(&t, OWNER_UPSTREAM);
    if (s)
        config_apply_section(&t, s);
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
    config_apply_defaults(&t, OWNER_ROUTE);
    route->settings = c->defaults;
    if (s)
        config_apply_section(&t, s);
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
