/* The log for a person: what each kind of line becomes. */
#include <check.h>

#include "base/buf.h"
#include "base/log.h"
#include "unit.h"

static void becomes(const char *line, bool colours, const char *wanted)
{
    struct buf out;

    buf_init(&out, 4096);
    log_pretty("12:00:01", str_from(line), colours, &out);
    buf_addc(&out, '\0');
    ck_assert_str_eq(out.p, wanted);
    buf_deinit(&out);
}

START_TEST(a_request_is_one_aligned_line)
{
    becomes("ts=x level=info msg=\"request\" id=0a1b2c3d4 model=gpt-4o target=openai method=POST "
            "path=/v1/chat/completions end=answered status=200 attempts=1 wait_ms=0 "
            "duration_ms=417 bytes=470\n",
            false,
            "12:00:01 200 POST /v1/chat/completions           gpt-4o                   0.4 s  "
            "openai  id=0a1b2c3d\n");
    becomes("ts=x level=info msg=\"request\" id=0a1b2c3d4 model=gpt-4o target=openai method=POST "
            "path=/v1/chat/completions end=answered status=200 attempts=2 wait_ms=3012 "
            "duration_ms=3426\n",
            false,
            "12:00:01 200 POST /v1/chat/completions           gpt-4o                   3.4 s  "
            "2 attempts, waited 3.0 s  openai  id=0a1b2c3d\n");
    becomes("ts=x level=info msg=\"request\" id=0a1b2c3d4 target=openai method=GET path=/v1/models "
            "end=failed status=503 attempts=5 wait_ms=0 duration_ms=9 reason=status\n",
            false,
            "12:00:01 503 GET /v1/models                                              0.0 s  "
            "5 attempts  failed status  openai  id=0a1b2c3d\n");
}
END_TEST

START_TEST(other_lines_keep_their_fields)
{
    becomes("ts=x level=info msg=\"gate closed\" target=openai for_ms=2001\n", false,
            "12:00:01 gate closed  target=openai  for_ms=2001\n");
    becomes(
        "ts=x level=info msg=\"attempt 1 of 5 failed: 503; next in 1.0 s\" id=0a1b2c3d4 model=m "
        "target=openai attempt=1 status=503\n",
        false,
        "12:00:01     attempt 1 of 5 failed: 503; next in 1.0 s  model=m  target=openai  id=0a1b2c3d\n");
}
END_TEST

/* What a client sends does not reach the terminal. */
START_TEST(escapes_stay)
{
    becomes("ts=x level=warn msg=\"a\\u001b[2J\\\"b\" key=\"x y\"\n", false,
            "12:00:01 a\\u001b[2J\\\"b  key=x y\n");
}
END_TEST

START_TEST(colours)
{
    becomes("ts=x level=error msg=\"bad\"\n", true,
            "\033[2m12:00:01 \033[0m\033[31mbad\033[2m\033[0m\n");
    becomes("msg=\"request\" id=0a1b2c3d4 model=m target=openai method=GET path=/ "
            "end=answered status=200 attempts=1 wait_ms=0 duration_ms=0\n",
            true,
            "\033[2m12:00:01 \033[0m\033[32m200\033[0m GET /                              m        "
            "                0.0 s\033[2m  openai  id=0a1b2c3d\033[0m\n");
}
END_TEST

START_TEST(what_is_no_logfmt_is_harmless)
{
    becomes("", false, "12:00:01 \n");
    becomes("=", false, "12:00:01   =\n");
    becomes("msg=\"open", false, "12:00:01 \"open\n");
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *all = unit_case(suite, "log_pretty");

    tcase_add_test(all, a_request_is_one_aligned_line);
    tcase_add_test(all, other_lines_keep_their_fields);
    tcase_add_test(all, escapes_stay);
    tcase_add_test(all, colours);
    tcase_add_test(all, what_is_no_logfmt_is_harmless);
}
