/* Daemons in miniature around a real redis-server: one loop, several shared views, one server.
 *
 * Nothing here sleeps: AWAIT runs the loop until what is awaited has happened, or fails the test
 * when a bound has passed. */
#ifndef RETRYD_SHARED_PEERS_H
#define RETRYD_SHARED_PEERS_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/shared.h"
#include "edge/redis.h"

extern uv_loop_t loop;

uint64_t clock_ms(void);

/* Runs the loop for a turn that ends with any event, at `until_ms` at the latest. */
void turn_until(uint64_t until_ms);

#define AWAIT(condition, bound_ms)                                                       \
    do {                                                                                 \
        uint64_t until_ms_ = clock_ms() + (bound_ms);                                    \
        while (!(condition) && clock_ms() < until_ms_)                                   \
            turn_until(until_ms_);                                                       \
        ck_assert_msg((condition), "not within %d ms: %s", (int)(bound_ms), #condition); \
    } while (0)

/* Long enough for a busy machine, where the time is not what is tested. */
#define SOON_MS 20000

/* A fixture: the loop, a folder for the server's socket, the log in a file, SIGPIPE ignored. */
void peers_set_up(void);
void peers_tear_down(void); /* closes all that was opened below, and expects the loop to be empty */

/* All that was logged; the log ends with this. Valid until the next call. */
const char *peers_log(void);
unsigned count_of(const char *text, const char *part);

/* One shared view, and what it heard. */
struct peer {
    struct shared *shared;
    unsigned gates, opens, closes, rates;
    uint64_t target, target_ms, model, open_ms, upstream, ahead_us;
};
struct peer *peer_new(const struct shared_settings *settings); /* may have no `shared`: no memory */
struct peer *peer_join(void); /* of the server below; waits until it is up */
void peer_close(struct peer *p);

/* The server, on a Unix socket. `extra` are its further arguments, NULL at the end; or NULL. */
void server_start(const char *const extra[]);
void server_signal(int signal);
void server_kill(void);                       /* SIGKILL, and waits for its end */
struct shared_settings server_settings(void); /* to join it; the texts stay */

/* A command of some other client; words are split at spaces. The response's text, or its number in
 * decimal; valid until the next call. */
const char *server_do(const char *words);
void server_publish(const char *text); /* as news, to one daemon at least */

/* Something else that listens where a server should: answers the first bytes of each connection
 * with `says` (NULL: with nothing), and then nothing more. */
struct shared_settings stranger_start(const char *says, size_t n);
extern unsigned stranger_met; /* connections that came */

#endif
