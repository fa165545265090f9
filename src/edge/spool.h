/* A spool: an unlinked temporary file for bytes that are too many for memory.
 *
 * It is written by appending and read from any offset, both from the loop's thread and without ever
 * blocking it: all file I/O runs in libuv's thread pool. Memory is bounded whatever the length: two
 * blocks of SPOOL_BLOCK bytes for writing, one for reading ahead, used over and over. The file has
 * no name, so it is gone with its last descriptor, even after a crash.
 *
 * An error (no space, no such folder, an I/O error) is sticky: from then on every call returns it. */
#ifndef RETRYD_EDGE_SPOOL_H
#define RETRYD_EDGE_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#define SPOOL_BLOCK (256u * 1024)

struct spool;

/* An empty spool in the folder `dir`, whose text is copied; the file is made with the first bytes
 * that are written to it. notify(arg) is called on the loop, never from within a call of these
 * functions, when there is news: room to write, bytes to read, all stored, an error. NULL when out
 * of memory. */
struct spool *spool_new(uv_loop_t *loop, const char *dir, void (*notify)(void *arg), void *arg);

/* No notify follows. I/O that is under way ends by itself, while the loop runs; then the memory is
 * freed. NULL is fine. */
void spool_free(struct spool *s);

/* Appends up to `n` bytes. How many were taken: fewer than n, or 0, while both blocks are full; the
 * rest is to be brought again after a notify. -errno: the spool has failed (-ENOMEM: no memory for
 * a block). */
ssize_t spool_write(struct spool *s, const void *data, size_t n);

/* Whether spool_write would take nothing now. */
bool spool_full(const struct spool *s);

/* Sees to it that all that was appended reaches the file, and the blocks' memory is given back.
 * Appending more is allowed at any time. */
void spool_flush(struct spool *s);

/* 0: all that was appended is in the file; -EAGAIN: not yet; else the error. */
int spool_state(const struct spool *s);

/* Copies up to `max` bytes from `offset` (at most the length) on. > 0: so many; 0: the end of what
 * was appended; -EAGAIN: they are being read, a notify follows; else the error. Each offset may be
 * read again; one that follows the last read is there soonest. */
ssize_t spool_read(struct spool *s, uint64_t offset, void *to, size_t max);

/* Bytes of memory that its blocks take now. */
size_t spool_memory(const struct spool *s);

/* Tries, blocking, to make such a file: 0 or -errno. For start-up checks. */
int spool_probe(const char *dir);

#endif
