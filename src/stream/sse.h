/* Frames a server-sent event stream: finds where each event ends, at any split of the input.
 *
 * WHATWG HTML 9.2.5-6: lines end in LF, CR or CRLF; an empty line ends an event; a BOM may come
 * first. Bytes are never changed, copied or kept: the caller holds them, and the reader remembers
 * only a state. Events of comments alone are events here, too: they have to pass through. */
#ifndef RETRYD_STREAM_SSE_H
#define RETRYD_STREAM_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"

/* Whether a body is an event stream, by its first bytes: a field's name with its colon, or a comment,
 * behind a byte order mark and blank lines at most. Labels do not tell: some servers call their
 * streams application/json, text/plain or nothing. OPEN while what has come is the beginning of
 * either. */
enum sse_begin { SSE_BEGIN_OPEN, SSE_BEGIN_YES, SSE_BEGIN_NO };
enum sse_begin sse_begins(struct str text);

struct sse_reader {
    unsigned char state;
    size_t scanned; /* bytes of the current event already looked at */
};

void sse_init(struct sse_reader *r);

/* `pending` starts at the current event's first byte and holds all that has come since. Returns
 * the length of the event, its closing empty line included, once that is whole; else 0. Call
 * again with the rest after consuming it. Each byte is looked at once however often it is called.
 * An event that closes with a CR at the very end of the input is whole at once; an LF that then
 * follows is an event of its own, a blank one, so that a stream in CRLF never ends with a rest
 * that looks like half an event. So is any blank line between events. */
size_t sse_next(struct sse_reader *r, struct str pending);

/* The fields of one whole event. `data` is the first data line; `data_lines` how many there are.
 * All are slices of `event`. `comment_only`: nothing but comments and blank lines. `has_id`,
 * `has_retry`: the fields occurred, whatever their value; Python's SDK takes an event for one with
 * data because of them. A mark in front of a later event is skipped too, though only the stream's
 * first one is none of its text. */
struct sse_event {
    struct str type; /* of the event: field; empty where none */
    struct str data;
    unsigned data_lines;
    struct str error_field; /* llama.cpp's invalid "error: {...}" field; empty where none */
    bool has_id, has_retry;
    bool comment_only;
};
void sse_parse(struct str event, struct sse_event *ret_event);

/* Appends the event's data as a client sees it: all data lines, joined with LF. For events of one
 * data line sse_parse gives the same without a copy. 0, -ENOMEM or -EFBIG (then `out` has failed,
 * and holds a part). */
int sse_join(struct str event, struct buf *out);

#endif
