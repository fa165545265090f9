/* The life of one client request, from its first byte to the last byte of its response.
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
 * QUEUED      the request waits for its turn at a target (targets/turns.h)
 * ATTEMPTING  an attempt is under way and has no status yet
 * HOLDING     the attempt has a status; no part of its response has gone to the client. If two
 *             attempts race (exchange/hedge.c), it goes back to ATTEMPTING when the other one takes
 *             over
 * BACKOFF     the attempt failed; the next one waits for its time
 * RELAYING    the response is committed and goes to the client. There are two ways back: a stream
 *             broke that another attempt can continue (stream mode splice), which the client never
 *             notices; or the response was held and is given up
 * DONE        the response is complete or cut, or the client is gone
 *
 * exchange_step returns only to wait: for bytes of the body or the end of the request (RECEIVING);
 * for a turn or a time (QUEUED); for the attempt's headers, bytes or end, or a time (ATTEMPTING,
 * HOLDING, RELAYING); for a time (BACKOFF); for the client to take bytes (RELAYING). Whoever brings
 * one of these calls exchange_step. The client can leave in any state. If a heartbeat or a part of
 * a stream has gone out (`reply.begun`), the last event of that stream reports a failure: from any
 * state to RELAYING.
 *
 * An exchange does no I/O of its own. It reaches the world through struct exchange_ops; tests put a
 * fake world there, with a clock that they set. An exchange belongs to one worker and has no locks.
 * The turns at targets, which all workers share, have their own (targets/turns.h). */
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

/* The end of an exchange: the termination code of its log line. */
enum exchange_end {
    END_NONE,        /* not yet */
    END_ANSWERED,    /* a complete response of the upstream, below 400 */
    END_FAILED,      /* a final error, the upstream's or ours */
    END_REFUSED,     /* refused before any attempt */
    END_BROKEN,      /* broke after the commit; the client knows */
    END_CLIENT_GONE, /* the client left */
};

const char *exchange_end_word(enum exchange_end e);

struct exchange;
struct spool;

/* A failed attempt, reported to the world for the log and the counters. */
struct attempt_report {
    struct verdict verdict;
    unsigned number; /* 1 for the first */
    unsigned status; /* 0: no status came */
    struct retry_decision decision;
    struct hint hint;
    const struct apierror *error;
    const char *detail; /* transport failures; else "" */
    uint64_t duration_ms;
    bool duplicate; /* it may have been processed, and is repeated (C28) */
    bool sick;      /* its connection is suspect and takes no other request */
    const struct attempt *attempt;
};

/* The world. `w` is the context given to exchange_init. All calls happen on the exchange's
 * worker. */
struct exchange_ops {
    uint64_t (*now_ms)(void *w);  /* monotonic */
    uint64_t (*unix_ms)(void *w); /* wall clock */
    uint64_t (*random)(void *w);  /* uniform 64 bits */

    /* Finds the route for complete request headers and the request's model ("": unknown). Returns
     * 0; -ENOENT if there is none, with a sentence for the client in `ret_why`; -ENODATA if the
     * route depends on the model, which is hidden. The plan stays valid as long as the exchange. */
    int (*plan)(void *w, struct exchange *x, struct str model, struct plan *ret_plan, char *ret_why,
                size_t size);

    /* Returns whether keys or certificates have changed since the plan was made. `ret_plan` is then
     * the same plan, with the same upstreams at the same places, but with the keys and certificates
     * in force now. The previous plan stays valid until the next one. */
    bool (*renew)(void *w, struct exchange *x, struct plan *ret_plan);
    /* The key of `t` was rejected. Returns whether its file now holds a key that the plan does not
     * have. That key is then in force, and `renew` brings it. */
    bool (*other_key)(void *w, struct exchange *x, const struct target *t);

    /* Starts the attempt `a` (reset, with high_water set): sends the request `o` to the target of
     * its turn, with the body as a->edit has it. Returns 0, or -errno if nothing was started. The
     * world fills `a` in and calls exchange_step after each change. */
    int (*attempt_start)(void *w, struct exchange *x, struct attempt *a, const struct outgoing *o);
    void (*attempt_cancel)(void *w, struct exchange *x, struct attempt *a); /* no news follows */
    /* Reads on after `paused`. */
    void (*attempt_resume)(void *w, struct exchange *x, struct attempt *a);

    /* Requests exchange_step at `at_ms` or (harmlessly) earlier; TIMER_OFF: at no time. */
    void (*timer_set)(void *w, struct exchange *x, uint64_t at_ms);

    /* Sends the response: complete (takes `body`'s memory), or its headers, after which
     * exchange_pull provides the bytes. Returns 0; -EMSGSIZE if the headers are too large for the
     * client's connection, and another response may be tried (the body is untouched); or -errno if
     * the connection was cut. */
    int (*response_whole)(void *w, struct exchange *x, const struct http_response *response,
                          struct buf *body);
    int (*response_begin)(void *w, struct exchange *x, const struct http_response *response);
    /* Sends interim responses, before any other response, if the client can take them. */
    void (*response_interim)(void *w, struct exchange *x, struct str interim);
    void (*response_wake)(void *w, struct exchange *x); /* exchange_pull has news */
    void (*response_cut)(void *w, struct exchange *x);  /* closes so that the client sees a break */

    /* Opens a new spool. exchange_step is called after each of its news. Returns 0 or -ENOMEM. */
    int (*spool_open)(void *w, struct exchange *x, struct spool **ret);

    /* Returns whether memory is short (half of max_buffered is in use): spool whatever can be. */
    bool (*pressed)(void *w);

    /* --- for the log and the counters --- */

    /* The exchange has asked for a turn, which was in state `s` then. */
    void (*turn_asked)(void *w, struct exchange *x, const struct turn *turn,
                       const struct turn_request *turn_request, enum turn_state s);
    void (*hedged)(void *w, struct exchange *x);
    void (*attempt_failed)(void *w, struct exchange *x, const struct attempt_report *r);
    /* An event of a stream was left out because it was not JSON or SDKs cannot read it. */
    void (*event_dropped)(void *w, struct exchange *x, bool malformed);
    /* The exchange is DONE. A complete response may still be on its way: the world finds out
     * whether the client's side has handed all of it to the network before it logs the request as
     * answered. */
    void (*ended)(void *w, struct exchange *x);
};

#define TIMER_OFF UINT64_MAX

#define PLACEMENT_TRIED_MAX 16 /* targets of one request that are remembered */

struct exchange_limits {
    uint64_t hold_limit;   /* bytes of a response held before it is committed */
    uint64_t max_body;     /* bytes of a request's body */
    uint64_t memory_body;  /* of these, bytes kept in memory; a longer body is spooled */
    const char *spool_dir; /* the spools' folder, for messages; outlives the exchange */
};

/* Shared with others. All of it outlives the exchange. */
struct exchange_shared {
    struct turns *turns;       /* at targets, of all workers */
    struct turns_ready *ready; /* its worker's: the exchange of a turn taken from it is stepped */
    struct failures *failures; /* of all workers; NULL: none are remembered */
};

/* --- the parts of an exchange, each with the file that changes it ----------------------------- */

/* The targets of attempts. placement.c changes it. exchange.c also counts `tier_attempts`, and
 * hedge.c sets `target` when the other of two attempts takes over. */
struct placement {
    struct target target;             /* of the last attempt */
    struct turn_request turn_request; /* for the next attempt; points to `tried` and `excluded` */
    bool waiting;             /* QUEUED: for a turn; else for a turn that is about to come */
    uint64_t queued_since;    /* QUEUED: since when */
    uint64_t queue_ms;        /* time spent in QUEUED; part of the exchange's wait_ms */
    enum turn_why queue_why;  /* what it waited for, the last time */
    unsigned tiers;           /* 1, and one for each fallback model */
    unsigned tier_attempts;   /* made in turn_request.tier */
    unsigned target_attempts; /* made at `target`, one after the other */
    bool settled;             /* the next attempt costs nothing more, wherever it goes (C9) */
    bool prepaid;    /* ... and the attempt that is about to be decided was charged in advance */
    unsigned silent; /* bit n: in this tier the plan's upstream n was silent, the last time */
    /* Bit n: the connection of the last attempt at the plan's upstream n is suspect. */
    unsigned sick;
    struct target_ref tried[PLACEMENT_TRIED_MAX];    /* since the last backoff */
    struct target_ref excluded[PLACEMENT_TRIED_MAX]; /* in this tier, by a verdict */
};

/* A second attempt beside the first. hedge.c changes it. exchange.c also clears `spent` for each
 * attempt that it starts. */
struct hedge {
    struct attempt *rival;            /* the one beside the exchange's `attempt`; NULL: none */
    struct turn_request turn_request; /* for its turn; points to `tried` */
    struct target_ref tried[PLACEMENT_TRIED_MAX + 1]; /* the placement's, and the first attempt's */
    bool spent;     /* the attempt has had its hedge, or could not have one */
    unsigned count; /* second attempts that were made */
};

/* The last complete error response of an upstream, in case it turns out to be the final one; or a
 * response that is kept while the request is sent once more: an empty completion, or a stream
 * without the usage that was asked for. judge.c and relay.c keep it; relay.c delivers it, and
 * forgets it at the commit. */
struct kept_error {
    bool present;
    bool good;         /* a response of the second kind: delivered if its one repeat fails */
    unsigned status;   /* for the client */
    unsigned received; /* as it came */
    unsigned attempt;  /* the number of its attempt */
    struct headers headers;
    struct buf body;
};

/* The attempt's response if it is no stream, while it is held and inspected. judge.c changes it.
 * `open` also follows the attempt (exchange.c, hedge.c). */
struct held_response {
    bool open; /* it may turn out to be an event stream with another label */
    struct inspect inspect;
    bool due;         /* only JSON or an event stream can be the response */
    size_t inspected; /* bytes of attempt.body */
    uint64_t length;  /* its Content-Length, or LENGTH_UNKNOWN */
};

/* The time spent on mending a response that the client has a part of, from a break until something
 * new goes out. stream.c changes it. */
struct mending {
    bool on;
    uint64_t since_ms;
    uint64_t spent_ms; /* on earlier breaks of the same response */
};

/* The attempt's response if it is an event stream, and what the client has of it and of the streams
 * that it continues. stream.c changes it. `on` also follows the attempt (exchange.c, hedge.c);
 * judge.c decides what is resumed; relay.c counts `splices` and composes the last words here. */
struct stream {
    bool on;      /* the response is a stream whose events retryd can read */
    bool encoded; /* it has a content encoding, which is decoded into `plain` */
    struct decoder decoder;
    struct buf plain; /* the decoded text; without an encoding attempt.body is the text */
    enum stream_mode mode;
    struct sse_reader sse;
    struct guard guard;
    struct splice *splice; /* remembers what the client has; NULL: a break is final */
    struct buf rewritten;  /* an event that replaces another */
    unsigned splices;      /* attempts that continued what the client has */
    uint64_t dropped;      /* events left out */
    bool no_spool;         /* held events stay in memory: they have no spool */
    bool passed;           /* content of this attempt is new to the client */
    uint64_t now_ms;       /* when the current events were read */
    uint64_t news_ms;      /* when the last event came that was no ping */
    uint64_t end_ms;       /* when the event came that completes the response */
    bool grace_over;       /* the time for what may follow that event has passed */
    bool lacks_usage;   /* the client has, or was to get, everything but the usage it asked for */
    bool but_usage;     /* such a stream was delivered, or is kept while the request is repeated */
    bool not_resumable; /* resuming failed once */
    bool resuming;      /* the next attempt requests the rest of a Responses stream */
    struct mending mending;
    uint64_t looked_at; /* events of this attempt, without comments */
    struct {
        unsigned attempt; /* the last attempt with an event that is not JSON; 0: none */
        uint64_t at;      /* the number of events before it */
        uint64_t hash;    /* of its data */
        bool habit;       /* the event came again in another attempt */
    } bad;
    struct {
        struct str event; /* the event that ended the upstream's stream; empty: none */
        const struct guard_seen *seen;
    } last_words; /* set only while the attempt is judged */
};

/* The response on its way to the client. relay.c changes it. `out` also takes events from stream.c,
 * which counts them, and heartbeats from exchange.c; judge.c drops events that another attempt
 * replaces; exchange.c knows the status of a refused body. */
struct reply {
    unsigned status; /* 0: none yet */
    /* The headers of the upstream's response, or of the last one that continued it; NULL: the
     * response is retryd's own. */
    const struct headers *upstream;
    struct outbox out;
    bool begun;             /* its headers have gone out */
    bool begun_stream;      /* ... as those of an event stream */
    bool committed;         /* ... and a part of an attempt's response may have */
    bool ended;             /* nothing will be added to what is released */
    bool cut;               /* ... and the end is a break */
    bool come_again;        /* an error of retryd's own: the request may be repeated at once */
    bool pulled_end;        /* the client's side has taken the end */
    uint64_t events;        /* forwarded */
    uint64_t bytes_out;     /* handed to the client */
    uint64_t first_byte_ms; /* when it was committed; 0 before */
    uint64_t spoke_ms;      /* when the client last had something to read */
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
    bool repeat; /* the client's own retry of a request that has just failed here (failures.c) */

    struct attempt slots[2];
    struct attempt *attempt; /* the one to be judged */
    unsigned attempts;       /* made so far */
    unsigned duplicates;     /* possible double charges */
    bool asked_again;        /* after an empty completion, which is done once */
    bool new_key;            /* ... with a key that replaced a rejected one, also once */
    uint64_t wait_ms;        /* spent in BACKOFF and QUEUED */
    uint64_t next_at_ms;     /* BACKOFF: when the next attempt starts */
    uint64_t backoff_since;  /* BACKOFF: when it began */

    struct placement placement;
    struct hedge hedge;
    struct kept_error kept;
    struct held_response held;
    struct stream stream;
    struct reply reply;

    const char *cannot_retry; /* the reason, set once and logged as it is; NULL: it can */
    enum reason last_reason;  /* of the last failed attempt; REASON_OK before */
    char last_detail[ATTEMPT_DETAIL_MAX];
    char words[FAILURE_WORDS]; /* how the last attempt failed; before the first one of a repeat, the
                                * request before it (failures.c) */
    uint64_t retry_after_ms;   /* of an error of retryd's own: when to try again; 0: not known */

    uint64_t started_ms;
    uint64_t ended_ms;
    void *tag; /* the world's own */
};

/* Returns 0 or -ENOMEM. The caller fills in the headers through x->request.http before the first
 * exchange_body or exchange_request_done. */
int exchange_init(struct exchange *x, const struct exchange_ops *ops, void *world,
                  const struct exchange_shared *shared, const struct exchange_limits *limits);
/* Cancels running attempts, and reports nothing. */
void exchange_deinit(struct exchange *x);

/* Recorders: they store what happened; exchange_step acts on it. */
ptrdiff_t exchange_body(struct exchange *x, const void *data, size_t n); /* as body_append */
void exchange_request_done(struct exchange *x);
/* Instead of exchange_request_done: the world has refused the body and responds to the client
 * itself. */
void exchange_refused(struct exchange *x, unsigned status);
void exchange_client_gone(struct exchange *x);
/* Before exchange_client_gone: the client was cut off because it took nothing for too long. */
void exchange_client_stalled(struct exchange *x);

/* The world is about to end the client's connection. A stream that has begun ends with an error
 * event; a request without a response gets an error; an incomplete request, or a response that has
 * begun, is cut. */
void exchange_abort(struct exchange *x);

/* Writes a sentence for the client about a body that was not taken: `rc` is from exchange_body. */
void exchange_body_problem(const struct exchange *x, int rc, char *ret_why, size_t size);

/* Returns how many bytes of memory hold what the client and the upstream sent. */
size_t exchange_memory(const struct exchange *x);

/* Does all that can be done now. Never called from within a library's callback. */
void exchange_step(struct exchange *x);

/* For the world while RELAYING: copies up to `max` released bytes to `to`. Returns their number; 0
 * if there are none now; PULL_END if the response is complete; PULL_CUT if the connection must
 * break. */
enum { PULL_END = -1, PULL_CUT = -2 };
ptrdiff_t exchange_pull(struct exchange *x, char *to, size_t max);

/* Returns whether exchange_step must be called after a pull, because waiting bytes now have
 * room. */
bool exchange_wants_room(const struct exchange *x);

#endif
