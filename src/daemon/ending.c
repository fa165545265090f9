/* How it ends: new connections for drain_linger, then what runs for drain_timeout, then the rest is cut.
 *
 *   serving --signal--> lingering --drain_linger--> draining --all answered--> over
 *                           |                          |
 *                           '------ second signal -----+--drain_timeout--> cut --> over
 */
#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "daemon/server_private.h"

/* systemd is asked for so much more time again and again, which lasts from one ping of the watchdog to
 * the next several times over; and what is cut has so long to end. */
#define EXTEND_MS 10000

static void abort_all(struct server *s, const char *why)
{
    if (s->aborting)
        return;
    s->aborting = true;
    log_line(LOG_WARN, "%s: cutting what is left", why);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_abort(s->workers[i]);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    abort_all(timer->data, "drain_timeout has passed");
}

static void drain(struct server *s)
{
    s->draining = true;
    sd_notify(0, "STATUS=Finishing running requests");
    listeners_last_call(s);
    listeners_close(s, false);
    log_line(LOG_INFO, "ending: finishing running requests for at most %llu ms",
             (unsigned long long)s->config->server.drain_timeout_ms);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_drain(s->workers[i]);
    uv_timer_start(&s->drain_timer, on_drain_timeout, s->config->server.drain_timeout_ms, 0);
}

static void on_linger_over(uv_timer_t *timer)
{
    drain(timer->data);
}

void ending_extend(const struct server *s)
{
    if (s->ending && uv_now(&s->loop) < s->end_ms)
        sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu", EXTEND_MS * 1000ull);
}

void ending_signal(struct server *s)
{
    const struct config_server *c = &s->config->server;

    if (s->ending) {
        if (!s->draining)
            drain(s);
        abort_all(s, "second signal");
        return;
    }
    s->ending = true;
    s->end_ms = uv_now(&s->loop) + c->drain_linger_ms + c->drain_timeout_ms + EXTEND_MS;
    sd_notify(0, "STOPPING=1");
    ending_extend(s);
    if (c->drain_linger_ms == 0) {
        drain(s);
        return;
    }
    sd_notify(0, "STATUS=Ending, and still taking new connections (drain_linger)");
    log_line(LOG_INFO, "ending: taking new connections for another %llu ms",
             (unsigned long long)c->drain_linger_ms);
    uv_timer_start(&s->drain_timer, on_linger_over, c->drain_linger_ms, 0);
}
