/* Which API a path belongs to. */

#include "http/dialect.h"

#include <check.h>

#include "http/message.h"
#include "unit.h"

/* As the daemon gets it: without the query. */
static struct str path_of(const char *target)
{
    static struct http_request request;

    http_request_deinit(&request);
    http_request_init(&request);
    ck_assert_int_eq(http_request_text(&request.target, target), 0);
    return http_request_path(&request);
}

START_TEST(paths)
{
    static const struct {
        const char *path;
        enum dialect want;
    } cases[] = {
        {"/v1/chat/completions", DIALECT_CHAT},
        {"/chat/completions", DIALECT_CHAT},
        {"/v1/chat/completions?a=/responses", DIALECT_CHAT},
        {"/v1/chat/completions/", DIALECT_CHAT},
        {"/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", DIALECT_CHAT},
        {"/openai/deployments/responses/chat/completions", DIALECT_CHAT},
        {"/v1/completions", DIALECT_COMPLETIONS},
        {"/openai/deployments/d/completions?api-version=1", DIALECT_COMPLETIONS},
        {"/openai/deployments/chat/completions", DIALECT_COMPLETIONS},
        {"/v1/responses", DIALECT_RESPONSES},
        {"/v1/responses?stream=true", DIALECT_RESPONSES},
        {"/v1/responses/resp_1?stream=true&starting_after=7", DIALECT_RESPONSES},
        {"/responses/resp_1", DIALECT_RESPONSES},
        {"/openai/v1/responses", DIALECT_RESPONSES},
        {"/v1/messages", DIALECT_MESSAGES},
        {"/v1/messages?beta=true", DIALECT_MESSAGES},
        {"/v1/chat/completions/chatcmpl-1", DIALECT_OTHER},
        {"/v1/chat/completions/chatcmpl-1/messages", DIALECT_OTHER},
        {"/v1/threads/thread_1/messages", DIALECT_OTHER},
        {"/v1/responses/resp_1/cancel", DIALECT_OTHER},
        {"/v1/responses/resp_1/input_items", DIALECT_OTHER},
        {"/v1/responses/input_tokens", DIALECT_OTHER},
        {"/v1/responses/compact", DIALECT_OTHER},
        {"/v1/my-completions", DIALECT_OTHER},
        {"/v1/my-chat/completions", DIALECT_COMPLETIONS},
        {"/v1beta/models/gemini-2.5-flash:generateContent", DIALECT_GEMINI},
        {"/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=x", DIALECT_GEMINI},
        {"/v1/projects/p/locations/l/publishers/google/models/m:countTokens", DIALECT_GEMINI},
        {"/v1beta/tunedModels/t:generateContent", DIALECT_GEMINI},
        {"/v1internal:streamGenerateContent?alt=sse", DIALECT_GEMINI},
        {"/v1/projects/p/locations/l/publishers/anthropic/models/c@1:streamRawPredict",
         DIALECT_MESSAGES},
        {"/v1/projects/p/locations/l/publishers/other/models/m:streamRawPredict", DIALECT_OTHER},
        {"/v1beta/models/gemini-2.5-flash:somethingElse", DIALECT_OTHER},
        {"/v1beta/models/gemini-2.5-flash", DIALECT_OTHER},
        {"/v1/responses/resp:1", DIALECT_RESPONSES},
        {"/v1/messages/count_tokens", DIALECT_OTHER},
        {"/v1/models", DIALECT_OTHER},
        {"/v1/models?x=/chat/completions", DIALECT_OTHER},
        {"completions", DIALECT_OTHER},
        {"/", DIALECT_OTHER},
        {"", DIALECT_OTHER},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        enum dialect got = dialect_of(path_of(cases[i].path));
        ck_assert_msg(got == cases[i].want, "%s: %d", cases[i].path, got);
    }
}
END_TEST

START_TEST(the_model_in_a_path)
{
    static const struct {
        const char *path, *model;
        bool streams;
    } cases[] = {
        {"/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "gemini-2.5-flash", true},
        {"/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash", false},
        {"/models/a%2Fb:embedContent?x=:y", "a%2Fb", false},
        {"/x/publishers/google/models/g@001:streamGenerateContent/", "g@001", true},
        {"/x/publishers/anthropic/models/c:v:rawPredict", "c:v", false},
        {"/v1beta/tunedModels/t:generateContent", "", false},
        {"/v1internal:streamGenerateContent?alt=sse", "", true},
        {"/v1beta/models/:generateContent", "", false},
        {"/v1beta/models/m:other", "", false},
        {"/v1/chat/completions", "", false},
        {"", "", false},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct str path = path_of(cases[i].path), got = dialect_path_model(path);
        ck_assert_msg(str_eq(got, str_from(cases[i].model)), "%s: %.*s", cases[i].path, (int)got.n,
                      got.p);
        ck_assert_int_eq(dialect_path_streams(path), cases[i].streams);
    }
}
END_TEST

static bool generates(const char *target)
{
    struct str path = path_of(target);

    return dialect_generates(dialect_of(path), path);
}

START_TEST(c03_what_generates)
{
    static const char *const yes[] = {"/v1/chat/completions",
                                      "/openai/deployments/d/chat/completions?api-version=1",
                                      "/v1/completions",
                                      "/v1/responses",
                                      "/v1/responses/",
                                      "/v1/messages?beta=true",
                                      "/api/v1/embeddings",
                                      "/v1/moderations",
                                      "/v1beta/models/g:generateContent",
                                      "/v1beta/models/g:streamGenerateContent?alt=sse",
                                      "/v1beta/models/g:embedContent"};
    static const char *const no[] = {"/v1/responses/resp_1",
                                     "/v1/responses/resp_1/cancel",
                                     "/v1/responses/input_tokens",
                                     "/v1/messages/count_tokens",
                                     "/v1/threads/t/messages",
                                     "/v1/chat/completions/c",
                                     "/v1/files",
                                     "/v1/audio/transcriptions",
                                     "/v1/images/generations",
                                     "/v1/realtime/calls/c/hangup",
                                     "/mcp",
                                     "/v1beta/models/g:countTokens",
                                     "/v1beta/models/g:predictLongRunning",
                                     "embeddings",
                                     ""};

    for (size_t i = 0; i < COUNT(yes); i++)
        ck_assert_msg(generates(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < COUNT(no); i++)
        ck_assert_msg(!generates(no[i]), "%s", no[i]);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "dialect");

    tcase_add_test(tcase, paths);
    tcase_add_test(tcase, the_model_in_a_path);
    tcase_add_test(tcase, c03_what_generates);
}
