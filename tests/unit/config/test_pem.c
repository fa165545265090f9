/* Which blocks a PEM text has, and whether they are complete. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "config/pem.h"
#include "pem_text.h"
#include "unit.h"

static struct pem look(const char *text)
{
    return pem_look(str_from(text));
}

START_TEST(whole_ones)
{
    char both[8192];
    struct pem p;

    p = look(pem_certificate);
    ck_assert(p.certificates == 1 && p.keys == 0 && !p.broken && !p.encrypted);
    snprintf(both, sizeof both, "a comment\r\n%sbetween: them\n%s", pem_certificate, pem_key);
    p = look(both);
    ck_assert(p.certificates == 1 && p.keys == 1 && !p.broken && !p.encrypted);
    p = look("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
             "-----BEGIN EC PRIVATE KEY-----\r\nAAAA\r\n-----END EC PRIVATE KEY-----");
    ck_assert(p.certificates == 0 && p.keys == 1 && !p.broken);
    p = look("-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----");
    ck_assert(p.certificates == 1 && !p.broken);
    p = look("");
    ck_assert(p.certificates == 0 && p.keys == 0 && !p.broken);
}
END_TEST

START_TEST(encrypted_ones)
{
    struct pem p = look("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"
                        "-----END ENCRYPTED PRIVATE KEY-----\n");

    ck_assert(p.keys == 1 && p.encrypted && !p.broken);
    p = look("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"
             "AAAA\n-----END RSA PRIVATE KEY-----\n");
    ck_assert(p.keys == 1 && p.encrypted && !p.broken);
}
END_TEST

/* A file that is being written ends anywhere. */
START_TEST(half_ones)
{
    size_t n = strlen(pem_certificate), whole = n - 1; /* without the last line's end */

    for (size_t i = 0; i <= n; i++) {
        struct pem p = pem_look((struct str){pem_certificate, i});

        ck_assert_msg(i >= whole ? p.certificates == 1 && !p.broken
                                 : p.broken || p.certificates == 0,
                      "after %zu bytes", i);
    }
}
END_TEST

START_TEST(broken_ones)
{
    static const char *const texts[] = {
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nA%AA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "AAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----",
    };

    for (size_t i = 0; i < COUNT(texts); i++)
        ck_assert_msg(look(texts[i]).broken, "%s", texts[i]);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *c = unit_case(suite, "pem");

    tcase_add_test(c, whole_ones);
    tcase_add_test(c, encrypted_ones);
    tcase_add_test(c, half_ones);
    tcase_add_test(c, broken_ones);
}
