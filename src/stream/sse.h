/* Frames a stream of server-sent events: finds the end of each event, however the input is split.
 *
 * WHATWG HTML 9.2.5-6: lines end in LF, CR or CRLF; an empty line ends an event; a BOM may come
 * first. The reader never changes, copies or keeps bytes: the caller holds them, and the reader has
 * only a state. A group of comments counts as an event, too, because it must be forwarded. */
#ifndef RETRYD_STREAM_SSE_H
#define RETRYD_STREAM_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"

/* Whether a body is an event stream, by its first bytes: a field's name with its colon, or a
 * comment, after an optional byte order mark and blank lines. The Content-Type is no proof: some
 * servers send their streams as application/json, text/plain or without a type. OPEN: the bytes so
 * far may begin either. */
enum sse_begin { SSE_BEGIN_OPEN, SSE_BEGIN_YES, SSE_BEGIN_NO };
enum sse_begin sse_begins(struct str text);

struct sse_reader {
    unsigned char state;
    size_t scanned; /* bytes of the current event already looked at */
};

void sse_init(struct sse_reader *r);

/* `pending` starts at the current event's first byte and holds all bytes received since. Returns
 * the length of the event, including its closing empty line, once the event is whole; else 0. After
 * consuming the event, call it again with the rest. Each byte is scanned once, however often this
 * is called. An event that closes with a CR at the very end of the input is whole at once; an LF
 * that then follows is a blank event of its own, so a stream with CRLF never ends with a rest that
 * looks like half an event. Any blank line between events is a blank event, too. */
size_t sse_next(struct sse_reader *r, struct str pending);

/* The fields of one whole event. `data` is the first data line, and `data_lines` counts them. All
 * are slices of `event`. `comment_only`: the event has only comments and blank lines. `has_id`,
 * `has_retry`: the field occurred, with any value; the Python SDK then handles the event as if it
 * had data. A byte order mark before a later event is skipped, too, although the standard excludes
 * only the stream's first one from the text. */
struct sse_event {
    struct str type; /* of the event field; empty: there is none */
    struct str data;
    unsigned data_lines;
    struct str error_field; /* llama.cpp's invalid "error: {...}" field; empty: there is none */
    bool has_id, has_retry;
    bool comment_only;
};
void sse_parse(struct str event, struct sse_event *ret_event);

/* Appends the event's data as a client sees it: all data lines, joined with LF. For an event with
 * one data line, sse_parse returns the same without a copy. 0, -ENOMEM or -EFBIG; then `out` has
 * failed and contains a part. */
int sse_join(struct str event, struct buf *out);

#endif
