/* Finds upstreams whose url leads back to this daemon. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config_table.h"

#define HOST_MAX 256

/* Where somebody listens, or a url leads. */
struct place {
    struct str path; /* of a Unix socket; else empty */
    struct str host; /* without brackets */
    unsigned port;
};

static struct str without_brackets(struct str host)
{
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        return (struct str){host.p + 1, host.n - 2};
    while (host.n > 1 && host.p[host.n - 1] == '.') /* the root of the DNS */
        host.n--;
    return host;
}

/* "host:port", "[v6]:port" or "host", the way both listeners and urls have it. */
static void split(struct str text, unsigned port, struct place *ret)
{
    uint64_t n = port;

    ret->host = text;
    for (size_t i = text.n; i > 0 && text.p[i - 1] != ']'; i--) {
        if (text.p[i - 1] != ':')
            continue;
        ret->host.n = i - 1;
        (void)str_to_u64((struct str){text.p + i, text.n - i}, &n);
        break;
    }
    ret->host = without_brackets(ret->host);
    ret->port = (unsigned)n;
}

static struct place listener_place(const char *address)
{
    struct str text = str_from(address);
    struct place p = {.port = 0};

    if (str_starts(text, STR("unix:")))
        p.path = (struct str){text.p + 5, text.n - 5};
    else
        split(text, 0, &p);
    return p;
}

/* --- addresses ---------------------------------------------------------------------------------- */

/* All as IPv6; an IPv4 one mapped. `host` may be written in any form that a resolver would read. */
static bool to_address(struct str host, struct in6_addr *ret)
{
    char text[HOST_MAX];
    struct in_addr v4;

    if (host.n == 0 || host.n >= sizeof text)
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (inet_pton(AF_INET6, text, ret) == 1)
        return true;
    if (!inet_aton(text, &v4))
        return false;
    memset(ret, 0, sizeof *ret);
    ret->s6_addr[10] = ret->s6_addr[11] = 0xff;
    memcpy(&ret->s6_addr[12], &v4, sizeof v4);
    return true;
}

static bool is_any(const struct in6_addr *a)
{
    static const struct in6_addr any4 = {{{[10] = 0xff, [11] = 0xff}}};

    return IN6_IS_ADDR_UNSPECIFIED(a) || !memcmp(a, &any4, sizeof any4);
}

static bool is_loopback(const struct in6_addr *a)
{
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

static bool is_interface(const struct in6_addr *a)
{
    struct ifaddrs *all, *i;
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (i = all; i && !found; i = i->ifa_next) {
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6)
            found = !memcmp(&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr, a,
                            sizeof *a);
        else if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && IN6_IS_ADDR_V4MAPPED(a))
            found = !memcmp(&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr,
                            &a->s6_addr[12], 4);
    }
    freeifaddrs(all);
    return found;
}

static bool is_localhost(struct str host)
{
    static const struct str tail = STR(".localhost"); /* RFC 6761 6.3 */

    return str_ieq(host, STR("localhost")) ||
           (host.n > tail.n && str_ieq((struct str){host.p + host.n - tail.n, tail.n}, tail));
}

static bool is_own_name(struct str host)
{
    char name[HOST_MAX];

    return gethostname(name, sizeof name) == 0 && memchr(name, '\0', sizeof name) &&
           str_ieq(host, str_from(name));
}

static bool same_host(struct str listening, struct str wanted)
{
    struct in6_addr mine, theirs;
    bool local = is_localhost(wanted);

    if (str_ieq(listening, STR("localhost")))
        listening = STR("127.0.0.1");
    if (!to_address(listening, &mine))
        return false;
    if (!to_address(wanted, &theirs)) /* a name: only those of this machine itself are known here */
        return (local && (is_loopback(&mine) || is_any(&mine))) ||
               (is_any(&mine) && is_own_name(wanted));
    if (is_any(&theirs)) /* which connects to this machine */
        return is_any(&mine) || is_loopback(&mine);
    if (is_any(&mine))
        return is_loopback(&theirs) || is_interface(&theirs);
    return !memcmp(&mine, &theirs, sizeof mine);
}

/* --- places --------------------------------------------------------------------------------------- */

/* The next part of a path; doubled slashes count once. */
static struct str next_part(struct str *path)
{
    struct str part = {NULL, 0};

    while (part.n == 0 && str_next(path, '/', &part))
        ;
    return part;
}

static bool same_path(struct str a, struct str b)
{
    struct str x, y;

    do {
        x = next_part(&a);
        y = next_part(&b);
    } while (x.n > 0 && str_eq(x, y));
    return x.n == 0 && y.n == 0;
}

static bool same_place(const struct place *listening, const struct place *wanted)
{
    if (listening->path.n > 0 || wanted->path.n > 0)
        return listening->path.n > 0 && wanted->path.n > 0 &&
               same_path(listening->path, wanted->path);
    return listening->port != 0 && listening->port == wanted->port &&
           same_host(listening->host, wanted->host);
}

static struct str behind_scheme(struct str url)
{
    ptrdiff_t at = str_ifind(url, STR("://"));

    return at < 0 ? url : (struct str){url.p + at + 3, url.n - (size_t)at - 3};
}

/* Where its requests go first: a proxy's address, where it has one. */
static struct place upstream_place(const struct config_upstream *u)
{
    struct place p = {.path = str_from(u->unix_socket)};
    struct str authority;
    const char *end;

    if (p.path.n > 0)
        return p;
    authority = behind_scheme(str_from(u->proxy[0] ? u->proxy : u->origin));
    end = authority.n ? memchr(authority.p, '/', authority.n) : NULL;
    if (end)
        authority.n = (size_t)(end - authority.p);
    for (size_t i = authority.n; i > 0; i--) {
        if (authority.p[i - 1] != '@')
            continue;
        authority = (struct str){authority.p + i, authority.n - i};
        break;
    }
    split(authority, u->proxy[0] ? 1080 : u->tls ? 443 : 80, &p);
    return p;
}

bool config_leads_to(const struct config_upstream *u, const char *address)
{
    struct place mine = listener_place(address), theirs = upstream_place(u);

    return same_place(&mine, &theirs);
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
