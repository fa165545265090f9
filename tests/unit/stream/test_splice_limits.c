/* Splice without memory, beyond its limits, and on random answers and bytes. */

#include "stream/splice.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "splice_script.h"
#include "unit.h"

static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_COMPLETIONS, DIALECT_RESPONSES};

/* --- limits ----------------------------------------------------------------------------------- */

/* With any cap the first response passes as it is; a new one is joined correctly, or a break is
 * known not to be repairable; and what is beyond the cap in a new response still goes out. */
START_TEST(caps)
{
    struct script a = script_whole, b = script_whole;
    struct events first, second;
    size_t repaired = 0, beyond = 0, lost = 0;

    a.dialect = b.dialect = dialects[_i];
    b.name = "B";
    b.chunk = 3;
    script_write(&a, &first);
    script_write(&b, &second);
    char *whole = view_print_whole(&first);
    for (size_t cap = 0; cap < 400; cap += 3) {
        struct splice *s = splice_new(a.dialect, cap);
        struct view view = {.n = 0};
        ck_assert_int_eq(view_play(s, &first, first.n / 2, &view), SPLICE_PASS);
        if (splice_possible(s)) {
            splice_restart(s);
            ck_assert_int_lt(view_play(s, &second, second.n, &view), SPLICE_SKIP);
            repaired += splice_possible(s);
            beyond += !splice_possible(s);
        } else {
            struct events rest = first;
            memmove(rest.at, rest.at + first.n / 2, (first.n - first.n / 2) * sizeof rest.at[0]);
            ck_assert_int_eq(view_play(s, &rest, first.n - first.n / 2, &view), SPLICE_PASS);
            lost++;
        }
        if (splice_possible(s))
            view_check(&view, whole, "cap", cap, 0);
        view_free(&view);
        splice_free(s);
    }
    ck_assert(repaired > 0 && beyond > 0 && lost > 0);
    free(whole);
    events_free(&first);
    events_free(&second);
}
END_TEST

START_TEST(too_many_parts)
{
    struct splice *s = splice_new(DIALECT_CHAT, 1 << 20);
    struct events e = {.n = 0};
    struct view view = {.n = 0};
    char data[200];
    struct buf out;

    buf_init(&out, VIEW_CAP);
    for (unsigned i = 0; i < 2000; i++) {
        int n = snprintf(data, sizeof data,
                         "{\"choices\":[{\"index\":%u,\"delta\":{\"content\":\"x\"}}]}", i);
        struct str text = {data, (size_t)n};
        ck_assert_int_eq(splice_event(s, text, text, &out), SPLICE_PASS);
        ck_assert(splice_possible(s) == (i < 1024));
    }
    view_free(&view);
    events_free(&e);
    buf_deinit(&out);
    splice_free(s);
}
END_TEST

/* Ids count, too. */
START_TEST(ids_beyond_the_cap)
{
    struct splice *s = splice_new(DIALECT_CHAT, 100);
    char data[200];

    for (unsigned i = 0; i < 20; i++) {
        int n = snprintf(data, sizeof data,
                         "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":%u,"
                         "\"id\":\"0123456789\"}]}}]}",
                         i);
        struct str text = {data, (size_t)n};
        ck_assert_int_eq(splice_event(s, text, text, NULL), SPLICE_PASS);
        ck_assert(splice_possible(s) == (i < 10));
    }
    splice_free(s);
}
END_TEST

/* Each allocation fails in turn, once or from then on: what goes out is the whole response, or what
 * the client has is a beginning of it and the failure is told. */
static void fail_each(enum dialect d, bool from, const struct events *first,
                      const struct events *second)
{
    bool failed = true;

    for (size_t n = 1; failed; n++) {
        bool sent[400] = {false}, possible = false, repaired = false;
        enum splice_action action = SPLICE_PASS;
        struct buf out;
        buf_init(&out, VIEW_CAP);
        (from ? failmem_arm_from : failmem_arm)(n);
        struct splice *s = splice_new(d, VIEW_CAP);
        for (size_t i = 0; s && i < first->n / 2; i++)
            action = splice_event(s, first->at[i], event_data(first->at[i]), &out);
        if (s && action == SPLICE_PASS && splice_possible(s)) {
            possible = true;
            splice_restart(s);
            for (size_t i = 0; i < second->n && action < SPLICE_DIFFERS; i++) {
                action = splice_event(s, second->at[i], event_data(second->at[i]), &out);
                sent[i] = action < SPLICE_SKIP;
            }
            repaired = action < SPLICE_SKIP;
        }
        failed = failmem_disarm();
        ck_assert_int_ne(action, SPLICE_DIFFERS);
        ck_assert(!s || failed || (possible && repaired && splice_possible(s)));
        ck_assert(!possible || repaired || !splice_possible(s));
        ck_assert(!repaired || sent[second->n - 1]);
        splice_free(s);
        buf_deinit(&out);
    }
}

START_TEST(no_memory)
{
    struct script a = script_whole, b = script_whole;
    struct events first, second;

    a.dialect = b.dialect = dialects[_i];
    b.name = "B";
    b.chunk = 3;
    script_write(&a, &first);
    script_write(&b, &second);
    fail_each(a.dialect, false, &first, &second);
    fail_each(a.dialect, true, &first, &second);
    events_free(&first);
    events_free(&second);
}
END_TEST

/* --- chance ----------------------------------------------------------------------------------- */

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

/* Any texts, cuts and spellings. */
START_TEST(random_answers)
{
    static const char *const pieces[] = {
        "a", "b", "\"", "\\", "\n", "\xc3\xa9", "\xf0\x9f\x98\x80", "/", "o", "\xe2\x82\xac"};

    for (unsigned seed = 1; seed <= 150; seed++) {
        unsigned r = seed * 7919;
        struct script script = script_whole;
        char texts[6][64];
        const char **text;
        script.dialect = dialects[next_random(&r) % COUNT(dialects)];
        for (size_t t = 0; (text = script_text(&script, t)) != NULL; t++) {
            size_t len = 0;
            for (unsigned n = 1 + next_random(&r) % 10; n > 0; n--) {
                const char *piece = pieces[next_random(&r) % COUNT(pieces)];
                (void)snprintf(texts[t] + len, 5, "%s", piece);
                len += strlen(piece);
            }
            *text = texts[t];
        }
        struct events e[4];
        char *whole = NULL;
        struct view view = {.n = 0};
        struct splice *s = splice_new(script.dialect, VIEW_CAP);
        for (unsigned i = 0; i < 4; i++) {
            char name[2] = {(char)('A' + (char)i), '\0'};
            script.name = name;
            script.chunk = next_random(&r) % 5;
            script.spelling = next_random(&r) % 2;
            script_write(&script, &e[i]);
            if (i == 0)
                whole = view_print_whole(&e[0]);
            else
                splice_restart(s);
            size_t n = i == 3   ? e[i].n
                       : i == 0 ? 1 + next_random(&r) % (e[i].n - 1)
                                : next_random(&r) % e[i].n;
            enum splice_action action = view_play(s, &e[i], n, &view);
            ck_assert_msg(action < SPLICE_DIFFERS, "seed %u, answer %u: %d", seed, i, action);
        }
        view_check(&view, whole, "seed", seed, 0);
        free(whole);
        view_free(&view);
        splice_free(s);
        for (size_t i = 0; i < 4; i++)
            events_free(&e[i]);
    }
}
END_TEST

/* Events of any bytes, their JSON broken at random: no crash, no read beyond, no endless loop. */
START_TEST(mutated_events)
{
    static const char alphabet[] = "{}[]\",:\\ 0un";

    for (unsigned round = 0; round < 300; round++) {
        unsigned r = round + 1;
        struct script script = script_whole;
        struct events e[2];
        struct buf out;
        script.dialect = dialects[round % COUNT(dialects)];
        script.chunk = round % 4;
        script_write(&script, &e[0]);
        script.name = "B";
        script_write(&script, &e[1]);
        struct splice *s = splice_new(script.dialect, VIEW_CAP);
        buf_init(&out, VIEW_CAP);
        for (size_t a = 0; a < 2; a++) {
            if (a == 1 && splice_possible(s))
                splice_restart(s);
            for (size_t i = 0; i < e[a].n; i++) {
                struct str event = e[a].at[i], data = event_data(event);
                char *copy = malloc(data.n);
                memcpy(copy, data.p, data.n);
                for (unsigned k = next_random(&r) % 3; k > 0; k--)
                    copy[next_random(&r) % data.n] =
                        alphabet[next_random(&r) % (sizeof alphabet - 1)];
                (void)splice_event(s, event, (struct str){copy, data.n}, &out);
                free(copy);
            }
        }
        splice_free(s);
        buf_deinit(&out);
        events_free(&e[0]);
        events_free(&e[1]);
    }
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "splice_limits");
    int each = (int)COUNT(dialects);

    tcase_add_loop_test(tcase, caps, 0, each);
    tcase_add_test(tcase, too_many_parts);
    tcase_add_test(tcase, ids_beyond_the_cap);
    tcase_add_loop_test(tcase, no_memory, 0, each);
    tcase_add_test(tcase, random_answers);
    tcase_add_test(tcase, mutated_events);
}
