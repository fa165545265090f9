/* What the files of streams share: stream_event.c looks at one event, stream.c at all of them. */
#ifndef RETRYD_EXCHANGE_STREAM_PRIVATE_H
#define RETRYD_EXCHANGE_STREAM_PRIVATE_H

#include "exchange/exchange_private.h"

/* What becomes of an event. */
enum fate {
    FATE_PASS,
    FATE_DROP,
    FATE_REPLACE, /* by what stands in x->stream.rewritten */
    FATE_OVER,    /* it ends the attempt: struct over tells how */
};

/* How an event ended its attempt. */
struct over {
    struct outcome outcome;
    struct guard_seen seen;
};

/* Looks at a whole event, the next one of the attempt. */
enum fate stream_look(struct exchange *x, struct str event, struct over *ret_over);

/* Judges the attempt by the event that ended it. */
void stream_judge_over(struct exchange *x, struct over *over, struct str event);

/* What has come ends and says nothing, and another attempt would follow if that were all. */
bool stream_may_be_asked_for_again(struct exchange *x);

#endif
