/* What was seen: one record per request, and the counters that tests wait for. */
#ifndef PROVIDER_RECORD_H
#define PROVIDER_RECORD_H

#include "request.h"

#include <openssl/evp.h>

enum { RECORDS_MAX = 200000, RECORD_BODY_MAX = 64 * 1024, RECORD_BODIES_MAX = 512 * 1024 * 1024 };

enum moment { T_FIRST, T_HEAD, T_BODY, T_ANSWER_START, T_ANSWER_END, T_CLOSED, T_COUNT };

/* Held by the book and by the connection it is about. */
struct record {
    unsigned refs;
    uint64_t n;
    uint64_t conn;
    uint64_t conn_n;
    struct buf head; /* method, target and version, then names and values, as C strings */
    size_t n_headers;
    uint64_t body_len;
    struct buf body;
    EVP_MD_CTX *sha; /* until the body is whole */
    unsigned char digest[32];
    bool tls;
    bool tls_resumed;
    bool closed_early;
    int rule;
    int answer;
    uint64_t serial; /* the number that stands in the response; 0 until there is one */
    int status;      /* -1 until there is a response; 0 for raw wire */
    uint64_t sent;
    double t[T_COUNT]; /* 0 when not yet */
};

/* Counters count whether or not records are kept. A request belongs to the epoch in which its
 * head came in; book_clear starts a new one, and older requests no longer count. */
struct book {
    bool keep;
    uint64_t epoch;
    uint64_t heads;    /* requests whose head is in */
    uint64_t requests; /* those that were read, or answered at the head */
    uint64_t answered;
    uint64_t closed;
    struct record **list;
    size_t n;
    size_t cap;
    uint64_t body_bytes;
    EVP_MD *sha256;
};

void book_deinit(struct book *book);
void book_clear(struct book *book);
/* A new record, referenced by the book and by the caller; NULL when none is kept. */
struct record *book_add(struct book *book, const struct request *req);
void record_body(struct book *book, struct record *r, const char *bytes, size_t len);
void record_body_end(struct record *r);
void record_unref(struct record *r);
/* Sets a moment once; NULL is fine. */
void record_mark(struct record *r, enum moment moment);
/* All records as a JSON array. */
void book_json(const struct book *book, struct buf *out);

#endif
