/* Determines the meaning of an error object from its code, its type or, without either, its
 * message; and writes error objects of our own. */
#include "policy/apierror.h"

#include "base/escape.h"
#include "base/units.h"
#include "http/json.h"
#include "http/json_tree.h"
#include "policy/apierror_words.h"
#include "policy/hint.h"

#define BODY_MAX (1024 * 1024) /* a longer body is not parsed, because no error is that long */
#define HINT_TEXT_MAX 4096     /* the part of a message that is searched for a wait */

/* A time since 1970 is in milliseconds from this number on, and in seconds below it. */
#define EPOCH_MS_LEAST UINT64_C(100000000000)

/* Returns the kind of an error from its texts. "Request too large for gpt-4o ... on tokens per min
 * (TPM): Limit 30000, Requested 40000" is a 429 with rate_limit_exceeded, but no wait makes the
 * request fit. It needs another model, like one that exceeds the context. */
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
        return phrase; /* some providers report an empty account as a rate limit */
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
        if (m.status && m.kind == e->kind) /* the kind came from this word */
            return m.status;
    }
    return by_kind[e->kind];
}

/* --- parsing ---------------------------------------------------------------------------------- */

/* Copies a string, unescaped, or a number. Any other value gives "". */
static void take_text(const struct json_value *v, char *out, size_t size)
{
    out[0] = '\0';
    if (v->type == JSON_STRING)
        (void)escape_undo_json(v->text, out, size);
    else if (v->type == JSON_NUMBER && v->text.n < size)
        (void)escape_undo_json(v->text, out, size);
}

/* Masks the word characters behind each `mark`. A server may quote the key that it rejects, and the
 * message goes to the log. */
static void mask_behind(char *message, const char *mark)
{
    for (char *p = message; (p = strstr(p, mark)) != NULL;) {
        p += strlen(mark);
        while ((*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
               *p == '-' || *p == '_')
            *p++ = '*';
    }
}

static void take_message(const struct json_value *v, struct apierror *e)
{
    if (v->type != JSON_STRING)
        return;
    (void)escape_undo_json(v->text, e->message, sizeof e->message);
    mask_behind(e->message, "sk-");
    mask_behind(e->message, "AIza"); /* Google: "Consumer 'api_key:AIza...' has been suspended." */
    mask_behind(e->message, "api_key:");

    struct str text = v->text;
    if (text.n > HINT_TEXT_MAX)
        text.n = HINT_TEXT_MAX;
    e->has_hint = apierror_message_hint(text, &e->hint_ms);
}

/* Returns the status that `text` is, if it is one of an error, else 0. */
static unsigned error_status(const char *text)
{
    uint64_t n;

    return str_to_u64(str_from(text), &n) && n >= 400 && n <= 599 ? (unsigned)n : 0;
}

/* The keys that matter, at the top level of a body or in its `error`. */
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
    BASE_RESP, /* MiniMax */
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
    (void)json_scan(text, wants, WANTS); /* values found in a body that was cut off count too */
}

static bool is_text(const struct json_want *w, struct str text)
{
    return w->value.type == JSON_STRING && str_eq(w->value.text, text);
}

/* Returns the status from a field beside an error's texts; 0 if there is none. */
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

/* Returns the 4xx status of an error that is only known to be the client's fault; 0 if it is
 * not. */
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

/* Fills `e` from the fields of an error object. */
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

/* --- waits in fields -------------------------------------------------------------------------- */

/* Converts a number, or a string that is one, to milliseconds. */
static bool decimal_of(const struct json_value *v, double unit_ms, uint64_t *ret_ms)
{
    return (v->type == JSON_NUMBER || v->type == JSON_STRING) &&
           units_decimal_ms(v->text, unit_ms, ret_ms);
}

/* Finds a retryDelay among Google's details: "2.1s", a google.protobuf.Duration. */
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

/* Returns a time in ms since 1970; 0 if it is none. It may be in seconds or milliseconds, as a
 * number or a string, or in RFC 3339 format. */
static uint64_t time_of(const struct json_value *v)
{
    uint64_t ms;

    if (v->type == JSON_STRING && hint_rfc3339(v->text, &ms))
        return ms;
    if (!decimal_of(v, 1, &ms))
        return 0;
    return ms < EPOCH_MS_LEAST ? ms * 1000 : ms;
}

/* Returns the reset time in the header fields that OpenRouter quotes in the error; 0 if there is
 * none. */
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

/* Reads the waits that fields of an error name. The caller reads the inner object first, and its
 * waits take precedence. */
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

/* --- the formats ------------------------------------------------------------------------------ */

/* Reads {"error":{...}}. An empty object means that there was no error. */
static void read_error_object(struct str text, struct apierror *e)
{
    struct json_want wants[WANTS];

    if (text.n < 2 || str_trim((struct str){text.p + 1, text.n - 2}).n == 0)
        return;
    scan(text, wants);
    read_fields(wants, true, e);
    /* Nested members decide two kinds of errors. Anthropic's spend limit differs from a
     * rate_limit_error only by the error_code; OpenRouter's limit on requests in flight is a 402
     * but temporary, like a rate limit. */
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
    read_waits(text, e);
}

/* Reads {"error":"text"}. The text is a message or a code; a code and a type may be beside it. */
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

/* Reads the value of `error`. In an array the first error that has content counts. */
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

/* Reads MiniMax's base_resp, which is part of every response and comes with status 200. A
 * status_code of 0 is no error (api-reference/errorcode). */
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

/* Reads {"message":...} and {"detail":...}. A good response may have these fields too, so only a
 * known code makes them an error. */
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

static void read_object(struct str text, struct apierror *e)
{
    struct json_want wants[WANTS];

    scan(text, wants);
    if (is_text(&wants[TYPE], STR("response.failed"))) {
        struct json_value error = json_scan_one(wants[RESPONSE].value.text, STR("error"));
        e->kind = APIERROR_OTHER; /* it has failed, even without a reason */
        if (error.type == JSON_OBJECT)
            read_error_object(error.text, e);
    } else if (wants[ERROR].value.type == JSON_OBJECT || wants[ERROR].value.type == JSON_STRING ||
               has_elements(&wants[ERROR].value)) {
        /* The `error` of a resource, such as a stored response or a fine-tuning job, says how the
         * resource ended; the request for it succeeded. Completions do not count. */
        struct str s = wants[OBJECT].value.text;
        if (wants[OBJECT].value.type == JSON_STRING && !str_eq(s, STR("error")) &&
            !str_starts(s, STR("chat.completion")) && !str_eq(s, STR("text_completion")))
            return;
        read_error_value(wants, wants[ERROR].value, e);
    } else if (is_text(&wants[TYPE], STR("error"))) {
        read_fields(wants, false, e);
    } else if (is_text(&wants[OBJECT], STR("error"))) {
        read_fields(wants, true, e);
    } else if (has_elements(&wants[CHOICES].value)) {
        struct json_iter i = json_iter(wants[CHOICES].value.text);
        struct json_value choice;
        while (e->kind == APIERROR_NONE && json_next_element(&i, &choice))
            if (choice.type == JSON_OBJECT) {
                /* A choice that ended with an error may hold the error, or only a finish_reason. */
                struct json_want w[] = {{.key = STR("error")}, {.key = STR("finish_reason")}};
                struct json_want words[WANTS] = {{.key = {NULL, 0}}};
                json_scan(choice.text, w, 2);
                read_error_value(words, w[0].value, e);
                if (e->kind == APIERROR_NONE && w[1].value.type == JSON_STRING &&
                    str_ieq(w[1].value.text, STR("error")))
                    e->kind = APIERROR_OTHER;
            }
    } else if (wants[BASE_RESP].value.type == JSON_OBJECT) {
        read_base_resp(&wants[BASE_RESP].value, e);
    } else if (wants[CHOICES].value.type != JSON_ARRAY) {
        read_loose(wants, e);
    }
    if (e->status == 0 && e->kind == APIERROR_OTHER)
        e->status = status_beside(wants);
    read_waits(text, e);
}

void apierror_parse(struct str body, struct apierror *ret_error)
{
    *ret_error = (struct apierror){.kind = APIERROR_NONE};
    if (body.n > BODY_MAX)
        return;
    body = str_trim(body);
    if (body.n > 0 && body.p[0] == '[') /* Google: [{"error":{...}}] */
        body = str_trim((struct str){body.p + 1, body.n - 1});
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

/* Returns the unit as the configuration writes it, or NULL. */
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

/* Reads "9.816s", "6m0s" or "12 seconds" at the start of `s`. */
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

/* --- errors of our own ------------------------------------------------------------------------ */

static void fill_object(struct json_tree *t, struct cJSON *error, const char *message,
                        const char *type, const char *code)
{
    json_tree_text(t, error, "message", message);
    json_tree_text(t, error, "type", type);
    json_tree_text(t, error, "param", NULL);
    json_tree_text(t, error, "code", code);
}

/* Returns Google's name for a status, as google/rpc/code.proto maps them. */
static const char *google_status(unsigned status)
{
    static const struct {
        unsigned status;
        const char *word;
    } words_of[] = {
        {401, "UNAUTHENTICATED"},   {403, "PERMISSION_DENIED"}, {404, "NOT_FOUND"},
        {408, "DEADLINE_EXCEEDED"}, {409, "ABORTED"},           {429, "RESOURCE_EXHAUSTED"},
        {500, "INTERNAL"},          {501, "UNIMPLEMENTED"},     {504, "DEADLINE_EXCEEDED"},
    };

    for (size_t i = 0; i < sizeof words_of / sizeof words_of[0]; i++)
        if (words_of[i].status == status)
            return words_of[i].word;
    return status < 500 ? "INVALID_ARGUMENT" : "UNAVAILABLE";
}

int apierror_write(struct buf *out, enum dialect dialect, unsigned status, const char *message,
                   const char *type, const char *code)
{
    struct cJSON *error;
    struct json_tree t;

    json_tree_begin(&t);
    if (dialect == DIALECT_MESSAGES)
        json_tree_text(&t, t.root, "type", "error");
    error = json_tree_object(&t, t.root, "error");
    if (dialect == DIALECT_GEMINI) {
        struct cJSON *info, *metadata;
        json_tree_number(&t, error, "code", status);
        json_tree_text(&t, error, "message", message ? message : "");
        json_tree_text(&t, error, "status", google_status(status));
        info = json_tree_object(&t, json_tree_array(&t, error, "details"), NULL);
        json_tree_text(&t, info, "@type", "type.googleapis.com/google.rpc.ErrorInfo");
        json_tree_text(&t, info, "reason", code ? code : "unknown");
        json_tree_text(&t, info, "domain", "retryd");
        metadata = json_tree_object(&t, info, "metadata");
        if (type)
            json_tree_text(&t, metadata, "type", type);
    } else
        fill_object(&t, error, message, type, code);
    return json_tree_end(&t, out);
}

int apierror_write_object(struct buf *out, const char *message, const char *type, const char *code)
{
    struct json_tree t;

    json_tree_begin(&t);
    fill_object(&t, t.root, message, type, code);
    return json_tree_end(&t, out);
}
