/* Gates and breakers: told to the server as soon as they are learned, heard as soon as it says so. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/shared_private.h"

#define NEWS_MAX 1000        /* untold and unanswered ones together */
#define UNANSWERED_MAX 100   /* the rest waits until some are answered */
#define CLOSED_NEWS_MS 5000  /* later than that, "closed" may be wrong again */
#define FOR_MS_MAX 86400000u /* nobody is shut out for longer on a stranger's word */

enum news_kind { NEWS_GATE, NEWS_OPEN, NEWS_CLOSED };
static const char *const kind_words[] = {
    [NEWS_GATE] = "gate", [NEWS_OPEN] = "open", [NEWS_CLOSED] = "closed"};

/* Something this daemon has learned, until the server has it. */
struct told_news {
    struct list node; /* of `untold` or `unanswered` */
    struct shared *shared;
    enum news_kind kind;
    uint64_t id;
    uint64_t until_ms; /* of no interest from then on */
};

/* --- telling ---------------------------------------------------------------------------------- */

static void on_told(void *arg, void *tag, const struct redis_reply *a);

static int tell(struct told_news *n, bool with_text)
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

    return shared_run(s, SHARED_TELL, with_text, 1, sizeof(words) / sizeof(words[0]), words,
                      on_told, n);
}

static void answered(struct told_news *n)
{
    list_remove(&n->node);
    n->shared->unanswered_count--;
    free(n);
}

static void on_told(void *arg, void *tag, const struct redis_reply *a)
{
    struct told_news *n = tag;
    struct shared *s = n->shared;

    (void)arg;
    if (shared_script_unknown(a) && tell(n, true) == 0)
        return;
    if (a->kind == REDIS_IS_NUMBER) {
        answered(n);
        shared_news_flush(s);
    } else {
        shared_refused(s, a);
    }
}

void shared_news_flush(struct shared *s)
{
    while (s->state == SHARED_UP && s->unanswered_count < UNANSWERED_MAX) {
        struct list *node = list_pop(&s->untold);

        if (!node)
            return;
        struct told_news *n = LIST_ENTRY(node, struct told_news, node);
        bool current = n->until_ms > clock_now_ms();
        int rc = current ? tell(n, false) : 0;

        if (rc == -ENOTCONN) { /* lost, and we are about to hear of it */
            list_append(s->untold.next, node);
            return;
        }
        s->untold_count--;
        if (current && rc == 0) {
            list_append(&s->unanswered, node);
            s->unanswered_count++;
        } else {
            s->counts.dropped += current;
            free(n);
        }
    }
}

/* They are told again, in their old order and before all others: to tell them twice does no harm. */
void shared_news_take_back(struct shared *s)
{
    while (!list_empty(&s->unanswered)) {
        struct list *last = s->unanswered.prev;

        list_remove(last);
        list_append(s->untold.next, last);
        s->untold_count++;
    }
    s->unanswered_count = 0;
}

static void forget(struct list *l)
{
    struct list *node;

    while ((node = list_pop(l)))
        free(LIST_ENTRY(node, struct told_news, node));
}

void shared_news_forget(struct shared *s)
{
    forget(&s->untold);
    forget(&s->unanswered);
}

/* The oldest of those that wait makes room: what is learned later says more. */
static bool has_room(struct shared *s)
{
    struct list *oldest;

    if (s->untold_count + s->unanswered_count < NEWS_MAX)
        return true;
    s->counts.dropped++;
    oldest = list_pop(&s->untold);
    if (!oldest)
        return false;
    s->untold_count--;
    free(LIST_ENTRY(oldest, struct told_news, node));
    return true;
}

static void learned(struct shared *s, enum news_kind kind, uint64_t id, uint64_t for_ms)
{
    assert(s->magic == SHARED_MAGIC && s->state != SHARED_CLOSED);
    if (for_ms == 0 || !has_room(s))
        return;
    struct told_news *n = malloc(sizeof(*n));
    if (!n) {
        s->counts.dropped++;
        return;
    }
    if (for_ms > FOR_MS_MAX)
        for_ms = FOR_MS_MAX;
    *n = (struct told_news){
        .shared = s, .kind = kind, .id = id, .until_ms = clock_now_ms() + for_ms};
    list_append(&s->untold, &n->node);
    s->untold_count++;
    shared_news_flush(s);
}

void shared_tell_gate(struct shared *s, uint64_t target_id, uint64_t for_ms)
{
    learned(s, NEWS_GATE, target_id, for_ms);
}

void shared_tell_breaker(struct shared *s, uint64_t model_id, bool open, uint64_t for_ms)
{
    learned(s, open ? NEWS_OPEN : NEWS_CLOSED, model_id, open ? for_ms : CLOSED_NEWS_MS);
}

/* --- hearing ---------------------------------------------------------------------------------- */

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

/* "gate|open|closed ID MS FROM". Anything else is of no interest: a later version's, or no daemon's. */
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
