/* Loads texts as configuration files for the tests. */
#include "config_text.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config_private.h"
#include "failmem.h"

#define NAME "t.conf"

static char folder[] = "/tmp/retryd-config-XXXXXX";
static pid_t owner;

static void remove_folder(void)
{
    static const char *const names[] = {NAME,         "keys",    "ca.pem",
                                        "client.pem", "key.pem", "creds/openai"};

    if (owner != getpid())
        return;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unlink(names[i]);
    (void)rmdir("creds");
    (void)rmdir(folder);
}

void config_text_folder(void)
{
    if (owner)
        return;
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
    owner = getpid();
    atexit(remove_folder);
}

void config_text_write(const char *name, const void *text, size_t n)
{
    FILE *f;

    config_text_folder();
    /* A file that is cut to nothing and written again is flushed to disk by some file systems. */
    (void)unlink(name);
    f = fopen(name, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

void config_text_write_client(const char *certificate, const char *key)
{
    char text[8192];

    snprintf(text, sizeof text, "%s%s", certificate, key);
    config_text_write("client.pem", text, strlen(text));
}

static void to_text(const struct buf *b, char *out, size_t size)
{
    ck_assert_uint_lt(b->len, size);
    if (b->len)
        memcpy(out, b->p, b->len);
    out[b->len] = '\0';
}

struct loaded config_text_load_bytes(const void *text, size_t n)
{
    struct buf problems, notes;
    struct loaded l = {0};

    config_text_write(NAME, text, n);
    buf_init(&problems, sizeof l.problems - 1);
    buf_init(&notes, sizeof l.notes - 1);
    l.config = config_load(NAME, &problems, &notes);
    l.error = l.config ? 0 : errno;
    to_text(&problems, l.problems, sizeof l.problems);
    to_text(&notes, l.notes, sizeof l.notes);
    buf_deinit(&problems);
    buf_deinit(&notes);
    /* One or the other, never both and never neither. */
    ck_assert_msg((l.config != NULL) == (l.problems[0] == '\0'), "problems: %s", l.problems);
    return l;
}

struct loaded config_text_load(const char *text)
{
    return config_text_load_bytes(text, strlen(text));
}

void loaded_deinit(struct loaded *l)
{
    config_unref(l->config);
    l->config = NULL;
}

void config_text_renew_nomem(struct config *c)
{
    bool failed = true;

    for (size_t n = 1; failed; n++) {
        struct config *renewed;

        failmem_arm(n);
        renewed = config_renew(c);
        failed = failmem_disarm();
        ck_assert(failed || renewed);
        config_unref(renewed);
    }
}

char *config_text_dump(const struct config *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    ck_assert_ptr_nonnull(f);
    config_dump(c, false, f);
    ck_assert_int_eq(fclose(f), 0);
    return text;
}

char *config_text_value(const char *dump, const char *section, const char *key)
{
    char wanted[128];
    const char *at = strstr(dump, section), *next;

    if (!at)
        return NULL;
    next = strstr(at + 1, "\n[");
    snprintf(wanted, sizeof wanted, "\n%s =", key);
    at = strstr(at, wanted);
    if (!at || (next && at > next))
        return NULL;
    at += strlen(wanted);
    at += *at == ' ';
    return str_dup((struct str){at, strcspn(at, "\n")});
}

char *config_text_source(const char *path)
{
    char name[4096], *text;
    FILE *f;
    long n;

    snprintf(name, sizeof name, "%s/%s", RETRYD_SOURCE_DIR, path);
    f = fopen(name, "r");
    ck_assert_msg(f != NULL, "%s cannot be read", name);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    n = ftell(f);
    rewind(f);
    text = calloc(1, (size_t)n + 1);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(fread(text, 1, (size_t)n, f), (size_t)n);
    fclose(f);
    return text;
}
