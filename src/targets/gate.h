/* A target's gate: who may go to an upstream that limits how often it may be asked (C19).
 *
 * OPEN       Everyone may go, but a target that has not answered well of late is not stormed:
 *            GATE_COLD_BURST attempts may go at once and one more every GATE_COLD_MS; each good
 *            answer lets two more go, up to GATE_WARM_BURST ahead. Without a good answer for
 *            GATE_WARM_MS it is cold again.
 * CLOSED     A 429 said how long to wait: nobody goes before `until_ms`.
 * OPENING    That time is over. Attempts go in steps: one, then two, then four ..., each step once
 *            all of the one before were answered well. Up to as many as passed the last time before
 *            a 429 came (`most`; a step is cut where it would pass that); from there on one, then
 *            two, then three ... at a time. It is OPEN again once a step of GATE_COLD_BURST, beyond
 *            `most` where that is known, was answered well.
 *
 * Limits are told of quickly, good answers may take minutes: what has not come back GATE_STEP_MS
 * after its step began counts as answered well. So an attempt that never ends holds nobody up.
 *
 * How long OPENING goes on says nothing: where answers take as long as the limit's own period, the
 * small steps keep just below the limit, and a burst after them would pass it by far. The doubling
 * is TCP's slow start and the small steps beyond `most` its congestion avoidance (RFC 5681 3.1),
 * counted in requests. Pure: time is an argument, in ms of one monotonic clock. */
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

/* How an attempt that went through ended, as far as the gate is concerned. */
enum gate_news {
    GATE_GOOD,    /* answered, well or with an error that is not about the rate */
    GATE_LIMITED, /* a 429; gate_close follows where it has a hint */
    GATE_NO_NEWS, /* nothing was learned: cancelled, connection lost, a server error */
};

struct gate {
    enum gate_phase phase;
    uint64_t until_ms;    /* CLOSED: it opens then */
    uint64_t since_ms;    /* OPENING: when the first attempt of this step went */
    uint64_t good_ms;     /* OPEN: of the last good answer */
    uint64_t filled_ms;   /* OPEN: `credit` counts from here */
    unsigned credit;      /* OPEN: attempts that may go now */
    unsigned step;        /* OPENING: attempts in this step */
    unsigned sent, ended; /* ... so many of them have gone, have ended */
    unsigned well;        /* ... and ended well */
    bool beyond;          /* ... the steps are those beyond `most` */
    bool opened;          /* it has become OPEN, and gate_leave has not said so yet */
    unsigned passed;      /* good answers since it last began to open, or since the start */
    unsigned most;        /* `passed` when the last 429 came, at least 1; 0: not known */
    uint32_t epoch;       /* counts closings and steps: what went before them no longer counts */
};

void gate_init(struct gate *g, uint64_t now_ms);

/* When an attempt may go: a time that is not after `now_ms` means now. It may be earlier once one
 * that is under way has ended: ask again then. Moves CLOSED on to OPENING when its time has come,
 * and OPENING to its next step. */
uint64_t gate_next(struct gate *g, uint64_t now_ms);

/* An attempt goes; gate_next said now. Returns what gate_leave wants to know of it. One that goes
 * all the same counts like the others, but for nothing while it is CLOSED. */
uint32_t gate_enter(struct gate *g, uint64_t now_ms);

/* The attempt has ended, or its status is known: the sooner it is told, the sooner others may go.
 * True when the gate has become OPEN since the last one left. A step all of whose attempts have
 * ended without a 429, but not all well, is repeated. A 429 that is not followed by gate_close
 * begins the opening again, or takes an OPEN gate's credit. */
bool gate_leave(struct gate *g, uint32_t epoch, enum gate_news news, uint64_t now_ms);

/* Nobody goes for `delay_ms` from now on. A longer time that is in force stays. True when it was not
 * CLOSED before. */
bool gate_close(struct gate *g, uint64_t delay_ms, uint64_t now_ms);

/* The target was down and answers again: as after a closing. Harmless where it is CLOSED. */
void gate_reopen(struct gate *g, uint64_t now_ms);

#endif
