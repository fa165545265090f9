/* Keeps bytes in a file without a name, without blocking the loop. */
#include "edge/spool_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"

#define SPOOL_MAGIC 0x73706f6cu

/* One piece of I/O in the thread pool; one of each kind is under way at most. While `busy` its
 * fields belong to the pool's thread. */
struct job {
    uv_work_t work;
    bool busy;
    char *p;
    size_t n;
    uint64_t at;
    int rc;
};

struct spool_file {
    struct spool spool;
    unsigned magic;
    uv_loop_t *loop;
    void (*notify)(void *arg);
    void *arg;
    _Atomic uint64_t *taken;
    int error; /* sticky */
    /* -1 until the first write has created it; belongs to a writing job while that is busy */
    int fd;
    bool flushing;
    bool closed;
    uint64_t appended;
    uint64_t stored; /* bytes [0, stored) are in the file */

    /* Bytes are collected in blocks[current] while the other one may be on its way to the file. */
    char *blocks[2];
    unsigned current;
    size_t filled;
    struct job writing;
    struct spool_scan *scan; /* reads the bytes on their way; NULL: none */
    size_t scan_memory;

    /* The bytes read ahead: [at, at + n) of the file, once `busy` is over. */
    struct job reading;
    uv_work_t closing;
    char dir[];
};

static struct spool_file *file_of(struct spool *spool)
{
    struct spool_file *s = LIST_ENTRY(spool, struct spool_file, spool);

    assert(s->magic == SPOOL_MAGIC);
    return s;
}

/* --- in the thread pool ----------------------------------------------------------------------- */

static int open_named(const char *dir)
{
    char name[4096];
    int n = snprintf(name, sizeof(name), "%s/retryd.XXXXXX", dir);
    int fd;

    if (n < 0 || (size_t)n >= sizeof(name))
        return -ENAMETOOLONG;
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(name);
    return fd;
}

/* Not every file system supports files without a name. */
static int open_file(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        return fd;
    return errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL ? open_named(dir) : -errno;
}

int spool_file_probe(const char *dir)
{
    int fd = open_file(dir);

    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

static void write_block(uv_work_t *work)
{
    struct spool_file *s = work->data;
    struct job *j = &s->writing;
    size_t done = 0;

    if (s->fd < 0)
        s->fd = open_file(s->dir);
    j->rc = s->fd < 0 ? s->fd : 0;
    while (j->rc == 0 && done < j->n) {
        ssize_t n = pwrite(s->fd, j->p + done, j->n - done, (off_t)(j->at + done));

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            j->rc = n == 0 ? -EIO : -errno;
    }
    if (j->rc == 0 && s->scan)
        j->rc = s->scan->feed(s->scan, j->p, j->n);
}

static void read_block(uv_work_t *work)
{
    struct spool_file *s = work->data;
    struct job *j = &s->reading;
    size_t done = 0;

    j->rc = 0;
    while (j->rc == 0 && done < j->n) {
        ssize_t n = pread(s->fd, j->p + done, j->n - done, (off_t)(j->at + done));

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR) /* no other process can have made it shorter */
            j->rc = n == 0 ? -EIO : -errno;
    }
}

/* Freeing a large file's space takes the disk's time, too. */
static void close_file(uv_work_t *work)
{
    close(((struct spool_file *)work->data)->fd);
}

/* --- the end ---------------------------------------------------------------------------------- */

static void on_file_closed(uv_work_t *work, int status)
{
    (void)status;
    free(work->data);
}

static void give_back_blocks(struct spool_file *s)
{
    for (int i = 0; i < 2; i++) {
        free(s->blocks[i]);
        s->blocks[i] = NULL;
    }
}

static void give_back_read(struct spool_file *s)
{
    free(s->reading.p);
    s->reading.p = NULL;
    s->reading.n = 0;
}

static void end_if_idle(struct spool_file *s)
{
    if (s->writing.busy || s->reading.busy)
        return;
    give_back_blocks(s);
    give_back_read(s);
    if (s->scan)
        s->scan->free(s->scan);
    s->magic = 0;
    s->closing.data = s;
    if (s->fd < 0 || uv_queue_work(s->loop, &s->closing, close_file, on_file_closed) < 0) {
        if (s->fd >= 0)
            close(s->fd);
        free(s);
    }
}

/* Running I/O ends by itself while the loop runs; then the memory is freed. */
static void file_close(struct spool *spool)
{
    struct spool_file *s = file_of(spool);

    assert(!s->closed);
    s->closed = true;
    if (s->writing.busy)
        uv_cancel((uv_req_t *)&s->writing.work); /* it works only while the job waits */
    if (s->reading.busy)
        uv_cancel((uv_req_t *)&s->reading.work);
    end_if_idle(s);
}

/* Ends a job, on the loop's thread. Returns false if the spool has been closed. */
static bool job_over(struct spool_file *s, struct job *j, int status)
{
    assert(s->magic == SPOOL_MAGIC);
    j->busy = false;
    if (s->closed) {
        end_if_idle(s);
        return false;
    }
    if (status < 0)
        j->rc = status;
    if (j->rc < 0 && s->error == 0)
        s->error = j->rc;
    return true;
}

static void start_job(struct spool_file *s, struct job *j, uv_work_cb work, uv_after_work_cb after)
{
    int rc;

    j->busy = true;
    j->work.data = s;
    rc = uv_queue_work(s->loop, &j->work, work, after);
    assert(rc == 0);
    (void)rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void on_written(uv_work_t *work, int status);

/* Writes the collected block if it is full or wanted, and no other write is under way. */
static void write_on(struct spool_file *s)
{
    struct job *j = &s->writing;

    if (j->busy || s->error)
        return;
    if (s->filled == SPOOL_BLOCK || (s->flushing && s->filled > 0)) {
        j->p = s->blocks[s->current];
        j->n = s->filled;
        j->at = s->stored;
        s->current = !s->current;
        s->filled = 0;
        start_job(s, j, write_block, on_written);
    } else if (s->flushing && s->filled == 0) {
        s->flushing = false;
        give_back_blocks(s);
    }
}

static void on_written(uv_work_t *work, int status)
{
    struct spool_file *s = work->data;

    if (!job_over(s, &s->writing, status))
        return;
    if (s->error)
        give_back_blocks(s);
    else
        s->stored += s->writing.n;
    if (s->scan)
        s->scan_memory = s->scan->memory(s->scan);
    write_on(s);
    s->notify(s->arg);
}

static void file_scan(struct spool *spool, struct spool_scan *scan)
{
    struct spool_file *s = file_of(spool);

    assert(s->appended == 0 && !s->scan);
    s->scan = scan;
    s->scan_memory = scan->memory(scan);
}

static bool file_full(struct spool *spool)
{
    const struct spool_file *s = file_of(spool);

    return s->filled == SPOOL_BLOCK && s->error == 0;
}

static ptrdiff_t file_write(struct spool *spool, const void *data, size_t n)
{
    struct spool_file *s = file_of(spool);
    size_t taken = 0;

    while (taken < n && s->error == 0 && s->filled < SPOOL_BLOCK) {
        /* The block that bytes are collected in. It is allocated when first needed, because short
         * bodies need only one. */
        char **gathering = &s->blocks[s->current];
        if (!*gathering)
            *gathering = malloc(SPOOL_BLOCK);
        if (!*gathering)
            s->error = -ENOMEM;
        char *block = *gathering;
        size_t piece = n - taken < SPOOL_BLOCK - s->filled ? n - taken : SPOOL_BLOCK - s->filled;

        if (!block)
            break;
        memcpy(block + s->filled, (const char *)data + taken, piece);
        s->filled += piece;
        taken += piece;
        s->appended += piece;
        write_on(s);
    }
    if (s->error)
        return s->error;
    atomic_fetch_add_explicit(s->taken, taken, memory_order_relaxed);
    return (ptrdiff_t)taken;
}

static void flush(struct spool_file *s)
{
    s->flushing = true;
    write_on(s);
}

static void file_flush(struct spool *spool)
{
    flush(file_of(spool));
}

static int file_state(struct spool *spool)
{
    const struct spool_file *s = file_of(spool);

    if (s->error)
        return s->error;
    return s->stored < s->appended ? -EAGAIN : 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

static void on_read(uv_work_t *work, int status)
{
    struct spool_file *s = work->data;

    if (job_over(s, &s->reading, status))
        s->notify(s->arg);
}

static void read_on(struct spool_file *s, uint64_t offset)
{
    struct job *j = &s->reading;
    uint64_t left = s->stored - offset;

    if (!j->p)
        j->p = malloc(SPOOL_BLOCK);
    if (!j->p) {
        s->error = -ENOMEM;
        return;
    }
    j->at = offset;
    j->n = left < SPOOL_BLOCK ? (size_t)left : SPOOL_BLOCK;
    start_job(s, j, read_block, on_read);
}

/* Copies bytes that were read ahead, and begins to read the next block once this one is used up. */
static size_t take(struct spool_file *s, uint64_t offset, void *to, size_t max)
{
    struct job *j = &s->reading;
    size_t skip = (size_t)(offset - j->at), n = j->n - skip;

    if (n > max)
        n = max;
    memcpy(to, j->p + skip, n);
    if (offset + n == s->appended)
        give_back_read(s);
    else if (skip + n == j->n && offset + n < s->stored)
        read_on(s, offset + n);
    return n;
}

static ptrdiff_t file_read(struct spool *spool, uint64_t offset, void *to, size_t max)
{
    struct spool_file *s = file_of(spool);
    struct job *j = &s->reading;

    assert(offset <= s->appended);
    if (s->error)
        return s->error;
    if (offset == s->appended || max == 0)
        return 0;
    if (j->busy)
        return -EAGAIN;
    if (offset >= j->at && offset - j->at < j->n)
        return (ptrdiff_t)take(s, offset, to, max);
    if (offset >= s->stored)
        flush(s);
    else
        read_on(s, offset);
    return s->error ? s->error : -EAGAIN;
}

/* --- the spool -------------------------------------------------------------------------------- */

static size_t file_memory(struct spool *spool)
{
    const struct spool_file *s = file_of(spool);
    size_t blocks = (size_t) !!s->blocks[0] + !!s->blocks[1] + !!s->reading.p;

    return blocks * SPOOL_BLOCK + s->scan_memory;
}

static const struct spool_ops ops = {.close = file_close,
                                     .scan = file_scan,
                                     .write = file_write,
                                     .full = file_full,
                                     .flush = file_flush,
                                     .state = file_state,
                                     .read = file_read,
                                     .memory = file_memory};

struct spool *spool_file_new(uv_loop_t *loop, const char *dir, _Atomic uint64_t *taken,
                             void (*notify)(void *arg), void *arg)
{
    size_t n = strlen(dir) + 1;
    struct spool_file *s = calloc(1, sizeof(*s) + n);

    if (!s)
        return NULL;
    s->spool.ops = &ops;
    s->magic = SPOOL_MAGIC;
    s->loop = loop;
    s->notify = notify;
    s->arg = arg;
    s->taken = taken;
    s->fd = -1;
    memcpy(s->dir, dir, n);
    return &s->spool;
}
