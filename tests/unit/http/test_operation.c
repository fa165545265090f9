/* Kinds of operations: by method and path, whatever the base. */
#include "http/dialect.h"

#include <check.h>

#include "http/message.h"
#include "unit.h"

static const struct {
    const char *method, *path;
    enum operation operation;
} cases[] = {
    {"POST", "/v1/chat/completions", OPERATION_GENERATE},
    {"POST", "/v1/completions", OPERATION_GENERATE},
    {"POST", "/v1/responses", OPERATION_GENERATE},
    {"POST", "/v1/responses/compact", OPERATION_GENERATE},
    {"POST", "/anthropic/v1/messages?beta=true", OPERATION_GENERATE},
    {"POST", "/openai/deployments/my-gpt/chat/completions?api-version=x", OPERATION_GENERATE},
    {"POST", "/v1beta/models/gemini-3:generateContent", OPERATION_GENERATE},
    {"POST", "/v1beta/models/gemini-3:streamGenerateContent?alt=sse", OPERATION_GENERATE},
    {"POST", "/v1/messages/count_tokens?beta=true", OPERATION_COUNT},
    {"POST", "/v1/responses/input_tokens", OPERATION_COUNT},
    {"POST", "/v1beta/models/gemini-3:countTokens", OPERATION_COUNT},
    {"POST", "/tokenize", OPERATION_COUNT},
    {"POST", "/v1/embeddings", OPERATION_EMBED},
    {"POST", "/v1/embeddings/", OPERATION_EMBED},
    {"POST", "/v1/moderations", OPERATION_EMBED},
    {"POST", "/openai/deployments/ada/embeddings", OPERATION_EMBED},
    {"POST", "/v1beta/models/e:batchEmbedContents", OPERATION_EMBED},
    {"GET", "/v1/models", OPERATION_READ},
    {"HEAD", "/api/hello", OPERATION_READ},
    {"GET", "/v1/responses/resp_1?stream=true", OPERATION_READ},
    {"GET", "/v1/chat/completions", OPERATION_READ},
    {"POST", "/v1/images/generations", OPERATION_OTHER},
    {"POST", "/v1/audio/speech", OPERATION_OTHER},
    {"POST", "/v1/files", OPERATION_OTHER},
    {"POST", "/v1/threads/t/messages", OPERATION_OTHER},
    {"POST", "/v1/responses/resp_1/cancel", OPERATION_OTHER},
    {"DELETE", "/v1/responses/resp_1", OPERATION_OTHER},
    {"POST", "/", OPERATION_OTHER},
    {"POST", "", OPERATION_OTHER},
};

/* As the daemon gets it: without the query. */
static struct str path_of(const char *target)
{
    static struct http_request request;

    http_request_deinit(&request);
    http_request_init(&request);
    ck_assert_int_eq(http_request_text(&request.target, target), 0);
    return http_request_path(&request);
}

START_TEST(each_path_has_its_kind)
{
    struct str path = path_of(cases[_i].path);
    enum operation o = operation_of(str_from(cases[_i].method), path, dialect_of(path));

    ck_assert_msg(o == cases[_i].operation, "%s %s: %s", cases[_i].method, cases[_i].path,
                  operation_word(o));
}
END_TEST

START_TEST(counting_and_reading_are_free)
{
    for (int o = 0; o < OPERATION_KINDS; o++)
        ck_assert_int_eq(operation_is_free((enum operation)o),
                         o == OPERATION_COUNT || o == OPERATION_READ);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "operations");

    tcase_add_loop_test(tcase, each_path_has_its_kind, 0, COUNT(cases));
    tcase_add_test(tcase, counting_and_reading_are_free);
}
