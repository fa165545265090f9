/* Event framing: the same events at any split, and those of the standard's own, slower way. */
#include <stdlib.h>

#include "base/buf.h"
#include "fuzz.h"
#include "stream/sse.h"

#define CAP (1 << 24)

static void add_field(struct buf *out, struct str s)
{
    (void)buf_printf(out, "%zu:", s.n);
    (void)buf_add_str(out, s);
}

static struct str without_line_ends(struct str s)
{
    while (s.n > 0 && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r'))
        s.n--;
    return s;
}

/* What a client gets of an event: nothing where it has no data. */
static void dispatch(struct buf *out, struct str type, struct str data, unsigned lines)
{
    if (lines == 0)
        return;
    add_field(out, type);
    add_field(out, data);
}

/* An event's bytes into `seen`, blank ones and the last line ends left out: they depend on the split.
 * What a client makes of it into `told`. */
static void take_event(struct str event, struct buf *seen, struct buf *told)
{
    struct str bytes = without_line_ends(event);
    struct sse_event e;
    struct buf joined;
    size_t ends = 0;

    FUZZ_CHECK(bytes.n < event.n);
    if (bytes.n > 0)
        add_field(seen, bytes);
    sse_parse(event, &e);
    buf_init(&joined, event.n);
    FUZZ_CHECK(sse_join(event, &joined) == 0);
    for (size_t i = 0; i < joined.len; i++)
        ends += joined.p[i] == '\n';
    FUZZ_CHECK(str_starts(buf_str(&joined), e.data));
    FUZZ_CHECK(ends == (e.data_lines > 0 ? e.data_lines - 1 : 0));
    FUZZ_CHECK(e.data_lines != 1 || joined.len == e.data.n);
    FUZZ_CHECK(!e.comment_only || (e.data_lines == 0 && !e.has_id && !e.has_retry && !e.type.n));
    dispatch(told, e.type, buf_str(&joined), e.data_lines);
    buf_deinit(&joined);
}

/* Frames `input` as it comes in; returns what is left after the last event. */
static size_t frame(struct str input, enum fuzz_way way, struct buf *seen, struct buf *told)
{
    struct fuzz_cutter cutter;
    struct sse_reader reader;
    struct buf pending;
    struct str piece;
    size_t n;

    sse_init(&reader);
    buf_init(&pending, CAP);
    fuzz_cut(&cutter, way, input);
    while (fuzz_piece(&cutter, &piece)) {
        FUZZ_CHECK(buf_add_str(&pending, piece) == 0);
        while (pending.len > 0 && (n = sse_next(&reader, buf_str(&pending))) > 0) {
            FUZZ_CHECK(n <= pending.len);
            take_event((struct str){pending.p, n}, seen, told);
            buf_consume(&pending, n);
        }
        FUZZ_CHECK(reader.scanned == pending.len);
    }
    n = pending.len;
    buf_deinit(&pending);
    return n;
}

/* --- by the book: WHATWG HTML 9.2.6, line by line ---------------------------------------------- */

struct book {
    struct buf type, data;
    unsigned lines;
};

static void read_line(struct book *b, struct str line, struct buf *told)
{
    if (line.n == 0) {
        dispatch(told, buf_str(&b->type), buf_str(&b->data), b->lines);
        buf_reset(&b->type, 0);
        buf_reset(&b->data, 0);
        b->lines = 0;
        return;
    }
    const char *colon = memchr(line.p, ':', line.n);
    size_t n = colon ? (size_t)(colon - line.p) : line.n;
    struct str name = {line.p, n}, value = {line.p + n, line.n - n};
    if (value.n > 0)
        value = (struct str){value.p + 1, value.n - 1};
    if (value.n > 0 && value.p[0] == ' ')
        value = (struct str){value.p + 1, value.n - 1};
    if (str_eq(name, STR("data"))) {
        if (b->lines++ > 0)
            (void)buf_addc(&b->data, '\n');
        (void)buf_add_str(&b->data, value);
    } else if (str_eq(name, STR("event"))) {
        buf_reset(&b->type, 0);
        (void)buf_add_str(&b->type, value);
    }
}

/* Like sse_parse it skips a mark before any event, where the standard has the first only; a later
 * line of a mark alone is no empty one. */
static void by_the_book(struct str s, struct buf *told)
{
    struct book b = {0};
    bool fresh = true, marked = false; /* before an event; a mark was skipped amid the stream */

    buf_init(&b.type, CAP);
    buf_init(&b.data, CAP);
    for (size_t i = 0, start = 0; i < s.n; i++) {
        if (fresh && str_starts((struct str){s.p + i, s.n - i}, STR("\xef\xbb\xbf"))) {
            marked = i > 0;
            start = i + 3;
        }
        fresh = false;
        if (i < start || (s.p[i] != '\n' && s.p[i] != '\r'))
            continue;
        struct str line = {s.p + start, i - start};
        read_line(&b, line, told);
        fresh = line.n == 0 && !marked;
        marked = false;
        if (s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n')
            i++;
        start = i + 1;
    }
    buf_deinit(&b.type);
    buf_deinit(&b.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    struct buf seen, told, book, seen_again, told_again;
    struct sse_event e;

    buf_init(&seen, CAP);
    buf_init(&told, CAP);
    buf_init(&book, CAP);
    size_t rest = frame(input, FUZZ_WHOLE, &seen, &told);
    by_the_book(input, &book);
    FUZZ_CHECK(str_eq(buf_str(&told), buf_str(&book)));
    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++) {
        buf_init(&seen_again, CAP);
        buf_init(&told_again, CAP);
        FUZZ_CHECK(frame(input, way, &seen_again, &told_again) == rest);
        FUZZ_CHECK(str_eq(buf_str(&seen), buf_str(&seen_again)));
        FUZZ_CHECK(str_eq(buf_str(&told), buf_str(&told_again)));
        buf_deinit(&seen_again);
        buf_deinit(&told_again);
    }
    sse_parse(input, &e); /* any bytes are fine */
    buf_deinit(&seen);
    buf_deinit(&told);
    buf_deinit(&book);
    return 0;
}
