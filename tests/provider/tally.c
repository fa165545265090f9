/* How many requests each rule of the script has got, and how many of them at a time. */
#include "tally.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

void tally_begin(struct tally *tally, size_t n_rules)
{
    free(tally->rules);
    tally->rules = n_rules > 0 ? must_alloc(n_rules * sizeof(*tally->rules)) : NULL;
    tally->n_rules = n_rules;
    tally->fallback = (struct tally_count){0};
    tally->script++;
}

static void forget(struct tally_count *count)
{
    count->requests = 0;
    count->most = count->in_flight;
}

void tally_clear(struct tally *tally)
{
    forget(&tally->all);
    forget(&tally->fallback);
    for (size_t i = 0; i < tally->n_rules; i++) {
        forget(&tally->rules[i]);
    }
}

void tally_deinit(struct tally *tally)
{
    free(tally->rules);
    *tally = (struct tally){0};
}

static struct tally_count *count_of(struct tally *tally, int rule)
{
    assert(rule < (int)tally->n_rules);
    return rule < 0 ? &tally->fallback : &tally->rules[rule];
}

static void enter(struct tally_count *count)
{
    count->requests++;
    count->in_flight++;
    count->most = count->in_flight > count->most ? count->in_flight : count->most;
}

struct tally_mark tally_enter(struct tally *tally, int rule)
{
    enter(&tally->all);
    enter(count_of(tally, rule));
    return (struct tally_mark){.in = true, .rule = rule, .script = tally->script};
}

void tally_leave(struct tally *tally, struct tally_mark *mark)
{
    if (!mark->in) {
        return;
    }
    tally->all.in_flight--;
    if (mark->script == tally->script) {
        count_of(tally, mark->rule)->in_flight--;
    }
    *mark = (struct tally_mark){0};
}

static void count_json(const struct tally_count *count, struct buf *out)
{
    buf_printf(out,
               "{\"requests\":%" PRIu64 ",\"in_flight\":%" PRIu64 ",\"max_in_flight\":%" PRIu64 "}",
               count->requests, count->in_flight, count->most);
}

void tally_json(const struct tally *tally, struct buf *out)
{
    buf_printf(out, ",\"in_flight\":%" PRIu64 ",\"max_in_flight\":%" PRIu64 ",\"rules\":[",
               tally->all.in_flight, tally->all.most);
    for (size_t i = 0; i < tally->n_rules; i++) {
        buf_str(out, i > 0 ? "," : "");
        count_json(&tally->rules[i], out);
    }
    buf_str(out, "],\"default\":");
    count_json(&tally->fallback, out);
}
