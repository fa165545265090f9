/* The history of requests: their stories, and the sums of each minute of the last hour.
 *
 * A story begins when an attempt of a request fails, the request has to wait for a turn, or a
 * second attempt joins the first. Most requests have none and cost nothing here. The worker writes
 * the story, under the lock, and the main thread reads it meanwhile, so that the status page shows
 * failures that are being ridden out. The last HISTORY_MAX ended stories are kept.
 *
 * The minutes are made on the main thread from the workers' counters. Time is an argument, in ms of
 * one monotonic clock. */
#ifndef RETRYD_WORKER_HISTORY_H
#define RETRYD_WORKER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "exchange/exchange.h"
#include "policy/reason.h"
#include "targets/turns.h"

#define HISTORY_MAX 200       /* ended stories that are kept */
#define HISTORY_LIVE_MAX 1000 /* running stories; of further requests only the end is recorded */
#define HISTORY_MINUTES 60
#define STORY_ATTEMPTS 12 /* of one request; a further one replaces the last */

enum story_outcome { ATTEMPT_RUNS, ATTEMPT_FAILED, ATTEMPT_GOOD, ATTEMPT_CANCELLED };
const char *story_outcome_word(enum story_outcome o);

struct story_attempt {
    unsigned number; /* 1 for the first */
    enum story_outcome outcome;
    uint64_t start_ms;    /* since the request's start */
    uint64_t duration_ms; /* RUNS: 0 */
    uint64_t wait_ms;     /* before it: backoff and queue */
    unsigned key_number;  /* 0: the client's own, or none */
    unsigned status;      /* 0: none came */
    enum reason reason;   /* FAILED */
    char upstream[32];
    char model[64];  /* by the upstream's name; "": as asked */
    char code[48];   /* of the error response; "" */
    char detail[96]; /* of a transport failure; "" */
};

enum story_phase { STORY_QUEUED, STORY_BACKOFF, STORY_ATTEMPTING, STORY_RELAYING, STORY_ENDED };
const char *story_phase_word(enum story_phase p);

struct story {
    struct list node;
    uint64_t serial; /* 1, 2, 3 ... in the order in which stories end; 0: it goes on */
    char id[REQUEST_ID_MAX];
    char method[12];
    char path[128]; /* without the query */
    char model[64];
    char route[32];
    bool stream;
    uint64_t unix_ms; /* wall clock at its start */
    uint64_t started_ms, ended_ms;
    enum story_phase phase;
    uint64_t until_ms; /* BACKOFF: when the next attempt starts */
    enum turn_why why; /* QUEUED: why its first choice was not free */
    enum exchange_end end;
    unsigned status;    /* the one that the client got; 0: none */
    enum reason reason; /* of the last failure */
    char cannot_retry[96];
    unsigned attempts, max_attempts, hedges, duplicates, splices;
    bool client_repeat;
    uint64_t first_byte_ms; /* since its start; 0: none */
    uint64_t bytes;
    uint64_t upstream_ms, backoff_ms, queue_ms; /* how its time was spent */
    enum turn_why queued_for;
    unsigned kept; /* of `attempt` */
    struct story_attempt attempt[STORY_ATTEMPTS];
};

/* Copies as much as fits, cut between two characters, with "..." if anything was left out. */
void story_copy(char *to, size_t size, struct str text);

struct history;

struct history *history_new(void); /* NULL if out of memory */
void history_free(struct history *h);

/* Begins a story, which runs until it is ended or dropped. Returns NULL if too many run, or if out
 * of memory. From any thread. */
struct story *history_begin(struct history *h);
/* The writer holds the lock while it changes a story. */
void history_lock(struct history *h);
void history_unlock(struct history *h);
/* Keeps a complete story, and forgets the oldest. From any thread that does not hold the lock. */
void history_end(struct history *h, struct story *s);
void history_drop(struct history *h, struct story *s);

/* Copies stories: those that run, in the order in which they began; or those that ended after the
 * one with that serial, the latest first. Returns their number. */
unsigned history_copy_live(struct history *h, struct story *to, unsigned max);
unsigned history_copy_ended(struct history *h, uint64_t after, struct story *to, unsigned max);
/* Copies the story whose id begins with `id`, the latest if there are several. Returns false if
 * there is none, or if `id` is shorter than HISTORY_ID_MIN. */
#define HISTORY_ID_MIN 4
bool history_find(struct history *h, struct str id, struct story *ret);
unsigned history_live(struct history *h); /* the number of running stories */

/* --- the last hour; on the main thread only --------------------------------------------------- */

/* Sums since the start. */
struct history_sums {
    uint64_t requests, answered, rescued, failed, refused, broken, client_gone;
    uint64_t attempts, retries;
    uint64_t total_ms, upstream_ms, backoff_ms, queue_ms; /* of requests that have ended */
    uint64_t failures[REASON_COUNT];                      /* failed attempts */
};

/* Adds the growth since the last call to the minute of `now_ms`. Call it every few seconds. */
void history_sample(struct history *h, uint64_t now_ms, const struct history_sums *sums);
/* Returns the sums of one minute: `ago` 0 is the one of `now_ms`, HISTORY_MINUTES - 1 the
 * oldest. */
struct history_sums history_minute(const struct history *h, uint64_t now_ms, unsigned ago);
struct history_sums history_hour(const struct history *h, uint64_t now_ms);

/* --- the story of a running exchange, on its worker --------------------------------------------
 *
 * `slot` is the call's: NULL while the request has no story. A request that succeeds at its first
 * attempt, at once and in time, never has one. */

/* The request waits for a turn. */
void story_waits(struct history *h, struct story **slot, const struct exchange *x,
                 const struct turn *turn);
/* An attempt begins. The first one is recorded only if there is a story by then. */
void story_attempt(struct history *h, struct story **slot, const struct exchange *x,
                   const struct attempt *a);
/* A second attempt is about to join the first. */
void story_hedged(struct history *h, struct story **slot, const struct exchange *x);
void story_failed(struct history *h, struct story **slot, const struct exchange *x,
                  const struct attempt_report *r);
/* The response is on its way to the client. */
void story_relays(struct history *h, struct story *s);

/* Returns how long attempts of an ended request ran. */
uint64_t story_upstream_ms(const struct story *s, const struct exchange *x);

/* The request has ended: keeps its story if it failed, was retried, had to wait, or was slower than
 * `slow_ms` to begin its response (0: none is slow). */
void story_end(struct history *h, struct story **slot, const struct exchange *x, uint64_t slow_ms);

/* Drops a story whose end is not recorded. */
void story_drop(struct history *h, struct story **slot);

#endif
