/* A spool (exchange/spool.h) that is a file without a name.
 *
 * It never blocks the loop: all file I/O runs in libuv's thread pool. Memory is bounded whatever
 * the length: two blocks of SPOOL_BLOCK bytes for writing, one for reading ahead. The file
 * disappears with its last descriptor, even after a crash. */
#ifndef RETRYD_EDGE_SPOOL_FILE_H
#define RETRYD_EDGE_SPOOL_FILE_H

#include <stdatomic.h>
#include <uv.h>

#include "exchange/spool.h"

#define SPOOL_BLOCK (256u * 1024)

/* Creates an empty spool in the folder `dir`, whose text is copied; the file is created with the
 * first bytes that are written to it. Calls notify(arg) on the loop, never from within a call of
 * spool_*, when there is news. Adds the number of appended bytes to `taken`, in the loop's thread.
 * Returns NULL if out of memory. */
struct spool *spool_file_new(uv_loop_t *loop, const char *dir, _Atomic uint64_t *taken,
                             void (*notify)(void *arg), void *arg);

/* Tries, blocking, to create such a file, for checks at the start. Returns 0 or -errno. */
int spool_file_probe(const char *dir);

#endif
