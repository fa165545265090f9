/* The one fake world of a test. */
#include "world_fixture.h"

#include <cJSON.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "stream/sse.h"
#include "stream_text.h"

struct fake_world w;

void world_set_up(void)
{
    fake_init(&w);
}

void world_tear_down(void)
{
    fake_deinit(&w);
    ck_assert_msg(!w.wrong, "%s", w.wrong);
}

void world_again(void)
{
    world_tear_down();
    world_set_up();
}

void world_follow(const struct fake_attempt *script, unsigned n)
{
    w.script = script;
    w.script_len = n;
}

void world_upstreams(unsigned n)
{
    static const char *const names[FAKE_UPSTREAMS] = {"a", "b", "c", "d"};

    w.upstream_count = n;
    for (unsigned i = 0; i < n; i++)
        w.upstreams[i] = (struct upstream){.name = names[i],
                                           .id = i + 1,
                                           .host = "api.example",
                                           .base_path = "/v1",
                                           .query = "",
                                           .auth_header = "Authorization",
                                           .idempotency_header = ""};
}

void world_finish(void)
{
    fake_run(&w);
    ck_assert_msg(!w.wrong, "%s", w.wrong);
    ck_assert(!w.stuck);
    ck_assert_int_eq(w.x.state, EXCHANGE_DONE);
    ck_assert_uint_eq(w.ended, 1);
}

bool world_body_is(const char *text)
{
    return str_eq(buf_str(&w.body), str_from(text));
}

void world_answered(const char *text)
{
    ck_assert_int_eq(w.x.end, END_ANSWERED);
    ck_assert(w.wholes == 1 || w.got_end);
    ck_assert_msg(world_body_is(text), "%.*s", (int)w.body.len, w.body.p);
}

/* The response that the client has the beginning of ends with the same reason. */
static struct str skip_failed(struct str body, const char *code)
{
    struct sse_reader reader;
    struct sse_event event;
    size_t n;

    if (!str_starts(body, STR("event: response.failed\n")))
        return body;
    sse_init(&reader);
    n = sse_next(&reader, body);
    ck_assert_uint_gt(n, 0);
    sse_parse((struct str){body.p, n}, &event);
    cJSON *json = cJSON_ParseWithLength(event.data.p, event.data.n);
    const cJSON *error = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "response"), "error");
    ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(error, "code")), code);
    cJSON_Delete(json);
    return (struct str){body.p + n, body.n - n};
}

void world_told(const char *text, const char *code, enum exchange_end end)
{
    size_t n = strlen(text);
    struct stream_told t;

    ck_assert_int_eq(w.x.end, end);
    ck_assert(w.got_end);
    ck_assert_uint_gt(w.body.len, n);
    ck_assert_msg(memcmp(w.body.p, text, n) == 0, "%.*s", (int)w.body.len, w.body.p);
    stream_read(skip_failed((struct str){w.body.p + n, w.body.len - n}, code), &t);
    free(t.answer);
    ck_assert_uint_eq(t.events - t.failed, 1);
    ck_assert_uint_eq(t.errors, 1);
    ck_assert_uint_eq(t.rest, 0);
    ck_assert_str_eq(t.code, code);
}
