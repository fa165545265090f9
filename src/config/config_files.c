/* Files whose contents belong to the configuration: keys, passwords, certificates. Their contents
 * are wiped from memory here, and no message shows them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/config_private.h"

/* Linux advances the times of files in steps of up to 10 ms: of two changes within one step, the
 * second is not visible. */
#define YOUNG_NS 20000000

/* --- marks ------------------------------------------------------------------------------------ */

static uint64_t in_ns(struct timespec t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A pipe has the mark of a missing file: it can only be read once, and so never differs. */
static struct file_mark mark_of(const struct stat *st)
{
    struct file_mark m = {
        .device = (uint64_t)st->st_dev,
        .inode = (uint64_t)st->st_ino,
        .size = (uint64_t)st->st_size,
        .changed_ns = in_ns(st->st_ctim),
        .modified_ns = in_ns(st->st_mtim),
    };
    struct timespec now;

    if (!S_ISREG(st->st_mode))
        return (struct file_mark){.size = 0};
    clock_gettime(CLOCK_REALTIME, &now);
    m.young = in_ns(now) - m.changed_ns < YOUNG_NS;
    return m;
}

static bool differs(const struct config_file *f)
{
    const struct file_mark *was = &f->mark;
    struct file_mark is = {.size = 0};
    struct stat st;

    if (stat(f->path, &st) == 0)
        is = mark_of(&st);
    return was->young || was->device != is.device || was->inode != is.inode ||
           was->size != is.size || was->changed_ns != is.changed_ns ||
           was->modified_ns != is.modified_ns;
}

bool config_files_differ(const struct config *c)
{
    for (unsigned i = 0; i < c->file_count; i++)
        if (differs(&c->files[i]))
            return true;
    return false;
}

bool config_key_file_differs(const struct config *c, const struct config_upstream *u)
{
    for (unsigned i = 0; u->api_key_file[0] && i < c->file_count; i++) {
        const struct config_file *f = &c->files[i];
        struct str section = str_from(f->section), name = str_from(u->name);

        /* "upstream NAME" */
        if (!strcmp(f->key, "api_key_file") && section.n == name.n + strlen("upstream ") &&
            str_ends(section, name))
            return differs(f);
    }
    return false;
}

struct config_mark config_mark(const char *path)
{
    struct config_mark mark = {0};
    struct stat st;

    if (path && stat(path, &st) == 0)
        mark = (struct config_mark){
            .device = st.st_dev,
            .inode = st.st_ino,
            .size = (uint64_t)st.st_size,
            .changed_ns = in_ns(st.st_mtim),
        };
    return mark;
}

bool config_mark_same(const struct config_mark *a, const struct config_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed_ns == b->changed_ns;
}

/* --- the snapshot's list ---------------------------------------------------------------------- */

static bool file_add(struct config *c, const char *section, const char *key, const char *path)
{
    struct config_file *files = config_grow(c->files, c->file_count, sizeof *files);
    struct config_file f = {.key = key};

    if (!files)
        return false;
    c->files = files;
    f.section = strdup(section);
    f.path = strdup(path);
    if (!f.section || !f.path) {
        free(f.section);
        free(f.path);
        return false;
    }
    files[c->file_count++] = f;
    return true;
}

void config_files_free(struct config *c)
{
    for (unsigned i = 0; i < c->file_count; i++) {
        free(c->files[i].section);
        free(c->files[i].path);
        free(c->files[i].problem);
    }
    free(c->files);
}

const struct config_upstream *config_upstream_before(const struct config *c,
                                                     const struct config_upstream *u)
{
    return c->before ? &c->before->upstreams[u - c->upstreams] : NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

static const char *credentials_folder(void)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");

    return folder && folder[0] ? folder : NULL;
}

bool config_is_credential(const char *name)
{
    const char *folder = credentials_folder();
    size_t n = folder ? strlen(folder) : 0;

    if (!strchr(name, '/'))
        return name[0] != '\0';
    return n > 0 && !strncmp(name, folder, n) && name[n] == '/';
}

/* A name without a slash is that of a systemd credential. */
static bool find_file(struct config_reading *f, const char *name)
{
    const char *folder = strchr(name, '/') ? NULL : credentials_folder();
    int n =
        snprintf(f->path, sizeof f->path, "%s%s%s", folder ? folder : "", folder ? "/" : "", name);

    f->remark =
        folder || strchr(name, '/')
            ? ""
            : " (a name without a slash is a systemd credential, but CREDENTIALS_DIRECTORY is not "
              "set)";
    return n > 0 && (size_t)n < sizeof f->path;
}

struct config_reading *config_reading_new(struct config *c, const struct config_origin *o,
                                          const char *section, const char *key, const char *name)
{
    struct config_reading *f = calloc(1, sizeof *f);

    if (!f) {
        config_no_memory(o->report);
        return NULL;
    }
    config_report_init(&f->own, o->report->path);
    f->own.text = o->report->text;
    f->config = c;
    f->place = config_place_of(o, section, key);
    f->to = o->report;
    f->report = c->before ? &f->own : f->to;
    f->fault = FAULT_KEY;
    f->secret = true;
    f->most = CONFIG_READING_MAX;
    f->found = find_file(f, name);
    f->quoted = config_quote(str_from(f->path), f->quote);
    f->index = c->file_count;
    if (!file_add(c, f->place.title, key, f->path)) {
        config_no_memory(f->to);
        config_reading_free(f);
        return NULL;
    }
    return f;
}

struct config_file *config_reading_file(struct config_reading *f)
{
    return &f->config->files[f->index];
}

bool config_reading_as_before(struct config_reading *f)
{
    const struct config *before = f->config->before;
    const struct config_file *was = before ? &before->files[f->index] : NULL;

    if (!was || was->problem || differs(was))
        return false;
    config_reading_file(f)->mark = was->mark;
    return true;
}

static void wipe(struct config_reading *f)
{
    if (f->space)
        explicit_bzero(f->space, f->text.n);
    free(f->space);
    f->space = NULL;
    f->text = (struct str){NULL, 0};
}

/* Reads up to `size` bytes. Returns 0 or -errno. */
static int read_up_to(int fd, struct config_reading *f, size_t size)
{
    wipe(f);
    f->space = malloc(size);
    if (!f->space) {
        config_no_memory(f->report);
        return -ENOMEM;
    }
    f->text.p = f->space; /* not NULL even if the file is empty */
    while (f->text.n < size) {
        ssize_t n = read(fd, f->space + f->text.n, size - f->text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        f->text.n += (size_t)n;
    }
    return 0;
}

/* Reads the whole file, which may grow meanwhile. A pipe or a file in /proc tells no size. */
static int read_all(int fd, struct config_reading *f, const struct stat *st)
{
    uint64_t told = (uint64_t)st->st_size;
    size_t size = told > 0 && told < f->most ? (size_t)told + 1 : f->most + 1;
    int rc = read_up_to(fd, f, size);

    if (rc == 0 && f->text.n == size && size <= f->most)
        rc = lseek(fd, 0, SEEK_SET) < 0 ? -errno : read_up_to(fd, f, f->most + 1);
    return rc == 0 && f->text.n > f->most ? -EFBIG : rc;
}

/* Opens and reads the file. Returns 0 or -errno. */
static int read_file(struct config_reading *f)
{
    struct stat st;
    int fd, rc;

    if (!f->found)
        return -ENAMETOOLONG;
    fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    rc = fstat(fd, &st) < 0 ? -errno : 0;
    if (rc == 0) {
        config_reading_file(f)->mark = mark_of(&st);
        if (f->secret && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH))
            config_note(f->report, f->place,
                        "everyone on this machine can read %s (mode %04o); 0600 would do",
                        f->quoted, (unsigned)(st.st_mode & 07777));
        rc = read_all(fd, f, &st);
    }
    close(fd);
    return rc;
}

bool config_reading_read(struct config_reading *f)
{
    int rc = f ? read_file(f) : -ENOMEM;

    if (rc < 0 && f && f->remark[0] && f->to->examined)
        config_note(f->report, f->place,
                    "%s is a systemd credential, which only the service can see; it was not read",
                    f->quoted);
    else if (rc < 0 && rc != -ENOMEM)
        config_problem(f->report, f->fault, f->place, "%s cannot be read: %s%s", f->quoted,
                       strerror(-rc), f->remark);
    return rc == 0;
}

bool config_reading_good(const struct config_reading *f)
{
    return f && !config_report_bad(f->report);
}

/* Keeps the problem for the caller of config_renew, since nobody reads the report there. */
static void keep_problem(struct config_reading *f)
{
    struct buf text;

    buf_init(&text, 4096);
    config_report_write(&f->own, &text, NULL);
    buf_addc(&text, '\0');
    if (text.failed)
        buf_deinit(&text);
    free(config_reading_file(f)->problem);
    config_reading_file(f)->problem = text.p ? buf_steal(&text, &(size_t){0}) : NULL;
}

void config_reading_free(struct config_reading *f)
{
    if (!f)
        return;
    if (f->report == &f->own && config_report_bad(&f->own) && f->index < f->config->file_count)
        keep_problem(f);
    config_report_deinit(&f->own);
    wipe(f);
    free(f);
}
