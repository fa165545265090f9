/* The log: whole lines to standard error, in logfmt or JSON, never blocking an event loop.
 *
 * A line is built in the calling thread's own buffer (log_begin ... log_end); log_flush hands all
 * lines of that thread to a writer thread. Where the reader of standard error is slow, lines
 * beyond a bound are dropped and counted, and the count is logged when it moves again.
 * logfmt: ts=2026-01-02T03:04:05.678Z level=info msg="..." key=value ... (quoted where needed).
 * JSON: the same fields as one object a line. Control characters are always escaped, and so are
 * those that are not seen but change how a line is read (json_scan.h).
 *
 * Where systemd's journal reads standard error each line begins with its priority, "<3>" for an error,
 * "<4>" for a warning, "<6>", "<7>" (sd-daemon(3)), in both forms: the journal takes that away, so that
 * `journalctl -p err` finds errors and the rest of a JSON line is JSON. */
#ifndef RETRYD_BASE_LOG_H
#define RETRYD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* From now on lines bear a priority if `fd` is the journal's stream, as $JOURNAL_STREAM names it by
 * device and inode (systemd.exec(5)); a service whose standard error goes to a file has that variable,
 * too, for its standard output. Before log_start and any thread. */
void log_find_journal(int fd);

/* "<3>", or "" where lines bear none: for text that does not come from here. Static. */
const char *log_priority(enum log_level level);

/* Starts the writer thread. 0 or -errno. Before it, and after log_stop, lines are written at once
 * by the caller itself. `fd` is usually 2. */
int log_start(int fd, enum log_level level, bool json);
void log_stop(void); /* writes what is left (bounded in time: 1 s) and ends the thread */

/* Level and form may change on reload; thread-safe. */
void log_configure(enum log_level level, bool json);
bool log_enabled(enum log_level level);

/* One line: begin, fields in order, end. Between begin and end only the same thread may log. */
void log_begin(enum log_level level, const char *msg);
void log_str(const char *key, struct str value); /* any bytes; escaped */
void log_text(const char *key, const char *value);
void log_u64(const char *key, uint64_t value);
void log_end(void); /* cuts a line over 4 KiB; flushes at once for LOG_WARN and above */

/* printf form for lines with nothing but a message; flushes at once. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Hands over what this thread has collected: once a loop turn. */
void log_flush(void);

/* Frees the calling thread's buffer: before the thread ends. */
void log_thread_done(void);

uint64_t log_dropped(void);

#endif
