/* Translates the end of a transfer of libcurl into the terms of struct attempt. */
#include <stdio.h>
#include <string.h>

#include "edge/fetch_private.h"

/* Whether the server's certificate was rejected. libcurl may report another error if it failed to
 * send the server an alert. A verify result of 1 means that nothing was checked. */
static bool is_certificate_rejected(const struct transfer *t, CURLcode rc)
{
    long verified = 0;

    if (rc == CURLE_PEER_FAILED_VERIFICATION)
        return true;
    if (rc == CURLE_OK || t->sends > 0)
        return false;
    curl_easy_getinfo(t->easy, CURLINFO_SSL_VERIFYRESULT, &verified);
    return verified > 1;
}

/* Returns why the request was not sent. */
static enum transport failed_before_send(const struct transfer *t, CURLcode rc)
{
    if (is_certificate_rejected(t, rc))
        return TRANSPORT_CERTIFICATE;
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return TRANSPORT_DNS;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
    case CURLE_RECV_ERROR: /* the proxy refused the tunnel */
        return TRANSPORT_PROXY;
    case CURLE_OPERATION_TIMEDOUT:
        return TRANSPORT_CONNECT_TIMEOUT;
    case CURLE_SSL_CONNECT_ERROR:
        return TRANSPORT_TLS;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return TRANSPORT_CERTIFICATE;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return TRANSPORT_INTERNAL;
    default:
        return TRANSPORT_CONNECT;
    }
}

/* Whether a header line exceeds libcurl's limit of 100 KiB. Before 8.6 libcurl reports that as out
 * of memory, but a real lack of memory is far less likely at this point. */
static bool is_line_too_large(const struct transfer *t, CURLcode rc)
{
    if (t->sends == 0 || t->a->headers_done)
        return false;
#if LIBCURL_VERSION_NUM >= 0x080600
    return rc == CURLE_TOO_LARGE;
#else
    return rc == CURLE_OUT_OF_MEMORY;
#endif
}

static enum transport failed_after_send(const struct transfer *t, CURLcode rc)
{
    /* Only a good status makes large headers final. The next response to a failed request may have
     * smaller ones. If the status line itself is too long, the response is not HTTP. */
    if (t->large_headers || is_line_too_large(t, rc))
        return t->a->status >= 200 && t->a->status < 400 ? TRANSPORT_LARGE_HEADERS
                                                         : TRANSPORT_BAD_RESPONSE;
    switch (rc) {
    case CURLE_PARTIAL_FILE:
        return TRANSPORT_TRUNCATED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return TRANSPORT_BAD_RESPONSE;
    case CURLE_OUT_OF_MEMORY:
        return TRANSPORT_INTERNAL;
    case CURLE_COULDNT_RESOLVE_HOST: /* a resend, for which libcurl has reset its byte counts */
    case CURLE_COULDNT_RESOLVE_PROXY:
        return t->a->headers_done ? TRANSPORT_TRUNCATED : TRANSPORT_LOST;
    case CURLE_WRITE_ERROR:
        return t->a->headers_done ? TRANSPORT_INTERNAL : TRANSPORT_BAD_RESPONSE;
    default:
        if (t->a->headers_done)
            return TRANSPORT_TRUNCATED;
        return t->a->upload_whole ? TRANSPORT_LOST : TRANSPORT_LOST_UPLOAD;
    }
}

static enum transport transport_of(const struct transfer *t, CURLcode rc)
{
    if (rc == CURLE_OK)
        return t->a->headers_done ? TRANSPORT_WHOLE : TRANSPORT_BAD_RESPONSE;
    if (t->veto == VETO_STALE || (t->refused && !t->a->headers_done))
        return TRANSPORT_STALE;
    if (t->veto == VETO_RESEND)
        return TRANSPORT_LOST;
    if (t->read_failed)
        return TRANSPORT_INTERNAL;
    return t->sends == 0 ? failed_before_send(t, rc) : failed_after_send(t, rc);
}

/* Returns the owner of the certificate that was checked: a TLS proxy until it has opened the
 * tunnel, then the host. */
static struct str certificate_owner(const struct transfer *t)
{
    const char *host = t->origin + strlen("https://");
    long tunnel = 0;

    curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &tunnel);
    if (t->tls_proxy && tunnel == 0)
        return STR("the proxy");
    return (struct str){host, *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/")};
}

/* Returns OpenSSL's text for a verify result (X509_V_ERR_...). */
static const char *words_of(long verified)
{
    switch (verified) {
    case 9:
        return "certificate is not yet valid";
    case 10:
        return "certificate has expired";
    case 18:
        return "self-signed certificate";
    case 19:
        return "self-signed certificate in certificate chain";
    case 2:
    case 20:
        return "unable to get local issuer certificate";
    case 21:
        return "unable to verify the first certificate";
    case 23:
        return "certificate revoked";
    default:
        return "the certificate was rejected";
    }
}

/* Returns why the certificate was rejected. If libcurl could not send the server an alert, `what`
 * describes only that later error. */
static const char *why_rejected(const struct transfer *t, const char *what)
{
    long verified = 0;

    curl_easy_getinfo(t->easy, CURLINFO_SSL_VERIFYRESULT, &verified);
    if (verified <= 1 || str_starts(str_from(what), STR("SSL")))
        return what;
    return words_of(verified);
}

void fetch_outcome(struct transfer *t, CURLcode rc)
{
    t->a->upload_whole = fetch_transfer_upload_whole(t);
    t->a->transport = transport_of(t, rc);
    const char *what = t->errbuf[0] ? t->errbuf : curl_easy_strerror(rc);
    if (rc == CURLE_OK && t->a->headers_done)
        return;
    if (t->broke)
        what = t->broke;
    else if (t->refused)
        what = "the server refused the stream without processing it";
    else if (t->veto == VETO_STALE)
        what = "the reused connection was closed or had unexpected data";
    else if (t->veto == VETO_RESEND)
        what = "the connection was lost before the response";
    else if (is_line_too_large(t, rc))
        what = "a line of the response headers is too large";
    else if (rc == CURLE_OK)
        what = "the response ended within its headers";
    if (rc == CURLE_SSL_CACERT_BADFILE)
        snprintf(t->a->detail, sizeof(t->a->detail), "cannot read certificates from %s",
                 t->ca_file);
    else if (!t->broke && is_certificate_rejected(t, rc)) {
        struct str owner = certificate_owner(t);
        int n = snprintf(t->a->detail, sizeof(t->a->detail),
                         "the certificate of %.*s does not verify: %s", (int)owner.n, owner.p,
                         why_rejected(t, what));
        if (n >= (int)sizeof(t->a->detail)) /* both parts may contain a long host name */
            memcpy(t->a->detail + sizeof(t->a->detail) - 4, "...", 4);
    } else
        snprintf(t->a->detail, sizeof(t->a->detail), "%s", what);
}
