/* A client's request: its headers, its replayable body, and the values that retryd reads from
 * both. */
#ifndef RETRYD_EXCHANGE_REQUEST_H
#define RETRYD_EXCHANGE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "exchange/body.h"
#include "http/credentials.h"
#include "http/dialect.h"
#include "http/message.h"
#include "policy/settings.h"

#define MODEL_MAX 128
#define REQUEST_ID_MAX 37

/* The caller's overrides (C26), from x-retryd-* headers; those are never forwarded. */
struct request_overrides {
    unsigned max_attempts; /* 0: not given */
    uint64_t deadline_ms;  /* 0: not given */
    bool no_retry;
    bool has_stream_mode;
    enum stream_mode stream_mode;
};

struct request {
    struct http_request http;
    struct body body;
    char id[REQUEST_ID_MAX]; /* retryd's own, for the log and the idempotency header */
    uint64_t client; /* identifies the client by its token; 0: its credentials identify it */
    char client_name[TOKENS_NAME_MAX]; /* of that token; "" without one */
    enum dialect dialect; /* of its path, known once the request was read; so are the next two */
    enum operation operation;
    bool generates;        /* a POST that dialect_generates knows */
    char model[MODEL_MAX]; /* the path's or the body's "model", a form's too; "": there is none */
    size_t path_model_at;  /* where the request's target names it ... */
    size_t path_model_n;   /* ... and the length there; 0: nowhere */
    bool model_hidden;     /* there may be one, but the body is packed and cannot be read */
    bool model_fixed;      /* it is in a packed body, where it cannot be replaced */
    bool names_resource;   /* the body has it as "models/NAME", as Google's SDKs send it */
    bool may_stream;       /* the response may be an event stream, as far as is known */
    bool stream;           /* the JSON body asks for one */
    bool usage_wanted;     /* ... and for a chunk with its usage, as far as is known */
    unsigned choices;      /* "n": the number of choices requested; 1 by default */
    bool background;       /* a response that goes on without a client (Responses API) */
    unsigned sdk_retry;    /* x-stainless-retry-count */
    struct request_overrides overrides;
};

void request_init(struct request *r, uint64_t max_body, uint64_t random_a, uint64_t random_b);
void request_deinit(struct request *r);

/* Adds to the body, as body_append does. The headers must be complete. */
ptrdiff_t request_body(struct request *r, const void *data, size_t n);

/* Reads the model, the signs of a stream, the overrides and the SDK's retry count, once the body is
 * finished. Returns 0, or -EINVAL with a sentence for the caller in `ret_problem` about the invalid
 * override. */
int request_read(struct request *r, char *ret_problem, size_t size);

#endif
