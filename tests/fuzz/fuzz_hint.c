/* Waits that a response asks for, in headers and words: bounded, the same however a name is
 * spelled, and never longer for a later clock.
 *
 * An input is header lines, an empty line, and a body. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "policy/hint.h"

#define MAX_DELAY_MS 60000
#define NOW_MS (UINT64_C(1700000000) * 1000)
#define FOREVER_MS (UINT64_C(1) << 53) /* what can be computed with, whoever adds a little */

static struct str cut_line(struct str *rest)
{
    const char *end = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;
    struct str line = {rest->p, end ? (size_t)(end - rest->p) : rest->n};
    size_t used = line.n + (end ? 1 : 0);

    *rest = (struct str){rest->p + used, rest->n - used};
    return line;
}

/* `shout`: names in upper case; `other`: with a field between that says nothing. */
static void read_headers(struct headers *h, struct str *input, bool shout, bool other)
{
    headers_init(h);
    for (struct str line = cut_line(input); line.n > 0; line = cut_line(input)) {
        char name[200];
        const char *colon = memchr(line.p, ':', line.n);
        size_t n = colon ? (size_t)(colon - line.p) : line.n;
        if (n >= sizeof name)
            n = sizeof name - 1;
        for (size_t i = 0; i < n; i++)
            name[i] = shout ? (char)toupper((unsigned char)line.p[i]) : line.p[i];
        struct str value = colon ? (struct str){colon + 1, line.n - (size_t)(colon - line.p) - 1}
                                 : (struct str){NULL, 0};
        (void)headers_add(h, (struct str){name, n}, str_trim(value));
        if (other && h->count < HEADERS_MAX / 2)
            (void)headers_add(h, STR("x-nothing"), STR("1"));
    }
}

static struct hint read_all(struct str input, bool shout, bool other, uint64_t now_ms)
{
    struct headers h;
    struct apierror error;

    read_headers(&h, &input, shout, other);
    apierror_parse(input, &error);
    FUZZ_CHECK(!error.has_hint || error.hint_ms <= FOREVER_MS);
    FUZZ_CHECK(error.message[sizeof error.message - 1] == '\0' || strlen(error.message) > 0);
    struct hint hint = hint_read(&h, &error, now_ms, MAX_DELAY_MS);
    FUZZ_CHECK(hint.delay_ms <= FOREVER_MS);
    FUZZ_CHECK(hint.source != HINT_NONE || hint.delay_ms == 0);
    FUZZ_CHECK(hint.source != HINT_BUCKET || hint.delay_ms <= MAX_DELAY_MS);
    FUZZ_CHECK(strlen(hint_source_word(hint.source)) > 0);
    headers_deinit(&h);
    return hint;
}

static bool same(struct hint a, struct hint b)
{
    return a.source == b.source && a.delay_ms == b.delay_ms;
}

/* Whole numbers mean themselves, in each form that is documented. */
static void numbers(uint64_t n)
{
    struct headers h;
    struct hint hint;
    char text[64];
    uint64_t ms;

    headers_init(&h);
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    FUZZ_CHECK(headers_add(&h, STR("retry-after"), str_from(text)) == 0);
    hint = hint_read(&h, NULL, NOW_MS, MAX_DELAY_MS);
    FUZZ_CHECK(hint.source == HINT_RETRY_AFTER && hint.delay_ms == n * 1000);
    FUZZ_CHECK(headers_add(&h, STR("Retry-After-Ms"), str_from(text)) == 0);
    hint = hint_read(&h, NULL, NOW_MS, MAX_DELAY_MS);
    FUZZ_CHECK(hint.source == HINT_RETRY_AFTER_MS && hint.delay_ms == n);
    headers_deinit(&h);
    (void)snprintf(text, sizeof text, "Please try again in %llums.", (unsigned long long)n);
    FUZZ_CHECK(hint_in_message(str_from(text), &ms) && ms == n);
    (void)snprintf(text, sizeof text, "try again in %llus", (unsigned long long)n);
    FUZZ_CHECK(hint_in_message(str_from(text), &ms) && ms == n * 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    uint64_t ms;
    struct hint hint = read_all(input, false, false, NOW_MS);

    FUZZ_CHECK(same(hint, read_all(input, false, false, NOW_MS)));
    FUZZ_CHECK(same(hint, read_all(input, true, false, NOW_MS)));
    if (size < 4 * HEADERS_MAX / 2)
        FUZZ_CHECK(same(hint, read_all(input, false, true, NOW_MS)));
    struct hint later = read_all(input, false, false, NOW_MS + 86400000);
    FUZZ_CHECK(later.source == hint.source && later.delay_ms <= hint.delay_ms);
    if (hint_in_message(input, &ms))
        FUZZ_CHECK(ms <= FOREVER_MS);
    numbers(fuzz_pick(input, 1, 1000000));
    return 0;
}
