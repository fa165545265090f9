/* JSON in all the ways retryd reads it: validity, keys, watched keys, fingerprints, error objects, waits. */
#include <stdlib.h>

#include "base/escape.h"
#include "fuzz.h"
#include "http/json.h"
#include "json_oracle.h"
#include "policy/apierror.h"
#include "policy/hint.h"

enum { WATCHES = 3 };

static const struct str keys[WATCHES] = {{"error", 5}, {"model", 5}, {"a", 1}};

/* Values stand for what the text is so far; what a lost text holds depends on the split. */
static enum json_stream_end check(struct str input, enum fuzz_way way, struct json_watch *watches,
                                  bool *ret_lost)
{
    struct fuzz_cutter cutter;
    struct json_stream c;
    struct str piece;
    bool lost = false;

    for (size_t i = 0; i < WATCHES; i++)
        watches[i].key = keys[i];
    json_stream_init(&c);
    json_stream_watch(&c, watches, WATCHES);
    fuzz_cut(&cutter, way, input);
    while (fuzz_piece(&cutter, &piece)) {
        json_stream_feed(&c, piece);
        FUZZ_CHECK(!lost || json_stream_is_lost(&c));
        lost = json_stream_is_lost(&c);
        FUZZ_CHECK(!lost || json_stream_end(&c) == JSON_STREAM_INVALID);
    }
    *ret_lost = lost;
    return json_stream_end(&c);
}

static bool same(const struct json_watch *a, const struct json_watch *b)
{
    return a->type == b->type && str_eq(json_watch_text(a), json_watch_text(b)) &&
           (a->type == JSON_NONE || (a->at == b->at && a->length == b->length));
}

/* In a valid object both ways find the same values. */
static void compare_values(struct str input, const struct json_watch *watches,
                           const struct json_want *wants)
{
    for (size_t i = 0; i < WATCHES; i++) {
        const struct json_watch *w = &watches[i];
        struct json_value v = wants[i].value;

        FUZZ_CHECK(w->type == v.type);
        if (v.type == JSON_ARRAY || v.type == JSON_OBJECT)
            v.text.n = 0;
        FUZZ_CHECK(w->type == JSON_NONE || w->length == v.text.n);
        FUZZ_CHECK(json_watch_text(w).n == (v.text.n > sizeof w->text ? sizeof w->text : v.text.n));
        FUZZ_CHECK(str_starts(v.text, json_watch_text(w)));
        FUZZ_CHECK(v.text.n == 0 || v.text.p == input.p + w->at);
    }
}

static void scan(struct str input, bool valid, const struct json_watch *watches)
{
    struct json_want wants[WATCHES];

    for (size_t i = 0; i < WATCHES; i++)
        wants[i].key = keys[i];
    bool object = json_scan(input, wants, WATCHES);
    for (size_t i = 0; i < WATCHES; i++) {
        struct json_value v = wants[i].value;
        char plain[16];

        FUZZ_CHECK(v.text.n == 0 ||
                   (v.text.p >= input.p && v.text.p + v.text.n <= input.p + input.n));
        size_t n = escape_undo_json(v.text, plain, sizeof plain);
        FUZZ_CHECK(n < sizeof plain && str_is_utf8((struct str){plain, n}));
    }
    if (!valid || !json_oracle_comparable(input))
        return;
    FUZZ_CHECK(object == (str_trim(input).p[0] == '{'));
    if (object)
        compare_values(input, watches, wants);
}

static bool is_nest(struct str input)
{
    struct str text = str_trim(input);

    return text.n > 0 && (text.p[0] == '{' || text.p[0] == '[');
}

static bool fingerprint(struct str input, enum fuzz_way way, uint64_t *ret)
{
    struct fuzz_cutter cutter;
    struct json_stream stream;
    struct json_sum sum;
    struct str piece;

    json_stream_init(&stream);
    json_stream_sum(&stream, &sum);
    fuzz_cut(&cutter, way, input);
    while (fuzz_piece(&cutter, &piece))
        json_stream_feed(&stream, piece);
    return json_stream_fingerprint(&stream, ret);
}

/* The same at any split, and in any order of members; and another as an array. */
static void sum_up(struct str input, bool readable)
{
    uint64_t whole = 0, other = 0;
    bool has = fingerprint(input, FUZZ_WHOLE, &whole);
    char *straight, *turned;

    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++)
        FUZZ_CHECK(fingerprint(input, way, &other) == has && (!has || other == whole));
    if (!readable || !has || !json_oracle_turned(input, &straight, &turned))
        return;
    FUZZ_CHECK(fingerprint(str_from(straight), FUZZ_WHOLE, &whole));
    FUZZ_CHECK(fingerprint(str_from(turned), FUZZ_RANDOM, &other) && other == whole);
    turned[0] = '[';
    turned[strlen(turned) - 1] = ']';
    FUZZ_CHECK(!fingerprint(str_from(turned), FUZZ_WHOLE, &other) || other != whole ||
               straight[0] == '[');
    free(straight);
    free(turned);
}

static void read_error(struct str input)
{
    struct apierror e;
    uint64_t ms = 0;

    apierror_parse(input, &e);
    FUZZ_CHECK(strlen(e.code) < sizeof e.code && strlen(e.type) < sizeof e.type);
    FUZZ_CHECK(str_is_utf8(str_from(e.message)) && str_is_utf8(str_from(e.code)));
    FUZZ_CHECK(e.status == 0 || (e.status >= 400 && e.status <= 599));
    (void)hint_in_message(input, &ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    struct json_watch watches[WATCHES], again[WATCHES];
    bool lost, lost_again;
    enum json_stream_end end = check(input, FUZZ_WHOLE, watches, &lost);
    bool valid = end == JSON_STREAM_VALID;

    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++) {
        FUZZ_CHECK(check(input, way, again, &lost_again) == end);
        FUZZ_CHECK(lost_again == lost);
        for (size_t i = 0; i < WATCHES && !lost; i++)
            FUZZ_CHECK(same(&watches[i], &again[i]));
    }
    bool marked = str_starts(input, STR("\xef\xbb\xbf"));
    FUZZ_CHECK(json_valid(input) == (valid && !marked && str_is_utf8(input)));
    if (!marked && json_oracle_comparable(input))
        FUZZ_CHECK(json_oracle_valid(input) == valid);
    sum_up(input, valid && !marked && is_nest(input) && json_oracle_comparable(input));
    if (!marked)
        scan(input, valid, watches);
    read_error(input);
    return 0;
}
