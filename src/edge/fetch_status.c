/* Sends one blocking request through libcurl, for commands that query a running daemon. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/fetch_private.h"

/* Ends the transfer at the first header line, because only the status matters. */
static size_t stop_at_status(const char *line, size_t size, size_t count, void *arg)
{
    (void)line;
    (void)size;
    (void)count;
    (void)arg;
    return 0;
}

/* Returns -errno for a transfer that ended without a status. */
static int error_of(CURL *e, CURLcode rc)
{
    long error = 0;

    switch (rc) {
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* libcurl treats a reply that is not HTTP as HTTP/0.9 */
        return -EPROTO;
    default:
        curl_easy_getinfo(e, CURLINFO_OS_ERRNO, &error);
        return error ? -(int)error : -ECONNRESET;
    }
}

static int ask(CURL *e, const char *address, const char *path, unsigned timeout_ms)
{
    static char host[] = "Host: localhost", closes[] = "Connection: close", no_accept[] = "Accept:";
    struct curl_slist last = {.data = no_accept}, middle = {.data = closes, .next = &last},
                      headers = {.data = host, .next = &middle};
    long status = 0;
    CURLcode rc;

    const char *name = "", *port = address;
    char url[256];
    if (str_starts(str_from(address), STR("unix:"))) {
        curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, address + strlen("unix:"));
        name = "localhost";
        port = "";
    } else if (str_istarts(str_from(address), STR("localhost:"))) {
        name = "127.0.0.1"; /* where retryd listens; libcurl would try ::1 first */
        port = strchr(address, ':');
    }
    snprintf(url, sizeof(url), "http://%s%s%s", name, port, path);
    curl_easy_setopt(e, CURLOPT_URL, url);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, &headers);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_PROXY, ""); /* else the environment may name one */
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, stop_at_status);
    rc = curl_easy_perform(e);
    curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
    return status > 0 ? (int)status : error_of(e, rc);
}

int fetch_status(const char *address, const char *path, unsigned timeout_ms)
{
    int rc = -ENOMEM;
    CURL *e;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return rc;
    e = curl_easy_init();
    if (e)
        rc = ask(e, address, path, timeout_ms);
    curl_easy_cleanup(e);
    curl_global_cleanup();
    return rc;
}
