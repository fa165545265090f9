/* Files that a configuration names: what is wrong with them, and what becomes of it when they change. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config_text.h"
#include "pem_text.h"
#include "unit.h"

#define UPSTREAM "[upstream openai]\n"

static unsigned secret_that_fails; /* 1: the next one; 0: none */
static bool secret_failed;

/* In place of the C library's mmap, whatever the C library's headers call it: each secret has memory of its own
 * from it. */
void *own_mmap(void *at, size_t n, int protection, int flags, int fd, long offset) __asm__("mmap");

void *own_mmap(void *at, size_t n, int protection, int flags, int fd, long offset)
{
    if (secret_that_fails > 0 && --secret_that_fails == 0) {
        secret_failed = true;
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

static void write_text(const char *name, const char *text)
{
    config_text_write(name, text, strlen(text));
}

static void is_bad(const char *text, int error, const char *problems)
{
    struct loaded l = config_text_load(text);

    ck_assert_str_eq(l.problems, problems);
    ck_assert_int_eq(l.error, error);
    loaded_deinit(&l);
}

static void is_good(const char *text, const char *notes)
{
    struct loaded l = config_text_load(text);

    ck_assert_str_eq(l.problems, "");
    ck_assert_str_eq(l.notes, notes);
    loaded_deinit(&l);
}

static void write_key(const char *text)
{
    write_text("key.pem", text);
    ck_assert_int_eq(chmod("key.pem", 0600), 0);
}

static void write_both(const char *certificate, const char *key)
{
    config_text_write_client(certificate, key);
    ck_assert_int_eq(chmod("client.pem", 0600), 0);
}

/* --- what is wrong ---------------------------------------------------------------------------------- */

START_TEST(client_certificates)
{
    static const char both[] =
        UPSTREAM "client_cert_file = ./client.pem\nclient_key_file = ./key.pem\n";

    write_both(pem_certificate, "");
    write_key(pem_key);
    is_good(both, "");
    write_key(pem_other_key);
    is_bad(
        both, ENOKEY,
        "t.conf:3: [upstream openai] client_key_file: the key in \"./key.pem\" does not match the certificate in client_cert_file, or cannot be read\n");
    write_key("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    is_bad(
        both, ENOKEY,
        "t.conf:3: [upstream openai] client_key_file: the key in \"./key.pem\" is encrypted, and there is nobody to enter its passphrase; expected an unencrypted key (openssl pkey writes one)\n");
    write_key("-----BEGIN PRIVATE KEY-----\nMIGH\n");
    is_bad(both, ENOKEY,
           "t.conf:3: [upstream openai] client_key_file: \"./key.pem\" is incomplete; expected a "
           "private key in PEM\n");
    write_key(pem_key);
    write_both("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "");
    is_bad(
        both, ENOKEY,
        "t.conf:2: [upstream openai] client_cert_file: the certificate in \"./client.pem\" cannot "
        "be read\n");
    is_bad(
        UPSTREAM "client_cert_file = ./missing.pem\n", ENOKEY,
        "t.conf:2: [upstream openai] client_cert_file: \"./missing.pem\" cannot be read: No such "
        "file or directory\n");
}
END_TEST

START_TEST(one_file_for_both)
{
    static const char one[] = UPSTREAM "client_cert_file = ./client.pem\n";

    write_both(pem_certificate, pem_key);
    is_good(one, "");
    ck_assert_int_eq(chmod("client.pem", 0644), 0);
    is_good(one, "t.conf:2: [upstream openai] client_cert_file: everyone on this machine can read "
                 "\"./client.pem\" (mode 0644); 0600 would do\n");
    write_both(pem_certificate, "");
    is_bad(
        one, ENOKEY,
        "t.conf:2: [upstream openai] client_cert_file: \"./client.pem\" contains no private key; "
        "expected a private key in PEM\n");
    write_both(pem_certificate, pem_key);
    is_good(UPSTREAM "url = http://h/v1\nclient_cert_file = ./client.pem\n",
            "t.conf:3: [upstream openai] client_cert_file: has no effect without an https url\n");
    is_good(UPSTREAM "client_key_file = ./client.pem\n",
            "t.conf:2: [upstream openai] client_key_file: has no effect without "
            "client_cert_file\n");
}
END_TEST

START_TEST(authorities)
{
    static const char ca[] = UPSTREAM "ca_file = ./ca.pem\n";

    write_text("ca.pem", pem_certificate);
    is_good(ca, "");
    write_text("ca.pem", "");
    is_bad(ca, EINVAL,
           "t.conf:2: [upstream openai] ca_file: \"./ca.pem\" contains no certificate; expected "
           "certificates in PEM\n");
    write_text("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    is_bad(
        ca, EINVAL,
        "t.conf:2: [upstream openai] ca_file: \"./ca.pem\" is incomplete; expected certificates in "
        "PEM\n");
    write_text("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    is_bad(ca, EINVAL,
           "t.conf:2: [upstream openai] ca_file: a certificate in \"./ca.pem\" cannot be read\n");
}
END_TEST

START_TEST(proxy_passwords)
{
    static const char line[] = "proxy_password_file = ./keys\n";
    char text[256];
    struct loaded l;

    write_text("keys", "p:ss@w/%20\xc3\xbc\n");
    ck_assert_int_eq(chmod("keys", 0600), 0);
    snprintf(text, sizeof text, UPSTREAM "proxy = http://a%%40b%%zz@h:1/\n%s", line);
    l = config_text_load(text);
    ck_assert_str_eq(l.problems, "");
    ck_assert_str_eq(secret_text(l.config->upstreams[0].proxy_full).p,
                     "http://a%40b%25zz:p%3Ass%40w%2F%2520%C3%BC@h:1/");
    loaded_deinit(&l);
    snprintf(text, sizeof text, UPSTREAM "%s", line);
    is_good(text, "t.conf:2: [upstream openai] proxy_password_file: has no effect without proxy\n");
    snprintf(text, sizeof text, UPSTREAM "proxy = http://h:1\n%s", line);
    is_bad(text, EINVAL,
           "t.conf:3: [upstream openai] proxy_password_file: proxy names no user; expected proxy = "
           "http://USER@HOST:PORT\n");
    snprintf(text, sizeof text, UPSTREAM "proxy = http://u:p@h:1\n%s", line);
    is_bad(
        text, EINVAL,
        "t.conf:3: [upstream openai] proxy_password_file: proxy has a password too; expected only one of them\n");
    write_text("keys", "\n");
    snprintf(text, sizeof text, UPSTREAM "proxy = http://u@h:1\n%s", line);
    is_bad(
        text, ENOKEY,
        "t.conf:3: [upstream openai] proxy_password_file: the first line of \"./keys\" is empty; "
        "expected the password\n");
    write_text("keys", "a\tb\n");
    is_bad(
        text, ENOKEY,
        "t.conf:3: [upstream openai] proxy_password_file: the first line of \"./keys\" is not a password; expected text\n");
}
END_TEST

/* --- renewing ---------------------------------------------------------------------------------------- */

static const char full[] = UPSTREAM "api_key_file = ./keys\nclient_cert_file = ./client.pem\n"
                                    "client_key_file = ./key.pem\nca_file = ./ca.pem\n"
                                    "[upstream b]\nurl = https://b/v1\nca_file = ./ca.pem\n"
                                    "[route r]\nupstreams = b, openai\n";

enum { KEYS = 3, CERT = 1, KEY = 2, CA = 0, FILES = 4 }; /* in the order in which they are read */

static struct config *load_full(void)
{
    struct loaded l;
    struct config *c;

    write_text("keys", "k1\nk2\n");
    write_both(pem_certificate, "");
    write_key(pem_key);
    write_text("ca.pem", pem_certificate);
    l = config_text_load(full);
    ck_assert_str_eq(l.problems, "");
    c = config_ref(l.config);
    loaded_deinit(&l);
    ck_assert_uint_eq(c->file_count, FILES);
    return c;
}

static struct config *renew(const struct config *was)
{
    struct config *c = config_renew(was);

    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(c->file_count, was->file_count);
    ck_assert_uint_eq(c->upstream_count, was->upstream_count);
    ck_assert_uint_eq(c->route_count, was->route_count);
    ck_assert(config_same_source(c, was));
    ck_assert_uint_gt(c->serial, was->serial);
    return c;
}

static struct str key_of(const struct config *c, unsigned i)
{
    return secret_text(c->upstreams[0].keys[i]);
}

START_TEST(nothing_has_changed)
{
    struct config *c = load_full(), *d = renew(c);

    for (unsigned i = 0; i < FILES; i++)
        ck_assert(!d->files[i].changed && !d->files[i].problem);
    ck_assert_ptr_eq(d->upstreams[0].ca, c->upstreams[0].ca);
    ck_assert_ptr_eq(d->upstreams[1].ca, c->upstreams[0].ca);
    config_unref(c);
    ck_assert(str_eq(key_of(d, 1), STR("k2")));
    ck_assert_uint_eq(d->routes[0].upstream_count, 2);
    ck_assert_ptr_eq(d->routes[0].upstreams[1], &d->upstreams[0]);
    config_unref(d);
}
END_TEST

/* As a shell makes one for <(command): what it holds is there once. */
START_TEST(a_pipe_is_read_once)
{
    int reader, writer;
    struct config *c;
    struct loaded l;

    write_text("pipe", ""); /* so that it is in the tests' folder */
    ck_assert_int_eq(unlink("pipe"), 0);
    ck_assert_int_eq(mkfifo("pipe", 0600), 0);
    reader = open("pipe", O_RDONLY | O_NONBLOCK);
    writer = open("pipe", O_WRONLY);
    ck_assert_int_eq(write(writer, "k1\n", 3), 3);
    close(writer);
    l = config_text_load(UPSTREAM "api_key_file = ./pipe\n");
    close(reader);
    ck_assert_str_eq(l.problems, "");
    c = config_ref(l.config);
    loaded_deinit(&l);
    ck_assert(str_eq(key_of(c, 0), STR("k1")));
    ck_assert(!config_files_differ(c));
    config_unref(c);
    ck_assert_int_eq(unlink("pipe"), 0);
}
END_TEST

START_TEST(each_file_may_change)
{
    struct config *c = load_full(), *d;
    char two[8192];

    write_text("keys", "k3\n");
    snprintf(two, sizeof two, "%s%s", pem_certificate, pem_certificate);
    write_text("ca.pem", two);
    ck_assert(config_files_differ(c));
    ck_assert(config_key_file_differs(c, &c->upstreams[0]));
    ck_assert(!config_key_file_differs(c, &c->upstreams[1]));
    d = renew(c);
    ck_assert(d->files[KEYS].changed && d->files[CA].changed);
    ck_assert(!d->files[CERT].changed && !d->files[KEY].changed);
    ck_assert_uint_eq(d->upstreams[0].key_count, 1);
    ck_assert(str_eq(key_of(d, 0), STR("k3")));
    ck_assert_uint_ne(bundle_version(d->upstreams[0].ca), bundle_version(c->upstreams[0].ca));
    ck_assert_ptr_eq(d->upstreams[1].ca, d->upstreams[0].ca);
    config_unref(c);
    config_unref(d);
}
END_TEST

/* What cannot be used leaves what was there in force, and hinders no other file. */
START_TEST(halves_are_kept_out)
{
    struct config *c = load_full(), *d, *e;

    write_text("keys", "\n");
    write_key(pem_other_key);
    write_text("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    d = renew(c);
    ck_assert_str_eq(d->files[KEYS].problem,
                     "t.conf:2: [upstream openai] api_key_file: \"./keys\" contains no key\n");
    ck_assert_ptr_nonnull(strstr(d->files[KEY].problem, "does not match"));
    ck_assert_ptr_nonnull(strstr(d->files[CA].problem, "is incomplete"));
    ck_assert_ptr_null(d->files[CERT].problem);
    ck_assert_uint_eq(d->upstreams[0].key_count, 2);
    ck_assert(str_eq(secret_text(d->upstreams[0].client_key), str_from(pem_key)));
    ck_assert_ptr_eq(d->upstreams[0].ca, c->upstreams[0].ca);
    for (unsigned i = 0; i < FILES; i++)
        ck_assert(!d->files[i].changed);
    config_unref(c);
    write_text("keys", "k9\n");
    e = renew(d);
    ck_assert(e->files[KEYS].changed && !e->files[KEYS].problem);
    ck_assert(str_eq(key_of(e, 0), STR("k9")));
    ck_assert_ptr_nonnull(e->files[CA].problem); /* as long as it is so */
    config_unref(d);
    (void)unlink("ca.pem");
    d = renew(e);
    ck_assert_ptr_nonnull(strstr(d->files[CA].problem, "No such file"));
    ck_assert_ptr_nonnull(d->upstreams[1].ca);
    config_unref(d);
    config_unref(e);
}
END_TEST

START_TEST(each_allocation_may_fail)
{
    struct config *c = load_full();

    write_text("keys", "k3\nk4\n");
    config_text_renew_nomem(c);
    config_unref(c);
}
END_TEST

static const char secrets[] = UPSTREAM
    "api_key_file = ./keys\nclient_cert_file = ./client.pem\n"
    "client_key_file = ./key.pem\nproxy = http://u@h:1\nproxy_password_file = ./password\n";

static void write_secrets(void)
{
    write_text("keys", "k1\nk2\n");
    write_text("password", "p\n");
    write_both(pem_certificate, "");
    write_key(pem_key);
}

START_TEST(each_secret_may_find_no_memory)
{
    unsigned n = 0;

    write_secrets();
    do {
        struct loaded l;

        secret_failed = false;
        secret_that_fails = ++n;
        l = config_text_load(secrets);
        secret_that_fails = 0;
        ck_assert_msg(secret_failed == (l.config == NULL), "%u: %s", n, l.problems);
        ck_assert_int_eq(l.error, secret_failed ? ENOMEM : 0);
        loaded_deinit(&l);
    } while (secret_failed);
    ck_assert_uint_gt(n, 6); /* two keys, a password, the proxy with it, a certificate, its key */
}
END_TEST

/* The copy of what is kept is a secret, too. Without memory a new configuration has all of it, or there is none. */
START_TEST(each_secret_that_is_kept_may_find_no_memory)
{
    struct loaded l;
    unsigned n = 0, refused = 0;

    write_secrets();
    l = config_text_load(secrets);
    ck_assert_str_eq(l.problems, "");
    write_text("keys", "\n");
    write_text("password", "\n");
    write_key(pem_other_key);
    do {
        struct config *c;

        secret_failed = false;
        secret_that_fails = ++n;
        c = config_renew(l.config);
        secret_that_fails = 0;
        ck_assert(secret_failed || c);
        refused += !c;
        if (c) {
            ck_assert_uint_eq(c->upstreams[0].key_count, 2);
            ck_assert(str_eq(key_of(c, 1), STR("k2")));
            ck_assert(str_eq(secret_text(c->upstreams[0].proxy_full), STR("http://u:p@h:1")));
            ck_assert(str_eq(secret_text(c->upstreams[0].client_key), str_from(pem_key)));
        }
        config_unref(c);
    } while (secret_failed);
    ck_assert_uint_ge(refused, 5); /* two keys, a password, a certificate, its key */
    loaded_deinit(&l);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *files = unit_case(suite, "files"), *renewing = unit_case(suite, "renewing");

    tcase_add_test(files, client_certificates);
    tcase_add_test(files, one_file_for_both);
    tcase_add_test(files, authorities);
    tcase_add_test(files, proxy_passwords);
    tcase_add_test(renewing, nothing_has_changed);
    tcase_add_test(renewing, a_pipe_is_read_once);
    tcase_add_test(renewing, each_file_may_change);
    tcase_add_test(renewing, halves_are_kept_out);
    tcase_add_test(renewing, each_allocation_may_fail);
    tcase_add_test(renewing, each_secret_may_find_no_memory);
    tcase_add_test(renewing, each_secret_that_is_kept_may_find_no_memory);
}
