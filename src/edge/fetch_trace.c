/* Reports how an attempt went on the network: its connection, and the duration of each phase. */
#include "edge/fetch_private.h"

/* Returns a number that libcurl keeps, in microseconds or bytes. */
static uint64_t number(const struct transfer *t, CURLINFO info)
{
    curl_off_t n = 0;

    curl_easy_getinfo(t->easy, info, &n);
    return n > 0 ? (uint64_t)n : 0;
}

/* Returns the duration of a phase. libcurl's times count from the start, and are 0 for a phase that
 * was not reached. */
static uint64_t phase_ms(uint64_t until_us, uint64_t since_us)
{
    return until_us > since_us ? (until_us - since_us) / 1000 : 0;
}

static const char *http_of(const struct transfer *t)
{
    long version = 0;

    curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
    switch (version) {
    case CURL_HTTP_VERSION_1_0:
        return "1.0";
    case CURL_HTTP_VERSION_1_1:
        return "1.1";
    case CURL_HTTP_VERSION_2_0:
        return "2";
    default:
        return "";
    }
}

void fetch_transfer_trace(const struct transfer *t, bool cancelled)
{
    const char *path = t->link->unix_socket;
    struct fetch_trace trace = {
        .address = "", .proxied = t->link->proxy[0] != '\0', .cancelled = cancelled};
    long opened = 0, port = 0;
    char *ip = NULL;

    if (!t->traced)
        return;
    curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_IP, &ip);
    curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_PORT, &port);
    curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &opened);
    trace.sent = t->sends > 0;
    trace.kept = trace.sent && opened == 0;
    if (path[0])
        trace.address = path;
    else if (ip)
        trace.address = ip;
    trace.port = path[0] ? 0 : (unsigned)port;
    trace.http = http_of(t);
    uint64_t dns = number(t, CURLINFO_NAMELOOKUP_TIME_T),
             connect = number(t, CURLINFO_CONNECT_TIME_T),
             tls = number(t, CURLINFO_APPCONNECT_TIME_T);
    trace.dns_ms = dns / 1000;
    trace.connect_ms = phase_ms(connect, dns);
    trace.tls_ms = phase_ms(tls, connect);
    trace.first_byte_ms = number(t, CURLINFO_STARTTRANSFER_TIME_T) / 1000;
    trace.total_ms = number(t, CURLINFO_TOTAL_TIME_T) / 1000;
    trace.bytes_sent = number(t, CURLINFO_SIZE_UPLOAD_T);
    trace.bytes_received = t->a->received;
    t->traced(t->arg, &trace);
}
