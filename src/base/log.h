/* The log: whole lines on standard error, in logfmt or JSON. Logging never blocks an event loop.
 *
 * log_begin ... log_end build a line in the calling thread's own buffer. log_flush hands the
 * thread's lines to a writer thread. If the reader of standard error is slow, lines beyond a limit
 * are dropped and counted, and the count is logged once the reader catches up.
 *
 * logfmt: ts=2026-01-02T03:04:05.678Z level=info msg="..." key=value ... (quoted where needed).
 * Pretty: for a person at a terminal; see log_pretty.
 * JSON: the same fields, one object per line.
 * Values are escaped as in escape.h.
 *
 * If systemd's journal reads standard error, each line begins with its priority: "<3>" for an
 * error, "<4>" for a warning, "<6>", "<7>" (sd-daemon(3)). The journal removes the prefix, so that
 * `journalctl -p err` finds errors and a JSON line is still JSON. */
#ifndef RETRYD_BASE_LOG_H
#define RETRYD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF }; /* LOG_OFF: for no line */

/* Turns priorities on if `fd` is the journal's stream. $JOURNAL_STREAM names that stream by device
 * and inode (systemd.exec(5)). The variable alone is not enough: a service may have it for its
 * standard output while its standard error goes to a file. Call this before log_start and before
 * any thread. */
void log_find_journal(int fd);

/* Returns the prefix for a line of that level, such as "<3>", or "" without the journal. It is for
 * text that other code writes. The string is static. */
const char *log_priority(enum log_level level);

/* Turns logfmt into lines for a person if `always`, or if `terminal` and `fd` is one; with colours
 * on a terminal, unless NO_COLOR or TERM=dumb speaks against them. The journal gets no such lines.
 * Call this before log_start. */
void log_use_terminal(int fd, bool terminal, bool always);
bool log_is_pretty(void);

/* Starts the writer thread. Returns 0 or -errno. Before log_start and after log_stop the calling
 * thread writes its lines itself. `fd` is usually 2. */
int log_start(int fd, enum log_level level, bool json);
/* Writes the remaining lines, for at most about one second, and ends the thread. */
void log_stop(void);

/* Sets the level and the format. Thread-safe, for a reload. */
void log_configure(enum log_level level, bool json);
bool log_enabled(enum log_level level);

/* Builds one line: log_begin, the fields in order, log_end. Between log_begin and log_end the
 * thread must not begin another line. */
void log_begin(enum log_level level, const char *msg);
void log_str(const char *key, struct str value); /* any bytes; escaped */
void log_text(const char *key, const char *value);
void log_u64(const char *key, uint64_t value);
void log_end(void); /* cuts a line at 4 KiB; flushes at once for LOG_WARN and above */

/* Logs a line that has only a message, as printf formats it. Flushes at once. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Hands this thread's lines to the writer. Call it once per iteration of the loop. */
void log_flush(void);

/* Flushes and frees the calling thread's buffer. Call it before the thread ends. */
void log_thread_done(void);

/* Returns the number of lines dropped so far. */
uint64_t log_dropped(void);

/* --- log_pretty.c ----------------------------------------------------------------------------- */

struct buf;

/* Turns a line of the log in logfmt into one for a person: aligned, and with colours if wanted.
 *
 * A request is one line: time, status, method and path, model, duration, and the failures that were
 * ridden out. Everything else is time, message, and the fields. Quoted values keep their escapes,
 * so that nothing from outside reaches the terminal as it is. `stamp` is the time to show. `line`
 * ends with a newline, and so does the result. */
void log_pretty(const char *stamp, struct str line, bool colours, struct buf *out);

#endif
