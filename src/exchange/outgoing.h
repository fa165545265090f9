/* Builds the request that is sent to an upstream. */
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

/* Builds the request for an attempt at `t`: the end-to-end headers in their order, without retryd's
 * own, Host, Content-Length and Expect; and the target's key, headers and query. Encodings that
 * retryd cannot read are removed from Accept-Encoding, so that it can read any error; a stream is
 * requested without an encoding, so that its events can be read. `edit` puts the target's name of
 * the model into the body; a path that names the model is changed, too. Returns 0, -ENOMEM or
 * -E2BIG. */
int outgoing_build(struct outgoing *o, const struct request *r, const struct plan *plan,
                   const struct target *t, struct body_edit *edit);

/* Builds the request that resumes the stream of a background response (Responses API) after event
 * number `after`: GET .../responses/ID?stream=true&starting_after=N, without a body. Other
 * parameters of the client's query stay. */
int outgoing_resume(struct outgoing *o, const struct request *r, const struct plan *plan,
                    const struct target *t, struct str response_id, uint64_t after);

#endif
