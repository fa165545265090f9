/* A configuration in the form that a worker uses, when memory is short. */
#include "worker/worker_config.h"

#include <check.h>
#include <stdlib.h>

#include "config_text.h"
#include "failmem.h"
#include "unit.h"

START_TEST(each_allocation_may_fail)
{
    struct metrics metrics;
    struct loaded l;
    size_t n;

    config_text_folder();
    setenv("KEY_OF_A", "sk-a", 1);
    l = config_text_load(
        "[upstream a]\nurl = https://a.example/v1\napi_key_env = KEY_OF_A\nheader.x-a = 1\n"
        "model.gpt = own\n[upstream b]\nurl = https://b.example/v1\n"
        "[route all]\nbase = /v1\nupstreams = a, b\n[route b]\nbase = /b\nupstreams = b\n");
    ck_assert_str_eq(l.problems, "");
    metrics_init(&metrics);
    for (n = 1;; n++) {
        struct worker_config *w;

        failmem_arm(n);
        w = worker_config_new(l.config, &metrics);
        if (!failmem_disarm()) {
            ck_assert_ptr_nonnull(w);
            worker_config_unref(w);
            break;
        }
        if (w) /* only the counters of an upstream are short: it shares those of "other" */
            worker_config_unref(w);
    }
    ck_assert_uint_gt(n, 8);
    metrics_deinit(&metrics);
    loaded_deinit(&l);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "worker_config");

    tcase_add_test(c, each_allocation_may_fail);
}
