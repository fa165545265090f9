/* Undoes an answer's content coding, as far as needed to understand an error in it. */
#ifndef RETRYD_EXCHANGE_DECODE_H
#define RETRYD_EXCHANGE_DECODE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/str.h"

/* Decodes `body` by `coding` (a Content-Encoding value: gzip, x-gzip or deflate, RFC 9110 8.4.1)
 * and appends at most what `out` has room for; a longer text is cut there. 0 also for a body that
 * ends early: what could be read is there. -EPROTONOSUPPORT for other codings and for several at
 * once, -EBADMSG where nothing could be read, -ENOMEM. */
int decode_body(struct str coding, struct str body, struct buf *out);

/* Whether retryd can read that coding: the three above and identity. */
bool decode_knows(struct str coding);

#endif
