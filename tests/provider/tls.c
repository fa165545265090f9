/* TLS over memory: bytes from the socket go in, bytes for the socket come out. */
#include "tls.h"
#include "buf.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

/* Speaks http/1.1 where the client offers it, and is not upset where it does not. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char http11[] = "\x08http/1.1";
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, http11, sizeof(http11) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *tls_context(const char *cert_file, const char *key_file)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1) {
        fputs("provider: cannot use the certificate or its key\n", stderr);
        ERR_print_errors_fp(stderr);
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    (void)SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"provider", 8);
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    return ctx;
}

struct tls *tls_new(SSL_CTX *ctx)
{
    struct tls *t = must_alloc(sizeof(*t));

    t->ssl = SSL_new(ctx);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    if (t->ssl == NULL || t->in == NULL || t->out == NULL) {
        fputs("provider: out of memory\n", stderr);
        abort();
    }
    BIO_set_mem_eof_return(t->in, -1);
    SSL_set_bio(t->ssl, t->in, t->out);
    SSL_set_accept_state(t->ssl);
    return t;
}

void tls_free(struct tls *t)
{
    if (t != NULL) {
        SSL_free(t->ssl);
        free(t);
    }
}

void tls_feed(struct tls *t, const void *bytes, size_t len)
{
    (void)BIO_write(t->in, bytes, (int)len);
}

static enum tls_result outcome(const struct tls *t, int rc)
{
    int error = SSL_get_error(t->ssl, rc);

    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ) {
        return TLS_WAIT;
    }
    return error == SSL_ERROR_ZERO_RETURN ? TLS_CLOSED : TLS_FAILED;
}

enum tls_result tls_handshake(struct tls *t)
{
    int rc = SSL_do_handshake(t->ssl);

    if (rc != 1) {
        return outcome(t, rc);
    }
    t->ready = true;
    return TLS_OK;
}

enum tls_result tls_read(struct tls *t, void *into, size_t size, size_t *ret_len)
{
    int rc = SSL_read_ex(t->ssl, into, size, ret_len);

    return rc == 1 ? TLS_OK : outcome(t, rc);
}

enum tls_result tls_write(struct tls *t, const void *bytes, size_t len)
{
    size_t written;
    int rc = SSL_write_ex(t->ssl, bytes, len, &written);

    return rc == 1 ? TLS_OK : outcome(t, rc);
}

void tls_shutdown(struct tls *t)
{
    if (t->ready) {
        (void)SSL_shutdown(t->ssl);
        ERR_clear_error();
    }
}

bool tls_resumed(const struct tls *t)
{
    return SSL_session_reused(t->ssl) == 1;
}

size_t tls_pending(struct tls *t, char **ret_bytes)
{
    long n = BIO_get_mem_data(t->out, ret_bytes);

    return n > 0 ? (size_t)n : 0;
}

void tls_sent(struct tls *t)
{
    (void)BIO_reset(t->out);
}
