/* How much memory the requests of all workers hold, against [server] max_buffered.
 *
 * Counted are the bytes that grow with what clients and upstreams send: request bodies in memory,
 * the blocks of spools, answers that are held or on their way. Each worker tells its sum once a turn
 * (relaxed atomics: nothing is ordered by them), so the total lags a little behind. */
#ifndef RETRYD_DAEMON_PRESSURE_H
#define RETRYD_DAEMON_PRESSURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A worker's sum has changed from `*told` to `now`; `*told` becomes `now`. */
void pressure_tell(size_t *told, size_t now);

/* All workers' bytes: now, and the most that was seen. */
uint64_t pressure_now(void);
uint64_t pressure_most(void);

/* Above half of the cap bodies go to their spools at once ... */
bool pressure_is_high(uint64_t bytes, uint64_t cap);
/* ... from 95 % on new requests are refused ... */
bool pressure_is_full(uint64_t bytes, uint64_t cap);
/* ... and at the cap those that are still coming in, unless they have a file already. */
bool pressure_is_over(uint64_t bytes, uint64_t cap);

#endif
