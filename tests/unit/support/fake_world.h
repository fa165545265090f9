/* A world for one exchange: virtual time, upstream attempts that follow a script, and a client.
 *
 * It does what the worker and the two edges do, and no more: exchange_step is called only after
 * something changed, so that a wake the exchange forgets to ask for leaves it stuck, and the test
 * sees that. Attempts pause at the high-water mark as the real adapter does. Everything that
 * crosses struct exchange_ops is recorded, and what the contract forbids is counted in `wrong`.
 *
 * Nothing here uses check or allocates, but for the records that grow through struct buf: their
 * failed allocations are the test's to look for (`wrong` names them). */
#ifndef RETRYD_FAKE_WORLD_H
#define RETRYD_FAKE_WORLD_H

#include "exchange/exchange.h"
#include "fake_spool.h"
#include "fake_turns.h"

#define FAKE_PIECES 16
#define FAKE_ATTEMPTS 24
#define FAKE_NEVER UINT64_MAX

/* Headers of attempts. */
#define JSON "Content-Type: application/json\n"
#define SSE "Content-Type: text/event-stream\n"

struct fake_piece {
    uint64_t after_ms;
    const char *text;
    size_t n; /* 0: up to the terminator */
};

/* An attempt: its head, its body in pieces, its end; each after the one before. */
struct fake_attempt {
    int start_fails;     /* -errno from attempt_start */
    unsigned status;     /* 0: it ends without a head */
    uint64_t headers_ms; /* until the head */
    const char *headers; /* "Name: value\n" each */
    struct fake_piece pieces[FAKE_PIECES];
    uint64_t end_ms;
    enum transport end;
    const char *detail;
    bool hangs;        /* silence instead of the end (or of the head, where status is 0) */
    bool upload_stuck; /* the request does not get through */
    bool early;        /* does not wait for the request to get through */
    bool at_once; /* head, first piece and, without delays, the end come within attempt_start */
};

struct fake_client {
    size_t pull_max;          /* bytes a pull; 0: 4096 */
    uint64_t every_ms;        /* between pulls; 0: as fast as it goes */
    uint64_t stops_at;        /* takes nothing from then on, but stays; 0: never */
    uint64_t leaves_at;       /* 0: stays to the end */
    bool leaves_with_the_end; /* closes in the very turn in which it takes the end */
};

/* What was seen of one attempt. */
struct fake_start {
    uint64_t at_ms;
    uint64_t gone_ms; /* ended or cancelled */
    bool fresh;
    bool anew;
    bool cancelled;
    size_t sent;     /* bytes of the request's body */
    unsigned script; /* which one it followed */
    struct target target;
    char model[64]; /* the body's, as it was sent */
};

/* An attempt on its way. */
struct fake_run {
    struct attempt *a;
    const struct fake_attempt *current; /* NULL: there is none */
    unsigned start;                     /* its number among the starts, from 0 on */
    unsigned piece;
    size_t piece_done;
    bool headers_given;
    size_t sent_bytes; /* of the request's body */
    bool sent_all;
    uint64_t next_ms; /* of its next event */
};

#define FAKE_UPSTREAMS 4

struct fake_world {
    /* Set by the test before fake_begin. */
    struct route_settings settings;
    struct exchange_limits limits;
    const struct fake_attempt *script;
    unsigned script_len; /* beyond it each attempt follows the last */
    struct fake_client client;
    const char *base_path;
    struct str key;
    const char *idempotency_header;
    /* Where attempts go; without, one upstream "openai" with the three above. */
    struct upstream upstreams[FAKE_UPSTREAMS];
    unsigned upstream_count;
    /* The same once their keys have changed; the first one's `name` NULL: they do not. */
    struct upstream renewed[FAKE_UPSTREAMS];
    bool renews; /* the next attempt finds them; set by a rejected key whose file has them */
    const unsigned *weights;
    const char *const *fallback_models;
    unsigned fallback_count, fallback_on;
    /* The script of an attempt that starts now; NULL: by its number. */
    const struct fake_attempt *(*pick)(struct fake_world *w, const struct target *t);
    void *pick_arg;
    struct turns *turns;                      /* shared with others; NULL: its own */
    struct failures *shared_failures;         /* likewise; NULL: none are remembered */
    int plan_fails, whole_fails, begin_fails; /* -errno */
    bool large_headers;                       /* the first head that is given does not fit */
    uint64_t timer_late_ms;                   /* timers fire so much too late */
    bool timer_lazy;     /* a later time does not move the timer, as in the worker */
    bool step_at_random; /* steps nobody asked for: harmless by contract */
    uint64_t request_ms; /* until the request is whole */
    const char *upload;  /* the request's body; fake_begin's unless set */
    size_t upload_len;
    size_t upload_piece; /* bytes that come at once; 0: 16 KiB */
    struct fake_disk disk;
    bool pressed;                              /* memory is short */
    unsigned interims;                         /* interim responses that were passed */
    void (*before_step)(struct fake_world *w); /* NULL: nobody adds to what has happened */

    struct exchange x;
    uint64_t now_ms;
    uint64_t unix_ms; /* at now_ms == 0 */
    uint64_t random;
    uint64_t steps;
    bool begun;
    int begin_rc; /* 0, or -ENOMEM: the request could not be stored */
    bool dirty;   /* exchange_step is due */

    struct fake_run runs[2]; /* the attempts under way */
    struct fake_turns turns_world;
    struct turns *own_turns;
    struct turns_ready ready;
    const struct upstream *plan_providers[FAKE_UPSTREAMS], *plan_renewed[FAKE_UPSTREAMS];
    unsigned other_key_asked;
    struct str sent_model; /* of the last attempt's body, as far as it is in one piece */
    unsigned denied, hedges;

    size_t upload_at; /* bytes of the body that were taken */

    uint64_t timer_ms;
    uint64_t pull_ms; /* the client's next pull */
    bool asleep;      /* it pulled nothing and waits for response_wake */

    /* Recorded. */
    const char *wrong;             /* the first breach of contract; NULL: none */
    bool stuck;                    /* nothing was due, and it had not ended */
    bool with_body, method_is_get; /* of the last attempt */
    unsigned dropped_malformed, dropped_unfit;
    unsigned starts, cancels, resumes, failures, ended, wholes, begins, cuts, wakes;
    struct fake_start start[FAKE_ATTEMPTS];
    struct attempt_report reports[FAKE_ATTEMPTS]; /* pointers in them are not to be followed */
    struct buf path;                              /* of the last attempt */
    struct headers sent;                          /* ... and its headers */
    struct http_response response;                /* of the response */
    struct buf body;                              /* what the client has got of it */
    bool got_end, got_cut;
    uint64_t answered_ms;
    size_t most_held; /* bytes of the response in memory, at most, while committed */
    unsigned states;  /* bits of the states seen from outside */
};

/* Sensible settings, an empty script, a fast client, and the request that fake_request makes. */
void fake_init(struct fake_world *w);
void fake_deinit(struct fake_world *w);

/* Begins the exchange with a request: `headers` as in struct fake_attempt; both may be NULL. */
void fake_begin(struct fake_world *w, const char *method, const char *target, const char *headers,
                const char *body);

/* A chat request, whose "stream" is as given. */
void fake_begin_chat(struct fake_world *w, bool stream);

/* When its next event comes; FAKE_NEVER: none does. */
uint64_t fake_next(const struct fake_world *w);
/* Does all that is due at that time, which is not after fake_next. */
bool fake_turn_at(struct fake_world *w, uint64_t at_ms);

/* Goes to the next event and does all that is due then. False when nothing will come any more. */
bool fake_turn(struct fake_world *w);

/* Repeats that the upstream with that number was charged in the last seconds. */
unsigned fake_repeats(const struct fake_world *w, unsigned upstream);

/* To the end, or at least to that time. */
void fake_run(struct fake_world *w);
void fake_run_until(struct fake_world *w, uint64_t at_ms);

/* A value of the response's head; "" where there is none. */
struct str fake_header(const struct fake_world *w, const char *name);

/* xorshift64*: for tests that draw. */
uint64_t fake_random(uint64_t *state);

/* Adds "Name: value\n" lines. */
int fake_add_headers(struct headers *h, const char *lines);

#endif
