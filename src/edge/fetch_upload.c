/* Uploads a request's body, from memory or in pieces from its owner. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "edge/fetch_private.h"

#define AT_ONCE_MAX ((size_t)64 << 10) /* libcurl buffers so much together with the headers */

static size_t give_up(struct transfer *t, int rc)
{
    t->read_failed = rc;
    snprintf(t->broke_text, sizeof(t->broke_text),
             "could not read the request body back from its file: %s; check the disk that "
             "spool_dir is on",
             strerror(-rc));
    t->broke = t->broke_text;
    return CURL_READFUNC_ABORT;
}

static ptrdiff_t read_piece(struct transfer *t, void *to, size_t max)
{
    uint64_t left = t->body_len - t->read_at;

    if (!t->body)
        return t->read(t->arg, t->read_at, to, max);
    if (max > left)
        max = (size_t)left;
    memcpy(to, t->body + t->read_at, max);
    return (ptrdiff_t)max;
}

/* Pauses the upload while the response is paused, because libcurl 8.14 keeps reading the response
 * into its own memory, without a limit, whenever it sends. */
static size_t read_callback(char *to, size_t size, size_t count, void *arg)
{
    struct transfer *t = arg;
    size_t max = size * count;
    ptrdiff_t n = 0;

    if (t->a->paused)
        return CURL_READFUNC_PAUSE;
    if (t->read_at < t->body_len)
        n = read_piece(t, to, max);
    if (n == -EAGAIN) {
        t->upload_paused = true;
        return CURL_READFUNC_PAUSE;
    }
    if (n < 0 || (n == 0 && t->read_at < t->body_len))
        return give_up(t, n < 0 ? (int)n : -EIO);
    t->read_at += (uint64_t)n;
    return (size_t)n;
}

/* libcurl starts again if a proxy asks for the request a second time, with credentials. */
static int seek_callback(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body_len)
        return CURL_SEEKFUNC_CANTSEEK;
    t->read_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* A small body in memory is passed to libcurl, which sends it together with the headers. A reused
 * handle may still have a read callback, but libcurl ignores it if POSTFIELDS is set. */
void fetch_transfer_set_body(struct transfer *t, const struct fetch_request *r)
{
    bool at_once = r->body_len == 0 || (r->body && r->body_len <= AT_ONCE_MAX);

    t->body = r->body;
    t->read = r->read;
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, !at_once ? NULL : r->body_len > 0 ? r->body : "");
    if (!at_once) {
        curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, read_callback);
        curl_easy_setopt(t->easy, CURLOPT_READDATA, t);
        curl_easy_setopt(t->easy, CURLOPT_SEEKFUNCTION, seek_callback);
        curl_easy_setopt(t->easy, CURLOPT_SEEKDATA, t);
        t->read_at = 0;
    }
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
}

/* curl_easy_pause sets both directions at once. If the response is paused as well, everything stays
 * paused until fetch_resume. */
void fetch_upload_ready(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    if (!t->upload_paused)
        return;
    t->upload_paused = false;
    if (!t->a->paused)
        curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

void fetch_resume(struct transfer *t)
{
    assert(t->magic == TRANSFER_MAGIC);
    t->a->paused = false;
    curl_easy_pause(t->easy, t->upload_paused ? CURLPAUSE_SEND : CURLPAUSE_CONT);
}
