/* A request's body on its way out: from memory, or piece by piece from whoever keeps it. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/upstream_private.h"

static size_t give_up(struct transfer *t, int rc)
{
    t->read_failed = rc;
    snprintf(t->broke_text, sizeof(t->broke_text),
             "the request's body could not be read back from its file: %s; check the disk that "
             "spool_dir is on",
             strerror(-rc));
    t->broke = t->broke_text;
    return CURL_READFUNC_ABORT;
}

static size_t read_callback(char *to, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t max = size * count;
    ptrdiff_t n = 0;

    if (t->read_at < t->body_len)
        n = t->read(t->arg, t->read_at, to, max);
    if (n == -EAGAIN) {
        t->upload_paused = true;
        return CURL_READFUNC_PAUSE;
    }
    if (n < 0 || (n == 0 && t->read_at < t->body_len))
        return give_up(t, n < 0 ? (int)n : -EIO);
    t->read_at += (uint64_t)n;
    return (size_t)n;
}

/* libcurl begins anew where a proxy wants the request once more, with credentials. */
static int seek_callback(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body_len)
        return CURL_SEEKFUNC_CANTSEEK;
    t->read_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* A handle that is used again may have the other kind of body in it: of what stands here only
 * POSTFIELDS matters then, for libcurl reads nothing where it is set. */
void transfer_set_body(struct transfer *t, const struct upstream_request *r)
{
    bool in_memory = r->body || r->body_len == 0;

    t->read = in_memory ? NULL : r->read;
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS,
                     !in_memory        ? NULL
                     : r->body_len > 0 ? r->body
                                       : "");
    if (!in_memory) {
        curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, read_callback);
        curl_easy_setopt(t->easy, CURLOPT_READDATA, t);
        curl_easy_setopt(t->easy, CURLOPT_SEEKFUNCTION, seek_callback);
        curl_easy_setopt(t->easy, CURLOPT_SEEKDATA, t);
        t->read_at = 0;
    }
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
}

/* curl_easy_pause is about both directions at once: each of these keeps the other's as it is. */
void upstream_upload_ready(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    if (!t->upload_paused)
        return;
    t->upload_paused = false;
    curl_easy_pause(t->easy, t->a->paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
}

void upstream_resume(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    t->a->paused = false;
    curl_easy_pause(t->easy, t->upload_paused ? CURLPAUSE_SEND : CURLPAUSE_CONT);
}
