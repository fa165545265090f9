/* Reads a client's request. */
#include "exchange/request.h"

#include <errno.h>
#include <stdio.h>

#include "base/escape.h"
#include "base/units.h"
#include "http/json.h"

#define OVERRIDE_ATTEMPTS_MAX 100

/* RFC 9562 version 4, variant 10: xxxxxxxx-xxxx-4xxx-[89ab]xxx-xxxxxxxxxxxx. Written by hand,
 * because every request needs one and snprintf takes ten times as long. */
static void make_id(char out[REQUEST_ID_MAX], uint64_t a, uint64_t b)
{
    uint64_t bits[2] = {(a & ~0xf000ULL) | 0x4000, (b & ~(0xc000ULL << 48)) | (0x8000ULL << 48)};

    for (unsigned i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            *out++ = '-';
        *out++ = "0123456789abcdef"[bits[i / 16] >> (60 - i % 16 * 4) & 0xf];
    }
    *out = '\0';
}

void request_init(struct request *r, uint64_t max_body, uint64_t random_a, uint64_t random_b)
{
    memset(r, 0, sizeof(*r));
    http_request_init(&r->http);
    body_init(&r->body, max_body);
    r->choices = 1;
    make_id(r->id, random_a, random_b);
}

void request_deinit(struct request *r)
{
    http_request_deinit(&r->http);
    body_deinit(&r->body);
}

ptrdiff_t request_body(struct request *r, const void *data, size_t n)
{
    struct str encoding;

    if (r->body.length == 0 && headers_get(&r->http.headers, STR("content-encoding"), &encoding))
        body_expect(&r->body, encoding);
    return body_append(&r->body, data, n);
}

static int bad(char *ret, size_t size, const char *name, struct str value, const char *expected)
{
    snprintf(ret, size, "retryd: header %s: found \"%.*s\"; expected %s", name,
             (int)(value.n > 40 ? 40 : value.n), value.p ? value.p : "", expected);
    return -EINVAL;
}

static bool yes(struct str v, bool *ret)
{
    *ret = str_ieq(v, STR("yes")) || str_ieq(v, STR("true")) || str_ieq(v, STR("1"));
    return *ret || str_ieq(v, STR("no")) || str_ieq(v, STR("false")) || str_ieq(v, STR("0"));
}

/* Reads a deadline: "1.5" is seconds, as in the SDKs' own headers; "1500ms" and the like work,
 * too. */
static bool deadline_value(struct str v, uint64_t *ret_ms)
{
    double seconds;

    if (str_to_decimal(v, &seconds) && seconds <= 1e9) {
        *ret_ms = (uint64_t)(seconds * 1000);
        return *ret_ms > 0;
    }
    return units_duration(v, ret_ms) && *ret_ms > 0;
}

static bool stream_mode_value(struct str v, struct request_overrides *o)
{
    static const struct {
        struct str word;
        enum stream_mode mode;
    } modes[] = {
        {{"live", 4}, STREAM_LIVE}, {{"splice", 6}, STREAM_SPLICE}, {{"hold", 4}, STREAM_HOLD}};

    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (!str_ieq(v, modes[i].word))
            continue;
        o->has_stream_mode = true;
        o->stream_mode = modes[i].mode;
        return true;
    }
    return false;
}

static int read_overrides(struct request *r, char *ret_problem, size_t size)
{
    const struct headers *h = &r->http.headers;
    struct str v;
    uint64_t n;

    if (headers_get(h, STR("x-retryd-max-attempts"), &v)) {
        if (!str_to_u64(v, &n) || n < 1 || n > OVERRIDE_ATTEMPTS_MAX)
            return bad(ret_problem, size, "x-retryd-max-attempts", v, "a number from 1 to 100");
        r->overrides.max_attempts = (unsigned)n;
    }
    if (headers_get(h, STR("x-retryd-deadline"), &v) &&
        !deadline_value(v, &r->overrides.deadline_ms))
        return bad(ret_problem, size, "x-retryd-deadline", v,
                   "seconds such as 2.5, or a duration such as 1500ms or 30s");
    if (headers_get(h, STR("x-retryd-no-retry"), &v) && !yes(v, &r->overrides.no_retry))
        return bad(ret_problem, size, "x-retryd-no-retry", v, "yes or no");
    if (headers_get(h, STR("x-retryd-stream-mode"), &v) && !stream_mode_value(v, &r->overrides))
        return bad(ret_problem, size, "x-retryd-stream-mode", v, "live, splice or hold");
    return 0;
}

#define CHOICES_MAX 64 /* as many as the guard can distinguish */

static unsigned choices_of(struct json_value n)
{
    uint64_t number;

    if (!json_to_u64(n, &number) || number < 1)
        return 1;
    return number < CHOICES_MAX ? (unsigned)number : CHOICES_MAX;
}

/* Decodes percent-encoding. Returns false if it is invalid, does not fit, or contains a NUL. */
static bool unescape_path(struct str s, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        int c = (unsigned char)s.p[i];

        if (c == '%') {
            c = escape_percent(s, i);
            i += 2;
        }
        if (c <= 0 || n + 1 >= size)
            return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return n > 0;
}

static bool query_asks_for_stream(struct str query)
{
    struct str piece;

    while (str_next(&query, '&', &piece))
        if (str_ieq(piece, STR("stream=true")))
            return true;
    return false;
}

static void read_body(struct request *r)
{
    /* A packed body may be known only in part. */
    bool part = body_packed_state(&r->body) != PACKED_READ;
    struct json_value values[BODY_KEYS];

    if (!body_values(&r->body, values)) {
        (void)body_form_model(&r->body, r->model, sizeof(r->model));
        r->may_stream =
            r->body.length > 0; /* a form's response: transcriptions and images can stream */
        return;
    }
    if (values[BODY_MODEL].type == JSON_STRING)
        escape_undo_json(values[BODY_MODEL].text, r->model, sizeof(r->model));
    r->stream = values[BODY_STREAM].type == JSON_TRUE;
    r->background = values[BODY_BACKGROUND].type == JSON_TRUE;
    r->may_stream = r->stream || (part && values[BODY_STREAM].type == JSON_NONE);
    /* In a spooled or encoded body only the type of an object is known. Stream options, if present,
     * are assumed to ask for usage, because that is their purpose. */
    r->usage_wanted =
        !body_is_plain(&r->body)
            ? values[BODY_OPTIONS].type == JSON_OBJECT
            : json_scan_one(values[BODY_OPTIONS].text, STR("include_usage")).type == JSON_TRUE;
    r->choices = choices_of(values[BODY_N]);
}

int request_read(struct request *r, char *ret_problem, size_t size)
{
    struct str v;
    uint64_t n;

    read_body(r);
    /* Google's APIs and Azure's deployments name the model in the path, which takes precedence.
     * Google's APIs also request a stream there: with alt=sse a stream of events, else one array,
     * sent in pieces. */
    struct str path = http_request_path(&r->http), named = dialect_path_model(path), alt;
    char model[MODEL_MAX];
    r->dialect = dialect_of(path);
    r->operation = operation_of(buf_str(&r->http.method), path, r->dialect);
    r->generates = http_request_is(&r->http, "POST") && dialect_generates(r->dialect, path);
    if (named.n > 0 && unescape_path(named, model, sizeof(model))) {
        r->names_resource = str_starts(str_from(r->model), STR("models/"));
        snprintf(r->model, sizeof(r->model), "%s", model);
        r->path_model_at = (size_t)(named.p - path.p);
        r->path_model_n = named.n;
    }
    if (dialect_path_streams(path)) {
        r->may_stream = r->stream =
            http_query_value(http_request_query(&r->http), STR("alt"), &alt) &&
            str_ieq(alt, STR("sse"));
        /* The number of candidates that a request to Gemini asks for. It is unknown if the body's
         * text is not in memory. */
        struct json_value config;
        if (!body_is_plain(&r->body)) {
            r->choices = 1;
        } else {
            config = json_scan_one(body_text(&r->body), STR("generationConfig"));
            r->choices = config.type == JSON_OBJECT
                             ? choices_of(json_scan_one(config.text, STR("candidateCount")))
                             : 1;
        }
    }
    if (body_is_packed(&r->body) && r->path_model_n == 0) {
        r->model_hidden = !r->model[0] && body_packed_state(&r->body) != PACKED_READ;
        r->model_fixed = r->model[0] != '\0';
    }
    if (query_asks_for_stream(http_request_query(&r->http)))
        r->may_stream = r->stream = true; /* a stored response is read again */
    if (headers_get(&r->http.headers, STR("x-stainless-retry-count"), &v) && str_to_u64(v, &n))
        r->sdk_retry = n > 1000 ? 1000 : (unsigned)n;
    return read_overrides(r, ret_problem, size);
}
