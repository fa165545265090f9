/* A target's gate: decides which attempts may go to an upstream with a rate limit (C19).
 *
 * OPEN       All attempts may go, but a target without recent good responses is not stormed:
 *            GATE_COLD_BURST attempts may go at once and one more every GATE_COLD_MS; each good
 *            response lets two more go, up to GATE_WARM_BURST ahead. Without a good response for
 *            GATE_WARM_MS it is cold again.
 * CLOSED     A 429 said how long to wait: no attempt goes before `until_ms`.
 * OPENING    That time is over. Attempts go in steps: one, then two, then four ..., each step once
 *            all of the one before ended well. That goes on up to the number that passed before the
 *            last 429 (`most`; a step that would exceed it is cut); from there on one, then two,
 *            then three ... at a time. It is OPEN again once a step of GATE_COLD_BURST, beyond
 *            `most` if that is known, has ended well.
 *
 * A 429 comes quickly, while a good response may take minutes. An attempt that has not ended
 * GATE_STEP_MS after its step began therefore counts as good, and holds up no other.
 *
 * The duration of OPENING does not matter: if responses take as long as the limit's own period, the
 * small steps keep just below the limit, and a burst after them would exceed it by far. The
 * doubling is TCP's slow start and the small steps beyond `most` its congestion avoidance (RFC 5681
 * 3.1), counted in requests. Pure: time is an argument, in ms of one monotonic clock. */
#ifndef RETRYD_TARGETS_GATE_H
#define RETRYD_TARGETS_GATE_H

#include <stdbool.h>
#include <stdint.h>

#define GATE_COLD_BURST 12
#define GATE_COLD_MS 4 /* 250 a second: 15 000 a minute, more than most accounts may send */
#define GATE_WARM_BURST 4096
#define GATE_WARM_MS 10000
#define GATE_STEP_MS 1000
#define GATE_NEVER UINT64_MAX /* the end of the clock */

enum gate_phase { GATE_OPEN, GATE_CLOSED, GATE_OPENING };

/* The result of an attempt for the gate. */
enum gate_news {
    GATE_GOOD,    /* a response, good or with an error that is not about the rate */
    GATE_LIMITED, /* a 429; gate_close follows if it has a hint */
    GATE_NO_NEWS, /* no result: cancelled, connection lost, a server error */
};

struct gate {
    enum gate_phase phase;
    uint64_t until_ms;    /* CLOSED: it opens then */
    uint64_t since_ms;    /* OPENING: when the first attempt of this step went */
    uint64_t good_ms;     /* OPEN: time of the last good response */
    uint64_t filled_ms;   /* OPEN: `credit` counts from here */
    unsigned credit;      /* OPEN: attempts that may go now */
    unsigned step;        /* OPENING: attempts in this step */
    unsigned sent, ended; /* ... how many of them have gone, have ended */
    unsigned well;        /* ... have ended well */
    bool beyond;          /* ... the steps are those beyond `most` */
    bool opened;          /* it has become OPEN, and gate_leave has not returned that yet */
    unsigned passed;      /* good responses since it last began to open, or since the start */
    unsigned most;        /* `passed` when the last 429 came, at least 1; 0: not known */
    /* Counts closings and steps: attempts from before the last one do not count. */
    uint32_t epoch;
};

void gate_init(struct gate *g, uint64_t now_ms);

/* Returns when an attempt may go; at or before `now_ms`: now. The time may become earlier when a
 * running attempt ends: ask again then. Moves CLOSED to OPENING when its time has come, and OPENING
 * to its next step. */
uint64_t gate_next(struct gate *g, uint64_t now_ms);

/* Counts an attempt that goes, after gate_next has returned now. Returns the epoch for gate_leave.
 * An attempt that goes without that counts like the others, but not while it is CLOSED. */
uint32_t gate_enter(struct gate *g, uint64_t now_ms);

/* Counts the result of an attempt. Call it as soon as the status is known, so that others may go.
 * Returns true if the gate has become OPEN since the last call. A step whose attempts have all
 * ended without a 429, but not all well, is repeated. A 429 that is not followed by gate_close
 * restarts the opening, or takes an OPEN gate's credit. */
bool gate_leave(struct gate *g, uint32_t epoch, enum gate_news news, uint64_t now_ms);

/* Closes the gate for `delay_ms` from now on. A longer time in force stays. Returns true if it was
 * not CLOSED before. */
bool gate_close(struct gate *g, uint64_t delay_ms, uint64_t now_ms);

/* The target was down and is back: opens in steps, as after a closing. Harmless if it is CLOSED. */
void gate_reopen(struct gate *g, uint64_t now_ms);

#endif
