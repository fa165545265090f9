/* Loads an upstream's API keys from the environment or a file, and the password of the shared view
 * from a file. What is read is wiped here and kept only as secrets; no message shows any of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config_table.h"
#include "targets/target.h"

#define FILE_MAX (1024 * 1024)

struct key_file {
    const char *title; /* of the section */
    const char *key;   /* that names the file */
    const char *name;  /* as configured */
    unsigned line;
    struct config_report *report;
    char path[4096]; /* what is opened */
    size_t n;
    char text[FILE_MAX + 1]; /* what it holds: wiped before it is freed */
};

static int add_key(struct config_upstream *u, struct str text)
{
    struct secret **keys = realloc(u->keys, (u->key_count + 1) * sizeof *keys);

    if (!keys)
        return -ENOMEM;
    u->keys = keys;
    keys[u->key_count] = secret_new(text);
    if (!keys[u->key_count])
        return -ENOMEM;
    u->key_count++;
    return 0;
}

/* Why it is no key; NULL: it is one. */
static const char *key_fault(struct str key)
{
    if (!config_is_visible(key))
        return "is no key; expected printable ASCII without spaces";
    if (key.n > TARGET_KEY_MAX)
        return "is longer than 16 KiB, which no server takes for a key";
    return NULL;
}

static void keys_from_env(struct config_upstream *u, const char *title, unsigned line,
                          struct config_report *r)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *name = config_quote(str_from(u->api_key_env), quoted);
    const char *value = getenv(u->api_key_env);
    struct str key = str_trim(str_from(value));

    if (key.n == 0)
        config_problem(r, FAULT_KEY, line,
                       "[%s] api_key_env: the variable %s is %s; set it or remove the key; without "
                       "one the client's own key passes through",
                       title, name, value ? "empty" : "not set");
    else if (key_fault(key))
        config_problem(r, FAULT_KEY, line, "[%s] api_key_env: what %s holds %s", title, name,
                       key_fault(key));
    else if (add_key(u, key) < 0)
        config_no_memory(r);
}

/* A bare name is one of the credentials that systemd hands over. */
static bool find_file(struct key_file *f, const char **ret_remark)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    const char *name = f->name;
    int n;

    *ret_remark = "";
    if (strchr(name, '/')) {
        n = snprintf(f->path, sizeof f->path, "%s", name);
    } else if (folder && folder[0]) {
        n = snprintf(f->path, sizeof f->path, "%s/%s", folder, name);
    } else {
        *ret_remark = " (a name without a slash is a credential of systemd, but "
                      "CREDENTIALS_DIRECTORY is not set)";
        n = snprintf(f->path, sizeof f->path, "%s", name);
    }
    return n > 0 && (size_t)n < sizeof f->path;
}

/* Reads at most `size` bytes; the number, or -errno. */
static ssize_t read_up_to(int fd, char *out, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t n = read(fd, out + have, size - have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

static bool has_key(const struct config_upstream *u, struct str key)
{
    for (unsigned i = 0; i < u->key_count; i++) {
        if (str_eq(secret_text(u->keys[i]), key))
            return true;
    }
    return false;
}

static void keys_from_text(struct config_upstream *u, struct key_file *f, struct str rest)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *path = config_quote(str_from(f->path), quoted);
    struct str line;

    for (unsigned n = 1; str_next(&rest, '\n', &line); n++) {
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (key_fault(line)) {
            config_problem(f->report, FAULT_KEY, f->line, "[%s] api_key_file: line %u of %s %s",
                           f->title, n, path, key_fault(line));
            return;
        } else if (has_key(u, line)) {
            config_note(f->report, f->line,
                        "[%s] api_key_file: the key on line %u of %s is there already, and counts "
                        "once",
                        f->title, n, path);
        } else if (u->key_count == KEYS_MAX) {
            config_problem(f->report, FAULT_KEY, f->line,
                           "[%s] api_key_file: %s holds more than %d keys", f->title, path,
                           KEYS_MAX);
            return;
        } else if (add_key(u, line) < 0) {
            config_no_memory(f->report);
            return;
        }
    }
    if (u->key_count == 0)
        config_problem(f->report, FAULT_KEY, f->line, "[%s] api_key_file: %s holds no key",
                       f->title, path);
}

static void note_mode(struct key_file *f, int fd)
{
    char quoted[CONFIG_QUOTED_MAX];
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH))
        config_note(f->report, f->line,
                    "[%s] %s: everyone on this machine can read %s (mode %04o); 0600 would do",
                    f->title, f->key, config_quote(str_from(f->path), quoted),
                    (unsigned)(st.st_mode & 07777));
}

static void key_file_free(struct key_file *f)
{
    explicit_bzero(f->text, sizeof f->text);
    free(f);
}

/* Opens and reads the file into f->text; false where that was reported. */
static bool read_key_file(struct key_file *f)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *remark;
    ssize_t n = -ENAMETOOLONG;

    if (find_file(f, &remark)) {
        int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        n = -errno;
        if (fd >= 0) {
            note_mode(f, fd);
            n = read_up_to(fd, f->text, sizeof f->text);
            close(fd);
        }
    }
    if (n == (ssize_t)sizeof f->text)
        n = -EFBIG;
    if (n < 0 && *remark && f->report->examined)
        config_note(
            f->report, f->line,
            "[%s] %s: %s is a credential of systemd, which only the service sees: it was not "
            "read",
            f->title, f->key, config_quote(str_from(f->name), quoted));
    else if (n < 0)
        config_problem(f->report, FAULT_KEY, f->line, "[%s] %s: %s cannot be read: %s%s", f->title,
                       f->key, config_quote(str_from(f->path), quoted), strerror((int)-n), remark);
    else
        f->n = (size_t)n;
    return n >= 0;
}

static struct key_file *key_file_new(const char *key, const char *name, unsigned line,
                                     const char *title, struct config_report *r)
{
    struct key_file *f = calloc(1, sizeof *f);

    if (!f) {
        config_no_memory(r);
        return NULL;
    }
    f->title = title;
    f->key = key;
    f->name = name;
    f->line = line;
    f->report = r;
    return f;
}

void config_load_keys(struct config_upstream *u, const struct config_origin *o,
                      struct config_report *r)
{
    unsigned line = config_origin_line(o, "upstream", "api_key_file");
    struct key_file *f;

    if (u->api_key_env[0] && u->api_key_file[0]) {
        config_problem(r, FAULT_VALUE, line,
                       "[%s] api_key_file: api_key_env is set as well; expected one of the two",
                       o->title);
    } else if (u->api_key_env[0]) {
        keys_from_env(u, o->title, config_origin_line(o, "upstream", "api_key_env"), r);
    } else if (u->api_key_file[0]) {
        f = key_file_new("api_key_file", u->api_key_file, line, o->title, r);
        if (f && read_key_file(f))
            keys_from_text(u, f, (struct str){f->text, f->n});
        if (f)
            key_file_free(f);
    }
}

/* --- the password of the shared view ------------------------------------------------------------- */

static void password_from_text(struct config *c, struct key_file *f)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *path = config_quote(str_from(f->path), quoted);
    struct str rest = {f->text, f->n}, password;

    if (!str_next(&rest, '\n', &password) || password.n == 0) {
        config_problem(f->report, FAULT_KEY, f->line,
                       "[%s] %s: the first line of %s is empty; expected the password", f->title,
                       f->key, path);
    } else if (memchr(password.p, '\0', password.n)) {
        config_problem(f->report, FAULT_KEY, f->line,
                       "[%s] %s: the first line of %s is no password; expected text", f->title,
                       f->key, path);
    } else {
        c->shared_password = secret_new(password);
        if (!c->shared_password)
            config_no_memory(f->report);
    }
}

void config_load_password(struct config *c, const struct config_origin *o, struct config_report *r)
{
    struct key_file *f;

    if (!c->shared_password_file[0])
        return;
    f = key_file_new("redis_password_file", c->shared_password_file,
                     config_origin_line(o, "shared", "redis_password_file"), "shared", r);
    if (f && read_key_file(f))
        password_from_text(c, f);
    if (f)
        key_file_free(f);
}
