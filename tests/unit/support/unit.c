/* The main of every unit test. */
#include "unit.h"

#include <cJSON.h>
#include <errno.h>
#include <stdlib.h>

static int argument_count;
static char **arguments;

TCase *unit_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    suite_add_tcase(suite, tcase);
    return tcase;
}

uint64_t unit_argument(int number, uint64_t otherwise)
{
    return number < argument_count ? strtoull(arguments[number], NULL, 0) : otherwise;
}

uint64_t unit_random(void)
{
    static uint64_t state = 88172645463325252;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

uint64_t unit_below(uint64_t n)
{
    return (unit_random() >> 11) % n;
}

int main(int argc, char **argv)
{
    Suite *suite = suite_create(program_invocation_short_name);
    cJSON_Hooks wrapped = {malloc, free}; /* failmem.h fails cJSON's allocations, too */
    SRunner *runner;
    int failed;

    cJSON_InitHooks(&wrapped);
    argument_count = argc;
    arguments = argv;
    unit_tests(suite);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
