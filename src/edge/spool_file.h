/* A spool (exchange/spool.h) that is a file without a name.
 *
 * It never blocks the loop: all file I/O runs in libuv's thread pool. Memory is bounded whatever the
 * length: two blocks of SPOOL_BLOCK bytes for writing, one for reading ahead, used over and over. The
 * file is gone with its last descriptor, even after a crash. */
#ifndef RETRYD_EDGE_SPOOL_FILE_H
#define RETRYD_EDGE_SPOOL_FILE_H

#include <stdatomic.h>
#include <uv.h>

#include "exchange/spool.h"

#define SPOOL_BLOCK (256u * 1024)

/* An empty spool in the folder `dir`, whose text is copied; the file is made with the first bytes
 * that are written to it. notify(arg) is called on the loop, never from within a call of spool_*, when
 * there is news. The bytes that it takes are added to `taken`, by the loop's thread. NULL when out of
 * memory. */
struct spool *spool_file_new(uv_loop_t *loop, const char *dir, _Atomic uint64_t *taken,
                             void (*notify)(void *arg), void *arg);

/* Tries, blocking, to make such a file: 0 or -errno. For start-up checks. */
int spool_file_probe(const char *dir);

#endif
