/* Whether threads can be had, before a library that ends the process without them wants some. */
#ifndef RETRYD_DAEMON_THREADS_H
#define RETRYD_DAEMON_THREADS_H

/* How many threads libuv's pool will have: UV_THREADPOOL_SIZE, or 4. */
unsigned pool_threads(void);

/* How many of `n` threads, all alive at a time, could not be started. */
unsigned threads_missing(unsigned n);

#endif
