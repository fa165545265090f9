/* News of gates and breakers, sent to the server and received from it, and rates: attempts counted
 * together with those of the other daemons. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/shared_private.h"

#define NEWS_MAX 1000        /* unsent and unconfirmed together */
#define UNCONFIRMED_MAX 100  /* further ones wait until some have replies */
#define CLOSED_NEWS_MS 5000  /* after this time "closed" may be wrong again */
#define FOR_MS_MAX 86400000u /* longest time that other daemons' news may close a target */

enum news_kind { NEWS_GATE, NEWS_OPEN, NEWS_CLOSED };
static const char *const kind_words[] = {
    [NEWS_GATE] = "gate", [NEWS_OPEN] = "open", [NEWS_CLOSED] = "closed"};

/* News of this daemon, kept until the server has it. */
struct shared_news {
    struct list node; /* of `unsent` or `unconfirmed` */
    struct shared *shared;
    enum news_kind kind;
    uint64_t id;
    uint64_t until_ms; /* obsolete after this time */
};

/* --- sending gates and breakers --------------------------------------------------------------- */

static void on_sent(void *arg, void *tag, const struct redis_reply *a);

static int send_news(struct shared_news *n, bool with_text)
{
    struct shared *s = n->shared;
    uint64_t now = clock_now_ms();
    uint64_t left = n->until_ms > now && n->kind != NEWS_CLOSED ? n->until_ms - now : 0;
    char id[SHARED_HEX_BYTES], ms[STR_DECIMAL_MAX];
    const struct str words[] = {
        str_from(n->kind == NEWS_GATE ? s->gates : s->breakers),
        str_from(kind_words[n->kind]),
        shared_hex(n->id, id),
        str_decimal(left, ms),
        str_from(s->self),
        str_from(s->channel),
    };

    return shared_run(s, SHARED_REPORT, with_text, 1, sizeof(words) / sizeof(words[0]), words,
                      on_sent, n);
}

static void confirmed(struct shared_news *n)
{
    list_remove(&n->node);
    n->shared->unconfirmed_count--;
    free(n);
}

static void on_sent(void *arg, void *tag, const struct redis_reply *a)
{
    struct shared_news *n = tag;
    struct shared *s = n->shared;

    (void)arg;
    if (shared_script_unknown(a) && send_news(n, true) == 0)
        return;
    if (a->kind == REDIS_IS_NUMBER) {
        confirmed(n);
        shared_news_flush(s);
    } else {
        shared_refused(s, a);
    }
}

void shared_news_flush(struct shared *s)
{
    while (s->state == SHARED_UP && s->unconfirmed_count < UNCONFIRMED_MAX) {
        struct list *node = list_pop(&s->unsent);

        if (!node)
            return;
        struct shared_news *n = LIST_ENTRY(node, struct shared_news, node);
        bool current = n->until_ms > clock_now_ms();
        int rc = current ? send_news(n, false) : 0;

        if (rc == -ENOTCONN) { /* the connection is lost; on_dead follows */
            list_append(s->unsent.next, node);
            return;
        }
        s->unsent_count--;
        if (current && rc == 0) {
            list_append(&s->unconfirmed, node);
            s->unconfirmed_count++;
        } else {
            s->counts.dropped += current;
            free(n);
        }
    }
}

/* Unconfirmed news is sent again, in the same order and before all others. To send it twice is
 * harmless. */
void shared_news_take_back(struct shared *s)
{
    while (!list_empty(&s->unconfirmed)) {
        struct list *last = s->unconfirmed.prev;

        list_remove(last);
        list_append(s->unsent.next, last);
        s->unsent_count++;
    }
    s->unconfirmed_count = 0;
}

static void forget(struct list *l)
{
    struct list *node;

    while ((node = list_pop(l)))
        free(LIST_ENTRY(node, struct shared_news, node));
}

void shared_news_forget(struct shared *s)
{
    forget(&s->unsent);
    forget(&s->unconfirmed);
}

/* Drops the oldest unsent news if there is no room: newer news matters more. */
static bool has_room(struct shared *s)
{
    struct list *oldest;

    if (s->unsent_count + s->unconfirmed_count < NEWS_MAX)
        return true;
    s->counts.dropped++;
    oldest = list_pop(&s->unsent);
    if (!oldest)
        return false;
    s->unsent_count--;
    free(LIST_ENTRY(oldest, struct shared_news, node));
    return true;
}

static void add_news(struct shared *s, enum news_kind kind, uint64_t id, uint64_t for_ms)
{
    assert(s->magic == SHARED_MAGIC && s->state != SHARED_CLOSED);
    if (for_ms == 0 || !has_room(s))
        return;
    struct shared_news *n = malloc(sizeof(*n));
    if (!n) {
        s->counts.dropped++;
        return;
    }
    if (for_ms > FOR_MS_MAX)
        for_ms = FOR_MS_MAX;
    *n = (struct shared_news){
        .shared = s, .kind = kind, .id = id, .until_ms = clock_now_ms() + for_ms};
    list_append(&s->unsent, &n->node);
    s->unsent_count++;
    shared_news_flush(s);
}

void shared_report_gate(struct shared *s, uint64_t target_id, uint64_t for_ms)
{
    add_news(s, NEWS_GATE, target_id, for_ms);
}

void shared_report_breaker(struct shared *s, uint64_t model_id, bool open, uint64_t for_ms)
{
    add_news(s, open ? NEWS_OPEN : NEWS_CLOSED, model_id, open ? for_ms : CLOSED_NEWS_MS);
}

/* --- receiving gates and breakers ------------------------------------------------------------- */

static bool read_id(struct str s, uint64_t *ret_id)
{
    uint64_t id = 0;

    if (s.n != SHARED_HEX_BYTES - 1)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c >= '0' && c <= '9')
            id = id << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            id = id << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *ret_id = id;
    return true;
}

/* Reads "gate|open|closed ID MS FROM". Ignores anything else, such as messages of later
 * versions. */
void shared_news_hear(struct shared *s, struct str text)
{
    struct str kind, id_text, ms_text, from;
    uint64_t id = 0, ms = 0;

    if (!str_next(&text, ' ', &kind) || !str_next(&text, ' ', &id_text) ||
        !str_next(&text, ' ', &ms_text) || !str_next(&text, ' ', &from))
        return;
    if (!read_id(id_text, &id) || !str_to_u64(ms_text, &ms) || str_eq(from, str_from(s->self)))
        return;
    if (ms > FOR_MS_MAX)
        ms = FOR_MS_MAX;
    s->counts.received++;
    if (str_eq(kind, str_from(kind_words[NEWS_GATE])))
        s->handler.gate(s->handler.arg, id, ms);
    else if (str_eq(kind, str_from(kind_words[NEWS_OPEN])))
        s->handler.breaker(s->handler.arg, id, true, ms);
    else if (str_eq(kind, str_from(kind_words[NEWS_CLOSED])))
        s->handler.breaker(s->handler.arg, id, false, 0);
    else
        s->counts.received--;
}

/* --- rates ------------------------------------------------------------------------------------ */

#define UPSTREAMS_MAX 1000 /* counted at a time */
#define PENDING_MAX 500  /* commands without a reply: the server is slow, and more would not help */
#define ADD_MAX_US 600e6 /* the script has the same limit */

static void on_time(uv_timer_t *timer);

/* An upstream whose attempts were sent within the last SHARED_RATE_MS, or will be. */
struct counted {
    struct list node;
    struct shared *shared;
    uint64_t id;
    double add_us;  /* not sent yet */
    double sent_us; /* sent last */
    uint64_t next_ms;
    bool asked; /* no reply yet */
};

static void on_rate(void *arg, void *tag, const struct redis_reply *a);

static int ask(struct counted *upstream, bool with_text)
{
    struct shared *s = upstream->shared;
    char id[SHARED_HEX_BYTES], key[SHARED_NAME_BYTES], add[32];

    snprintf(key, sizeof(key), "%s:rate:%s", s->prefix, shared_hex(upstream->id, id).p);
    snprintf(add, sizeof(add), "%.0f", upstream->sent_us);
    const struct str words[] = {str_from(key), str_from(add)};
    return shared_run(s, SHARED_RATE, with_text, 1, 2, words, on_rate, upstream);
}

static void drop(struct counted *upstream)
{
    list_remove(&upstream->node);
    upstream->shared->upstream_count--;
    free(upstream);
}

static void visit(struct counted *upstream, uint64_t now)
{
    if (upstream->asked || upstream->next_ms > now)
        return;
    if (upstream->add_us < 1) { /* no attempts since the last time */
        drop(upstream);
        return;
    }
    upstream->sent_us = fmin(upstream->add_us, ADD_MAX_US);
    upstream->add_us = 0;
    upstream->next_ms = now + SHARED_RATE_MS;
    upstream->asked =
        redis_pending(upstream->shared->commands.redis) < PENDING_MAX && ask(upstream, false) == 0;
    if (!upstream->asked)
        upstream->add_us = upstream->sent_us; /* send them with the next ones */
}

/* Upstreams that wait for a reply are visited when it arrives. */
static void visit_all(struct shared *s)
{
    uint64_t now = clock_now_ms();
    uint64_t next = UINT64_MAX;

    for (struct list *node = s->upstreams.next, *after; node != &s->upstreams; node = after) {
        after = node->next;
        visit(LIST_ENTRY(node, struct counted, node), now);
    }
    for (struct list *node = s->upstreams.next; node != &s->upstreams; node = node->next) {
        const struct counted *upstream = LIST_ENTRY(node, struct counted, node);

        if (!upstream->asked && upstream->next_ms < next)
            next = upstream->next_ms;
    }
    if (next == UINT64_MAX)
        return;
    uv_update_time(s->loop);
    uv_timer_start(&s->pace, on_time, next > now ? next - now : 0, 0);
}

static void on_time(uv_timer_t *timer)
{
    struct shared *s = timer->data;

    assert(s->magic == SHARED_MAGIC);
    visit_all(s);
}

static void on_rate(void *arg, void *tag, const struct redis_reply *a)
{
    struct counted *upstream = tag;
    struct shared *s = upstream->shared;
    uint64_t id = upstream->id;

    (void)arg;
    if (shared_script_unknown(a) && ask(upstream, true) == 0)
        return;
    if (a->kind != REDIS_IS_NUMBER || a->number < 0) {
        shared_refused(s, a);
        return;
    }
    upstream->asked = false;
    visit_all(s); /* before the handler, which may add attempts */
    /* The script returns no more than this; a larger number does not come from it. */
    s->handler.rate(s->handler.arg, id, (uint64_t)fmin((double)a->number, ADD_MAX_US));
}

void shared_rate_forget(struct shared *s)
{
    struct list *node;

    while ((node = list_pop(&s->upstreams)))
        free(LIST_ENTRY(node, struct counted, node));
    s->upstream_count = 0;
    uv_timer_stop(&s->pace);
}

static struct counted *find_upstream(struct shared *s, uint64_t id)
{
    for (struct list *node = s->upstreams.next; node != &s->upstreams; node = node->next) {
        struct counted *upstream = LIST_ENTRY(node, struct counted, node);

        if (upstream->id == id)
            return upstream;
    }
    if (s->upstream_count >= UPSTREAMS_MAX)
        return NULL;
    struct counted *upstream = calloc(1, sizeof(*upstream));
    if (!upstream)
        return NULL;
    upstream->shared = s;
    upstream->id = id;
    list_append(&s->upstreams, &upstream->node);
    s->upstream_count++;
    return upstream;
}

/* Counts nothing while the server is away, because those attempts are long past when it is back. */
void shared_report_rate(struct shared *s, uint64_t upstream_id, double per_minute, unsigned taken)
{
    struct counted *upstream;

    assert(s->magic == SHARED_MAGIC && s->state != SHARED_CLOSED);
    if (s->state != SHARED_UP || taken == 0 || !(per_minute > 0))
        return;
    upstream = find_upstream(s, upstream_id);
    if (!upstream) {
        s->counts.dropped++;
        return;
    }
    upstream->add_us = fmin(upstream->add_us + taken * (60e6 / per_minute), ADD_MAX_US);
    visit_all(s);
}
