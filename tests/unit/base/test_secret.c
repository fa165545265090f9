/* Secrets: the text is stored, and the kernel leaves it out of core dumps. */

#include "base/secret.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

START_TEST(keeps_the_text)
{
    for (size_t n = 0; n < 10000; n += 97) {
        char *text = malloc(n + 1);
        memset(text, 'k', n + 1);
        struct secret *s = secret_new((struct str){text, n});
        ck_assert_ptr_nonnull(s);
        ck_assert(str_eq(secret_text(s), (struct str){text, n}));
        ck_assert_int_eq(secret_text(s).p[n], '\0');
        secret_free(s);
        free(text);
    }
    secret_free(NULL);
}
END_TEST

/* "dd" among a mapping's VmFlags: do not include in a core dump (proc(5), smaps). */
START_TEST(its_pages_are_not_dumped)
{
    struct secret *s = secret_new(STR("sk-never-to-be-seen"));
    uintptr_t at = (uintptr_t)secret_text(s).p;
    FILE *maps = fopen("/proc/self/smaps", "r");
    char line[512];
    bool mine = false, dont_dump = false;

    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
            mine = at >= from && at < to;
        else if (mine && strncmp(line, "VmFlags:", 8) == 0)
            dont_dump = strstr(line, " dd") != NULL;
    }
    (void)fclose(maps);
    secret_free(s);
    ck_assert(dont_dump);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *tcase = unit_case(suite, "secret");

    tcase_add_test(tcase, keeps_the_text);
    tcase_add_test(tcase, its_pages_are_not_dumped);
}
