/* Loads an upstream's API keys from the environment or a file. What is read is wiped here and kept
 * only as secrets; no message shows any of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config_table.h"

#define KEYS_MAX 256
#define FILE_MAX (64 * 1024)

struct key_file {
    struct config_upstream *upstream;
    const char *title;
    unsigned line;
    struct config_report *report;
    char path[4096]; /* what is opened */
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
    else if (!config_is_visible(key))
        config_problem(r, FAULT_KEY, line,
                       "[%s] api_key_env: what %s holds is no key; expected printable ASCII "
                       "without spaces",
                       title, name);
    else if (add_key(u, key) < 0)
        config_no_memory(r);
}

/* A bare name is one of the credentials that systemd hands over. */
static bool find_file(struct key_file *f, const char **ret_remark)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    const char *name = f->upstream->api_key_file;
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

static void keys_from_text(struct key_file *f, struct str rest)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *path = config_quote(str_from(f->path), quoted);
    struct str line;

    for (unsigned n = 1; str_next(&rest, '\n', &line); n++) {
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (!config_is_visible(line)) {
            config_problem(f->report, FAULT_KEY, f->line,
                           "[%s] api_key_file: line %u of %s is no key; expected printable ASCII "
                           "without spaces",
                           f->title, n, path);
            return;
        } else if (f->upstream->key_count == KEYS_MAX) {
            config_problem(f->report, FAULT_KEY, f->line,
                           "[%s] api_key_file: %s holds more than %d keys", f->title, path,
                           KEYS_MAX);
            return;
        } else if (add_key(f->upstream, line) < 0) {
            config_no_memory(f->report);
            return;
        }
    }
    if (f->upstream->key_count == 0)
        config_problem(f->report, FAULT_KEY, f->line, "[%s] api_key_file: %s holds no key",
                       f->title, path);
}

static void note_mode(struct key_file *f, int fd)
{
    char quoted[CONFIG_QUOTED_MAX];
    struct stat st;

    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH))
        config_note(f->report, f->line,
                    "[%s] api_key_file: everyone on this machine can read %s (mode %04o); 0600 "
                    "would do",
                    f->title, config_quote(str_from(f->path), quoted),
                    (unsigned)(st.st_mode & 07777));
}

static int read_keys(struct key_file *f, int fd)
{
    char *text = malloc(FILE_MAX + 1);
    ssize_t n;

    if (!text)
        return -ENOMEM;
    n = read_up_to(fd, text, FILE_MAX + 1);
    if (n > FILE_MAX)
        n = -EFBIG;
    if (n >= 0)
        keys_from_text(f, (struct str){text, (size_t)n});
    explicit_bzero(text, FILE_MAX + 1);
    free(text);
    return n < 0 ? (int)n : 0;
}

static void keys_from_file(struct key_file *f)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *remark;
    int fd, rc = -ENAMETOOLONG;

    if (find_file(f, &remark)) {
        fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        rc = fd < 0 ? -errno : 0;
        if (fd >= 0) {
            note_mode(f, fd);
            rc = read_keys(f, fd);
            close(fd);
        }
    }
    if (rc == -ENOMEM)
        config_no_memory(f->report);
    else if (rc < 0)
        config_problem(f->report, FAULT_KEY, f->line, "[%s] api_key_file: %s cannot be read: %s%s",
                       f->title, config_quote(str_from(f->path), quoted), strerror(-rc), remark);
}

void config_load_keys(struct config_upstream *u, const struct config_origin *o,
                      struct config_report *r)
{
    struct key_file f = {.upstream = u,
                         .title = o->title,
                         .line = config_origin_line(o, "upstream", "api_key_file"),
                         .report = r};

    if (u->api_key_env[0] && u->api_key_file[0])
        config_problem(r, FAULT_VALUE, f.line,
                       "[%s] api_key_file: api_key_env is set as well; expected one of the two",
                       o->title);
    else if (u->api_key_env[0])
        keys_from_env(u, o->title, config_origin_line(o, "upstream", "api_key_env"), r);
    else if (u->api_key_file[0])
        keys_from_file(&f);
    if (u->key_count > 1)
        config_note(r, f.line,
                    "[%s] api_key_file: it holds %u keys; this version uses the first of them (a "
                    "pool of keys, C18, is not in force yet)",
                    o->title, u->key_count);
}
