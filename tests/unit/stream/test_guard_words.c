/* Compares the search for the guard's words with memmem. */

#include "stream/guard.h"

#include <check.h>

#include "unit.h"

static unsigned count(struct str s, struct str word, const char **ret_behind)
{
    unsigned n = 0;

    *ret_behind = NULL;
    for (size_t i = 0; i + word.n <= s.n; i++)
        if (memcmp(s.p + i, word.p, word.n) == 0 && n++ == 0)
            *ret_behind = s.p + i + word.n;
    return n;
}

static bool has(struct str s, const char *word)
{
    return memmem(s.p, s.n, word, strlen(word)) != NULL;
}

static void check(struct str s, enum dialect d)
{
    bool chunks = d == DIALECT_CHAT || d == DIALECT_COMPLETIONS;
    struct guard_words words;
    unsigned found = 0, reasons;
    const char *reason;

    found |= has(s, "\"error\"") ? GUARD_WORD_ERROR : 0;
    found |= d == DIALECT_RESPONSES && has(s, ".failed\"") ? GUARD_WORD_FAILED : 0;
    found |= chunks && has(s, "\"base_resp\"") ? GUARD_WORD_BASE_RESP : 0;
    if (d == DIALECT_OTHER && (has(s, ".completed\"") || has(s, ".done\"")))
        found |= GUARD_WORD_END;
    reasons = count(s, STR("\"finish_reason\""), &reason);
    guard_words_find(s, d, &words);
    ck_assert_msg(words.found == found, "%u for %u: %.*s", words.found, found, (int)s.n, s.p);
    if (chunks) {
        ck_assert_uint_eq(words.reasons, reasons);
        ck_assert_ptr_eq(words.reason, reason);
    }
}

/* Texts of whole words, ends of words and similar text. */
START_TEST(what_memmem_finds)
{
    static const char *const parts[] = {
        "\"error\"",
        "\"error",
        ".failed\"",
        "\"base_resp\"",
        "\"finish_reason\"",
        "\"",
        ".completed\"",
        ".done\"",
        "x",
        "\\\"error\\\"",
        "r\"",
        "an answer's long text, and more",
        "_resp\"",
        "\"errors\"",
    };

    for (unsigned round = 0; round < 20000; round++) {
        char text[512];
        size_t n = 0;

        for (unsigned left = (unsigned)unit_below(8); left > 0; left--) {
            const char *part = parts[unit_below(COUNT(parts))];

            memcpy(text + n, part, strlen(part));
            n += strlen(part);
        }
        /* Cut both ends at random. */
        size_t from = unit_below(n < 8 ? n + 1 : 8),
               to = n - unit_below(n - from < 8 ? n - from + 1 : 8);
        for (enum dialect d = DIALECT_CHAT; d <= DIALECT_OTHER; d++)
            check((struct str){text + from, to - from}, d);
    }
    check(STR(""), DIALECT_CHAT);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "guard words");

    tcase_add_test(tcase, what_memmem_finds);
}
