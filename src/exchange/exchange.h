/* One client request's life, from its first byte to the last byte of its answer.
 *
 *                    +---------------------------------------------+
 *                    |                                             v
 *   RECEIVING --> QUEUED --> ATTEMPTING --> HOLDING --> RELAYING --> DONE
 *       |            ^         |   ^  |       |  |          |         ^
 *       |            |         v   |  |       v  |          |         |
 *       |            +------- BACKOFF-|-------+--|----------+         |
 *       +-----------------------------+----------+--------------------+
 *
 * RECEIVING   the request's body is coming in
 * QUEUED      it waits for its turn at a target (targets/turns.h)
 * ATTEMPTING  an attempt is under way and has no status yet
 * HOLDING     the attempt has a status; nothing of its answer has gone to the client. Where two race
 *             (exchange/hedge.c), back to ATTEMPTING when the other one takes over
 * BACKOFF     the attempt failed; the next one waits for its time
 * RELAYING    the answer is committed and goes to the client. The only way back: a stream broke
 *             that another attempt can continue (stream mode splice), so that the client never
 *             knows; or the answer was held and is given up
 * DONE        the answer is whole, or cut, or the client is gone
 *
 * It suspends (leaves exchange_step) only to wait for: body bytes or the end of the request
 * (RECEIVING); its turn, or a time (QUEUED); the attempt's head, bytes or end, or a time (ATTEMPTING, HOLDING, RELAYING); a time
 * (BACKOFF); the client taking bytes (RELAYING). Whoever brings one of these calls exchange_step.
 * The client can leave in any state. Where a stream's heartbeat or a part of it has gone out already
 * (`reply.begun`), a failure is told by the last event of that stream: from any state to RELAYING.
 *
 * An exchange does no I/O of its own: it reaches the world through struct exchange_ops, and tests
 * put a fake world there with a clock they turn by hand. It belongs to one worker and has no locks; the
 * turns at targets, which all workers share, have their own (targets/turns.h). */
#ifndef RETRYD_EXCHANGE_EXCHANGE_H
#define RETRYD_EXCHANGE_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "exchange/attempt.h"
#include "exchange/failures.h"
#include "exchange/inspect.h"
#include "exchange/outbox.h"
#include "exchange/outgoing.h"
#include "exchange/request.h"
#include "http/message.h"
#include "policy/deadline.h"
#include "policy/retry.h"
#include "stream/guard.h"
#include "stream/splice.h"
#include "stream/sse.h"
#include "targets/target.h"
#include "targets/turns.h"

enum exchange_state {
    EXCHANGE_RECEIVING,
    EXCHANGE_QUEUED,
    EXCHANGE_ATTEMPTING,
    EXCHANGE_HOLDING,
    EXCHANGE_BACKOFF,
    EXCHANGE_RELAYING,
    EXCHANGE_DONE,
};

const char *exchange_state_word(enum exchange_state s);

/* How it ended: the termination code of its log line. */
enum exchange_end {
    END_NONE,        /* not yet */
    END_ANSWERED,    /* the upstream's answer, whole, below 400 */
    END_FAILED,      /* a final error, the upstream's or ours */
    END_REFUSED,     /* refused before any attempt */
    END_BROKEN,      /* broke after commit; the client was told */
    END_CLIENT_GONE, /* the client left */
};

const char *exchange_end_word(enum exchange_end e);

struct exchange;
struct spool;

/* A failed attempt, as told to the world for the log and the counters. */
struct attempt_report {
    struct verdict verdict;
    unsigned number; /* 1 for the first */
    unsigned status; /* 0 where no status came */
    struct retry_decision decision;
    struct hint hint;
    const struct apierror *error;
    const char *detail; /* transport failures; else "" */
    uint64_t duration_ms;
    bool duplicate; /* it may have been processed, and is made again (C28) */
    bool sick;      /* it speaks against the connection, which serves nobody any more */
    const struct attempt *attempt;
};

/* The world. `w` is the context given to exchange_init. Everything happens on the one worker. */
struct exchange_ops {
    uint64_t (*now_ms)(void *w);  /* monotonic */
    uint64_t (*unix_ms)(void *w); /* wall clock */
    uint64_t (*random)(void *w);  /* uniform 64 bits */

    /* The route for a complete request head and its model ("" if unknown). 0; -ENOENT: there is none,
     * with a sentence for the client in `ret_why`; -ENODATA: it depends on the model, which is hidden.
     * The plan stays valid as long as the exchange. */
    int (*plan)(void *w, struct exchange *x, struct str model, struct plan *ret_plan, char *ret_why,
                size_t size);

    /* Whether keys or certificates have changed since the plan was made: then `ret_plan` is the same plan,
     * the same upstreams at the same places, with those that are in force now. The plan before it stays
     * valid until there is one more. */
    bool (*renew)(void *w, struct exchange *x, struct plan *ret_plan);
    /* The key of `t` was rejected: whether the file that it is from holds one by now that the plan does
     * not have. It is in force then, and `renew` brings it. */
    bool (*other_key)(void *w, struct exchange *x, const struct target *t);

    /* Starts the attempt `a` (reset, with high_water set) with the request as it is to go out to
     * its turn's target, its body as a->edit has it. 0 or -errno, and then nothing was started.
     * The world fills `a` in and sees to it that exchange_step is called after each change. */
    int (*attempt_start)(void *w, struct exchange *x, struct attempt *a, const struct outgoing *o);
    void (*attempt_cancel)(void *w, struct exchange *x, struct attempt *a); /* no news follow */
    /* Reading again after `paused`. */
    void (*attempt_resume)(void *w, struct exchange *x, struct attempt *a);

    /* Asks for exchange_step at `at_ms` or (harmlessly) earlier; TIMER_OFF: at no time. */
    void (*timer_set)(void *w, struct exchange *x, uint64_t at_ms);

    /* The answer: whole (takes `body`'s memory), or its head with the bytes to be pulled by
     * exchange_pull. 0; -EMSGSIZE: the head is too large for the client's connection, and another
     * one may be tried (the body is untouched); or -errno: then the connection is cut. */
    int (*response_whole)(void *w, struct exchange *x, const struct http_response *response,
                          struct buf *body);
    int (*response_begin)(void *w, struct exchange *x, const struct http_response *response);
    /* Heads of interim responses, before any answer; a client that cannot be told is not. */
    void (*response_interim)(void *w, struct exchange *x, struct str interim);
    void (*response_wake)(void *w, struct exchange *x); /* exchange_pull has news */
    void (*response_cut)(void *w, struct exchange *x);  /* close so that the client sees a break */

    /* A new spool. exchange_step is called after each news of it. 0 or -ENOMEM. */
    int (*spool_open)(void *w, struct exchange *x, struct spool **ret);

    /* Memory is getting short (half of max_buffered is in use): what can go to a spool should. */
    bool (*pressed)(void *w);

    /* For the log and the counters. */
    /* It has asked for a turn, and was in that state then. */
    void (*turn_asked)(void *w, struct exchange *x, const struct turn *turn,
                       const struct turn_request *turn_request, enum turn_state s);
    void (*hedged)(void *w, struct exchange *x);
    void (*attempt_failed)(void *w, struct exchange *x, const struct attempt_report *r);
    /* An event of a stream was left out: it was no JSON, or nothing that SDKs can read. */
    void (*event_dropped)(void *w, struct exchange *x, bool malformed);
    /* It is DONE. A whole answer may still be on its way: whether the client's side has handed all of
     * it to the network is the world's to find out, before it says that it was answered. */
    void (*ended)(void *w, struct exchange *x);
};

#define TIMER_OFF UINT64_MAX

#define PLACEMENT_TRIED_MAX 16 /* of one request that are remembered */

struct exchange_limits {
    uint64_t hold_limit;   /* bytes of an answer held before it is committed */
    uint64_t max_body;     /* bytes of a request's body */
    uint64_t memory_body;  /* ... of them kept in memory; a larger one goes to a spool */
    const char *spool_dir; /* where that is, for messages; outlives the exchange */
};

/* What it shares with others, all of which outlives it. */
struct exchange_shared {
    struct turns *turns; /* at targets, of all workers */
    struct turns_ready
        *ready; /* its worker's: of a turn that is taken from it, the exchange is to be stepped */
    struct failures *failures; /* of all workers; NULL: none are remembered */
};

/* --- the parts of an exchange, each with the file that it belongs to --- */

/* Where attempts go. placement.c changes it; besides, exchange.c counts `tier_attempts`, and hedge.c
 * sets `target` where the other of two attempts takes over. */
struct placement {
    struct target target;             /* of the last one */
    struct turn_request turn_request; /* for the next one; points to `tried` and `excluded` */
    bool waiting;                     /* QUEUED: for a turn; else one that is a moment old */
    uint64_t queued_since;            /* QUEUED: when it began to wait */
    uint64_t queue_ms;                /* spent in QUEUED; part of the exchange's wait_ms */
    enum turn_why queue_why;          /* what it waited for there, the last time */
    unsigned tiers;                   /* 1, and one for each fallback model */
    unsigned tier_attempts;           /* made in turn_request.tier */
    unsigned target_attempts;         /* made at `target`, one after the other */
    bool settled;    /* the next attempt is paid for, or free, wherever it goes (C9) */
    bool prepaid;    /* ... the attempt that is about to be decided was charged beforehand */
    unsigned silent; /* bit n: in this tier the plan's upstream n was silent, the last time */
    unsigned
        sick; /* bit n: the last attempt at the plan's upstream n speaks against its connection */
    struct target_ref tried[PLACEMENT_TRIED_MAX];    /* since the last backoff */
    struct target_ref excluded[PLACEMENT_TRIED_MAX]; /* in this tier, by a verdict */
};

/* A second attempt beside the first. hedge.c changes it; besides, exchange.c clears `spent` for each
 * attempt that it starts. */
struct hedge {
    struct attempt *rival; /* the one beside the exchange's `attempt`; NULL: there is none */
    struct turn_request turn_request;                 /* for its turn; points to `tried` */
    struct target_ref tried[PLACEMENT_TRIED_MAX + 1]; /* the placement's, and the first one's */
    bool spent;     /* the attempt has had its hedge, or none was to be had */
    unsigned count; /* second attempts that were made */
};

/* The last whole error answer of an upstream, kept in case it turns out to be the final one, or an answer
 * while it is asked for once more: an empty completion, or a stream that lacks its usage. judge.c and relay.c keep it; relay.c delivers it, and
 * forgets it at the commit. */
struct kept_error {
    bool present;
    bool good;         /* it is no error, but such an answer: told where its one repeat fails */
    unsigned status;   /* to tell */
    unsigned received; /* as it came */
    unsigned attempt;  /* whose it was */
    struct headers headers;
    struct buf body;
};

/* The attempt's answer where it is no stream, while it is held and watched. judge.c changes it; besides,
 * `open` follows the attempt (exchange.c, hedge.c). */
struct held_response {
    bool open; /* it may turn out to be an event stream under another label */
    struct inspect inspect;
    bool due;         /* nothing but JSON or an event stream can be its answer */
    size_t inspected; /* bytes of attempt.body */
    uint64_t length;  /* as its head has it; LENGTH_UNKNOWN */
};

/* How long it takes to mend the answer that the client has a part of: from a break until something new
 * goes out. stream.c changes it. */
struct mending {
    bool on;
    uint64_t since_ms;
    uint64_t spent_ms; /* on earlier breaks of the same answer */
};

/* The attempt's answer where it is an event stream, and what the client has of it and of those that
 * it continues. stream.c changes it; besides, `on` follows the attempt (exchange.c,
 * hedge.c), judge.c decides what is resumed, and relay.c counts `splices` and forms last words here. */
struct stream {
    bool on;    /* it is one, and can be looked into */
    bool coded; /* with a coding that is undone here: events cannot be told apart in it */
    struct decoder decoder;
    struct buf plain; /* its text; of the others' attempt.body is that */
    enum stream_mode mode;
    struct sse_reader sse;
    struct guard guard;
    struct splice *splice; /* remembers what the client has; NULL where a break is final */
    struct buf rewritten;  /* an event that takes another's place */
    unsigned splices;      /* attempts that continued what the client has */
    uint64_t dropped;      /* events left out */
    bool no_spool;         /* what is held stays in memory: there is no place for it elsewhere */
    bool passed;           /* content of this attempt is new to the client */
    uint64_t now_ms;       /* when the events in hand were looked at */
    uint64_t news_ms;      /* ... and the last of them that was no ping */
    uint64_t end_ms;       /* ... and that which said that the answer is at its end */
    bool grace_over;       /* nothing that may follow the end has come in time */
    bool lacks_usage;      /* the client has, or was to have, all but the usage it asked for */
    bool but_usage; /* such an answer came, and is given, or kept, while it is asked for again */
    bool not_resumable; /* it was tried in vain */
    bool resuming;      /* the next attempt asks for the rest of a Responses stream */
    struct mending mending;
    uint64_t looked_at; /* events of this attempt, comments left out */
    struct {
        unsigned attempt; /* the last one that brought an event that is no JSON; 0: none has */
        uint64_t at;      /* behind so many others */
        uint64_t hash;    /* of its data */
        bool habit;       /* it came once more */
    } bad;
    struct {
        struct str event; /* of the upstream that ended its answer; empty: none did */
        const struct guard_seen *seen;
    } last_words; /* only while it is judged */
};

/* The answer on its way to the client. relay.c changes it; besides, `out` takes events from stream.c,
 * which counts them, and heartbeats from exchange.c, and judge.c drops what another attempt replaces.
 * exchange.c knows the status of a refused body. */
struct reply {
    unsigned status; /* 0: none was given yet */
    const struct headers
        *upstream; /* whose answer it is, or was the last to take part in; NULL: ours */
    struct outbox out;
    bool begun;             /* its head has gone out */
    bool begun_stream;      /* ... as that of an event stream */
    bool committed;         /* ... and a part of an attempt's answer may have */
    bool ended;             /* nothing will be added to what is released */
    bool cut;               /* ... and the end is a break */
    bool come_again;        /* it is an error of ours, and may be asked for once more at once */
    bool pulled_end;        /* the client's side has taken the end */
    uint64_t events;        /* forwarded */
    uint64_t bytes_out;     /* handed to the client */
    uint64_t first_byte_ms; /* when it was committed; 0 before */
    uint64_t spoke_ms;      /* when the client was last given something to read */
};

struct exchange {
    unsigned magic;
    enum exchange_state state;
    enum exchange_end end;
    const struct exchange_ops *ops;
    void *world;
    struct exchange_shared shared;
    struct exchange_limits limits;

    struct request request;
    struct plan plan;
    struct deadline deadline;
    unsigned max_attempts;
    bool request_complete;
    unsigned refused; /* the body was refused with this status; 0: it was not */
    bool client_gone, client_stalled, aborted;
    bool repeat; /* the client's own retry of a request that has just failed here (repeat.c) */

    struct attempt slots[2];
    struct attempt *attempt; /* the one that is judged */
    unsigned attempts;       /* made so far */
    unsigned duplicates;     /* possible double charges */
    bool asked_again;        /* for a completion that said nothing: once is enough */
    bool new_key;            /* ... with a key that has taken a rejected one's place, likewise */
    uint64_t wait_ms;        /* spent in BACKOFF and QUEUED */
    uint64_t next_at_ms;     /* BACKOFF: when the next attempt starts */
    uint64_t backoff_since;  /* BACKOFF: when it began */

    struct placement placement;
    struct hedge hedge;
    struct kept_error kept;
    struct held_response held;
    struct stream stream;
    struct reply reply;

    const char *cannot_retry; /* a reason, set once, logged as it stands; NULL while it can */
    enum reason last_reason;  /* of the last failed attempt; REASON_OK before */
    char last_detail[ATTEMPT_DETAIL_MAX];
    char words[FAILURE_WORDS]; /* how the last attempt failed; before the first one of a repeat, the
                                * request before it (repeat.c) */
    uint64_t retry_after_ms;   /* of an error of ours: when it may go better; 0: not known */

    uint64_t started_ms;
    uint64_t ended_ms;
    void *tag; /* the world's own */
};

/* 0 or -ENOMEM. The head is filled in by the caller through x->request.head before the first
 * exchange_body or exchange_request_done. */
int exchange_init(struct exchange *x, const struct exchange_ops *ops, void *world,
                  const struct exchange_shared *shared, const struct exchange_limits *limits);
/* Cancels what runs; tells nobody. */
void exchange_deinit(struct exchange *x);

/* Recorders: they store what happened; exchange_step acts on it. */
ptrdiff_t exchange_body(struct exchange *x, const void *data, size_t n); /* as body_append */
void exchange_request_done(struct exchange *x);
/* Instead of exchange_request_done: the world has refused the body, and tells the client so. */
void exchange_refused(struct exchange *x, unsigned status);
void exchange_client_gone(struct exchange *x);
/* Before exchange_client_gone: it was cut off, for it took nothing of its answer for too long. */
void exchange_client_stalled(struct exchange *x);

/* The world is about to end the client's connection. A stream that has begun says so, and ends; what
 * has no answer yet gets an error; half a request and an answer amid its bytes are cut. */
void exchange_abort(struct exchange *x);

/* A sentence for the client about a body that was not taken: `rc` from exchange_body. */
void exchange_body_problem(const struct exchange *x, int rc, char *ret_why, size_t size);

/* Bytes that it holds of what the client and the upstream sent. */
size_t exchange_memory(const struct exchange *x);

/* Does all that can be done now. Never called from within a library's callback. */
void exchange_step(struct exchange *x);

/* For the world while RELAYING: copies up to `max` released bytes to `to`. > 0: so many;
 * 0: nothing now; PULL_END: the answer is whole; PULL_CUT: the connection must break. */
enum { PULL_END = -1, PULL_CUT = -2 };
ptrdiff_t exchange_pull(struct exchange *x, char *to, size_t max);

/* Whether exchange_step is to be called after a pull, for there is room now for what waited. */
bool exchange_wants_room(const struct exchange *x);

#endif
