/* Counts the memory that the requests of all workers hold, for [server] max_buffered.
 *
 * It counts the bytes that grow with what clients and upstreams send: request bodies in memory,
 * blocks of spools, and responses that are held or being sent. Each worker reports its sum once a
 * turn, with relaxed atomics as nothing depends on their order, so the total lags a little. */
#ifndef RETRYD_DAEMON_PRESSURE_H
#define RETRYD_DAEMON_PRESSURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reports that a worker's sum has changed from `*reported` to `now`, and sets `*reported`. */
void pressure_report(size_t *reported, size_t now);

/* The bytes of all workers: now, and the maximum so far. */
uint64_t pressure_now(void);
uint64_t pressure_most(void);

/* Above half of the cap, bodies go to spools at once ... */
bool pressure_is_high(uint64_t bytes, uint64_t cap);
/* ... from 95 %, new requests are refused ... */
bool pressure_is_full(uint64_t bytes, uint64_t cap);
/* ... and at the cap, requests whose bodies are still arriving, unless they have a spool. */
bool pressure_is_over(uint64_t bytes, uint64_t cap);

#endif
