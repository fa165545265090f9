/* What concerns threads as such: whether they can be had, and which signals they take. */
#ifndef RETRYD_DAEMON_THREADS_H
#define RETRYD_DAEMON_THREADS_H

/* How many threads libuv's pool will have: UV_THREADPOOL_SIZE, or 4. */
unsigned threads_pool(void);

/* How many of `n` threads, all alive at a time, could not be started. */
unsigned threads_missing(unsigned n);

/* Keeps SIGTERM, SIGINT and SIGHUP from the calling thread: the main thread's loop has the handlers for them,
 * and where it has let go of these, one that another thread took would end the process. */
void threads_block_signals(void);

#endif
