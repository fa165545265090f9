/* What one value alone cannot tell: conflicts between values, and the parts that follow from them. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/units.h"
#include "config/config_private.h"
#include "edge/spool.h"

/* --- listeners -------------------------------------------------------------------------------- */

/* C29: clients must prove who they are, or the user must say that they need not. client_keys_file
 * will satisfy it once it is in force; until then it would promise what nobody checks. */
bool config_may_be_reached(const struct config *c, bool admin)
{
    (void)admin; /* tokens would be no reason to open the admin pages */
    return c->server.insecure_listen;
}

static void check_reachable(const struct config *c, const char *section, const char *address,
                            unsigned line, struct config_report *r)
{
    bool loopback, admin = !strcmp(section, "admin");
    bool keys = c->server.client_keys_file[0] && !admin;
    char quoted[CONFIG_QUOTED_MAX];

    if (config_address_check(str_from(address), &loopback) || loopback ||
        config_may_be_reached(c, admin))
        return;
    config_problem(r, FAULT_VALUE, line,
                   "[%s] listen: found %s, which other machines can reach; expected a loopback "
                   "address or a Unix socket, or insecure_listen = yes in [server] where whoever "
                   "can reach it may use it%s",
                   section, config_quote(str_from(address), quoted),
                   keys ? " (client_keys_file is not in force in this version and does not protect "
                          "it yet)"
                        : "");
}

/* Others would call this machine by a name that the default list does not have. */
static void note_hosts(const struct config *c, const struct config_origin *o,
                       struct config_report *r)
{
    for (unsigned i = 0; i < c->server.listen.count; i++) {
        bool loopback;

        if (config_address_check(str_from(c->server.listen.items[i]), &loopback) || loopback)
            continue;
        if (!config_key_line(o, "server", "allowed_hosts"))
            config_note(r, config_key_line(o, "server", "listen"),
                        "[server] allowed_hosts: is not set, so that requests from other machines "
                        "get 403; add the name or address by which they call this one");
        return;
    }
}

static bool any_port(const char *address)
{
    size_t n = strlen(address);

    return n > 2 && !strcmp(address + n - 2, ":0");
}

void config_check_listeners(const struct config *c, const struct config_origin *o,
                            struct config_report *r)
{
    unsigned line = config_key_line(o, "server", "listen"),
             admin_line = config_key_line(o, "admin", "listen");
    const char *admin = c->admin.listen;

    if (c->server.listen.count > CONFIG_LISTEN_MAX)
        config_problem(r, FAULT_VALUE, line, "[server] listen: expected at most %d addresses",
                       CONFIG_LISTEN_MAX);
    for (unsigned i = 0; i < c->server.listen.count; i++) {
        const char *address = c->server.listen.items[i];

        check_reachable(c, "server", address, line, r);
        if (!strcmp(address, admin) && !any_port(admin))
            config_problem(r, FAULT_VALUE, admin_line ? admin_line : line,
                           "[admin] listen: %s is an address of [server] too; expected one of its "
                           "own, or off",
                           admin);
    }
    note_hosts(c, o, r);
    if (strcmp(admin, "off") != 0)
        check_reachable(c, "admin", admin, admin_line, r);
}

/* --- the spool ---------------------------------------------------------------------------------- */

/* No reason not to start: all but the largest requests are served without it. */
void config_check_spool(const struct config *c, const struct config_origin *o,
                        struct config_report *r)
{
    int rc = spool_probe(c->server.spool_dir);
    char quoted[CONFIG_QUOTED_MAX];

    if (rc < 0)
        config_note(r, config_key_line(o, "server", "spool_dir"),
                    "[server] spool_dir: no file can be made in %s (%s): requests with bodies "
                    "larger than memory_body will get 507",
                    config_quote(str_from(c->server.spool_dir), quoted), strerror(-rc));
}

/* --- retries ---------------------------------------------------------------------------------- */

void config_check_settings(const struct route_settings *s, const struct config_origin *o,
                           struct config_report *r)
{
    const struct backoff_settings *b = &s->retry.backoff;
    unsigned least = config_key_line(o, "retry", "initial_delay"),
             most = config_key_line(o, "retry", "max_delay");
    bool route = strncmp(o->title, "route ", 6) == 0;
    char a[UNITS_TEXT_MAX], z[UNITS_TEXT_MAX];

    /* A route that sets neither inherits what the global check has seen. */
    if (b->initial_delay_ms <= b->max_delay_ms || (!least && !most))
        return;
    config_problem(
        r, FAULT_VALUE, most ? most : least,
        "[%s] %smax_delay: %s is less than initial_delay (%s); expected at least as much", o->title,
        route ? "retry." : "", units_duration_text(b->max_delay_ms, a),
        units_duration_text(b->initial_delay_ms, z));
}

/* --- the shared view --------------------------------------------------------------------------- */

void config_finish_shared(struct config *c, const struct config_origin *o, struct config_report *r)
{
    static const char *const keys[] = {"redis_user", "redis_password_file"};
    bool set[] = {c->shared_redis_user[0] != '\0', c->shared_password_file[0] != '\0'};

    config_load_password(c, o, r);
    for (size_t i = 0; !c->shared_redis[0] && i < sizeof keys / sizeof keys[0]; i++) {
        if (set[i])
            config_note(r, config_key_line(o, "shared", keys[i]),
                        "[shared] %s: has no effect without redis", keys[i]);
    }
    if (c->shared_redis[0] && set[0] && !set[1])
        config_problem(r, FAULT_VALUE, config_key_line(o, "shared", "redis_user"),
                       "[shared] redis_user: redis_password_file is not set; expected both, or "
                       "neither");
}

/* --- upstreams -------------------------------------------------------------------------------- */

static char *join(struct str a, const char *between, struct str b)
{
    struct buf out;

    buf_init(&out, a.n + strlen(between) + b.n + 1);
    buf_add_str(&out, a);
    buf_add_str(&out, str_from(between));
    buf_add_str(&out, b);
    buf_addc(&out, '\0');
    if (out.failed) {
        buf_deinit(&out);
        return NULL;
    }
    return buf_steal(&out, &(size_t){0});
}

static void fill_url(struct config_upstream *u, struct config_report *r)
{
    struct config_url url = {0};
    bool local;

    if (config_url_parse(str_from(u->url), &url) != NULL)
        return;
    local = url.socket.n > 0;
    u->tls = url.tls;
    u->origin = local ? str_dup(STR("http://localhost")) : join(url.scheme, "://", url.authority);
    u->base_path = str_dup(url.path);
    u->host = str_dup(local ? STR("localhost") : url.host);
    u->unix_socket = str_dup(url.socket);
    u->query = str_dup(url.query);
    if (!u->origin || !u->base_path || !u->host || !u->unix_socket || !u->query)
        config_no_memory(r);
}

/* A forgotten url must not send another provider's key to OpenAI. */
static void check_url_set(const struct config_upstream *u, const struct config_origin *o,
                          struct config_report *r)
{
    if (o->line && !config_key_line(o, "upstream", "url") && strcmp(u->name, "openai") != 0)
        config_problem(r, FAULT_VALUE, o->line,
                       "[%s] url: is missing; expected a URL such as https://api.openai.com/v1 "
                       "(only the upstream named openai may leave it out)",
                       o->title);
}

static void check_headers(const struct config_upstream *u, const struct config_origin *o,
                          struct config_report *r)
{
    bool keys = u->api_key_env[0] || u->api_key_file[0];

    for (unsigned i = 0; keys && i < u->header_count; i++) {
        if (str_ieq(str_from(u->headers[i].name), str_from(u->auth_header)))
            config_problem(r, FAULT_VALUE, config_origin_line(o, "upstream", "header."),
                           "[%s] header.%s: this header carries the key of %s; expected one of the "
                           "two",
                           o->title, u->headers[i].name,
                           u->api_key_env[0] ? "api_key_env" : "api_key_file");
    }
}

void config_finish_upstream(struct config *c, struct config_upstream *u,
                            const struct config_origin *o, struct config_report *r)
{
    fill_url(u, r);
    check_url_set(u, o, r);
    check_headers(u, o, r);
    config_load_authorities(c, u, o, r);
    config_load_client(c, u, o, r);
    config_load_proxy_password(c, u, o, r);
    config_load_keys(c, u, o, r);
}

/* Sockets that systemd passes stand for the addresses of the file: those are seen at the start. */
static bool is_own(const struct config *c, const struct config_upstream *u,
                   const char **ret_address)
{
    for (unsigned i = 0; !getenv("LISTEN_FDS") && i < c->server.listen.count; i++) {
        *ret_address = c->server.listen.items[i];
        if (config_leads_to(u, *ret_address))
            return true;
    }
    *ret_address = c->admin.listen;
    return strcmp(c->admin.listen, "off") != 0 && config_leads_to(u, *ret_address);
}

void config_check_own(const struct config *c, const struct config_upstream *u,
                      const struct config_origin *o, struct config_report *r)
{
    const char *key = u->proxy[0] ? "proxy" : "url", *address;

    if (!u->origin || !u->unix_socket || !is_own(c, u, &address))
        return;
    config_problem(
        r, FAULT_VALUE, config_origin_line(o, "upstream", key),
        "[%s] %s: leads back to retryd itself, which listens on %s; expected the API's own",
        o->title, key, address);
}

#define PATH_SIZE 4096

/* What keeps everybody but the owner and a group from it. */
struct obstacle {
    char path[PATH_SIZE]; /* the file, or the folder above it that nobody else may enter */
    unsigned mode;
    bool folder;
};

static bool lets_in(const char *path, unsigned bits, struct obstacle *ret)
{
    struct stat st;

    if (stat(path, &st) < 0 || (st.st_mode & bits) == bits)
        return true; /* what is not there is another check's */
    snprintf(ret->path, sizeof(ret->path), "%s", path);
    ret->mode = (unsigned)(st.st_mode & 07777);
    ret->folder = S_ISDIR(st.st_mode);
    return false;
}

/* Whether a user whom nothing here knows of can use the file: each folder above it, and itself. */
static bool open_to_all(const char *path, unsigned bits, struct obstacle *ret)
{
    char part[PATH_SIZE];

    if (strlen(path) >= sizeof part)
        return true;
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);

        memcpy(part, path, n);
        part[n] = '\0';
        if (!lets_in(part, S_IXOTH, ret))
            return false;
    }
    return lets_in(path, bits, ret);
}

/* ProtectHome= and PrivateTmp= of the unit: what is there is not there for the service. */
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

static void note_path(const struct config_row *row, const char *title, const char *path,
                      struct buf *notes)
{
    bool spool = !strcmp(row->key, "spool_dir");
    char quoted[CONFIG_QUOTED_MAX], barrier[CONFIG_QUOTED_MAX];
    bool secret = strstr(row->key, "key") || strstr(row->key, "password");
    struct obstacle o;

    if (!strchr(path, '/'))
        return;
    if (row->section && !spool && hidden_by_unit(path))
        buf_printf(
            notes,
            "[%s] %s: %s is in a folder that retryd.service does not see (/home, /root, /tmp "
            "and such); /etc/retryd is for what it is to read\n",
            title, row->key, config_quote(str_from(path), quoted));
    if (open_to_all(path, spool ? S_IWOTH | S_IXOTH : S_IROTH, &o))
        return;
    buf_printf(notes,
               "[%s] %s: not every user can %s %s (%s has mode %04o): root can, the user of "
               "retryd.service cannot%s\n",
               title, row->key, spool ? "write to" : "read", config_quote(str_from(path), quoted),
               config_quote(str_from(o.path), barrier), o.mode,
               secret ? "; there it is to be a credential (LoadCredential=), and a name without a "
                        "slash here"
                      : "");
}

static void note_rows(enum config_owner kind, const void *owner, const char *title,
                      struct buf *notes)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->owner == kind && row->type == CONFIG_PATH && !row->later)
            note_path(row, title ? title : row->section,
                      *(char *const *)config_field_const(row, owner), notes);
    }
}

void config_note_access(const struct config *c, struct buf *notes)
{
    static const struct config_row file = {.key = "the file itself"};
    char title[96];

    if (c->path)
        note_path(&file, "configuration", c->path, notes);
    note_rows(OWNER_CONFIG, c, NULL, notes);
    for (unsigned i = 0; i < c->upstream_count; i++) {
        snprintf(title, sizeof title, "upstream %s", c->upstreams[i].name);
        note_rows(OWNER_UPSTREAM, &c->upstreams[i], title, notes);
    }
}
