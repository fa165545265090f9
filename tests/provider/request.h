/* Reads HTTP/1.1 requests from bytes as they come, without doing any I/O. */
#ifndef PROVIDER_REQUEST_H
#define PROVIDER_REQUEST_H

#include "buf.h"
#include "peek.h"

enum {
    REQUEST_HEADERS_MAX = 128,
    REQUEST_HEAD_MAX = 256 * 1024,
    REQUEST_LINE_MAX = 1024, /* a chunk-size or trailer line */
    REQUEST_BODY_KEEP = 64 * 1024,
    REQUEST_CONTROL_KEEP = 64 * 1024 * 1024
};

/*
 *   HEAD ──> BODY ────────────────────────────────> DONE
 *     └────> CHUNK_SIZE <──> CHUNK_DATA             ^
 *                 └───────> TRAILER ────────────────┘      any ──> BAD
 */
enum request_state {
    REQUEST_HEAD,
    REQUEST_BODY,
    REQUEST_CHUNK_SIZE,
    REQUEST_CHUNK_DATA,
    REQUEST_CHUNK_END,
    REQUEST_TRAILER,
    REQUEST_DONE,
    REQUEST_BAD
};

struct header {
    char *name; /* as it was written */
    char *value;
};

/* The strings point into head and live until request_reset. path is target without the query. */
struct request {
    enum request_state state;
    struct buf head;
    char *method;
    char *target;
    char *version;
    size_t path_len;
    struct header headers[REQUEST_HEADERS_MAX];
    size_t n_headers;
    bool head_done;
    bool keep_alive;
    bool http10;
    bool expects_continue;
    bool chunked;
    bool has_length;
    uint64_t left;     /* of the body or of the chunk */
    uint64_t body_len; /* read so far */
    size_t body_keep;  /* how much of the body to hold on to */
    struct buf body;
    const char *span; /* body bytes of the last request_feed */
    size_t span_len;
    char line[REQUEST_LINE_MAX];
    size_t line_len;
    struct peek peek;
    const char *error; /* in state BAD */
};

void request_reset(struct request *req);
void request_free(struct request *req);
/* Takes one step and returns how many bytes it consumed: at least 1 unless DONE or BAD. Call it
 * again with the rest; look at head_done, span and state in between. */
size_t request_feed(struct request *req, const char *data, size_t len);
/* The first header of that name, or NULL. */
const char *request_header(const struct request *req, const char *name);
bool request_is_control(const struct request *req);

#endif
