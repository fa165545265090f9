/* Checks settings against each other, and computes the values that follow from them. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/units.h"
#include "config/config_private.h"
#include "edge/spool_file.h"
#include "http/credentials.h"

/* --- listeners -------------------------------------------------------------------------------- */

/* C29: an address that other machines can reach needs client tokens, or insecure_listen. The admin
 * pages ask for no token, and have their own insecure_listen. */
bool config_may_be_reached(const struct config *c, bool admin)
{
    if (admin)
        return c->admin.insecure_listen;
    return c->server.insecure_listen || c->server.client_keys_file[0] ||
           c->server.client_token_given;
}

const char *config_reach_advice(bool admin)
{
    return admin ? "insecure_listen = yes in [admin] if anyone who can reach it may read the pages"
                 : "client_keys_file in [server] if clients must send a token, or insecure_listen "
                   "= yes there if anyone who can reach it may use it";
}

static void check_reachable(const struct config *c, const char *section, const char *address,
                            const struct config_origin *o)
{
    bool admin = !strcmp(section, "admin");
    char quoted[CONFIG_QUOTED_MAX];

    if (config_address_is_local(address) || config_may_be_reached(c, admin))
        return;
    config_problem(
        o->report, FAULT_VALUE, config_place_of(o, section, "listen"),
        "found %s, which other machines can reach; expected a loopback address, a Unix socket, or "
        "%s",
        config_quote(str_from(address), quoted), config_reach_advice(admin));
}

/* Other machines call this one by a name that the default of allowed_hosts does not have. */
static void note_hosts(const struct config *c, const struct config_origin *o)
{
    struct config_place place = config_place_of(o, "server", "allowed_hosts");
    bool local = true;

    for (unsigned i = 0; i < c->server.listen.count; i++)
        local = local && config_address_is_local(c->server.listen.items[i]);
    if (local || place.line)
        return;
    place.line = config_key_line(o, "server", "listen");
    config_note(
        o->report, place,
        "is not set, so requests from other machines get 403; add the name or address that they "
        "use for this machine");
}

void config_check_listeners(const struct config *c, const struct config_origin *o)
{
    struct config_place place = config_place_of(o, "admin", "listen");
    const struct string_list *listen = &c->server.listen;
    const char *admin = c->admin.listen;

    if (!place.line)
        place.line = config_key_line(o, "server", "listen");
    if (listen->count > CONFIG_LISTEN_MAX)
        config_problem(o->report, FAULT_VALUE, config_place_of(o, "server", "listen"),
                       "expected at most %d addresses", CONFIG_LISTEN_MAX);
    for (unsigned i = 0; i < listen->count; i++) {
        check_reachable(c, "server", listen->items[i], o);
        if (!strcmp(listen->items[i], admin) && !str_ends(str_from(admin), STR(":0")))
            config_problem(
                o->report, FAULT_VALUE, place,
                "%s is also an address of [server]; expected a different address, or off", admin);
    }
    note_hosts(c, o);
    if (strcmp(admin, "off") != 0)
        check_reachable(c, "admin", admin, o);
}

/* --- the spool -------------------------------------------------------------------------------- */

/* This is only a note: all but the largest requests are served without the folder. */
void config_check_spool(const struct config *c, const struct config_origin *o)
{
    int rc = spool_file_probe(c->server.spool_dir);
    char quoted[CONFIG_QUOTED_MAX];

    if (rc < 0)
        config_note(
            o->report, config_place_of(o, "server", "spool_dir"),
            "cannot create a file in %s (%s); requests with bodies larger than memory_body will "
            "get 507",
            config_quote(str_from(c->server.spool_dir), quoted), strerror(-rc));
}

/* --- retries ---------------------------------------------------------------------------------- */

/* A route that sets neither delay has the global ones, which are checked separately. */
void config_check_settings(const struct route_settings *s, const struct config_origin *o)
{
    const struct backoff_settings *b = &s->retry.backoff;
    struct config_place place = config_place_of(o, "retry", "max_delay");
    unsigned initial = config_key_line(o, "retry", "initial_delay"),
             most = config_key_line(o, "retry", "max_delay");
    char a[UNITS_TEXT_MAX], z[UNITS_TEXT_MAX];

    if (b->initial_delay_ms <= b->max_delay_ms || (!initial && !most))
        return;
    place.line = most ? most : initial;
    config_problem(o->report, FAULT_VALUE, place,
                   "%s is less than initial_delay (%s); expected at least as much",
                   units_duration_text(b->max_delay_ms, a),
                   units_duration_text(b->initial_delay_ms, z));
}

/* --- the shared view -------------------------------------------------------------------------- */

void config_finish_shared(struct config *c, const struct config_origin *o)
{
    bool user = c->shared_redis_user[0], password = c->shared_password_file[0];
    struct config_place user_place = config_place_of(o, "shared", "redis_user");

    config_load_password(c, o);
    if (!c->shared_redis[0] && user)
        config_note(o->report, user_place, "has no effect without redis");
    if (!c->shared_redis[0] && password)
        config_note(o->report, config_place_of(o, "shared", "redis_password_file"),
                    "has no effect without redis");
    if (c->shared_redis[0] && user && !password)
        config_problem(o->report, FAULT_VALUE, user_place,
                       "redis_password_file is not set; expected both or neither");
}

/* --- upstreams -------------------------------------------------------------------------------- */

static void fill_url(struct config_upstream *u, struct config_report *r)
{
    struct config_url url = {0};
    bool local;

    if (config_url_parse(str_from(u->url), &url) != NULL)
        return;
    local = url.socket.n > 0;
    u->tls = url.tls;
    u->origin =
        str_dup(local ? STR("http://localhost")
                      : (struct str){u->url, (size_t)(url.authority.p - u->url) + url.authority.n});
    u->base_path = str_dup(url.path);
    u->host = str_dup(local ? STR("localhost") : url.host);
    u->unix_socket = str_dup(url.socket);
    u->query = str_dup(url.query);
    if (!u->origin || !u->base_path || !u->host || !u->unix_socket || !u->query)
        config_no_memory(r);
}

static void check_headers(const struct config_upstream *u, const struct config_origin *o)
{
    const char *source = u->api_key_env[0] ? "api_key_env" : "api_key_file";
    struct config_place place = config_place_of(o, "upstream", "header.");
    char key[256];

    for (unsigned i = 0; i < u->headers.count; i++) {
        const char *name = u->headers.items[i].name;

        if (!(u->api_key_env[0] || u->api_key_file[0]) ||
            !str_ieq(str_from(name), str_from(u->auth_header)))
            continue;
        snprintf(key, sizeof key, "header.%s", name);
        place.key = key;
        config_problem(o->report, FAULT_VALUE, place,
                       "this header carries the key of %s; expected only one of them", source);
    }
}

/* Returns the listener of this daemon that the upstream leads to, or NULL. Sockets from systemd
 * replace the addresses in the file; they are checked at the start. */
static const char *own_listener(const struct config *c, const struct config_upstream *u)
{
    for (unsigned i = 0; !getenv("LISTEN_FDS") && i < c->server.listen.count; i++) {
        if (config_leads_to(u, c->server.listen.items[i]))
            return c->server.listen.items[i];
    }
    return strcmp(c->admin.listen, "off") != 0 && config_leads_to(u, c->admin.listen)
               ? c->admin.listen
               : NULL;
}

static bool sets_credentials(const struct config_upstream *u)
{
    for (unsigned i = 0; i < u->headers.count; i++)
        if (str_ieq(str_from(u->headers.items[i].name), str_from(u->auth_header)) ||
            credentials_is_field(str_from(u->headers.items[i].name)))
            return true;
    return u->client_cert_file[0] != '\0';
}

/* C29: a client's token is for retryd alone. */
static void note_no_credentials(const struct config *c, const struct config_upstream *u,
                                const struct config_origin *o)
{
    struct config_place place = config_place_of(o, "upstream", "api_key_file");

    if (!c->server.client_keys_file[0] || u->api_key_env[0] || u->api_key_file[0] ||
        sets_credentials(u))
        return;
    place.key = "api_key_file";
    config_note(o->report, place,
                "is not set, nor is api_key_env: with client_keys_file, what clients send goes no "
                "further, so this upstream gets no key");
}

void config_finish_upstream(struct config *c, struct config_upstream *u,
                            const struct config_origin *o)
{
    const char *own = NULL;

    fill_url(u, o->report);
    /* A forgotten url must not send another provider's key to OpenAI. */
    if (o->line && !config_key_line(o, "upstream", "url") && strcmp(u->name, "openai") != 0)
        config_problem(
            o->report, FAULT_VALUE, config_place_of(o, "upstream", "url"),
            "is missing; expected a URL such as https://api.openai.com/v1 (only the upstream named "
            "openai may omit it)");
    check_headers(u, o);
    config_load_authorities(c, u, o);
    config_load_client(c, u, o);
    config_load_proxy_password(c, u, o);
    config_load_keys(c, u, o);
    note_no_credentials(c, u, o);
    if (!c->before && !o->report->faults[FAULT_MEMORY] && u->origin && u->unix_socket)
        own = own_listener(c, u);
    if (own)
        config_problem(
            o->report, FAULT_VALUE, config_place_of(o, "upstream", u->proxy[0] ? "proxy" : "url"),
            "leads back to retryd itself, which listens on %s; expected the address of the API",
            own);
}

/* --- access ----------------------------------------------------------------------------------- */

/* Finds the barrier that keeps ordinary users from a file: its own mode, or that of a folder above
 * it. Returns that mode, or -1. Another check reports missing files. */
static int find_barrier(const char *path, unsigned bits, char ret_barrier[PATH_MAX])
{
    size_t n = strlen(path);
    struct stat st;

    for (size_t i = 0; i <= n && n < PATH_MAX; i++) {
        unsigned wanted = i == n ? bits : S_IXOTH;

        if (i < n && path[i] != '/')
            continue;
        snprintf(ret_barrier, PATH_MAX, "%.*s", i ? (int)i : 1, path);
        if (stat(ret_barrier, &st) == 0 && (st.st_mode & wanted) != wanted)
            return (int)(st.st_mode & 07777);
    }
    return -1;
}

/* Whether ProtectHome= or PrivateTmp= of the unit hides the file from the service. */
static bool hidden_by_unit(const char *path)
{
    static const char *const folders[] = {"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"};
    char real[PATH_MAX];

    if (!realpath(path, real))
        return false;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        if (str_starts(str_from(real), str_from(folders[i])))
            return true;
    return false;
}

static void note_path(const char *title, const char *key, const char *path, struct buf *notes)
{
    bool spool = !strcmp(key, "spool_dir");
    bool secret = strstr(key, "key") || strstr(key, "password");
    char quote[CONFIG_QUOTED_MAX], other[CONFIG_QUOTED_MAX], barrier[PATH_MAX];
    const char *quoted = config_quote(str_from(path), quote);
    int mode;

    if (!strchr(path, '/'))
        return;
    if (strcmp(title, "configuration") != 0 && !spool && hidden_by_unit(path))
        buf_printf(
            notes,
            "[%s] %s: %s is in a folder that retryd.service cannot see (such as /home, /root and "
            "/tmp); expected a file in /etc/retryd\n",
            title, key, quoted);
    mode = find_barrier(path, spool ? S_IWOTH | S_IXOTH : S_IROTH, barrier);
    if (mode >= 0)
        buf_printf(
            notes,
            "[%s] %s: not every user can %s %s (%s has mode %04o): root can, but the user of "
            "retryd.service cannot%s\n",
            title, key, spool ? "write to" : "read", quoted, config_quote(str_from(barrier), other),
            (unsigned)mode,
            secret
                ? "; pass the file to the service as a credential (LoadCredential=), and set its "
                  "name here without a slash"
                : "");
}

static void note_rows(enum config_owner kind, const void *owner, const char *title,
                      struct buf *notes)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->owner == kind && row->type == CONFIG_PATH)
            note_path(title ? title : row->section, row->key,
                      *(char *const *)config_field(row, owner), notes);
    }
}

void config_note_access(const struct config *c, struct buf *notes)
{
    char title[96];

    if (c->path)
        note_path("configuration", "the file itself", c->path, notes);
    note_rows(OWNER_CONFIG, c, NULL, notes);
    for (unsigned i = 0; i < c->upstream_count; i++) {
        snprintf(title, sizeof title, "upstream %s", c->upstreams[i].name);
        note_rows(OWNER_UPSTREAM, &c->upstreams[i], title, notes);
    }
}
