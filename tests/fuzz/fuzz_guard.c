/* Any bytes as a stream: what its events mean is the same at any split, and whole exchanges around
 * it give the client whole events only, whatever the mode. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_world.h"
#include "fuzz.h"
#include "stream/guard.h"

#define CAP (1 << 24)
#define SSE "Content-Type: text/event-stream\n"

static struct fake_world w;
static struct fake_attempt script[2];

/* --- the guard alone -------------------------------------------------------------------------- */

static bool is_blank(struct str event)
{
    for (size_t i = 0; i < event.n; i++)
        if (event.p[i] != '\n' && event.p[i] != '\r')
            return false;
    return true;
}

static void check_seen(const struct guard *g, struct str event, const struct guard_seen *seen)
{
    bool known = g->dialect != DIALECT_OTHER;

    FUZZ_CHECK(seen->kind != GUARD_UNREAD);
    FUZZ_CHECK(seen->kind != GUARD_ERROR || seen->error.kind != APIERROR_NONE);
    FUZZ_CHECK(seen->kind != GUARD_ERROR || g->failed);
    FUZZ_CHECK(seen->kind != GUARD_END || g->marker);
    FUZZ_CHECK(seen->kind != GUARD_CONTENT || g->content);
    FUZZ_CHECK(known || (seen->kind != GUARD_MALFORMED && seen->kind != GUARD_UNFIT));
    FUZZ_CHECK(g->response_id.len == 0 || g->response_id.p[g->response_id.len - 1] == '\0');
    FUZZ_CHECK(g->response_id.len == 0 || !strpbrk(g->response_id.p, "/.?#%&; \r\n"));
    FUZZ_CHECK((g->finished & ~g->choices) == 0);
    FUZZ_CHECK(seen->data.n <= event.n);
}

/* What it makes of the input as it comes in; blank lines left out, they depend on the split. */
static void look(struct str input, enum dialect d, enum fuzz_way way, struct buf *told)
{
    struct fuzz_cutter cutter;
    struct guard_seen seen;
    struct sse_reader reader;
    struct buf pending;
    struct guard g;
    struct str piece;
    size_t n;

    sse_init(&reader);
    guard_init(&g, d, 1, false);
    buf_init(&pending, CAP);
    fuzz_cut(&cutter, way, input);
    while (fuzz_piece(&cutter, &piece)) {
        FUZZ_CHECK(buf_add_str(&pending, piece) == 0);
        while (pending.len > 0 && (n = sse_next(&reader, buf_str(&pending))) > 0) {
            struct str event = {pending.p, n};
            guard_look(&g, event, &seen);
            check_seen(&g, event, &seen);
            if (!is_blank(event))
                (void)buf_printf(told, "%d%d%d ", (int)seen.kind,
                                 seen.kind == GUARD_ERROR && seen.raised, (int)seen.repeated);
            buf_consume(&pending, n);
        }
    }
    (void)buf_printf(told, "%d%d%d%d %llx %llx %llu %d%d%d", g.content, g.marker, g.usage,
                     g.id_seen, (unsigned long long)g.choices, (unsigned long long)g.finished,
                     (unsigned long long)g.sequence, guard_whole(&g, true), guard_whole(&g, false),
                     guard_empty(&g));
    FUZZ_CHECK(!guard_whole(&g, true) || guard_whole(&g, false));
    buf_deinit(&pending);
    guard_deinit(&g);
}

static void same_at_any_split(struct str input, enum dialect d)
{
    struct buf told, again;

    buf_init(&told, CAP);
    look(input, d, FUZZ_WHOLE, &told);
    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++) {
        buf_init(&again, CAP);
        look(input, d, way, &again);
        FUZZ_CHECK(str_eq(buf_str(&told), buf_str(&again)));
        buf_deinit(&again);
    }
    buf_deinit(&told);
}

/* --- whole exchanges -------------------------------------------------------------------------- */

/* The API that such a stream belongs to. */
static enum dialect guess(struct str input)
{
    if (memmem(input.p, input.n, "\"choices\"", 9))
        return memmem(input.p, input.n, "\"text\"", 6) ? DIALECT_COMPLETIONS : DIALECT_CHAT;
    if (memmem(input.p, input.n, "response.", 9))
        return DIALECT_RESPONSES;
    if (memmem(input.p, input.n, "message_", 8))
        return DIALECT_MESSAGES;
    if (memmem(input.p, input.n, "candidates", 10))
        return DIALECT_GEMINI;
    return input.n % 2 ? DIALECT_CHAT : DIALECT_OTHER;
}

static void run(enum dialect d, enum stream_mode mode, unsigned attempts)
{
    static const char *const paths[] = {[DIALECT_CHAT] = "/v1/chat/completions",
                                        [DIALECT_COMPLETIONS] = "/v1/completions",
                                        [DIALECT_RESPONSES] = "/v1/responses",
                                        [DIALECT_MESSAGES] = "/v1/messages",
                                        [DIALECT_GEMINI] =
                                            "/v1/models/m:streamGenerateContent?alt=sse",
                                        [DIALECT_OTHER] = "/v1/audio/speech"};

    fake_init(&w);
    w.script = script;
    w.script_len = 2;
    w.settings.stream.mode = mode;
    w.settings.retry.max_attempts = attempts;
    fake_begin(&w, "POST", paths[d], NULL, "{\"stream\":true}");
    FUZZ_CHECK(w.begin_rc == 0);
    fake_run(&w);
    FUZZ_CHECK(!w.wrong && !w.stuck);
    FUZZ_CHECK(w.x.state == EXCHANGE_DONE && w.ended == 1);
    FUZZ_CHECK(w.x.attempts <= attempts);
}

/* The client of a stream got whole events, each of which it can read, and an end that it can
 * see. */
static void check_client(enum dialect d)
{
    struct str rest = buf_str(&w.body);
    struct guard_seen seen = {.kind = GUARD_FILLER};
    enum guard_kind last = GUARD_FILLER;
    bool was_response = false, raised = false;
    struct sse_reader reader;
    struct guard g;
    size_t n;

    if (w.begins == 0)
        return;
    FUZZ_CHECK(w.cuts == 0 && w.got_end != w.got_cut);
    /* A stream of unknown kind can tell of its failure only by a break, and Gemini's does so as
     * well. */
    FUZZ_CHECK(w.got_cut == (w.x.end != END_ANSWERED && !dialect_ends_by_event(d)));
    sse_init(&reader);
    guard_init(&g, d, 1, false);
    while (rest.n > 0 && (n = sse_next(&reader, rest)) > 0) {
        struct str event = {rest.p, n};
        guard_look(&g, event, &seen);
        FUZZ_CHECK(seen.kind != GUARD_MALFORMED);
        FUZZ_CHECK(seen.kind != GUARD_UNFIT || is_blank(event));
        FUZZ_CHECK(last != GUARD_ERROR || d == DIALECT_OTHER || was_response ||
                   (d == DIALECT_RESPONSES && seen.is_response)); /* response.failed behind it */
        was_response = seen.kind == GUARD_ERROR && seen.is_response;
        raised |= seen.kind == GUARD_ERROR && seen.raised;
        last = is_blank(event) ? last : seen.kind;
        rest = (struct str){rest.p + n, rest.n - n};
    }
    FUZZ_CHECK(rest.n == 0);
    if (w.x.end != END_ANSWERED && d != DIALECT_OTHER)
        FUZZ_CHECK(last == GUARD_ERROR && raised);
    if (w.x.end == END_ANSWERED && d != DIALECT_OTHER)
        FUZZ_CHECK(last != GUARD_ERROR && guard_whole(&g, false) && !guard_empty(&g));
    guard_deinit(&g);
}

static void send(struct fake_attempt *a, struct str text, enum transport end)
{
    *a = (struct fake_attempt){.status = 200, .headers = SSE, .end_ms = 1, .end = end};
    if (text.n > 0)
        a->pieces[0] = (struct fake_piece){0, text.p, text.n};
}

/* It breaks somewhere, and comes again, in full: told in live mode, mended in the others. */
static void repeated(struct str input, enum dialect d)
{
    struct str first = {input.p, fuzz_pick(input, 1, input.n + 1)};
    bool good;

    send(&script[0], input, TRANSPORT_WHOLE);
    send(&script[1], input, TRANSPORT_WHOLE);
    run(d, STREAM_HOLD, 1);
    check_client(d);
    good = w.x.end == END_ANSWERED && w.x.stream.dropped == 0;
    fake_deinit(&w);

    send(&script[0], first, TRANSPORT_TRUNCATED);
    for (int mode = STREAM_LIVE; mode <= STREAM_HOLD; mode++) {
        run(d, (enum stream_mode)mode, 2);
        check_client(d);
        if (good && mode == STREAM_HOLD)
            FUZZ_CHECK(w.x.end == END_ANSWERED);
        fake_deinit(&w);
        FUZZ_CHECK(!w.wrong);
    }
}

/* Taken for the rest of another response. */
static void as_a_second_response(struct str input, enum dialect d)
{
    static const char *const firsts[] = {
        [DIALECT_CHAT] =
            "data: {\"id\":\"A\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
            "\"He\\\"llo\\u00e9\",\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":"
            "{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n",
        [DIALECT_COMPLETIONS] =
            "data: {\"id\":\"A\",\"choices\":[{\"index\":0,\"text\":\"Hello\"}]}\n\n",
        [DIALECT_RESPONSES] =
            "data: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"A\"}}"
            "\n\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,"
            "\"output_index\":0,\"content_index\":0,\"delta\":\"He\"}\n\n",
    };

    if (d > DIALECT_RESPONSES)
        return;
    send(&script[0], str_from(firsts[d]), TRANSPORT_TRUNCATED);
    send(&script[1], input, TRANSPORT_WHOLE);
    run(d, STREAM_SPLICE, 2);
    check_client(d);
    FUZZ_CHECK(w.body.len >= strlen(firsts[d]) &&
               memcmp(w.body.p, firsts[d], strlen(firsts[d])) == 0);
    fake_deinit(&w);
    FUZZ_CHECK(!w.wrong);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    enum dialect d = guess(input);

    for (int any = DIALECT_CHAT; any <= DIALECT_OTHER; any++)
        same_at_any_split(input, (enum dialect)any);
    repeated(input, d);
    as_a_second_response(input, d);
    return 0;
}
