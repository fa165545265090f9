/* Event framing: the same events from pieces of any size. */

#include "stream/sse.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "failmem.h"
#include "unit.h"

/* The events of a stream that hold a field, as text in which every line ends with LF. */
struct told {
    size_t count;
    size_t rest; /* bytes after the last event */
    size_t len;
    char text[4096];
};

static void tell_bytes(struct told *t, struct str s)
{
    if (t->len + s.n + 1 > sizeof t->text)
        ck_abort_msg("too much text for this test");
    if (s.n > 0)
        memcpy(t->text + t->len, s.p, s.n);
    t->len += s.n;
    t->text[t->len++] = '\n';
}

/* The joined data, which begins with the first line and has an LF fewer than lines. */
static void tell_joined(struct told *t, struct str event, const struct sse_event *e)
{
    struct buf joined;
    size_t ends = 0;

    buf_init(&joined, event.n);
    if (sse_join(event, &joined) != 0)
        ck_abort_msg("joined data that is longer than its event");
    for (size_t i = 0; i < joined.len; i++)
        ends += joined.p[i] == '\n';
    if (!str_starts(buf_str(&joined), e->data) || ends != (e->data_lines ? e->data_lines - 1 : 0))
        ck_abort_msg("joined: %.*s", (int)joined.len, joined.p);
    tell_bytes(t, buf_str(&joined));
    buf_deinit(&joined);
    t->text[t->len++] = (char)('0' + e->has_id + 2 * e->has_retry);
}

static void tell(struct told *t, struct str event)
{
    struct sse_event e;

    sse_parse(event, &e);
    if (e.comment_only)
        return;
    t->count++;
    tell_bytes(t, e.type);
    tell_bytes(t, e.data);
    tell_bytes(t, e.error_field);
    tell_joined(t, event, &e);
    t->text[t->len++] = (char)('0' + e.data_lines);
}

/* Feeds `s` up to each of `cuts` in turn, then whole. */
static void feed(struct str s, const size_t *cuts, size_t n, struct told *t)
{
    struct sse_reader r;
    size_t done = 0;

    sse_init(&r);
    t->count = t->len = 0;
    for (size_t i = 0; i <= n; i++) {
        size_t have = i < n ? cuts[i] : s.n, len;
        while ((len = sse_next(&r, (struct str){s.p + done, have - done})) > 0) {
            if (len > have - done)
                ck_abort_msg("an event longer than what is there");
            tell(t, (struct str){s.p + done, len});
            done += len;
        }
        if (r.scanned != have - done)
            ck_abort_msg("not everything was looked at");
    }
    t->rest = s.n - done;
}

static bool same(const struct told *a, const struct told *b)
{
    return a->count == b->count && a->rest == b->rest && a->len == b->len &&
           memcmp(a->text, b->text, a->len) == 0;
}

static const struct {
    const char *text;
    size_t events; /* with a field */
    size_t rest;
} corpus[] = {
    {"", 0, 0},
    {"data: a\n\n", 1, 0},
    {"data: a\r\n\r\n", 1, 0},
    {"data: a\r\r", 1, 0},
    {"data: a\n\r\n", 1, 0},
    {"data: a\r\n\n", 1, 0},
    {"data: a\r\n\r", 1, 0},
    {"data: a\n\r", 1, 0},
    {"data: a\n", 0, 8},
    {"data: a\r\n", 0, 9},
    {"data: a", 0, 7},
    {"\xef\xbb\xbf"
     "data: a\n\ndata: b\n\n",
     2, 0},
    {"\xef\xbb\xbf\n"
     "data: b\n\n",
     1, 0},
    {"\xef\xbb\xbf\r\n"
     "data: b\r\n\r\n",
     1, 0},
    {"\xef\xbb"
     "data: b\n\n",
     1, 0},
    {"\xef\n\n", 1, 0},
    {"data: a\n\n\xef\xbb\xbf"
     "data: b\n\n",
     2, 0},
    {"\n\n\ndata: a\n\n\n\ndata: b\n\n\n", 2, 0},
    {"\r\n\r\ndata: a\r\n\r\n\r\n\r\ndata: b\r\n\r\n\r\n", 2, 0},
    {"\r\r\rdata: a\r\r\r\rdata: b\r\r\r", 2, 0},
    {": retryd\ndata: a\n\n", 1, 0},
    {": retryd\n\n:\n\n:\r\n\r\ndata: a\n\n", 1, 0},
    {": OPENROUTER PROCESSING\n\ndata: {\"id\":1}\n\ndata: [DONE]\n\n", 2, 0},
    {"event: error\ndata: {\"type\":\"error\"}\n\n", 1, 0},
    {"event: response.created\r\ndata: {\"x\":\"\\n\"}\r\n\r\nevent: ping\r\n\r\n", 2, 0},
    {"error: {\"code\":500}\n\n", 1, 0},
    {"data: a\ndata: b\ndata\ndata:\n\n", 1, 0},
    {"id: 1\nretry: 5\n\n", 1, 0},
    {"data:a\rdata:b\r\rdata:c\n\ndata:d\r\n\r\n", 3, 0},
    {"data: \xe2\x82\xac\r\n\r\ndata: half", 1, 10},
    {"data: [DONE]\r\n\r\n", 1, 0},
};

START_TEST(the_corpus_whole)
{
    for (size_t i = 0; i < COUNT(corpus); i++) {
        struct told t;
        feed(str_from(corpus[i].text), NULL, 0, &t);
        ck_assert_msg(t.count == corpus[i].events, "%zu: %zu events", i, t.count);
        ck_assert_msg(t.rest == corpus[i].rest, "%zu: %zu left", i, t.rest);
    }
}
END_TEST

START_TEST(the_corpus_at_every_two_splits_and_byte_by_byte)
{
    for (size_t i = 0; i < COUNT(corpus); i++) {
        struct str s = str_from(corpus[i].text);
        struct told whole, split;
        size_t all[256];
        feed(s, NULL, 0, &whole);
        for (size_t a = 0; a <= s.n; a++)
            for (size_t b = a; b <= s.n; b++) {
                feed(s, (size_t[]){a, b}, 2, &split);
                if (!same(&whole, &split))
                    ck_abort_msg("%zu, split at %zu and %zu", i, a, b);
            }
        for (size_t n = 0; n < s.n; n++)
            all[n] = n;
        feed(s, all, s.n, &split);
        ck_assert_msg(same(&whole, &split), "%zu, byte by byte", i);
    }
}
END_TEST

/* Streams that hold a bit of everything, at all of the 2^(n-1) ways to split them. */
static const char *const splittable[] = {
    "data:a\n\nid\r\rb",         "data\r\ndata:\r\n\r\n", ":\n\r\ndata: x\r\r\n",
    "\357\273\277data:\n\r\n\n", "retry:1\r\n\n\r:c\n",
};

START_TEST(at_every_way_to_split)
{
    const char *text = splittable[_i];
    struct str s = str_from(text);
    struct told whole, split;

    ck_assert(s.n > 0 && s.n < 18);
    feed(s, NULL, 0, &whole);
    for (size_t way = 0; way >> (s.n - 1) == 0; way++) {
        size_t cuts[18], n = 0;
        for (size_t i = 1; i < s.n; i++)
            if (way >> (i - 1) & 1)
                cuts[n++] = i;
        feed(s, cuts, n, &split);
        if (!same(&whole, &split))
            ck_abort_msg("way %zx", way);
    }
}
END_TEST

/* The standard's own way, slowly: drop the BOM, make every line end an LF, and count the runs of
 * lines that an empty line closes. */
static size_t events_by_the_book(struct str s)
{
    char plain[32];
    size_t n = 0, events = 0, line = 0;
    bool fields = false;

    if (str_starts(s, STR("\xef\xbb\xbf")))
        s = (struct str){s.p + 3, s.n - 3};
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\n' && i > 0 && s.p[i - 1] == '\r')
            continue;
        plain[n++] = s.p[i] == '\r' ? '\n' : s.p[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (plain[i] != '\n')
            continue;
        if (i > line)
            fields |= plain[line] != ':';
        else {
            events += fields;
            fields = false;
        }
        line = i + 1;
    }
    return events;
}

/* Every text of up to 7 letters of which all line ends and comments are made, at every split. */
START_TEST(every_short_text)
{
    static const char letters[] = "\n\ra:";
    char text[7];

    for (size_t n = 0; n <= sizeof text; n++)
        for (size_t code = 0; code < (size_t)1 << (2 * n); code++) {
            struct told whole, split;
            struct str s = {text, n};
            for (size_t i = 0; i < n; i++)
                text[i] = letters[code >> (2 * i) & 3];
            feed(s, NULL, 0, &whole);
            if (whole.count != events_by_the_book(s))
                ck_abort_msg("length %zu, text %zx: %zu events", n, code, whole.count);
            for (size_t cut = 0; cut < n; cut++) {
                feed(s, &cut, 1, &split);
                if (!same(&whole, &split))
                    ck_abort_msg("length %zu, text %zx, split at %zu", n, code, cut);
            }
        }
}
END_TEST

/* The same behind all or a part of a byte order mark. */
START_TEST(every_short_text_behind_a_mark)
{
    static const char letters[] = "\n\ra\xef";
    char text[9] = "\xef\xbb\xbf";

    for (size_t mark = 1; mark <= 3; mark++)
        for (size_t code = 0; code < 1u << 10; code++) {
            struct told whole, split;
            struct str s = {text, mark + 5};
            for (size_t i = 0; i < 5; i++)
                text[mark + i] = letters[code >> (2 * i) & 3];
            feed(s, NULL, 0, &whole);
            if (whole.count != events_by_the_book(s))
                ck_abort_msg("mark %zu, text %zx: %zu events", mark, code, whole.count);
            for (size_t cut = 0; cut < s.n; cut++) {
                feed(s, &cut, 1, &split);
                if (!same(&whole, &split))
                    ck_abort_msg("mark %zu, text %zx, split at %zu", mark, code, cut);
            }
            memcpy(text, "\xef\xbb\xbf", 3);
        }
}
END_TEST

START_TEST(fields)
{
    static const struct {
        const char *event, *type, *data, *error;
        unsigned lines;
        bool comment_only;
    } cases[] = {
        {"data: x\n\n", "", "x", "", 1, false},
        {"data:x\n\n", "", "x", "", 1, false},
        {"data:  x \r\n\r\n", "", " x ", "", 1, false},
        {"data\n\n", "", "", "", 1, false},
        {"data:\n\n", "", "", "", 1, false},
        {"data: a\ndata: b\n\n", "", "a", "", 2, false},
        {"event: a\nevent: b\ndata: x\n\n", "b", "x", "", 1, false},
        {"\xef\xbb\xbf"
         "data: x\n\n",
         "", "x", "", 1, false},
        {"\ndata: x\n\n", "", "x", "", 1, false},
        {"error: {}\r\r", "", "", "{}", 0, false},
        {"id: 1\n\n", "", "", "", 0, false},
        {"datax: 1\n\n", "", "", "", 0, false},
        {" data: 1\n\n", "", "", "", 0, false},
        {"Data: 1\n\n", "", "", "", 0, false},
        {": c\n\n", "", "", "", 0, true},
        {":\n", "", "", "", 0, true},
        {"\n", "", "", "", 0, true},
        {"\xef\xbb\xbf\n", "", "", "", 0, true},
        {"", "", "", "", 0, true},
        {"data: no end", "", "no end", "", 1, false},
        {"data: a:b: c\n\n", "", "a:b: c", "", 1, false},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sse_event e;
        sse_parse(str_from(cases[i].event), &e);
        ck_assert_msg(str_eq(e.type, str_from(cases[i].type)), "%s", cases[i].event);
        ck_assert_msg(str_eq(e.data, str_from(cases[i].data)), "%s", cases[i].event);
        ck_assert_msg(str_eq(e.error_field, str_from(cases[i].error)), "%s", cases[i].event);
        ck_assert_msg(e.data_lines == cases[i].lines, "%s", cases[i].event);
        ck_assert_msg(e.comment_only == cases[i].comment_only, "%s", cases[i].event);
    }
}
END_TEST

START_TEST(joined_data)
{
    static const struct {
        const char *event, *data;
    } cases[] = {
        {"data: a\n\n", "a"},
        {"data: a\ndata: b\n\n", "a\nb"},
        {"data: a\r\n: c\r\ndata:b\r\nevent: e\r\ndata\r\n\r\n", "a\nb\n"},
        {"data\rdata\r\r", "\n"},
        {"data\n\n", ""},
        {"data: {\ndata:  \"a\":1\ndata: }\n\n", "{\n \"a\":1\n}"},
        {"\xef\xbb\xbf"
         "data: a\ndata: b\n\n",
         "a\nb"},
        {"event: x\nid: 1\ndatax: 2\n\n", ""},
        {": data: a\n\n", ""},
        {"data: no end\ndata: here", "no end\nhere"},
        {"", ""},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf out;
        buf_init(&out, 100);
        buf_add_str(&out, STR("<"));
        ck_assert_int_eq(sse_join(str_from(cases[i].event), &out), 0);
        ck_assert_int_eq(out.p[0], '<');
        out.p[0] = ' ';
        buf_consume(&out, 1);
        ck_assert_msg(str_eq(buf_str(&out), str_from(cases[i].data)), "%s", cases[i].event);
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(joining_without_room_or_memory)
{
    struct buf out;

    for (size_t cap = 0; cap < 3; cap++) {
        buf_init(&out, cap);
        ck_assert_int_eq(sse_join(STR("data: a\ndata: b\n\n"), &out), -EFBIG);
        ck_assert(out.failed);
        buf_deinit(&out);
    }
    buf_init(&out, 3);
    failmem_arm(1);
    int r = sse_join(STR("data: a\ndata: b\n\n"), &out);
    ck_assert(failmem_disarm());
    ck_assert_int_eq(r, -ENOMEM);
    buf_deinit(&out);
}
END_TEST

START_TEST(id_and_retry)
{
    static const struct {
        const char *event;
        bool id, retry;
    } cases[] = {
        {"data: x\n\n", false, false}, {"id: 1\ndata: x\n\n", true, false},
        {"id\n\n", true, false},       {"id:\r\r", true, false},
        {"retry: 5\n\n", false, true}, {"retry\nid\n\n", true, true},
        {"ids: 1\n\n", false, false},  {": id: 1\n\n", false, false},
        {"Id: 1\n\n", false, false},   {"data: id: 1\n\n", false, false},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sse_event e;
        sse_parse(str_from(cases[i].event), &e);
        ck_assert_msg(e.has_id == cases[i].id, "%s", cases[i].event);
        ck_assert_msg(e.has_retry == cases[i].retry, "%s", cases[i].event);
    }
}
END_TEST

/* One huge event, in small pieces: each byte is looked at once. And nothing but lines, in CR. */
START_TEST(huge_events_take_linear_time)
{
    enum { N = 4 * 1024 * 1024, PIECE = 64 };
    static const char *const fills[] = {"x", "x\r", "x\n", "x\r\n"};
    char *text = malloc(N);

    for (size_t f = 0; f < COUNT(fills); f++) {
        struct sse_reader r;
        clock_t start = clock();
        for (size_t i = 0; i < N; i++)
            text[i] = fills[f][i % strlen(fills[f])];
        sse_init(&r);
        for (size_t have = PIECE; have <= N; have += PIECE)
            if (sse_next(&r, (struct str){text, have}) != 0)
                ck_abort_msg("an event where there is none");
        sse_init(&r);
        ck_assert_uint_eq(sse_next(&r, (struct str){text, N}), 0);
        ck_assert_double_lt((double)(clock() - start) / CLOCKS_PER_SEC, 2);
    }
    free(text);
}
END_TEST

/* Random bytes in memory of their exact size: no read beyond, no event without an empty line. */
START_TEST(noise)
{
    unsigned seed = 7;

    for (int round = 0; round < 20000; round++) {
        size_t n = 1 + (size_t)round % 200, done = 0, len;
        char *text = malloc(n);
        struct sse_reader r;
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1103515245u + 12345u;
            text[i] = seed >> 31 ? "\n\r:\xef\xbb\xbf a"[seed >> 20 & 7] : (char)(seed >> 16);
        }
        sse_init(&r);
        while ((len = sse_next(&r, (struct str){text + done, n - done})) > 0) {
            struct sse_event e;
            char last = text[done + len - 1];
            if (last != '\n' && last != '\r')
                ck_abort_msg("an event that ends in no line end");
            sse_parse((struct str){text + done, len}, &e);
            done += len;
        }
        free(text);
    }
}
END_TEST

/* As soon as the bytes tell, and never otherwise than they told before. */
START_TEST(a_body_that_is_a_stream)
{
    static const struct {
        const char *text;
        enum sse_begin begin;
        size_t open; /* so many bytes of it leave it open */
    } rows[] = {
        {"data: x", SSE_BEGIN_YES, 4},
        {"event:", SSE_BEGIN_YES, 5},
        {"id:1", SSE_BEGIN_YES, 2},
        {"retry: 5", SSE_BEGIN_YES, 5},
        {":", SSE_BEGIN_YES, 0},
        {": PROCESSING", SSE_BEGIN_YES, 0},
        {"\n\r\ndata:", SSE_BEGIN_YES, 7},
        {"\xef\xbb\xbf:", SSE_BEGIN_YES, 3},
        {"\xef\xbb\xbf\nid:", SSE_BEGIN_YES, 6},
        {"{\"data:", SSE_BEGIN_NO, 0},
        {"[", SSE_BEGIN_NO, 0},
        {" data:", SSE_BEGIN_NO, 0},
        {"dat:", SSE_BEGIN_NO, 3},
        {"data ", SSE_BEGIN_NO, 4},
        {"data\n", SSE_BEGIN_NO, 4},
        {"Data:", SSE_BEGIN_NO, 0},
        {"identity", SSE_BEGIN_NO, 2},
        {"<html>", SSE_BEGIN_NO, 0},
        {"\xef\xbb\xbf{", SSE_BEGIN_NO, 3},
        {"\xef\xbb:", SSE_BEGIN_NO, 2},
        {"\xff", SSE_BEGIN_NO, 0},
        {"error: x", SSE_BEGIN_NO, 1},
        {"\0", SSE_BEGIN_NO, 0},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t n = *rows[i].text ? strlen(rows[i].text) : 1;

        for (size_t k = 0; k <= n; k++)
            ck_assert_msg(sse_begins((struct str){rows[i].text, k}) ==
                              (k <= rows[i].open ? SSE_BEGIN_OPEN : rows[i].begin),
                          "%zu bytes of %s", k, rows[i].text);
    }
    ck_assert_int_eq(sse_begins((struct str){NULL, 0}), SSE_BEGIN_OPEN);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "sse");

    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, the_corpus_whole);
    tcase_add_test(tcase, the_corpus_at_every_two_splits_and_byte_by_byte);
    tcase_add_loop_test(tcase, at_every_way_to_split, 0, COUNT(splittable));
    tcase_add_test(tcase, every_short_text);
    tcase_add_test(tcase, every_short_text_behind_a_mark);
    tcase_add_test(tcase, fields);
    tcase_add_test(tcase, joined_data);
    tcase_add_test(tcase, joining_without_room_or_memory);
    tcase_add_test(tcase, id_and_retry);
    tcase_add_test(tcase, huge_events_take_linear_time);
    tcase_add_test(tcase, noise);
    tcase_add_test(tcase, a_body_that_is_a_stream);
}
