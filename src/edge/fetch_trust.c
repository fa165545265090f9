/* Sets the certificate authorities and client certificates of upstream connections, and checks
 * them. */
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "edge/fetch_private.h"

#define DEFAULT_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

/* --- libcurl's options ------------------------------------------------------------------------ */

const char *fetch_ca_file(const char *ca_file)
{
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);

    if (ca_file[0])
        return ca_file;
    return v->cainfo && v->cainfo[0] ? v->cainfo : DEFAULT_CA_FILE;
}

static struct curl_blob blob_of(struct str text)
{
    return (struct curl_blob){
        .data = (void *)(uintptr_t)text.p, .len = text.n, .flags = CURL_BLOB_NOCOPY};
}

void fetch_transfer_set_trust(CURL *e, const struct fetch_upstream *upstream)
{
    /* libcurl caches the content of a CA file for a day, and connections with it, by the name of
     * the file. Each version therefore needs its own name, even if a path in memory is reused. For
     * each bit of the version the name gets a "./" or a "/", which leads to the same file. */
    const char *file = upstream->ca_path[0] ? upstream->ca_path : fetch_ca_file(upstream->ca_file);
    char name[PATH_MAX + 80], *to = name;
    *to++ = file[0] == '/' ? '/' : '.';
    if (file[0] != '/')
        *to++ = '/';
    for (unsigned bit = 0; bit < 32; bit++) {
        if (upstream->ca_version >> bit & 1)
            *to++ = '.';
        *to++ = '/';
    }
    snprintf(to, sizeof(name) - (size_t)(to - name), "%s", file);
    /* With a CApath libcurl would parse all certificates for every connection. */
    curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(e, CURLOPT_CAINFO, name);
    /* Sets the client certificate. libcurl reuses a connection or TLS session only if it has the
     * same one. */
    struct curl_blob certificate = blob_of(upstream->client_cert),
                     key = blob_of(upstream->client_key);
    if (certificate.len == 0)
        return;
    curl_easy_setopt(e, CURLOPT_SSLCERT_BLOB, &certificate);
    curl_easy_setopt(e, CURLOPT_SSLKEY_BLOB, &key);
    curl_easy_setopt(e, CURLOPT_KEYPASSWD, ""); /* without this, OpenSSL asks on the terminal */
}

/* --- a handshake without a server ------------------------------------------------------------- */

#define WARM_ROUNDS 4 /* enough for libcurl to do everything that needs no reply */

/* A TLS handshake with a socket of retryd's own, which never replies. It makes the TLS library read
 * the certificates. */
struct handshake {
    CURL *easy;
    int listener;
    int fd; /* the connection */
};

static curl_socket_t handshake_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct handshake *h = arg;

    (void)purpose;
    h->fd = socket(a->family, a->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->protocol);
    return h->fd;
}

/* Listens on a Unix socket without a file, for which the kernel chooses a unique name. Returns 0 or
 * -1. */
static int handshake_listen(struct handshake *h, char name[sizeof(struct sockaddr_un)])
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t n = sizeof(a);

    h->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->listener < 0)
        return -1;
    if (bind(h->listener, (struct sockaddr *)&a, sizeof(sa_family_t)) < 0 ||
        listen(h->listener, 1) < 0 || getsockname(h->listener, (struct sockaddr *)&a, &n) < 0 ||
        n <= offsetof(struct sockaddr_un, sun_path) + 1)
        return -1;
    snprintf(name, sizeof(a), "%.*s", (int)(n - offsetof(struct sockaddr_un, sun_path) - 1),
             a.sun_path + 1);
    return 0;
}

static void handshake_end(struct handshake *h)
{
    if (h->easy)
        curl_easy_cleanup(h->easy);
    if (h->listener >= 0)
        close(h->listener);
}

static int handshake_begin(struct handshake *h, const struct fetch_upstream *upstream)
{
    char name[sizeof(struct sockaddr_un)];

    *h = (struct handshake){.easy = curl_easy_init(), .listener = -1, .fd = -1};
    if (!h->easy || handshake_listen(h, name) < 0) {
        handshake_end(h);
        return -1;
    }
    curl_easy_setopt(h->easy, CURLOPT_URL, "https://localhost/");
    curl_easy_setopt(h->easy, CURLOPT_ABSTRACT_UNIX_SOCKET, name);
    curl_easy_setopt(h->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h->easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(h->easy, CURLOPT_OPENSOCKETFUNCTION, handshake_socket);
    curl_easy_setopt(h->easy, CURLOPT_OPENSOCKETDATA, h);
    fetch_transfer_set_trust(h->easy, upstream);
    return 0;
}

/* Reads the authorities into the multi handle's cache for the first real connection. Other
 * transfers keep running meanwhile, as in any iteration. */
void fetch_warm(struct fetch *u, const struct fetch_upstream *upstream)
{
    struct handshake h;
    int running;

    if (strncmp(upstream->origin, "https:", 6) != 0 || handshake_begin(&h, upstream) < 0)
        return;
    if (curl_multi_add_handle(u->multi, h.easy) == CURLM_OK) {
        for (int i = 0; i < WARM_ROUNDS; i++) {
            curl_multi_socket_action(u->multi, CURL_SOCKET_TIMEOUT, 0, &running);
            if (h.fd >= 0)
                curl_multi_socket_action(u->multi, h.fd, CURL_CSELECT_OUT, &running);
        }
        curl_multi_remove_handle(u->multi, h.easy);
    }
    handshake_end(&h);
    u->timer_due = true; /* other transfers may have events to finish */
    u->wake(u->arg);
}

/* --- checks ----------------------------------------------------------------------------------- */

static CURLcode ended_with(CURLM *multi)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(multi, &left)))
        if (msg->msg == CURLMSG_DONE)
            return msg->data.result;
    return CURLE_OK;
}

/* Runs a handshake on its own multi handle and returns the error, if any. */
static CURLcode try_handshake(const struct fetch_upstream *upstream, char errbuf[CURL_ERROR_SIZE])
{
    struct handshake h;
    CURLM *multi;
    CURLcode rc = CURLE_OUT_OF_MEMORY;
    int running;

    errbuf[0] = '\0';
    if (handshake_begin(&h, upstream) < 0)
        return rc;
    curl_easy_setopt(h.easy, CURLOPT_ERRORBUFFER, errbuf);
    if (!upstream->ca_path[0]) /* the system's authorities need no check, and are slow to read */
        curl_easy_setopt(h.easy, CURLOPT_CAINFO, NULL);
    multi = curl_multi_init();
    if (multi && curl_multi_add_handle(multi, h.easy) == CURLM_OK) {
        for (int i = 0; i < WARM_ROUNDS; i++)
            curl_multi_perform(multi, &running);
        rc = ended_with(multi);
        curl_multi_remove_handle(multi, h.easy);
    }
    handshake_end(&h);
    curl_multi_cleanup(multi);
    return rc;
}

enum fetch_fault fetch_check_trust(const char *ca_path, struct str client_cert,
                                   struct str client_key)
{
    struct fetch_upstream upstream = {.origin = "https://127.0.0.1:1",
                                      .ca_file = "",
                                      .ca_path = ca_path,
                                      .client_cert = client_cert,
                                      .client_key = client_key};
    char errbuf[CURL_ERROR_SIZE];
    CURLcode rc;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return FETCH_FAULT_MEMORY;
    rc = try_handshake(&upstream, errbuf);
    curl_global_cleanup();
    switch (rc) {
    case CURLE_SSL_CACERT_BADFILE:
        return FETCH_FAULT_AUTHORITIES;
    case CURLE_SSL_CERTPROBLEM: /* the key is read last */
        return strstr(errbuf, "rivate key") ? FETCH_FAULT_KEY : FETCH_FAULT_CERTIFICATE;
    case CURLE_OUT_OF_MEMORY:
        return FETCH_FAULT_MEMORY;
    default:
        return FETCH_FAULT_NONE;
    }
}
