/* Reads what a whole answer holds: an error, or a completion that says nothing. */
#include <string.h>

#include "exchange/exchange_private.h"
#include "http/decode.h"
#include "stream/completion.h"

#define TEXT_MAX (256 * 1024) /* of a decoded body; the rest does not matter */

static bool holds(struct str text, const char *word)
{
    return str_find(text, str_from(word)) != NULL;
}

static bool creates_response(const struct exchange *x)
{
    return x->held.due && x->request.dialect == DIALECT_RESPONSES;
}

/* What every answer of its API has is missing: words beside that are an error's, whatever the status is. */
static bool lacks_response(const struct exchange *x, struct str text)
{
    if (!x->held.due || x->attempt->status == 202) /* taken on, to be answered later */
        return false;
    switch (x->stream.guard.dialect) {
    case DIALECT_CHAT:
    case DIALECT_COMPLETIONS:
        return !holds(text, "\"choices\"") || holds(text, "\"base_resp\"");
    case DIALECT_RESPONSES:
        return !holds(text, "\"output\"");
    case DIALECT_MESSAGES:
        return !holds(text, "\"content\"");
    default:
        return false;
    }
}

/* Spares most good answers the parser: each shape of an error has this word in quotes, as a key, a type
 * or a finish reason; or a response has failed. An array is a list of things but where one answers. */
static bool may_hold_error(const struct exchange *x, struct str text)
{
    bool array = x->held.due || x->request.dialect == DIALECT_GEMINI;

    if (x->attempt->status >= 400)
        return true;
    if (text.n == 0 || (text.p[0] != '{' && !(array && text.p[0] == '[')))
        return false;
    return holds(text, "\"error\"") || (creates_response(x) && holds(text, "\"failed\"")) ||
           lacks_response(x, text);
}

static void read_text(const struct exchange *x, struct str text, struct contents *ret)
{
    const struct attempt *a = x->attempt;

    text = str_trim(text);
    if (may_hold_error(x, text)) {
        if (a->status < 400 && creates_response(x))
            apierror_parse_response(text, &ret->error);
        else
            apierror_parse(text, &ret->error);
    }
    if (ret->error.kind == APIERROR_NONE && ret->error.message[0] != '\0' &&
        lacks_response(x, text))
        ret->error.kind = ret->error.loose;
    if (a->status >= 400 && ret->error.kind == APIERROR_NONE)
        ret->error.kind = ret->error.loose;
    ret->silent = a->done && a->status < 300 && x->held.due && ret->error.kind == APIERROR_NONE &&
                  completion_is_empty(x->stream.guard.dialect, text);
}

void contents_read(const struct exchange *x, struct contents *ret)
{
    const struct attempt *a = x->attempt;
    struct str encoding = {NULL, 0}, body = buf_str(&a->body);
    struct buf text;

    memset(ret, 0, sizeof(*ret));
    if (a->status < 400 && !x->held.due && !response_is_type(&a->headers, STR("application/json")))
        return;
    headers_get(&a->headers, STR("content-encoding"), &encoding);
    if (encoding.n == 0) {
        if (body.n > TEXT_MAX && a->status >= 400)
            body.n = TEXT_MAX;
        read_text(x, body, ret);
        return;
    }
    buf_init(&text, TEXT_MAX);
    if (decode_body(encoding, body, &text) == 0)
        read_text(x, buf_str(&text), ret);
    buf_deinit(&text);
}
