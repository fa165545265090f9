/* Broken responses continued by new ones: the client gets one whole response. */

#include "stream/splice.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "splice_script.h"
#include "unit.h"

static const enum dialect dialects[] = {DIALECT_CHAT, DIALECT_COMPLETIONS, DIALECT_RESPONSES};
static const size_t chunks[] = {1, 2, 3, 5, 0};

/* The response `first`, cut after each event in turn, joined with `second`. */
static void every_cut(const struct script *first, const struct script *second)
{
    struct events a, b;

    script_write(first, &a);
    script_write(second, &b);
    char *whole = view_print_whole(&a);
    for (size_t cut = 0; cut < a.n; cut++) {
        struct splice *s = splice_new(first->dialect, VIEW_CAP);
        struct view view = {.n = 0};
        ck_assert_int_eq(view_play(s, &a, cut, &view), SPLICE_PASS);
        ck_assert(splice_possible(s));
        splice_restart(s);
        if (cut == 0) { /* nothing is there that names the response */
            ck_assert_int_lt(view_play(s, &b, b.n, &view), SPLICE_SKIP);
        } else {
            enum splice_action action = view_play(s, &b, b.n, &view);
            ck_assert_msg(action < SPLICE_SKIP, "cut %zu: %d", cut, action);
            view_check(&view, whole, second->name, cut, second->chunk);
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
    for (size_t i = 0; i < COUNT(chunks); i += 2) {
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
    a.chunk = 2;
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

/* Broken twice, at many two places; and a third time in the middle of what remains. */
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
    char *whole = view_print_whole(&e[0]);
    for (size_t cut = 1; cut < e[0].n; cut++) {
        for (size_t again = cut % 5; again < e[1].n; again += 5) {
            struct splice *s = splice_new(dialects[_i], VIEW_CAP);
            struct view view = {.n = 0};
            (void)view_play(s, &e[0], cut, &view);
            splice_restart(s);
            ck_assert_int_le(view_play(s, &e[1], again, &view), SPLICE_SKIP);
            splice_restart(s);
            ck_assert_int_le(view_play(s, &e[0], (cut + e[0].n) / 2, &view), SPLICE_SKIP);
            splice_restart(s);
            ck_assert_int_le(view_play(s, &e[2], e[2].n, &view), SPLICE_SKIP);
            view_check(&view, whole, "twice", cut, again);
            view_free(&view);
            splice_free(s);
        }
    }
    free(whole);
    for (size_t i = 0; i < 3; i++)
        events_free(&e[i]);
}
END_TEST

/* --- other responses -------------------------------------------------------------------------- */

/* With all but the end of `a` delivered, `b` must be told as another response, and nothing of it
 * that is not in `a` may have gone out. */
static void must_differ(struct script a, struct script b, const char *what)
{
    struct events first, second;

    script_write(&a, &first);
    script_write(&b, &second);
    struct splice *s = splice_new(a.dialect, VIEW_CAP);
    struct view view = {.n = 0};
    (void)view_play(s, &first, first.n - 1, &view);
    char *before = view_print(&view);
    splice_restart(s);
    enum splice_action action = view_play(s, &second, second.n, &view);
    char *after = view_print(&view);
    ck_assert_msg(action == SPLICE_DIFFERS, "%s: %d", what, action);
    ck_assert_str_eq(before, after);

    /* And yet the right one can still be taken. */
    splice_restart(s);
    ck_assert_int_le(view_play(s, &first, first.n, &view), SPLICE_REWRITTEN);
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
    for (size_t t = 0; (text = script_text(&a, t)) != NULL; t++) {
        for (size_t at = 0; at < strlen(*text); at++) {
            char changed[64];
            (void)snprintf(changed, sizeof changed, "%s", *text);
            if ((unsigned char)changed[at] >= 0x80)
                continue;
            changed[at] = changed[at] == 'z' ? 'y' : 'z';
            b = a;
            *script_text(&b, t) = changed;
            b.chunk = chunks[at % COUNT(chunks)];
            must_differ(a, b, changed);
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
    for (size_t t = 0; (text = script_text(&a, t)) != NULL; t++) {
        for (size_t k = 0; k < COUNT(chunks); k++) {
            char changed[64];
            (void)snprintf(changed, sizeof changed, "%s", *text);
            size_t n = strlen(changed) - 1;
            while (n > 0 && ((unsigned char)changed[n] & 0xc0) == 0x80)
                n--;
            changed[n] = '\0';
            b = a;
            b.chunk = chunks[k];
            *script_text(&b, t) = changed;
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

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "splice");
    int each = (int)COUNT(dialects);

    tcase_add_loop_test(tcase, every_cut_and_chunking, 0, each);
    tcase_add_loop_test(tcase, escapes_spelled_differently, 0, each);
    tcase_add_loop_test(tcase, broken_again_and_again, 0, each);
    tcase_add_loop_test(tcase, another_character_anywhere, 0, each);
    tcase_add_loop_test(tcase, another_length, 0, each);
    tcase_add_test(tcase, another_finish);
}
