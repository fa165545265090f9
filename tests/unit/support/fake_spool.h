/* Spools for the fake world: bytes in memory that take their time to be stored and read, and fail
 * when they are told to. Writes are taken up to two blocks beyond what is stored, reads come from one
 * block that was read ahead. */
#ifndef RETRYD_FAKE_SPOOL_H
#define RETRYD_FAKE_SPOOL_H

#include "base/buf.h"
#include "exchange/spool.h"

#define FAKE_SPOOLS 4
#define FAKE_BLOCK (16u * 1024)

struct fake_disk;

struct fake_spool {
    struct spool spool;
    struct fake_disk *disk;
    struct spool_scan *scan;
    struct buf bytes;   /* all that was taken */
    size_t stored;      /* of them in the file */
    size_t storing;     /* on their way there; 0: none */
    uint64_t stored_ms; /* when they are */
    bool flushing;
    size_t at, n;     /* the block that was read ahead */
    bool reading;     /* ... or is being read */
    uint64_t read_ms; /* when it is there */
    int error;
};

struct fake_disk {
    /* Set by the test. */
    const uint64_t *now_ms;     /* its clock */
    uint64_t store_ms, read_ms; /* how long a block takes */
    int open_fails;             /* -errno */
    int store_fails;            /* -errno, for the block that reaches beyond fails_at */
    int read_fails;             /* likewise */
    size_t fails_at;

    struct fake_spool spools[FAKE_SPOOLS];
    unsigned opened, closed;
    unsigned stores, reads; /* blocks */
};

/* Opens the next one; -EMFILE beyond FAKE_SPOOLS. */
int fake_spool_open(struct fake_disk *d, struct spool **ret);

/* When the disk's next block is done; UINT64_MAX: nothing is under way. */
uint64_t fake_disk_next(const struct fake_disk *d);
/* Does what is due. True when there is news. */
bool fake_disk_turn(struct fake_disk *d);

#endif
