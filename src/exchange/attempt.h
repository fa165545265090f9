/* One upstream attempt: the letterbox between libcurl's callbacks and the exchange.
 *
 * The upstream adapter fills it in from its callbacks and calls the notify function it was given;
 * the exchange reads it later. Neither calls into the other. */
#ifndef RETRYD_EXCHANGE_ATTEMPT_H
#define RETRYD_EXCHANGE_ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "exchange/body.h"
#include "http/message.h"
#include "policy/classify.h"
#include "targets/turns.h"

#define ATTEMPT_DETAIL_MAX 256

struct attempt {
    struct turn turn;      /* where the attempt goes; kept until it is over */
    bool has_turn;         /* ... and known to be granted */
    struct body_edit edit; /* in: how the body that it sends differs from the request's */
    unsigned number;       /* 1 for a request's first */

    /* The response, in the order it arrives. */
    struct buf interim; /* headers of interim responses (102, 103), as they go to the client */
    bool headers_done;  /* status and headers are final */
    unsigned status;
    struct headers headers;
    struct buf body; /* bytes that came and were not taken yet, still encoded */
    bool done;       /* nothing more will come; `transport` is set */
    enum transport transport;
    char detail[ATTEMPT_DETAIL_MAX]; /* transport failures: what failed, for a person; else "" */

    /* Flow control (C16): at `high_water` bytes in `body` the adapter stops reading and sets
     * `paused`. */
    size_t high_water;
    bool paused;
    uint64_t received; /* body bytes in all */

    bool fresh; /* in: use no kept connection, because the last one proved stale */
    /* in: use no existing connection and look up the address again, because the last response from
     * there showed a broken server */
    bool anew;
    /* The adapter's: the connection that carried the request. Serial 0: none. */
    struct {
        int fd;
        uint64_t serial;
    } connection;
    bool upload_whole; /* the whole request was handed to the network */
    uint64_t started_ms;
    uint64_t last_piece_ms; /* when bytes of the headers or body last came */
    bool running;           /* between start and done or cancel */
};

void attempt_init(struct attempt *a);
void attempt_deinit(struct attempt *a);
void attempt_reset(struct attempt *a); /* ready for the next one; memory is kept */

#endif
