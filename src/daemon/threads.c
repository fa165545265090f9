/* Tries threads out, and keeps signals from them. */
#include "daemon/threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/str.h"

#define POOL_THREADS 4 /* libuv's default, and its most (uv_queue_work) */
#define POOL_THREADS_MAX 1024

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

unsigned threads_pool(void)
{
    const char *text = getenv("UV_THREADPOOL_SIZE");
    uint64_t n = POOL_THREADS;

    if (text && (!str_to_u64(str_from(text), &n) || n == 0))
        n = 1;
    return (unsigned)(n < POOL_THREADS_MAX ? n : POOL_THREADS_MAX);
}

static void *wait_for_all(void *unused)
{
    (void)unused;
    (void)pthread_mutex_lock(&gate);
    (void)pthread_mutex_unlock(&gate);
    return NULL;
}

unsigned threads_missing(unsigned n)
{
    pthread_t threads[POOL_THREADS_MAX];
    unsigned have = 0;

    if (n > POOL_THREADS_MAX)
        n = POOL_THREADS_MAX;
    (void)pthread_mutex_lock(&gate);
    while (have < n && pthread_create(&threads[have], NULL, wait_for_all, NULL) == 0)
        have++;
    (void)pthread_mutex_unlock(&gate);
    for (unsigned i = 0; i < have; i++)
        (void)pthread_join(threads[i], NULL);
    return n - have;
}

void threads_block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}
