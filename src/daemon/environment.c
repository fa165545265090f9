/* Tells of proxies and certificates that are set in the environment and not used. */
#include "daemon/environment.h"

#include <stddef.h>

#define NAMES 8

/* Those that curl and the SDKs know; "" ends a list. */
static const char *const https_proxies[NAMES] = {"HTTPS_PROXY", "https_proxy", "ALL_PROXY",
                                                 "all_proxy"};
static const char *const http_proxies[NAMES] = {"HTTP_PROXY", "http_proxy", "ALL_PROXY",
                                                "all_proxy"};
static const char *const bundles[NAMES] = {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
                                           "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"};

struct found {
    const char *names[2 * NAMES];
    unsigned count;
};

static void look(const char *const *names, char *(*get)(const char *name), struct found *f)
{
    for (unsigned i = 0; i < NAMES && names[i]; i++) {
        const char *value = get(names[i]);
        bool told = false;

        for (unsigned k = 0; k < f->count; k++)
            told |= f->names[k] == names[i] || str_eq(str_from(f->names[k]), str_from(names[i]));
        if (value && value[0] && !told)
            f->names[f->count++] = names[i];
    }
}

static void list(const struct found *f, struct buf *out)
{
    for (unsigned i = 0; i < f->count; i++)
        buf_printf(out, "%s%s", i == 0 ? "" : i + 1 < f->count ? ", " : " and ", f->names[i]);
    buf_printf(out, f->count == 1 ? " is set and not used" : " are set and not used");
}

bool environment_unused(const struct config *c, char *(*get)(const char *name), struct buf *out)
{
    struct found proxies = {.count = 0}, trust = {.count = 0};

    for (unsigned i = 0; i < c->upstream_count; i++) {
        const struct config_upstream *u = &c->upstreams[i];

        if (!u->unix_socket[0] && !u->proxy[0])
            look(u->tls ? https_proxies : http_proxies, get, &proxies);
        if (u->tls && !u->ca_file[0])
            look(bundles, get, &trust);
    }
    if (proxies.count > 0) {
        list(&proxies, out);
        buf_printf(out, ": the key proxy of [upstream NAME] would");
    }
    if (trust.count > 0) {
        buf_printf(out, proxies.count > 0 ? "; " : "");
        list(&trust, out);
        buf_printf(out, ": the key ca_file of [upstream NAME] would");
    }
    return proxies.count + trust.count > 0;
}
