/* Decodes where a coding is named, and checks the grammar where JSON is promised. */
#include "exchange/inspect.h"

#include <errno.h>

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

/* The one coding that is in force, "" for none. False for several: decoding stops at the first. */
static bool coding_of(const struct headers *h, struct str *ret_coding)
{
    struct str coding = {0};

    for (unsigned i = 0; i < h->count; i++) {
        struct str value;

        if (!str_ieq(headers_name(h, i), STR("content-encoding")))
            continue;
        value = str_trim(headers_value(h, i));
        if (value.n == 0 || str_ieq(value, STR("identity")))
            continue;
        if (coding.n > 0)
            return false;
        coding = value;
    }
    *ret_coding = coding;
    return true;
}

void inspect_begin(struct inspect *i, const struct headers *h)
{
    struct str coding;

    i->json = i->coded = i->some = i->broken = i->unreadable = false;
    i->decoder.open = false;
    if (!coding_of(h, &coding))
        return;
    if (coding.n > 0) {
        if (decoder_init(&i->decoder, coding) < 0)
            return;
        i->coded = true;
    }
    i->json = promises_json(h);
    if (i->json)
        json_check_init(&i->check);
}

static void check_text(void *arg, struct str plain)
{
    struct inspect *i = arg;

    if (i->json)
        json_check_feed(&i->check, plain);
}

void inspect_feed(struct inspect *i, struct str piece)
{
    if (piece.n == 0)
        return;
    i->some = true;
    if (!inspect_wants(i))
        return;
    if (i->coded) {
        int r = decoder_feed(&i->decoder, piece, check_text, i);

        i->broken = r == -EBADMSG;
        i->unreadable = r < 0 && r != -EBADMSG;
    } else {
        check_text(i, piece);
    }
    if (i->json && json_check_is_lost(&i->check))
        i->broken = true;
}

bool inspect_wants(const struct inspect *i)
{
    return (i->json || i->coded) && !i->broken && !i->unreadable;
}

enum inspect_end inspect_end(const struct inspect *i)
{
    if (i->broken)
        return INSPECT_BAD;
    if (i->unreadable || (!i->json && !i->coded))
        return INSPECT_NOTHING;
    if (!i->some)
        return i->json ? INSPECT_EMPTY : INSPECT_NOTHING;
    if (i->coded && !decoder_whole(&i->decoder))
        return INSPECT_BAD;
    if (!i->json)
        return INSPECT_GOOD;
    switch (json_check_end(&i->check)) {
    case JSON_CHECK_EMPTY:
        return INSPECT_EMPTY;
    case JSON_CHECK_VALID:
        return INSPECT_GOOD;
    default:
        return INSPECT_BAD;
    }
}

void inspect_deinit(struct inspect *i)
{
    decoder_deinit(&i->decoder);
}
