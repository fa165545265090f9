/* Content encodings: any bytes as encoded ones, at any split; and the input as text that was
 * encoded. */
#include <errno.h>
#include <stdlib.h>

#include "exchange/inspect.h"
#include "fuzz.h"

#define CAP (1 << 24)

static const struct {
    struct str name;
    int window_bits; /* as deflateInit2 has them; 0: not encoded */
} encodings[] = {
    {{"gzip", 4}, 9 + 16}, {{"deflate", 7}, 9}, {{"deflate", 7}, -9}, {{"identity", 8}, 0}};
#define ENCODINGS (sizeof encodings / sizeof encodings[0])

struct outcome {
    struct buf text;
    int r;
    bool whole;
};

static void append(void *arg, struct str plain)
{
    FUZZ_CHECK(plain.n > 0);
    FUZZ_CHECK(buf_add_str(arg, plain) == 0);
}

static void decode(struct str encoding, struct str encoded, enum fuzz_way way, struct outcome *o)
{
    struct fuzz_cutter cutter;
    struct decoder d;
    struct str piece;

    buf_init(&o->text, CAP);
    o->r = 0;
    FUZZ_CHECK(decoder_init(&d, encoding) == 0);
    fuzz_cut(&cutter, way, encoded);
    while (fuzz_piece(&cutter, &piece)) {
        int r = decoder_feed(&d, piece, append, &o->text);
        FUZZ_CHECK(r == 0 || r == -EBADMSG);
        FUZZ_CHECK(o->r == 0 || r == o->r);
        o->r = r;
    }
    o->whole = decoder_whole(&d);
    FUZZ_CHECK(!o->whole || o->r == 0);
    decoder_deinit(&d);
}

/* All ways give the first one's outcome, and decode_body its beginning. */
static void decode_all_ways(struct str encoding, struct str encoded, struct outcome *ret)
{
    struct buf room;

    decode(encoding, encoded, FUZZ_WHOLE, ret);
    for (enum fuzz_way way = FUZZ_BYTES; way < FUZZ_WAYS; way++) {
        struct outcome o;
        decode(encoding, encoded, way, &o);
        FUZZ_CHECK(o.r == ret->r && o.whole == ret->whole);
        FUZZ_CHECK(str_eq(buf_str(&o.text), buf_str(&ret->text)));
        buf_deinit(&o.text);
    }
    buf_init(&room, 1 + fuzz_pick(encoded, 1, 2000));
    int r = decode_body(encoding, encoded, &room);
    FUZZ_CHECK((r == 0) == (ret->whole || ret->text.len > 0));
    FUZZ_CHECK(room.len == (ret->text.len < room.cap ? ret->text.len : room.cap));
    FUZZ_CHECK(room.len == 0 || memcmp(room.p, ret->text.p, room.len) == 0);
    buf_deinit(&room);
}

static enum inspect_end inspect(struct str type, bool due, struct str encoding, struct str body,
                                enum fuzz_way way)
{
    struct fuzz_cutter cutter;
    struct headers h;
    struct inspect i;
    struct str piece;

    headers_init(&h);
    FUZZ_CHECK(headers_add(&h, STR("content-type"), type) == 0);
    FUZZ_CHECK(headers_add(&h, STR("content-encoding"), encoding) == 0);
    inspect_begin(&i, &h, due);
    headers_deinit(&h);
    fuzz_cut(&cutter, way, body);
    while (fuzz_piece(&cutter, &piece))
        inspect_feed(&i, piece);
    enum inspect_end end = inspect_end(&i);
    FUZZ_CHECK(inspect_what(&i)[0] != '\0');
    inspect_deinit(&i);
    return end;
}

/* What the response is, told from the decoded text. */
static enum inspect_end verdict(const struct outcome *o, bool encoded, bool json, struct str body)
{
    struct json_stream c;

    if (!encoded && !json)
        return INSPECT_NOTHING;
    if (body.n == 0)
        return json ? INSPECT_EMPTY : INSPECT_NOTHING;
    if (o->r < 0 || !o->whole)
        return INSPECT_BAD;
    if (!json)
        return INSPECT_GOOD;
    json_stream_init(&c);
    json_stream_feed(&c, buf_str(&o->text));
    enum json_stream_end end = json_stream_end(&c);
    return end == JSON_STREAM_EMPTY   ? INSPECT_EMPTY
           : end == JSON_STREAM_VALID ? INSPECT_GOOD
                                      : INSPECT_BAD;
}

static void inspect_all_ways(size_t encoding, struct str body, const struct outcome *o)
{
    static const struct str types[] = {{"text/plain", 10}, {"application/json", 16}};

    for (size_t json = 0; json < 2; json++) {
        enum inspect_end want = verdict(o, encodings[encoding].window_bits != 0, json, body);
        for (enum fuzz_way way = 0; way < FUZZ_WAYS; way++)
            FUZZ_CHECK(inspect(types[json], false, encodings[encoding].name, body, way) == want);
        /* Where it is due, JSON is JSON under any label. */
        enum inspect_end due =
            inspect(types[json], true, encodings[encoding].name, body, FUZZ_WHOLE);
        for (enum fuzz_way way = 0; way < FUZZ_WAYS; way++)
            FUZZ_CHECK(inspect(types[json], true, encodings[encoding].name, body, way) == due);
        FUZZ_CHECK(due == INSPECT_BAD || due == INSPECT_NOTHING ||
                   due == verdict(o, encodings[encoding].window_bits != 0, true, body));
    }
}

/* The text comes back from its code, and a part of the code is never taken for the whole. */
static void round_trip(struct str text, size_t encoding)
{
    struct buf encoded;
    struct outcome o;

    buf_init(&encoded, CAP);
    fuzz_deflate(text, encodings[encoding].window_bits, &encoded);
    decode_all_ways(encodings[encoding].name, buf_str(&encoded), &o);
    FUZZ_CHECK(o.r == 0 && o.whole && str_eq(buf_str(&o.text), text));
    inspect_all_ways(encoding, buf_str(&encoded), &o);
    buf_deinit(&o.text);

    struct str part = {encoded.p, fuzz_pick(text, 3, encoded.len)};
    decode_all_ways(encodings[encoding].name, part, &o);
    FUZZ_CHECK(!o.whole);
    inspect_all_ways(encoding, part, &o);
    buf_deinit(&o.text);
    buf_deinit(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};

    for (size_t i = 0; i < ENCODINGS; i++) {
        struct outcome o;
        decode_all_ways(encodings[i].name, input, &o);
        inspect_all_ways(i, input, &o);
        buf_deinit(&o.text);
        if (encodings[i].window_bits != 0)
            round_trip(input, i);
    }
    return 0;
}
