/* Reads an HTTP/1.1 response from pieces of any size (RFC 9112). Does no I/O.
 *
 * It is lenient about unambiguous deviations of real servers: a bare LF as the end of a line, no
 * reason phrase, folded fields, the same Content-Length twice. Anything that leaves the end of the
 * response open is an error. */
#ifndef RETRYD_HTTP_READER_H
#define RETRYD_HTTP_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"

#define READER_LINE_MAX ((size_t)100 << 10) /* bytes of a line of the headers */
/* Bytes of all headers, including those of 1xx responses. */
#define READER_HEADERS_MAX ((size_t)512 << 10)

enum reader_event {
    READER_NEED,      /* all bytes were used, and more are needed */
    READER_HEADERS,   /* `status` and the headers of a response, 1xx included, are complete */
    READER_BODY,      /* a piece of the body */
    READER_END,       /* the response is complete; bytes after it were not taken */
    READER_INVALID,   /* the bytes are no HTTP response; `error` says why */
    READER_TOO_LARGE, /* the headers exceed a limit; `error` says which */
    READER_NO_MEMORY,
};

enum reader_state {
    READER_STATUS_LINE,
    READER_FIELDS,
    READER_LENGTH,     /* a body with a known length */
    READER_UNTIL_END,  /* a body that ends with the connection */
    READER_CHUNK_SIZE, /* the line before a chunk */
    READER_CHUNK,
    READER_CHUNK_END, /* the line end after a chunk */
    READER_TRAILERS,
    READER_DONE,
    READER_FAILED,
};

struct response_reader {
    enum reader_state state;
    bool head;     /* the request was a HEAD: no body follows */
    bool http_1_0; /* the response is of HTTP/1.0 */
    bool close;    /* "Connection: close", or the framing demands it */
    bool chunked;
    bool has_length;
    bool begun;           /* a byte has arrived */
    unsigned status;      /* 0 until the status line is complete */
    uint64_t length;      /* of Content-Length */
    uint64_t left;        /* bytes of the body or the chunk that are still to come */
    size_t headers_bytes; /* so far */
    struct buf line;      /* the beginning of a line that is not complete */
    bool line_used;       /* `line` was returned, and is cleared with the next one */
    struct headers *headers;
    enum reader_event failure;
    const char *error;
};

/* `headers` receives the fields; it is emptied at each status line. `head`: the request was a
 * HEAD. */
void reader_init(struct response_reader *r, struct headers *headers, bool head);
void reader_deinit(struct response_reader *r);

/* Takes as much as it can from the front of `*in`. For READER_BODY, `*piece` is a part of `*in`. */
enum reader_event reader_next(struct response_reader *r, struct str *in, struct str *piece);

/* Whether the response is complete if the connection ends now. */
bool reader_end(struct response_reader *r);

/* Whether the connection may take another request after READER_END. */
bool reader_keeps_connection(const struct response_reader *r);

#endif
