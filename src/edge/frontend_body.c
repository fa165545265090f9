/* Requests' bodies: handed on as they come, held back where their owner has no room, and dropped where
 * the request is refused. */
#include <errno.h>

#include "edge/frontend_private.h"

#define SWALLOW_BYTES (64u << 20) /* of a body refused at the head, or of one of unknown length */

unsigned frontend_status(int rc)
{
    switch (rc) {
    case -EFBIG:
        return 413;
    case -EACCES:
        return 403;
    case -ENOTSUP:
        return 426;
    case -ELOOP:
        return 508;
    case -ENOSPC:
        return 507;
    default:
        return 503;
    }
}

/* A client that writes first and reads later would see its connection reset, not the reason, if its
 * body were left unread: the answer waits for the body, unless that is too much or was asked about. */
bool frontend_body_swallows(const struct frontend_request *r)
{
    uint64_t n = r->http.content_length;

    return n != 0 && (n <= SWALLOW_BYTES || n == LENGTH_UNKNOWN) &&
           !headers_get(&r->http.headers, STR("expect"), NULL);
}

/* A length that was accepted at the head is read to its end, however long: it costs nothing but
 * time, and the client may read only then. */
static bool swallowed_enough(const struct frontend_request *r)
{
    return r->told == LENGTH_UNKNOWN && r->body_bytes > r->refused_at + SWALLOW_BYTES;
}

static void refuse_body(struct frontend_request *r, int rc)
{
    r->refused = frontend_status(rc);
    r->why = r->why_text;
    r->refused_at = r->body_bytes;
    r->f->handler->on_body_refused(r->user, r->refused);
}

/* Bytes that are left unread make libmicrohttpd spin unless the connection is suspended. It comes
 * with them again once that is over. A client that is gone is not held back: on_disconnect has been, so
 * that only the owner's room would end its connection, and a disk may keep that for ever. */
static enum MHD_Result hold_back(struct frontend_request *r)
{
    if (r->c->gone) {
        r->cut = true;
        return MHD_NO;
    }
    r->held_back = true;
    frontend_suspend(r);
    return MHD_YES;
}

#define CHUNK_BYTES_MAX (UINT64_C(1) << 40) /* longer than any body may be (max_body's own limit) */
#define CHUNK_LINE_MAX 4096                 /* with its extensions */

static uint64_t hex_number(const char *p, const char *end)
{
    uint64_t n = 0;

    for (; p < end && n < CHUNK_BYTES_MAX; p++) {
        if (*p >= '0' && *p <= '9')
            n = n << 4 | (uint64_t)(*p - '0');
        else if ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')
            n = n << 4 | (uint64_t)((*p | 0x20) - 'a' + 10);
        else
            break;
    }
    return n;
}

/* Whether these bytes begin a chunk that makes the body longer than it may be. libmicrohttpd waits for all of it, and tells
 * nobody what the line said; but that stands in its memory still, right before the bytes, where both
 * came together. Else what stands there is the end of the head, which it has overwritten with NULs, and
 * the chunk is known by what comes of it. */
static bool begins_endless_chunk(const struct frontend_request *r, const char *data)
{
    uint64_t left = r->body_limit > r->body_bytes ? r->body_limit - r->body_bytes : 0, n;
    const char *end = data - 1, *p;

    if (r->told != LENGTH_UNKNOWN || end <= r->uri || *end != '\n')
        return false;
    for (p = end; p > r->uri && end - p < CHUNK_LINE_MAX; p--)
        if (p[-1] == '\n' || p[-1] == '\0')
            break;
    n = hex_number(p, end);
    return n >= CHUNK_BYTES_MAX || n > left;
}

/* A response cannot be queued amid a body: what is too much is read and dropped, up to a bound. */
enum MHD_Result frontend_body_take(struct frontend_request *r, const char *data, size_t *size)
{
    size_t n = *size;
    ptrdiff_t taken;

    if (r->cut) /* its owner is done with it */
        return MHD_NO;
    if (!r->refused && begins_endless_chunk(r, data))
        frontend_refuse_now(r, 413, "retryd: a chunk of the body is larger than max_body");
    if (!r->refused) {
        taken = r->f->handler->on_body(r->user, data, n, r->why_text, sizeof(r->why_text));
        if (taken >= 0) {
            *size = n - (size_t)taken;
            r->body_bytes += (size_t)taken;
            return *size > 0 ? hold_back(r) : MHD_YES;
        }
        refuse_body(r, (int)taken);
    }
    *size = 0;
    r->body_bytes += n;
    return swallowed_enough(r) ? MHD_NO : MHD_YES;
}

void frontend_body_limit(struct frontend_request *r, uint64_t bytes)
{
    r->body_limit = bytes;
}

void frontend_upload_on(struct frontend_request *r)
{
    if (!r->held_back)
        return;
    frontend_connection_expect_body(r->c);
    frontend_resume(r);
}
