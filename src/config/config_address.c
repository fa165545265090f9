/* Addresses to listen on, URLs to forward to, and whether one leads to the other. */
#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/config_private.h"

#define SOCKET_PATH_MAX (sizeof((struct sockaddr_un *)0)->sun_path - 1)

static const char address_form[] = "ADDRESS:PORT, [IPV6]:PORT or unix:/PATH";

/* Copies into a terminated string for inet_pton; false when it does not fit. */
static bool to_text(struct str s, char *out, size_t size)
{
    if (s.n >= size || (s.n && memchr(s.p, '\0', s.n)))
        return false;
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

static bool is_ipv4(struct str host, struct in_addr *ret_addr)
{
    char text[INET_ADDRSTRLEN];

    return to_text(host, text, sizeof text) && inet_pton(AF_INET, text, ret_addr) == 1;
}

static bool is_ipv6(struct str host, struct in6_addr *ret_addr)
{
    char text[INET6_ADDRSTRLEN];

    return to_text(host, text, sizeof text) && inet_pton(AF_INET6, text, ret_addr) == 1;
}

static bool is_port(struct str port, uint64_t least)
{
    uint64_t n;

    return port.n <= 5 && str_to_u64(port, &n) && n >= least && n <= 65535;
}

static const char *socket_check(struct str path)
{
    if (!str_starts(path, STR("/")))
        return "an absolute path after unix:";
    if (path.n > SOCKET_PATH_MAX)
        return "a socket's path of at most 107 bytes";
    if (!str_is_visible(path))
        return "a socket's path without spaces";
    return NULL;
}

/* Splits host:port at the last colon, [v6]:port behind the bracket. Brackets stay with the host. */
static bool split_port(struct str s, struct str *ret_host, struct str *ret_port)
{
    for (size_t i = s.n; i > 0; i--) {
        if (s.p[i - 1] == ']')
            return false;
        if (s.p[i - 1] == ':') {
            *ret_host = (struct str){s.p, i - 1};
            *ret_port = (struct str){s.p + i, s.n - i};
            return true;
        }
    }
    return false;
}

static bool loopback4(struct in_addr addr)
{
    return (ntohl(addr.s_addr) >> 24) == 127;
}

static bool loopback6(const struct in6_addr *addr)
{
    return IN6_IS_ADDR_LOOPBACK(addr) || (IN6_IS_ADDR_V4MAPPED(addr) && addr->s6_addr[12] == 127);
}

const char *config_address_check(struct str address, bool *ret_loopback)
{
    struct str host, port;
    struct in_addr v4;
    struct in6_addr v6;
    bool loopback = true;

    if (str_starts(address, STR("unix:"))) {
        const char *why = socket_check((struct str){address.p + 5, address.n - 5});

        if (!why && ret_loopback)
            *ret_loopback = true;
        return why;
    }
    if (!split_port(address, &host, &port))
        return address_form;
    if (!is_port(port, 0))
        return "a port from 0 (any free one) to 65535";
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        if (!is_ipv6((struct str){host.p + 1, host.n - 2}, &v6))
            return "an IPv6 address between the brackets";
        loopback = loopback6(&v6);
    } else if (is_ipv4(host, &v4)) {
        loopback = loopback4(v4);
    } else if (!str_ieq(host, STR("localhost"))) {
        return "an IP address (IPv6 in brackets) or localhost before the port";
    }
    if (ret_loopback)
        *ret_loopback = loopback;
    return NULL;
}

/* --- URLs ------------------------------------------------------------------------------------- */

static bool is_host(struct str host)
{
    struct in6_addr v6;

    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        return is_ipv6((struct str){host.p + 1, host.n - 2}, &v6);
    for (size_t i = 0; i < host.n; i++) {
        unsigned char c = (unsigned char)host.p[i];

        if (c >= 0x80 || (!isalnum(c) && c != '.' && c != '-' && c != '_'))
            return false;
    }
    return host.n > 0 && host.n <= 253;
}

static struct str trim_slashes(struct str path)
{
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    return path;
}

static bool has_brace(struct str s)
{
    return s.n && (memchr(s.p, '{', s.n) || memchr(s.p, '}', s.n));
}

/* {model} stands once or not at all, and only in the path. */
static const char *check_braces(const struct config_url *url)
{
    static const struct str model = STR("{model}");
    struct str rest = url->path;
    bool seen = false;

    if (has_brace(url->authority) || has_brace(url->socket) || has_brace(url->query))
        return "{model} in the path of the URL, and no other braces";
    for (; rest.n > 0; rest.p++, rest.n--) {
        if (rest.p[0] != '{' && rest.p[0] != '}')
            continue;
        if (!str_starts(rest, model))
            return "no braces but those of {model}, which stands for the name of the model";
        if (seen)
            return "{model} only once";
        seen = true;
        rest = (struct str){rest.p + model.n - 1, rest.n - model.n + 1};
    }
    return NULL;
}

static bool name_is_secret(struct str name)
{
    static const struct str marks[] = {STR("auth"),   STR("key"),   STR("token"),     STR("secret"),
                                       STR("cookie"), STR("passw"), STR("credential")};

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (str_ifind(name, marks[i]) >= 0)
            return true;
    }
    return false;
}

/* A key in a query would be seen wherever the URL is. */
static const char *check_query(struct str query)
{
    struct str pair, name;

    while (str_next(&query, '&', &pair)) {
        struct str value = pair;

        (void)str_next(&value, '=', &name);
        if (pair.n && (name_is_secret(name) || str_istarts(value, STR("sk-"))))
            return "a query without a key in it; keys go into api_key_env or api_key_file";
    }
    return NULL;
}

/* unix:/path/to/socket, or unix:/path/to/socket:/base */
static const char *parse_socket(struct str rest, struct config_url *url)
{
    url->socket = rest;
    for (size_t i = rest.n; i > 1; i--) {
        if (rest.p[i - 2] == ':' && rest.p[i - 1] == '/') {
            url->socket.n = i - 2;
            url->path = trim_slashes((struct str){rest.p + i - 1, rest.n - i + 1});
            break;
        }
    }
    return socket_check(url->socket);
}

static const char *parse_authority(struct str authority, struct config_url *url)
{
    struct str port;

    if (authority.n && memchr(authority.p, '@', authority.n))
        return "a URL without a user name or password; keys go into api_key_env or api_key_file";
    url->authority = url->host = authority;
    if (split_port(authority, &url->host, &port) && !is_port(port, 1))
        return "a port from 1 to 65535";
    return is_host(url->host) ? NULL : "a URL with the name of a host";
}

const char *config_url_parse(struct str text, struct config_url *ret_url)
{
    struct config_url url = {0};
    struct str rest;
    const char *why, *slash, *mark;

    if (!str_is_visible(text))
        return "a URL of printable ASCII without spaces";
    if (memchr(text.p, '#', text.n))
        return "a URL without a fragment";
    mark = memchr(text.p, '?', text.n);
    if (mark) {
        size_t n = (size_t)(mark - text.p);

        url.query = (struct str){mark + 1, text.n - n - 1};
        text.n = n;
    }
    if (str_istarts(text, STR("unix:"))) {
        why = parse_socket((struct str){text.p + 5, text.n - 5}, &url);
    } else if (str_istarts(text, STR("https://")) || str_istarts(text, STR("http://"))) {
        url.tls = str_istarts(text, STR("https://"));
        url.scheme = url.tls ? STR("https") : STR("http");
        rest = (struct str){text.p + url.scheme.n + 3, text.n - url.scheme.n - 3};
        slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
        if (slash) {
            size_t n = (size_t)(slash - rest.p);

            url.path = trim_slashes((struct str){slash, rest.n - n});
            rest.n = n;
        }
        why = parse_authority(rest, &url);
    } else {
        why = "a URL that starts with https://, http:// or unix:/";
    }
    if (!why)
        why = check_braces(&url);
    if (!why)
        why = check_query(url.query);
    if (!why)
        *ret_url = url;
    return why;
}

char *config_url_text(struct str text)
{
    struct config_url url = {0};
    struct buf out;

    if (config_url_parse(text, &url) != NULL)
        return NULL;
    buf_init(&out, text.n + 1); /* the plain form is never longer */
    if (url.socket.n) {
        buf_add_str(&out, STR("unix:"));
        buf_add_str(&out, url.socket);
        if (url.path.n)
            buf_addc(&out, ':');
    } else {
        buf_add_str(&out, url.scheme);
        buf_add_str(&out, STR("://"));
        buf_add_str(&out, url.authority);
    }
    buf_add_str(&out, url.path);
    if (url.query.n) {
        buf_addc(&out, '?');
        buf_add_str(&out, url.query);
    }
    buf_addc(&out, '\0');
    if (out.failed) {
        buf_deinit(&out);
        return NULL;
    }
    return buf_steal(&out, &(size_t){0});
}

const char *config_proxy_check(struct str url)
{
    static const struct str schemes[] = {STR("http://"),   STR("https://"),   STR("socks5h://"),
                                         STR("socks5://"), STR("socks4a://"), STR("socks4://")};
    static const char form[] = "a URL such as http://proxy.example:3128 (http, https, socks4, "
                               "socks4a, socks5 or socks5h)";
    struct str host, port;

    if (!str_is_visible(url))
        return form;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (!str_istarts(url, schemes[i]))
            continue;
        host = trim_slashes((struct str){url.p + schemes[i].n, url.n - schemes[i].n});
        for (size_t k = host.n; k > 0; k--) {
            if (host.p[k - 1] == '@') {
                host = (struct str){host.p + k, host.n - k};
                break;
            }
        }
        if (split_port(host, &host, &port) && !is_port(port, 1))
            return "a port from 1 to 65535";
        return is_host(host) ? NULL : form;
    }
    return form;
}

const char *config_server_check(struct str server)
{
    static const char form[] = "HOST:PORT, [IPV6]:PORT or unix:/PATH";
    struct str host, port;
    uint64_t n;

    if (!str_is_visible(server))
        return form;
    if (str_starts(server, STR("unix:")))
        return socket_check((struct str){server.p + 5, server.n - 5});
    if (!split_port(server, &host, &port) || !is_host(host) || !str_to_u64(port, &n))
        return form;
    return is_port(port, 1) ? NULL : "a port from 1 to 65535 behind the host";
}

bool config_address_is_local(const char *address)
{
    bool loopback;

    return !config_address_check(str_from(address), &loopback) && loopback;
}

/* --- what leads back here -------------------------------------------------------------------------- */

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

/* --- whether both are this machine ---------------------------------------------------------------------------------- */

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
