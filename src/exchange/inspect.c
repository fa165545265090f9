/* Decodes a body with a content encoding, and checks its grammar if JSON is promised or due. */
#include "exchange/inspect.h"

#include <errno.h>
#include <string.h>

/* "application/json; charset=utf-8", "application/problem+json". */
static bool promises_json(const struct headers *h)
{
    struct str type, essence;

    if (!headers_get(h, STR("content-type"), &type) || !str_next(&type, ';', &essence))
        return false;
    if (str_ieq(essence, STR("application/json")))
        return true;
    struct str suffix = STR("+json");
    return essence.n > suffix.n && memchr(essence.p, '/', essence.n) &&
           str_ieq((struct str){essence.p + essence.n - suffix.n, suffix.n}, suffix);
}

/* Some servers respond with audio or an image. No proxy labels its error page as one. */
static bool is_media(const struct headers *h)
{
    static const struct str types[] = {{"audio/", 6}, {"image/", 6}, {"video/", 6}};
    struct str type;

    if (!headers_get(h, STR("content-type"), &type))
        return false;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (str_istarts(str_trim(type), types[i]))
            return true;
    return false;
}

/* Returns the content encoding, "" for none. Several cannot be decoded; then it returns false. */
static bool encoding_of(const struct headers *h, struct str *ret_encoding)
{
    struct str encoding = {0};

    for (unsigned i = 0; i < h->count; i++) {
        struct str value;

        if (!str_ieq(headers_name(h, i), STR("content-encoding")))
            continue;
        value = str_trim(headers_value(h, i));
        if (value.n == 0 || str_ieq(value, STR("identity")))
            continue;
        if (encoding.n > 0)
            return false;
        encoding = value;
    }
    *ret_encoding = encoding;
    return true;
}

void inspect_begin(struct inspect *i, const struct headers *h, bool due)
{
    struct str encoding;

    i->json = i->encoded = i->some = i->broken = i->garbled = i->unreadable = false;
    i->promised = i->due = false;
    i->beginning_len = 0;
    i->decoder.open = false;
    if (!encoding_of(h, &encoding))
        return;
    if (encoding.n > 0) {
        if (decoder_init(&i->decoder, encoding) < 0)
            return;
        i->encoded = true;
    }
    i->promised = promises_json(h);
    i->due = due && !is_media(h);
    i->json = i->promised || i->due;
    if (i->json)
        json_stream_init(&i->check);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void check_text(void *arg, struct str plain)
{
    struct inspect *i = arg;

    if (i->beginning_len < sizeof(i->beginning)) {
        /* A byte order mark is not part of the text, and nothing else begins with its bytes. */
        size_t at = 0;
        while (i->beginning_len == 0 && at < plain.n &&
               (is_blank(plain.p[at]) || memchr("\xef\xbb\xbf", plain.p[at], 3)))
            at++;
        while (at < plain.n && i->beginning_len < sizeof(i->beginning))
            i->beginning[i->beginning_len++] = plain.p[at++];
    }
    if (i->json)
        json_stream_feed(&i->check, plain);
}

void inspect_feed(struct inspect *i, struct str piece)
{
    if (piece.n == 0)
        return;
    i->some = true;
    if (!inspect_wants(i))
        return;
    if (i->encoded) {
        int r = decoder_feed(&i->decoder, piece, check_text, i);

        i->garbled = r == -EBADMSG;
        i->unreadable = r < 0 && r != -EBADMSG;
    } else {
        check_text(i, piece);
    }
    i->broken = i->garbled || (i->json && json_stream_is_lost(&i->check));
}

bool inspect_wants(const struct inspect *i)
{
    bool unnamed = i->due && i->beginning_len < sizeof(i->beginning);

    return (i->json || i->encoded) && !i->garbled && !i->unreadable && (!i->broken || unnamed);
}

static struct str beginning(const struct inspect *i)
{
    return (struct str){i->beginning, i->beginning_len};
}

static bool looks_like_json(const struct inspect *i)
{
    return i->beginning_len > 0 && (i->beginning[0] == '{' || i->beginning[0] == '[');
}

/* Whether the text begins with a field or a comment of an event stream (WHATWG 9.2.6). */
static bool looks_like_events(const struct inspect *i)
{
    static const struct str fields[] = {
        {"data:", 5}, {"event:", 6}, {"id:", 3}, {"retry:", 6}, {":", 1}};

    for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++)
        if (str_starts(beginning(i), fields[f]))
            return true;
    return false;
}

enum inspect_end inspect_end(const struct inspect *i)
{
    if (i->unreadable || (!i->json && !i->encoded))
        return i->broken ? INSPECT_BAD : INSPECT_NOTHING;
    if (i->due && !i->promised && looks_like_events(i))
        return INSPECT_NOTHING;
    if (i->broken)
        return INSPECT_BAD;
    if (!i->some)
        return i->json ? INSPECT_EMPTY : INSPECT_NOTHING;
    if (i->encoded && !decoder_whole(&i->decoder))
        return INSPECT_BAD;
    if (!i->json)
        return INSPECT_GOOD;
    switch (json_stream_end(&i->check)) {
    case JSON_STREAM_EMPTY:
        return INSPECT_EMPTY;
    case JSON_STREAM_VALID:
        return i->promised || looks_like_json(i) ? INSPECT_GOOD : INSPECT_BAD;
    default:
        return INSPECT_BAD;
    }
}

static bool is_plain(struct str text)
{
    for (size_t at = 0; at < text.n; at++)
        if ((unsigned char)text.p[at] < ' ' && !is_blank(text.p[at]))
            return false;
    return true;
}

const char *inspect_what(const struct inspect *i)
{
    struct str text = beginning(i);

    if (!i->some || (text.n == 0 && !i->broken && (!i->encoded || decoder_whole(&i->decoder))))
        return "an empty body";
    if (text.n == 0)
        return "a body that does not match its Content-Encoding";
    if (looks_like_events(i))
        return "an event stream";
    if (looks_like_json(i))
        return "broken JSON";
    if (str_istarts(text, STR("<?xml")))
        return "an XML document";
    if (text.p[0] == '<')
        return "an HTML page";
    return is_plain(text) ? "plain text" : "binary data";
}

void inspect_deinit(struct inspect *i)
{
    decoder_deinit(&i->decoder);
}
