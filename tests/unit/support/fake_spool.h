/* Spools for the fake world: bytes in memory that take their time to be stored and read, and fail
 * when they are told to. What struct exchange_ops promises holds: writes are taken up to two blocks
 * beyond what is stored, reads come from one block that was read ahead, an error is sticky. */
#ifndef RETRYD_FAKE_SPOOL_H
#define RETRYD_FAKE_SPOOL_H

#include "exchange/exchange.h"

#define FAKE_SPOOLS 4
#define FAKE_BLOCK (16u * 1024)

struct fake_disk;

struct spool {
    struct fake_disk *disk;
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
    uint64_t store_ms, read_ms; /* how long a block takes */
    int open_fails;             /* -errno */
    int store_fails;            /* -errno, for the block that reaches beyond fails_at */
    int read_fails;             /* likewise */
    size_t fails_at;

    struct spool spools[FAKE_SPOOLS];
    unsigned opened, closed;
    unsigned stores, reads; /* blocks */
};

/* Opens the next one; -EMFILE beyond FAKE_SPOOLS. */
int fake_spool_open(struct fake_disk *d, struct spool **ret);
void fake_spool_close(struct spool *s);
ptrdiff_t fake_spool_write(struct spool *s, const void *data, size_t n, uint64_t now_ms);
bool fake_spool_full(const struct spool *s);
void fake_spool_flush(struct spool *s, uint64_t now_ms);
int fake_spool_state(const struct spool *s);
ptrdiff_t fake_spool_read(struct spool *s, uint64_t offset, void *to, size_t max, uint64_t now_ms);
size_t fake_spool_memory(const struct spool *s);

/* When the disk's next block is done; UINT64_MAX: nothing is under way. */
uint64_t fake_disk_next(const struct fake_disk *d);
/* Does what is due. True when there is news. */
bool fake_disk_turn(struct fake_disk *d, uint64_t now_ms);

#endif
