/* Turns a line of the log in logfmt into one for a person: aligned, and with colours if wanted.
 *
 * A request is one line: time, status, method and path, model, duration, and what was ridden out.
 * Everything else is time, message, and the fields. Quoted values keep their escapes, so that nothing
 * from outside reaches the terminal as it is. */
#ifndef RETRYD_BASE_LOG_PRETTY_H
#define RETRYD_BASE_LOG_PRETTY_H

#include <stdbool.h>

#include "base/buf.h"

/* `stamp` is the time as it is to be shown. `line` ends with a newline, and so does the result. */
void log_pretty(const char *stamp, struct str line, bool colours, struct buf *out);

#endif
