/* A request as an upstream shall see it. */
#ifndef RETRYD_EXCHANGE_OUTGOING_H
#define RETRYD_EXCHANGE_OUTGOING_H

#include "exchange/body.h"
#include "exchange/request.h"
#include "targets/target.h"

struct outgoing {
    const char *method;
    struct buf target; /* origin-form, terminated */
    struct headers headers;
    bool with_body; /* the request's, as `edit` has it */
};

void outgoing_init(struct outgoing *o);
void outgoing_deinit(struct outgoing *o);

/* What goes out in an attempt at `t`: end-to-end fields in their order; without retryd's own, Host,
 * Content-Length, Expect; with the target's key, headers and query. Codings that retryd cannot read
 * are taken out of Accept-Encoding, so that an error can be understood whatever its coding; a stream
 * is asked for without any, so that its events can be seen. `edit` makes the body ask for the
 * target's model, and so does the path where that names it. 0, -ENOMEM or -E2BIG. */
int outgoing_build(struct outgoing *o, const struct request *r, const struct plan *plan,
                   const struct target *t, struct body_edit *edit);

/* The same for reading on, behind event number `after`, in the stream of a Responses API response
 * that runs in the background: GET .../responses/ID?stream=true&starting_after=N, without a body;
 * other parameters of the client's query stay. */
int outgoing_resume(struct outgoing *o, const struct request *r, const struct plan *plan,
                    const struct target *t, struct str response_id, uint64_t after);

#endif
