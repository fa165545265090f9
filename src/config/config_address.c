/* Addresses to listen on, URLs to forward to, and whether one leads to the other. */
#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/config_private.h"

#define SOCKET_PATH_MAX (sizeof((struct sockaddr_un *)0)->sun_path - 1)
#define HOST_MAX 256

/* --- hosts and ports -------------------------------------------------------------------------- */

/* Copies a host into a C string for the functions that parse addresses. Returns false if it does
 * not fit. */
static bool host_copy(struct str host, char out[HOST_MAX])
{
    if (host.n == 0 || host.n >= HOST_MAX || memchr(host.p, '\0', host.n))
        return false;
    memcpy(out, host.p, host.n);
    out[host.n] = '\0';
    return true;
}

static struct in6_addr mapped(struct in_addr v4)
{
    struct in6_addr a = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

    memcpy(&a.s6_addr[12], &v4, sizeof v4);
    return a;
}

/* Parses "127.0.0.1" into the IPv6 address that it is mapped to. */
static bool is_ipv4(struct str host, struct in6_addr *ret_address)
{
    char text[HOST_MAX];
    struct in_addr v4;

    if (!host_copy(host, text) || inet_pton(AF_INET, text, &v4) != 1)
        return false;
    *ret_address = mapped(v4);
    return true;
}

static bool is_ipv6(struct str host, struct in6_addr *ret_address)
{
    char text[HOST_MAX];

    return host_copy(host, text) && inet_pton(AF_INET6, text, ret_address) == 1;
}

static bool is_loopback(const struct in6_addr *a)
{
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

static bool is_port(struct str port, uint64_t least)
{
    uint64_t n;

    return port.n <= 5 && str_to_u64(port, &n) && n >= least && n <= 65535;
}

/* Removes the brackets of "[::1]". Returns false if there are none. */
static bool unbracket(struct str host, struct str *ret_inner)
{
    if (host.n <= 2 || host.p[0] != '[' || host.p[host.n - 1] != ']')
        return false;
    *ret_inner = (struct str){host.p + 1, host.n - 2};
    return true;
}

/* Splits host:port at the last colon, and [v6]:port after the bracket, which stays with the
 * host. */
static bool split_port(struct str s, struct str *ret_host, struct str *ret_port)
{
    for (size_t i = s.n; i > 0; i--) {
        if (s.p[i - 1] == ']')
            return false;
        if (s.p[i - 1] == ':') {
            *ret_host = (struct str){s.p, i - 1};
            *ret_port = str_after(s, i);
            return true;
        }
    }
    return false;
}

static bool is_host(struct str host)
{
    struct in6_addr v6;
    struct str inner;

    if (unbracket(host, &inner))
        return is_ipv6(inner, &v6);
    for (size_t i = 0; i < host.n; i++) {
        unsigned char c = (unsigned char)host.p[i];

        if (c >= 0x80 || (!isalnum(c) && c != '.' && c != '-' && c != '_'))
            return false;
    }
    return host.n > 0 && host.n <= 253;
}

/* Returns the authority after the user name and password. */
static struct str behind_user(struct str authority)
{
    const char *at = authority.n ? memrchr(authority.p, '@', authority.n) : NULL;

    return at ? str_after(authority, (size_t)(at + 1 - authority.p)) : authority;
}

static struct str trim_slashes(struct str path)
{
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    return path;
}

/* --- addresses to listen on ------------------------------------------------------------------- */

static const char *socket_check(struct str path)
{
    if (!str_starts(path, STR("/")))
        return "an absolute path after unix:";
    if (path.n > SOCKET_PATH_MAX)
        return "a socket path of at most 107 bytes";
    if (!str_is_visible(path))
        return "a socket path without spaces";
    return NULL;
}

const char *config_address_check(struct str address, bool *ret_loopback)
{
    struct in6_addr a = IN6ADDR_LOOPBACK_INIT;
    struct str host, port, inner;

    if (str_starts(address, STR("unix:"))) {
        const char *why = socket_check(str_after(address, 5));

        if (!why && ret_loopback)
            *ret_loopback = true;
        return why;
    }
    if (!split_port(address, &host, &port))
        return "ADDRESS:PORT, [IPV6]:PORT or unix:/PATH";
    if (!is_port(port, 0))
        return "a port from 0 (any free one) to 65535";
    if (unbracket(host, &inner)) {
        if (!is_ipv6(inner, &a))
            return "an IPv6 address between the brackets";
    } else if (!is_ipv4(host, &a) && !str_ieq(host, STR("localhost"))) {
        return "an IP address (IPv6 in brackets) or localhost before the port";
    }
    if (ret_loopback)
        *ret_loopback = is_loopback(&a);
    return NULL;
}

bool config_address_is_local(const char *address)
{
    bool loopback;

    return !config_address_check(str_from(address), &loopback) && loopback;
}

/* --- URLs ------------------------------------------------------------------------------------- */

static bool has_brace(struct str s)
{
    return s.n && (memchr(s.p, '{', s.n) || memchr(s.p, '}', s.n));
}

/* {model} is allowed once, in the path. */
static const char *check_braces(const struct config_url *url)
{
    static const struct str model = STR("{model}");
    struct str rest = url->path;
    bool seen = false;

    if (has_brace(url->authority) || has_brace(url->socket) || has_brace(url->query))
        return "{model} only in the path of the URL, and no other braces";
    for (; rest.n > 0; rest = str_after(rest, 1)) {
        if (rest.p[0] != '{' && rest.p[0] != '}')
            continue;
        if (!str_starts(rest, model))
            return "no braces except {model}, which stands for the model's name";
        if (seen)
            return "{model} only once";
        seen = true;
        rest = str_after(rest, model.n - 1);
    }
    return NULL;
}

/* Whether the name of a query's parameter indicates a secret value. */
static bool names_secret(struct str name)
{
    static const struct str marks[] = {STR("auth"),   STR("key"),   STR("token"),     STR("secret"),
                                       STR("cookie"), STR("passw"), STR("credential")};

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (str_ifind(name, marks[i]) >= 0)
            return true;
    }
    return false;
}

/* A key in a query would be visible wherever the URL is. */
static const char *check_query(struct str query)
{
    struct str pair, name;

    while (str_next(&query, '&', &pair)) {
        struct str value = pair;

        (void)str_next(&value, '=', &name);
        if (pair.n && (names_secret(name) || str_istarts(value, STR("sk-"))))
            return "a query without a key; keys belong in api_key_env or api_key_file";
    }
    return NULL;
}

/* Parses /path/to/socket or /path/to/socket:/base. */
static const char *parse_socket(struct str rest, struct config_url *url)
{
    url->socket = rest;
    for (size_t i = rest.n; i > 1; i--) {
        if (rest.p[i - 2] == ':' && rest.p[i - 1] == '/') {
            url->socket.n = i - 2;
            url->path = trim_slashes(str_after(rest, i - 1));
            break;
        }
    }
    return socket_check(url->socket);
}

static const char *parse_authority(struct str authority, struct config_url *url)
{
    struct str port;

    if (authority.n && memchr(authority.p, '@', authority.n))
        return "a URL without a user name or password; keys belong in api_key_env or api_key_file";
    url->authority = url->host = authority;
    if (split_port(authority, &url->host, &port) && !is_port(port, 1))
        return "a port from 1 to 65535";
    return is_host(url->host) ? NULL : "a URL with a host name";
}

/* Parses a URL without its query. */
static const char *parse_place(struct str text, struct config_url *url)
{
    struct str rest;
    const char *slash;

    if (str_istarts(text, STR("unix:")))
        return parse_socket(str_after(text, 5), url);
    url->tls = str_istarts(text, STR("https://"));
    if (!url->tls && !str_istarts(text, STR("http://")))
        return "a URL that starts with https://, http:// or unix:/";
    url->scheme = url->tls ? STR("https") : STR("http");
    rest = str_after(text, url->scheme.n + 3);
    slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
    if (slash) {
        url->path = trim_slashes(str_after(rest, (size_t)(slash - rest.p)));
        rest.n = (size_t)(slash - rest.p);
    }
    return parse_authority(rest, url);
}

const char *config_url_parse(struct str text, struct config_url *ret_url)
{
    struct config_url url = {0};
    const char *why, *mark;

    if (!str_is_visible(text))
        return "a URL of printable ASCII without spaces";
    if (memchr(text.p, '#', text.n))
        return "a URL without a fragment";
    mark = memchr(text.p, '?', text.n);
    if (mark) {
        url.query = str_after(text, (size_t)(mark + 1 - text.p));
        text.n = (size_t)(mark - text.p);
    }
    why = parse_place(text, &url);
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
    buf_init(&out, text.n + 1); /* the normal form is never longer */
    buf_add_str(&out, url.socket.n ? STR("unix:") : url.scheme);
    buf_add_str(&out, url.socket.n ? url.socket : STR("://"));
    buf_add_str(&out, url.authority);
    buf_add_str(&out, url.socket.n && url.path.n ? STR(":") : STR(""));
    buf_add_str(&out, url.path);
    buf_add_str(&out, url.query.n ? STR("?") : STR(""));
    buf_add_str(&out, url.query);
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
        host = behind_user(trim_slashes(str_after(url, schemes[i].n)));
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
        return socket_check(str_after(server, 5));
    if (!split_port(server, &host, &port) || !is_host(host) || !str_to_u64(port, &n))
        return form;
    return is_port(port, 1) ? NULL : "a port from 1 to 65535 after the host";
}

/* --- addresses of this machine ---------------------------------------------------------------- */

/* An address of a listener, or the one that a URL leads to. */
struct place {
    struct str path; /* of a Unix socket; else empty */
    struct str host; /* without brackets */
    unsigned port;
};

/* Splits "host:port", "[v6]:port" or "host", the form in both listeners and URLs. */
static void split(struct str text, unsigned port, struct place *ret)
{
    uint64_t n = port;
    struct str digits;

    ret->host = text;
    if (split_port(text, &ret->host, &digits))
        (void)str_to_u64(digits, &n);
    ret->port = (unsigned)n;
    if (unbracket(ret->host, &ret->host))
        return;
    while (ret->host.n > 1 && ret->host.p[ret->host.n - 1] == '.') /* the root of the DNS */
        ret->host.n--;
}

/* Parses an address in any form that a resolver would accept, "127.1" too. */
static bool to_address(struct str host, struct in6_addr *ret_address)
{
    char text[HOST_MAX];
    struct in_addr v4;

    if (is_ipv6(host, ret_address))
        return true;
    if (!host_copy(host, text) || !inet_aton(text, &v4))
        return false;
    *ret_address = mapped(v4);
    return true;
}

static bool is_any(const struct in6_addr *a)
{
    struct in6_addr any4 = mapped((struct in_addr){INADDR_ANY});

    return IN6_IS_ADDR_UNSPECIFIED(a) || !memcmp(a, &any4, sizeof any4);
}

/* Whether one of this machine's interfaces has the address. */
static bool is_interface(const struct in6_addr *a)
{
    struct ifaddrs *all;
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (const struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        const void *address = i->ifa_addr;

        if (address && i->ifa_addr->sa_family == AF_INET6)
            found = !memcmp(&((const struct sockaddr_in6 *)address)->sin6_addr, a, sizeof *a);
        else if (address && i->ifa_addr->sa_family == AF_INET && IN6_IS_ADDR_V4MAPPED(a))
            found = !memcmp(&((const struct sockaddr_in *)address)->sin_addr, &a->s6_addr[12], 4);
    }
    freeifaddrs(all);
    return found;
}

static bool is_localhost(struct str host)
{
    static const struct str tail = STR(".localhost"); /* RFC 6761 6.3 */

    return str_ieq(host, STR("localhost")) ||
           (host.n > tail.n && str_ieq(str_after(host, host.n - tail.n), tail));
}

static bool same_host(struct str listening, struct str wanted)
{
    struct in6_addr mine, theirs;
    char name[HOST_MAX];

    if (str_ieq(listening, STR("localhost")))
        listening = STR("127.0.0.1");
    if (!to_address(listening, &mine))
        return false;
    if (!to_address(wanted, &theirs)) /* a name: without DNS only the machine's own are known */
        return (is_localhost(wanted) && (is_loopback(&mine) || is_any(&mine))) ||
               (is_any(&mine) && gethostname(name, sizeof name) == 0 &&
                memchr(name, '\0', sizeof name) && str_ieq(wanted, str_from(name)));
    if (is_any(&theirs)) /* connects to this machine */
        return is_any(&mine) || is_loopback(&mine);
    if (is_any(&mine))
        return is_loopback(&theirs) || is_interface(&theirs);
    return !memcmp(&mine, &theirs, sizeof mine);
}

/* Takes the next part off a path; doubled slashes count once. */
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

/* Returns the address that an upstream's requests go to first: its proxy, if it has one. */
static struct place upstream_place(const struct config_upstream *u)
{
    struct place p = {.path = str_from(u->unix_socket)};
    struct str url = str_from(u->proxy[0] ? u->proxy : u->origin), authority = STR("");
    ptrdiff_t at = str_ifind(url, STR("://"));

    if (p.path.n > 0)
        return p;
    url = at < 0 ? url : str_after(url, (size_t)at + 3);
    (void)str_next(&url, '/', &authority);
    split(behind_user(authority), u->proxy[0] ? 1080 : u->tls ? 443 : 80, &p);
    return p;
}

bool config_leads_to(const struct config_upstream *u, const char *address)
{
    struct place theirs = upstream_place(u), mine = {.port = 0};
    struct str listener = str_from(address);

    if (str_starts(listener, STR("unix:")))
        mine.path = str_after(listener, 5);
    else
        split(listener, 0, &mine);
    if (mine.path.n > 0 || theirs.path.n > 0)
        return mine.path.n > 0 && theirs.path.n > 0 && same_path(mine.path, theirs.path);
    return mine.port != 0 && mine.port == theirs.port && same_host(mine.host, theirs.host);
}
