/* Broken answers joined with new ones: the client has the whole answer, as if it came from one. */

#include "exchange/splice.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failmem.h"
#include "splice_script.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define CAP 65536

static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_COMPLETIONS, DIALECT_RESPONSES};
static const size_t chunks[] = {1, 2, 3, 5, 0};

/* What a whole answer comes to; the caller frees it. */
static char *print_whole(const struct events *events)
{
    struct view view = {.n = 0};

    for (size_t i = 0; i < events->n; i++)
        view_event(&view, events->at[i]);
    char *text = view_print(&view);
    view_free(&view);
    return text;
}

/* The first `n` events go through splice and, as it decides, to the client; the last action. */
static enum splice_action play(struct splice *s, const struct events *events, size_t n,
                               struct view *view)
{
    enum splice_action action = SPLICE_PASS;
    struct buf out;

    buf_init(&out, CAP);
    for (size_t i = 0; i < n && action < SPLICE_DIFFERS; i++) {
        struct str event = events->at[i];
        action = splice_event(s, event, event_data(event), &out);
        if (action == SPLICE_PASS)
            view_event(view, event);
        else if (action == SPLICE_REWRITTEN)
            view_event(view, buf_str(&out));
    }
    buf_deinit(&out);
    return action;
}

static void check_same(const struct view *view, const char *whole, const char *what, size_t a,
                       size_t b)
{
    char *got = view_print(view);

    if (strcmp(got, whole) != 0)
        ck_abort_msg("%s %zu %zu:\n%s\ninstead of\n%s", what, a, b, got, whole);
    free(got);
}

/* The answer `first`, cut after each event in turn, joined with `second`. */
static void every_cut(const struct script *first, const struct script *second)
{
    struct events a, b;

    script_write(first, &a);
    script_write(second, &b);
    char *whole = print_whole(&a);
    for (size_t cut = 0; cut < a.n; cut++) {
        struct splice *s = splice_new(first->dialect, CAP);
        struct view view = {.n = 0};
        ck_assert_int_eq(play(s, &a, cut, &view), SPLICE_PASS);
        ck_assert(splice_possible(s));
        splice_restart(s);
        if (cut == 0) { /* nothing is there that names the answer */
            ck_assert_int_lt(play(s, &b, b.n, &view), SPLICE_SKIP);
        } else {
            enum splice_action action = play(s, &b, b.n, &view);
            ck_assert_msg(action < SPLICE_SKIP, "cut %zu: %d", cut, action);
            check_same(&view, whole, second->name, cut, second->chunk);
        }
        ck_assert(splice_possible(s));
        view_free(&view);
        splice_free(s);
    }
    free(whole);
    events_free(&a);
    events_free(&b);
}

START_TEST(every_cut_and_chunking)
{
    struct script a = script_whole, b = script_whole;

    a.dialect = b.dialect = dialects[_i];
    b.name = "B";
    for (size_t i = 0; i < COUNT(chunks); i++) {
        for (size_t k = 0; k < COUNT(chunks); k++) {
            a.chunk = chunks[i];
            b.chunk = chunks[k];
            every_cut(&a, &b);
        }
    }
}
END_TEST

START_TEST(escapes_spelled_differently)
{
    struct script a = script_whole, b = script_whole;

    a.dialect = b.dialect = dialects[_i];
    b.name = "B";
    for (size_t k = 0; k < COUNT(chunks); k++) {
        b.chunk = chunks[k];
        for (int spelling = 0; spelling < 2; spelling++) {
            a.spelling = spelling;
            b.spelling = !spelling;
            every_cut(&a, &b);
        }
    }
}
END_TEST

/* Broken twice, at any two places; and a third time in the middle of what remains. */
START_TEST(broken_again_and_again)
{
    struct script script[3] = {script_whole, script_whole, script_whole};
    struct events e[3];
    static const char *const names[] = {"A", "B", "C"};
    static const size_t lengths[] = {2, 3, 0};

    for (size_t i = 0; i < 3; i++) {
        script[i].dialect = dialects[_i];
        script[i].name = names[i];
        script[i].chunk = lengths[i];
        script[i].spelling = i == 1;
        script_write(&script[i], &e[i]);
    }
    char *whole = print_whole(&e[0]);
    for (size_t cut = 1; cut < e[0].n; cut++) {
        for (size_t again = 0; again < e[1].n; again++) {
            struct splice *s = splice_new(dialects[_i], CAP);
            struct view view = {.n = 0};
            (void)play(s, &e[0], cut, &view);
            splice_restart(s);
            ck_assert_int_le(play(s, &e[1], again, &view), SPLICE_SKIP);
            splice_restart(s);
            ck_assert_int_le(play(s, &e[0], (cut + e[0].n) / 2, &view), SPLICE_SKIP);
            splice_restart(s);
            ck_assert_int_le(play(s, &e[2], e[2].n, &view), SPLICE_SKIP);
            check_same(&view, whole, "twice", cut, again);
            view_free(&view);
            splice_free(s);
        }
    }
    free(whole);
    for (size_t i = 0; i < 3; i++)
        events_free(&e[i]);
}
END_TEST

/* --- other answers ---------------------------------------------------------------------------- */

/* The texts of a script, by number; NULL behind the last. */
static const char **text_of(struct script *s, size_t i)
{
    const char **all[] = {&s->reasoning, &s->content,      &s->refusal,
                          &s->second,    &s->arguments[0], &s->arguments[1]};

    if (s->dialect == DIALECT_COMPLETIONS)
        return i < 2 ? all[i * 2 + 1] : NULL;
    if (s->dialect == DIALECT_RESPONSES)
        return i < 3 ? all[i] : i == 3 ? all[4] : NULL;
    return i < COUNT(all) ? all[i] : NULL;
}

/* With all but the end of `a` delivered, `b` must be told as another answer, and nothing of it
 * that is not in `a` may have gone out. */
static void must_differ(struct script a, struct script b, const char *what)
{
    struct events first, second;

    script_write(&a, &first);
    script_write(&b, &second);
    struct splice *s = splice_new(a.dialect, CAP);
    struct view view = {.n = 0};
    (void)play(s, &first, first.n - 1, &view);
    char *before = view_print(&view);
    splice_restart(s);
    enum splice_action action = play(s, &second, second.n, &view);
    char *after = view_print(&view);
    ck_assert_msg(action == SPLICE_DIFFERS, "%s: %d", what, action);
    ck_assert_str_eq(before, after);

    /* And yet the right one can still be taken. */
    splice_restart(s);
    ck_assert_int_le(play(s, &first, first.n, &view), SPLICE_REWRITTEN);
    free(before);
    free(after);
    view_free(&view);
    splice_free(s);
    events_free(&first);
    events_free(&second);
}

START_TEST(another_character_anywhere)
{
    struct script a = script_whole, b;
    const char **text;

    a.dialect = dialects[_i];
    for (size_t t = 0; (text = text_of(&a, t)) != NULL; t++) {
        for (size_t at = 0; at < strlen(*text); at++) {
            char changed[64];
            (void)snprintf(changed, sizeof changed, "%s", *text);
            if ((unsigned char)changed[at] >= 0x80)
                continue;
            changed[at] = changed[at] == 'z' ? 'y' : 'z';
            b = a;
            *text_of(&b, t) = changed;
            for (size_t k = 0; k < COUNT(chunks); k++) {
                b.chunk = chunks[k];
                must_differ(a, b, changed);
            }
        }
    }
}
END_TEST

/* Shorter or longer by a character in one of its texts. */
START_TEST(another_length)
{
    struct script a = script_whole, b;
    const char **text;

    a.dialect = dialects[_i];
    for (size_t t = 0; (text = text_of(&a, t)) != NULL; t++) {
        for (size_t k = 0; k < COUNT(chunks); k++) {
            char changed[64];
            (void)snprintf(changed, sizeof changed, "%s", *text);
            size_t n = strlen(changed) - 1;
            while (n > 0 && ((unsigned char)changed[n] & 0xc0) == 0x80)
                n--;
            changed[n] = '\0';
            b = a;
            b.chunk = chunks[k];
            *text_of(&b, t) = changed;
            must_differ(a, b, "shorter");
            (void)snprintf(changed, sizeof changed, "%s+", *text);
            must_differ(a, b, "longer");
        }
    }
}
END_TEST

START_TEST(another_finish)
{
    struct script a = script_whole, b = script_whole;

    b.finish = "length";
    must_differ(a, b, "finish");
    a.dialect = b.dialect = DIALECT_COMPLETIONS;
    must_differ(a, b, "finish");
}
END_TEST

/* --- limits ----------------------------------------------------------------------------------- */

/* Whatever the cap: the first answer passes as it is; a new one is joined rightly, or a break is
 * known not to be repairable; and what is beyond the cap in a new answer still goes out. */
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
    char *whole = print_whole(&first);
    for (size_t cap = 0; cap < 400; cap++) {
        struct splice *s = splice_new(a.dialect, cap);
        struct view view = {.n = 0};
        ck_assert_int_eq(play(s, &first, first.n / 2, &view), SPLICE_PASS);
        if (splice_possible(s)) {
            splice_restart(s);
            ck_assert_int_lt(play(s, &second, second.n, &view), SPLICE_SKIP);
            repaired += splice_possible(s);
            beyond += !splice_possible(s);
        } else {
            struct events rest = first;
            memmove(rest.at, rest.at + first.n / 2, (first.n - first.n / 2) * sizeof rest.at[0]);
            ck_assert_int_eq(play(s, &rest, first.n - first.n / 2, &view), SPLICE_PASS);
            lost++;
        }
        if (splice_possible(s))
            check_same(&view, whole, "cap", cap, 0);
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

    buf_init(&out, CAP);
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

/* Each allocation fails in turn, once or from then on: what goes out is the whole answer, or what
 * the client has is a beginning of it and the failure is told. */
static void fail_each(enum dialect d, bool from, const struct events *first,
                      const struct events *second)
{
    bool failed = true;

    for (size_t n = 1; failed; n++) {
        bool sent[400] = {false}, possible = false, repaired = false;
        enum splice_action action = SPLICE_PASS;
        struct buf out;
        buf_init(&out, CAP);
        (from ? failmem_arm_from : failmem_arm)(n);
        struct splice *s = splice_new(d, CAP);
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

    for (unsigned seed = 1; seed <= 300; seed++) {
        unsigned r = seed * 7919;
        struct script script = script_whole;
        char texts[6][64];
        const char **text;
        script.dialect = dialects[next_random(&r) % COUNT(dialects)];
        for (size_t t = 0; (text = text_of(&script, t)) != NULL; t++) {
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
        struct splice *s = splice_new(script.dialect, CAP);
        for (unsigned i = 0; i < 4; i++) {
            char name[2] = {(char)('A' + (char)i), '\0'};
            script.name = name;
            script.chunk = next_random(&r) % 5;
            script.spelling = next_random(&r) % 2;
            script_write(&script, &e[i]);
            if (i == 0)
                whole = print_whole(&e[0]);
            else
                splice_restart(s);
            size_t n = i == 3   ? e[i].n
                       : i == 0 ? 1 + next_random(&r) % (e[i].n - 1)
                                : next_random(&r) % e[i].n;
            enum splice_action action = play(s, &e[i], n, &view);
            ck_assert_msg(action < SPLICE_DIFFERS, "seed %u, answer %u: %d", seed, i, action);
        }
        check_same(&view, whole, "seed", seed, 0);
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

    for (unsigned round = 0; round < 600; round++) {
        unsigned r = round + 1;
        struct script script = script_whole;
        struct events e[2];
        struct buf out;
        script.dialect = dialects[round % COUNT(dialects)];
        script.chunk = round % 4;
        script_write(&script, &e[0]);
        script.name = "B";
        script_write(&script, &e[1]);
        struct splice *s = splice_new(script.dialect, CAP);
        buf_init(&out, CAP);
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

int main(void)
{
    Suite *suite = suite_create("splice");
    TCase *tcase = tcase_create("splice");
    int each = (int)COUNT(dialects);
    tcase_add_loop_test(tcase, every_cut_and_chunking, 0, each);
    tcase_add_loop_test(tcase, escapes_spelled_differently, 0, each);
    tcase_add_loop_test(tcase, broken_again_and_again, 0, each);
    tcase_add_loop_test(tcase, another_character_anywhere, 0, each);
    tcase_add_loop_test(tcase, another_length, 0, each);
    tcase_add_test(tcase, another_finish);
    tcase_add_loop_test(tcase, caps, 0, each);
    tcase_add_test(tcase, too_many_parts);
    tcase_add_loop_test(tcase, no_memory, 0, each);
    tcase_add_test(tcase, random_answers);
    tcase_add_test(tcase, mutated_events);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
