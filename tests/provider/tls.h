/* TLS over memory: bytes from the socket go in, bytes for the socket come out. */
#ifndef PROVIDER_TLS_H
#define PROVIDER_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* The server's side of all sessions; NULL with a message on stderr when a file does not serve. */
SSL_CTX *tls_context(const char *cert_file, const char *key_file);

struct tls {
    SSL *ssl;
    BIO *in;
    BIO *out;
    bool ready; /* the handshake is complete */
};

enum tls_result { TLS_OK, TLS_WAIT, TLS_CLOSED, TLS_FAILED };

struct tls *tls_new(SSL_CTX *ctx);
void tls_free(struct tls *t);
void tls_feed(struct tls *t, const void *bytes, size_t len);
/* Goes on with the handshake; TLS_OK when it is complete. */
enum tls_result tls_handshake(struct tls *t);
enum tls_result tls_read(struct tls *t, void *into, size_t size, size_t *ret_len);
enum tls_result tls_write(struct tls *t, const void *bytes, size_t len);
/* Queues the close_notify. */
void tls_shutdown(struct tls *t);
bool tls_resumed(const struct tls *t);
/* What is waiting for the socket; tls_sent drops it. */
size_t tls_pending(struct tls *t, char **ret_bytes);
void tls_sent(struct tls *t);

#endif
