/* Finds out what an error object is about, from its code, its type, or, failing both, its words. */
#include "policy/apierror.h"

#include "base/units.h"
#include "http/json.h"
#include "policy/apierror_words.h"
#include "policy/hint.h"

#define BODY_MAX (1024 * 1024) /* no error is longer; a longer body is not looked at */
#define HINT_TEXT_MAX 4096     /* how much of a message is searched for a wait */

/* A time of day as a number: from here on it counts milliseconds, below seconds. */
#define EPOCH_MS_LEAST UINT64_C(100000000000)

/* "Request too large for gpt-4o ... on tokens per min (TPM): Limit 30000, Requested 40000" comes
 * as a 429 with rate_limit_exceeded, but no wait makes it fit: it asks for another model, as a
 * context overflow does. */
static enum apierror_kind kind_of(const struct apierror *e, const char *google_status)
{
    const char *const said[] = {e->code, e->type, google_status};
    struct str message = str_from(e->message);
    enum apierror_kind kind = APIERROR_OTHER, phrase;

    if (str_istarts(message, STR("request too large for ")))
        return APIERROR_CONTEXT;
    if (apierror_is_throttling(message))
        return APIERROR_RATE_LIMIT;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]) && kind == APIERROR_OTHER; i++)
        kind = apierror_word(str_from(said[i])).kind;
    if (kind != APIERROR_OTHER && kind != APIERROR_RATE_LIMIT)
        return kind;
    phrase = apierror_phrase(message);
    if (phrase == APIERROR_QUOTA || (phrase != APIERROR_OTHER && kind == APIERROR_OTHER))
        return phrase; /* an empty account counts as a limit of each minute with some */
    return kind == APIERROR_OTHER && e->status == 402 ? APIERROR_QUOTA : kind;
}

unsigned apierror_status(const struct apierror *e)
{
    static const unsigned by_kind[] = {
        [APIERROR_NONE] = 502,       [APIERROR_OTHER] = 502,   [APIERROR_RATE_LIMIT] = 429,
        [APIERROR_OVERLOADED] = 503, [APIERROR_QUOTA] = 429,   [APIERROR_KEY] = 401,
        [APIERROR_MODEL] = 404,      [APIERROR_CONTEXT] = 400, [APIERROR_CONTENT_POLICY] = 400,
    };
    const char *const said[] = {e->code, e->type};

    if (e->status)
        return e->status;
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        struct apierror_meaning m = apierror_word(str_from(said[i]));
        if (m.status && m.kind == e->kind) /* the word that its kind comes from */
            return m.status;
    }
    return by_kind[e->kind];
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The text of a string, or a number as it stands; anything else is no text. */
static void take_text(const struct json_value *v, char *out, size_t size)
{
    out[0] = '\0';
    if (v->type == JSON_STRING)
        (void)json_unescape(v->text, out, size);
    else if (v->type == JSON_NUMBER && v->text.n < size)
        (void)json_unescape(v->text, out, size);
}

/* A server may quote the key it refuses: what follows the beginning of one is blanked, for the log. */
static void mask_behind(char *message, const char *mark)
{
    for (char *p = message; (p = strstr(p, mark)) != NULL;) {
        p += strlen(mark);
        while ((*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
               *p == '-' || *p == '_')
            *p++ = '*';
    }
}

static void mask_keys(char *message)
{
    mask_behind(message, "sk-");
    mask_behind(message, "AIza"); /* Google's: "Consumer 'api_key:AIza...' has been suspended." */
    mask_behind(message, "api_key:");
}

static void take_message(const struct json_value *v, struct apierror *e)
{
    if (v->type != JSON_STRING)
        return;
    (void)json_unescape(v->text, e->message, sizeof e->message);
    mask_keys(e->message);

    struct str text = v->text;
    if (text.n > HINT_TEXT_MAX)
        text.n = HINT_TEXT_MAX;
    e->has_hint = apierror_message_hint(text, &e->hint_ms);
}

static unsigned error_status(const char *text)
{
    uint64_t n;

    return str_to_u64(str_from(text), &n) && n >= 400 && n <= 599 ? (unsigned)n : 0;
}

/* The keys of interest, at the top of a body or inside its `error`. */
enum {
    ERROR,
    MESSAGE,
    TYPE,
    CODE,
    STATUS,
    DETAIL,
    OBJECT,
    RESPONSE,
    CHOICES,
    STATUS_CODE,
    HTTP_CODE, /* MiniMax */
    BASE_RESP, /* ... */
    MSG,
    WANTS
};

static void scan(struct str text, struct json_want wants[WANTS])
{
    static const struct str keys[WANTS] = {
        [ERROR] = {"error", 5},
        [MESSAGE] = {"message", 7},
        [TYPE] = {"type", 4},
        [CODE] = {"code", 4},
        [STATUS] = {"status", 6},
        [DETAIL] = {"detail", 6},
        [OBJECT] = {"object", 6},
        [RESPONSE] = {"response", 8},
        [CHOICES] = {"choices", 7},
        [STATUS_CODE] = {"status_code", 11},
        [HTTP_CODE] = {"http_code", 9},
        [BASE_RESP] = {"base_resp", 9},
        [MSG] = {"msg", 3},
    };

    for (int i = 0; i < WANTS; i++)
        wants[i].key = keys[i];
    (void)json_scan(text, wants, WANTS); /* what was found in a cut body counts too */
}

static bool is_text(const struct json_want *w, struct str text)
{
    return w->value.type == JSON_STRING && str_eq(w->value.text, text);
}

/* A status that stands beside an error's texts. */
static unsigned status_beside(struct json_want wants[WANTS])
{
    static const unsigned char places[] = {STATUS, STATUS_CODE, HTTP_CODE};
    unsigned status = 0;
    char text[64];

    for (size_t i = 0; i < sizeof(places) && status == 0; i++) {
        take_text(&wants[places[i]].value, text, sizeof text);
        status = error_status(text);
    }
    return status;
}

/* Nothing more is known of it than that it is the client's own fault. */
static unsigned status_of_words(const struct apierror *e, const char *google_status)
{
    const char *const said[] = {e->code, e->type, google_status};

    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        unsigned status = apierror_word(str_from(said[i])).status;
        if (status >= 400 && status < 500)
            return status;
    }
    return 0;
}

/* An object with fields of an error: its own, and its kind from them. */
static void read_fields(struct json_want wants[WANTS], bool own_type, struct apierror *e)
{
    char google_status[64];

    take_text(&wants[CODE].value, e->code, sizeof e->code);
    if (own_type)
        take_text(&wants[TYPE].value, e->type, sizeof e->type);
    take_text(&wants[STATUS].value, google_status, sizeof google_status);
    take_message(&wants[MESSAGE].value, e);
    e->status = error_status(e->code);
    if (e->status == 0)
        e->status = status_beside(wants);
    e->kind = kind_of(e, google_status);
    if (e->kind == APIERROR_OTHER && e->status == 0)
        e->status = status_of_words(e, google_status);
}

/* --- waits in fields ---------------------------------------------------------------------------- */

#define FOREVER_MS (UINT64_C(1) << 52)

/* A number of units, as a number or as a text. */
static bool decimal_of(const struct json_value *v, double unit_ms, uint64_t *ret_ms)
{
    double number;

    if ((v->type != JSON_NUMBER && v->type != JSON_STRING) || !str_to_decimal(v->text, &number) ||
        number < 0)
        return false;
    number *= unit_ms;
    *ret_ms = number < (double)FOREVER_MS ? (uint64_t)number : FOREVER_MS;
    *ret_ms += (double)*ret_ms < number && *ret_ms < FOREVER_MS;
    return true;
}

/* "2.1s": google.protobuf.Duration. */
static bool read_details(struct str details, uint64_t *ret_ms)
{
    struct json_iter i = json_iter(details);
    struct json_value detail;

    while (json_next_element(&i, &detail)) {
        struct json_value delay = json_scan_one(detail.text, STR("retryDelay"));
        if (delay.type == JSON_STRING && units_go_duration(delay.text, ret_ms))
            return true;
    }
    return false;
}

/* A time of day: seconds or milliseconds since 1970, as a number or a text, or RFC 3339. */
static uint64_t time_of(const struct json_value *v)
{
    uint64_t ms;

    if (v->type == JSON_STRING && hint_rfc3339(v->text, &ms))
        return ms;
    if (!decimal_of(v, 1, &ms))
        return 0;
    return ms < EPOCH_MS_LEAST ? ms * 1000 : ms;
}

/* OpenRouter quotes the fields of a head within the error. */
static uint64_t time_in_metadata(const struct json_value *metadata)
{
    struct json_value headers, reset;
    uint64_t ms;

    if (metadata->type != JSON_OBJECT)
        return 0;
    headers = json_scan_one(metadata->text, STR("headers"));
    if (headers.type != JSON_OBJECT)
        return 0;
    reset = json_scan_one(headers.text, STR("X-RateLimit-Reset"));
    ms = time_of(&reset);
    return ms >= EPOCH_MS_LEAST ? ms : 0;
}

/* The waits that an error's own fields name; those of the object within come first. */
static void read_waits(struct str text, struct apierror *e)
{
    enum { IN_SECONDS, AFTER_MS, AFTER_SECONDS, AFTER, AT, DETAILS, METADATA, KEYS };
    struct json_want w[KEYS] = {[IN_SECONDS] = {.key = STR("resets_in_seconds")},
                                [AFTER_MS] = {.key = STR("retry_after_ms")},
                                [AFTER_SECONDS] = {.key = STR("retry_after_seconds")},
                                [AFTER] = {.key = STR("retry_after")},
                                [AT] = {.key = STR("resets_at")},
                                [DETAILS] = {.key = STR("details")},
                                [METADATA] = {.key = STR("metadata")}};
    static const double unit_ms[] = {
        [IN_SECONDS] = 1000, [AFTER_MS] = 1, [AFTER_SECONDS] = 1000, [AFTER] = 1000};

    if (e->has_delay || e->resets_at_ms > 0)
        return;
    (void)json_scan(text, w, KEYS);
    for (int i = IN_SECONDS; i <= AFTER && !e->has_delay; i++)
        e->has_delay = decimal_of(&w[i].value, unit_ms[i], &e->delay_ms);
    if (!e->has_delay && w[DETAILS].value.type == JSON_ARRAY)
        e->has_delay = read_details(w[DETAILS].value.text, &e->delay_ms);
    e->resets_at_ms = time_of(&w[AT].value);
    if (e->resets_at_ms == 0 && !e->has_delay)
        e->resets_at_ms = time_in_metadata(&w[METADATA].value);
}

/* --- the shapes ---------------------------------------------------------------------------------- */

/* What only a member of a member tells apart: Anthropic's spend limit is a rate_limit_error but for its
 * error_code; OpenRouter's budget for requests under way is a 402 that passes, as a rate limit does. */
static void read_detail(struct str text, struct apierror *e)
{
    static const struct {
        struct str object, member;
    } places[] = {{{"details", 7}, {"error_code", 10}}, {{"metadata", 8}, {"limit_source", 12}}};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct json_value value = json_scan_one(text, places[i].object);
        enum apierror_kind kind;
        char word[64];

        if (value.type != JSON_OBJECT)
            continue;
        value = json_scan_one(value.text, places[i].member);
        take_text(&value, word, sizeof word);
        kind = apierror_word(str_from(word)).kind;
        if (kind != APIERROR_OTHER)
            e->kind = kind;
    }
}

/* {"error":{...}}; {} says that there was none. */
static void read_error_object(struct str text, struct apierror *e)
{
    struct json_want wants[WANTS];

    if (text.n < 2 || str_trim((struct str){text.p + 1, text.n - 2}).n == 0)
        return;
    scan(text, wants);
    read_fields(wants, true, e);
    read_detail(text, e);
    read_waits(text, e);
}

/* {"error":"text"}: the text is a message or a code; a code and a type may stand beside it. */
static void read_error_text(struct json_want beside[WANTS], struct json_value text,
                            struct apierror *e)
{
    if (text.text.n == 0)
        return;
    beside[MESSAGE].value = text;
    read_fields(beside, true, e);
    if (e->kind == APIERROR_OTHER)
        e->kind = apierror_word(str_from(e->message)).kind;
}

static void read_one_error(struct json_want beside[WANTS], struct json_value value,
                           struct apierror *e)
{
    if (value.type == JSON_OBJECT)
        read_error_object(value.text, e);
    else if (value.type == JSON_STRING)
        read_error_text(beside, value, e);
}

/* Whatever stands under `error`; of several in an array the first that says something. */
static void read_error_value(struct json_want beside[WANTS], struct json_value value,
                             struct apierror *e)
{
    struct json_iter i = json_iter(value.text);
    struct json_value each;

    if (value.type != JSON_ARRAY)
        read_one_error(beside, value, e);
    while (value.type == JSON_ARRAY && e->kind == APIERROR_NONE && json_next_element(&i, &each))
        read_one_error(beside, each, e);
}

/* A resource (a stored response, a fine-tuning job) may carry an `error` that tells how the thing
 * itself ended: fetching it succeeded. Completions are no such things. */
static bool is_resource(const struct json_want *object)
{
    struct str s = object->value.text;

    return object->value.type == JSON_STRING && !str_eq(s, STR("error")) &&
           !str_starts(s, STR("chat.completion")) && !str_eq(s, STR("text_completion"));
}

/* MiniMax tells it beside an answer, under a 200: a status_code of 0 is none (api-reference/errorcode). */
static void read_base_resp(const struct json_value *v, struct apierror *e)
{
    static const struct {
        uint64_t code;
        enum apierror_kind kind;
        unsigned status;
    } codes[] = {
        {1002, APIERROR_RATE_LIMIT, 429},
        {1039, APIERROR_RATE_LIMIT, 429},
        {1004, APIERROR_KEY, 401},
        {1008, APIERROR_QUOTA, 402},
        {1026, APIERROR_CONTENT_POLICY, 400},
        {1027, APIERROR_CONTENT_POLICY, 400},
        {2013, APIERROR_OTHER, 400},
        {2049, APIERROR_KEY, 401},
    };
    struct json_want w[] = {{.key = STR("status_code")}, {.key = STR("status_msg")}};
    struct json_want fields[WANTS] = {{.key = {NULL, 0}}};
    uint64_t code;

    if (v->type != JSON_OBJECT)
        return;
    json_scan(v->text, w, 2);
    if (!json_to_u64(w[0].value, &code) || code == 0)
        return;
    fields[CODE].value = w[0].value;
    fields[MESSAGE].value = w[1].value;
    read_fields(fields, false, e);
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].code != code)
            continue;
        e->kind = codes[i].kind;
        e->status = codes[i].status;
    }
}

static bool has_elements(const struct json_value *array)
{
    struct json_iter i = json_iter(array->text);
    struct json_value element;

    return array->type == JSON_ARRAY && json_next_element(&i, &element);
}

/* {"message":...} and {"detail":...} may also be a good answer's fields: only what their code says
 * can make an error of them. */
static void read_loose(struct json_want wants[WANTS], struct apierror *e)
{
    if (wants[MESSAGE].value.type != JSON_STRING)
        wants[MESSAGE].value = wants[MSG].value;
    if (wants[MESSAGE].value.type == JSON_STRING) {
        read_fields(wants, true, e);
        e->loose = e->kind;
        if (apierror_word(str_from(e->code)).kind == APIERROR_OTHER)
            e->kind = APIERROR_NONE;
    } else {
        take_message(&wants[DETAIL].value, e);
        e->loose = apierror_phrase(str_from(e->message));
    }
}

/* A choice that ended in an error: it says which, or only that it did. */
static void read_choice(struct str text, struct apierror *e)
{
    struct json_want w[] = {{.key = STR("error")}, {.key = STR("finish_reason")}};
    struct json_want words[WANTS] = {{.key = {NULL, 0}}};

    json_scan(text, w, 2);
    read_error_value(words, w[0].value, e);
    if (e->kind == APIERROR_NONE && w[1].value.type == JSON_STRING &&
        str_ieq(w[1].value.text, STR("error")))
        e->kind = APIERROR_OTHER;
}

static void read_choices(struct str choices, struct apierror *e)
{
    struct json_iter i = json_iter(choices);
    struct json_value choice;

    while (e->kind == APIERROR_NONE && json_next_element(&i, &choice))
        if (choice.type == JSON_OBJECT)
            read_choice(choice.text, e);
}

static bool may_be_error(const struct json_value *error)
{
    return error->type == JSON_OBJECT || error->type == JSON_STRING || has_elements(error);
}

static void read_object(struct str text, struct apierror *e)
{
    struct json_want wants[WANTS];

    scan(text, wants);
    if (is_text(&wants[TYPE], STR("response.failed"))) {
        struct json_value error = json_scan_one(wants[RESPONSE].value.text, STR("error"));
        e->kind = APIERROR_OTHER; /* it failed, whether it says why or not */
        if (error.type == JSON_OBJECT)
            read_error_object(error.text, e);
    } else if (may_be_error(&wants[ERROR].value)) {
        if (is_resource(&wants[OBJECT]))
            return;
        read_error_value(wants, wants[ERROR].value, e);
    } else if (is_text(&wants[TYPE], STR("error"))) {
        read_fields(wants, false, e);
    } else if (is_text(&wants[OBJECT], STR("error"))) {
        read_fields(wants, true, e);
    } else if (has_elements(&wants[CHOICES].value)) {
        read_choices(wants[CHOICES].value.text, e);
    } else if (wants[BASE_RESP].value.type == JSON_OBJECT) {
        read_base_resp(&wants[BASE_RESP].value, e);
    } else if (wants[CHOICES].value.type != JSON_ARRAY) {
        read_loose(wants, e);
    }
    if (e->status == 0 && e->kind == APIERROR_OTHER)
        e->status = status_beside(wants);
    read_waits(text, e);
}

static struct str without_brackets(struct str body)
{
    body = str_trim(body);
    if (body.n > 0 && body.p[0] == '[') /* Google: [{"error":{...}}] */
        body = str_trim((struct str){body.p + 1, body.n - 1});
    return body;
}

void apierror_parse(struct str body, struct apierror *ret_error)
{
    *ret_error = (struct apierror){.kind = APIERROR_NONE};
    if (body.n > BODY_MAX)
        return;
    body = without_brackets(body);
    if (body.n > 0 && body.p[0] == '{')
        read_object(body, ret_error);
}

void apierror_parse_response(struct str body, struct apierror *ret_error)
{
    struct json_want w[] = {{.key = STR("status")}, {.key = STR("error")}};

    apierror_parse(body, ret_error);
    if (ret_error->kind != APIERROR_NONE || body.n > BODY_MAX)
        return;
    json_scan(str_trim(body), w, 2);
    if (w[0].value.type != JSON_STRING || !str_eq(w[0].value.text, STR("failed")))
        return;
    *ret_error = (struct apierror){.kind = APIERROR_OTHER};
    if (w[1].value.type == JSON_OBJECT)
        read_error_object(w[1].value.text, ret_error);
}

bool apierror_is_google(struct str object)
{
    struct json_value code = json_scan_one(object, STR("code"));
    uint64_t n;

    return code.type == JSON_NUMBER && str_to_u64(code.text, &n) && n >= 400 && n <= 599;
}

/* --- the wait in a message -------------------------------------------------------------------- */

static bool is_word_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.';
}

static struct str skip(struct str s, size_t n)
{
    return (struct str){s.p + n, s.n - n};
}

static struct str cut_word(struct str *s)
{
    size_t n = 0;

    *s = str_trim(*s);
    while (n < s->n && is_word_char(s->p[n]))
        n++;
    struct str word = {s->p, n};
    *s = skip(*s, n);
    while (word.n > 0 && word.p[word.n - 1] == '.')
        word.n--;
    return word;
}

/* The configuration's name for a unit spelled out, or NULL. */
static const char *unit_of(struct str word)
{
    static const struct {
        struct str name;
        const char *unit;
    } units[] = {
        {{"millisecond", 11}, "ms"}, {{"ms", 2}, "ms"},  {{"second", 6}, "s"},
        {{"sec", 3}, "s"},           {{"s", 1}, "s"},    {{"minute", 6}, "m"},
        {{"min", 3}, "m"},           {{"hour", 4}, "h"}, {{"day", 3}, "d"},
    };

    if (word.n > 2 && (word.p[word.n - 1] | 0x20) == 's')
        word.n--;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (str_ieq(word, units[i].name))
            return units[i].unit;
    return NULL;
}

/* "9.816s", "6m0s" or "12 seconds" at the start of `s`. */
static bool read_wait(struct str s, uint64_t *ret_ms)
{
    struct str number = cut_word(&s);
    const char *unit;
    char text[32];

    if (number.n == 0 || number.n > 24)
        return false;
    if (!str_eq(number, STR("0")) && units_go_duration(number, ret_ms))
        return true;
    unit = unit_of(cut_word(&s));
    if (!unit)
        return false;
    memcpy(text, number.p, number.n);
    memcpy(text + number.n, unit, strlen(unit));
    return units_duration((struct str){text, number.n + strlen(unit)}, ret_ms);
}

bool apierror_message_hint(struct str message, uint64_t *ret_ms)
{
    static const struct str phrases[] = {
        {"try again in ", 13}, {"try again after ", 16}, {"retry after ", 12}, {"retry in ", 9},
        {"reset after ", 12},  {"resets after ", 13},    {"reset in ", 9},     {"resets in ", 10},
        {"please wait ", 12},  {"please wait for ", 16}};

    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++) {
        struct str rest = message;
        ptrdiff_t at;

        while ((at = str_ifind(rest, phrases[i])) >= 0) {
            rest = skip(rest, (size_t)at + phrases[i].n);
            if (read_wait(rest, ret_ms))
                return true;
        }
    }
    return false;
}
