/* Watches folders with inotify for changes of the names that matter. */
#include "daemon/server_private.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/list.h"
#include "base/str.h"

#define QUIET_MS 100 /* a file that is written in pieces is usually complete by then */
#define LATEST_MS 1000
#define LINKS_MAX 40 /* Linux's own limit */

struct name {
    struct name *next;
    char text[];
};

/* A folder with names that matter. */
struct folder {
    uv_fs_event_t event;
    struct list node; /* in the watch's folders */
    struct watch *watch;
    struct name *names;
    bool wanted; /* by the current paths */
    dev_t device;
    ino_t inode;
    char path[];
};

struct watch {
    uv_timer_t timer;
    struct list folders;
    uint64_t since_ms; /* the first change not reported yet; 0: none */
    char refused[PATH_MAX];
    void (*changed)(void *arg);
    void *arg;
};

/* --- changes ---------------------------------------------------------------------------------- */

static void on_quiet(uv_timer_t *timer)
{
    struct watch *w = timer->data;

    w->since_ms = 0;
    w->changed(w->arg);
}

static void note_change(struct watch *w)
{
    uint64_t now = uv_now(w->timer.loop), wait = QUIET_MS;

    if (w->since_ms == 0)
        w->since_ms = now ? now : 1;
    if (now + wait > w->since_ms + LATEST_MS)
        wait = w->since_ms + LATEST_MS > now ? w->since_ms + LATEST_MS - now : 0;
    uv_timer_start(&w->timer, on_quiet, wait, 0);
}

/* An event under the folder's own name means that the folder was moved or removed. */
static bool matters(const struct folder *f, const char *name)
{
    const char *own = strrchr(f->path, '/');

    if (!name || (own && !strcmp(name, own + 1)))
        return true;
    for (const struct name *n = f->names; n; n = n->next)
        if (!strcmp(n->text, name))
            return true;
    return false;
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct folder *f = event->data;

    (void)events;
    if (status < 0 || matters(f, name))
        note_change(f->watch);
}

/* --- folders ---------------------------------------------------------------------------------- */

static void forget_names(struct folder *f)
{
    while (f->names) {
        struct name *next = f->names->next;

        free(f->names);
        f->names = next;
    }
}

static void on_folder_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void drop(struct folder *f)
{
    forget_names(f);
    list_remove(&f->node);
    uv_close((uv_handle_t *)&f->event, on_folder_closed);
}

static struct folder *find(struct watch *w, const char *path)
{
    for (struct list *n = w->folders.next; n != &w->folders; n = n->next) {
        struct folder *f = LIST_ENTRY(n, struct folder, node);

        if (!strcmp(f->path, path))
            return f;
    }
    return NULL;
}

static int open_folder(struct watch *w, const char *path, const struct stat *st,
                       struct folder **ret)
{
    size_t n = strlen(path) + 1;
    struct folder *f = calloc(1, sizeof(*f) + n);
    int rc;

    if (!f)
        return -ENOMEM;
    memcpy(f->path, path, n);
    f->watch = w;
    f->device = st->st_dev;
    f->inode = st->st_ino;
    list_init(&f->node);
    uv_fs_event_init(w->timer.loop, &f->event);
    f->event.data = f;
    list_append(&w->folders, &f->node);
    rc = uv_fs_event_start(&f->event, on_event, path, 0);
    if (rc < 0) {
        drop(f);
        return rc;
    }
    *ret = f;
    return 0;
}

static int add_name(struct folder *f, struct str name)
{
    struct name *n = malloc(sizeof(*n) + name.n + 1);

    if (!n)
        return -ENOMEM;
    memcpy(n->text, name.p, name.n);
    n->text[name.n] = '\0';
    n->next = f->names;
    f->names = n;
    return 0;
}

/* Watches the folder for a name. A folder that has been replaced by another is watched again. */
static int want(struct watch *w, const char *path, struct str name)
{
    struct folder *f = find(w, path);
    struct stat st;
    int rc = 0;

    if (stat(path, &st) < 0)
        return -errno;
    if (f && (f->device != st.st_dev || f->inode != st.st_ino)) {
        drop(f);
        f = NULL;
    }
    if (!f)
        rc = open_folder(w, path, &st, &f);
    if (rc < 0)
        return rc;
    f->wanted = true;
    return add_name(f, name);
}

/* --- resolving a path ------------------------------------------------------------------------- */

/* A path being resolved: `done` has no links and no final slash; `rest` remains. */
struct way {
    char done[PATH_MAX];
    char rest[2 * PATH_MAX];
};

static bool begin(struct way *way, const char *path)
{
    char here[PATH_MAX];
    int n;

    way->done[0] = '\0';
    if (path[0] == '/')
        n = snprintf(way->rest, sizeof(way->rest), "%s", path);
    else
        n = snprintf(way->rest, sizeof(way->rest), "%s/%s", getcwd(here, sizeof(here)) ? here : "",
                     path);
    return n >= 0 && (size_t)n < sizeof(way->rest);
}

/* Puts the link's target in front of the rest. */
static bool follow_link(struct way *way, const char *link)
{
    char target[PATH_MAX], rest[2 * PATH_MAX];
    ssize_t n = readlink(link, target, sizeof(target) - 1);
    int all;

    if (n <= 0)
        return false;
    target[n] = '\0';
    if (target[0] == '/')
        way->done[0] = '\0';
    all = snprintf(rest, sizeof(rest), "%s/%s", target, way->rest);
    if (all < 0 || (size_t)all >= sizeof(way->rest))
        return false;
    memcpy(way->rest, rest, (size_t)all + 1);
    return true;
}

/* Takes the next name off the rest; false if there is none. */
static bool next_name(struct way *way, char name[NAME_MAX + 1])
{
    char *from = way->rest + strspn(way->rest, "/");
    size_t n = strcspn(from, "/");

    if (n == 0 || n > NAME_MAX)
        return false;
    memcpy(name, from, n);
    name[n] = '\0';
    memmove(way->rest, from + n, strlen(from + n) + 1);
    return true;
}

/* Watches each link on the path and the file, or the first name that is missing. 0 or -errno. */
static int watch_way(struct watch *w, const char *path, struct way *way)
{
    char name[NAME_MAX + 1], next[PATH_MAX + NAME_MAX + 2];
    struct stat st;
    int links = 0, rc;
    char *slash;

    if (!begin(way, path))
        return -ENAMETOOLONG;
    while (next_name(way, name)) {
        bool there, last = way->rest[strspn(way->rest, "/")] == '\0';

        if (!strcmp(name, "."))
            continue;
        if (!strcmp(name, "..")) {
            slash = strrchr(way->done, '/');
            if (slash)
                *slash = '\0';
            continue;
        }
        snprintf(next, sizeof(next), "%s/%s", way->done, name);
        if (strlen(next) >= sizeof(way->done))
            return -ENAMETOOLONG;
        there = lstat(next, &st) == 0;
        if (last || !there || S_ISLNK(st.st_mode)) {
            rc = want(w, way->done[0] ? way->done : "/", str_from(name));
            if (rc < 0)
                return rc;
        }
        if (!there)
            return 0;
        if (!S_ISLNK(st.st_mode))
            memcpy(way->done, next, strlen(next) + 1);
        else if (++links > LINKS_MAX || !follow_link(way, next))
            return 0;
    }
    return 0;
}

/* --- life ------------------------------------------------------------------------------------- */

struct watch *watch_new(uv_loop_t *loop, void (*changed)(void *arg), void *arg)
{
    struct watch *w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    list_init(&w->folders);
    uv_timer_init(loop, &w->timer);
    w->timer.data = w;
    w->changed = changed;
    w->arg = arg;
    return w;
}

static void each_folder(struct watch *w, void (*act)(struct folder *f))
{
    struct list *n = w->folders.next;

    while (n != &w->folders) {
        struct folder *f = LIST_ENTRY(n, struct folder, node);

        n = n->next;
        act(f);
    }
}

static void unwant(struct folder *f)
{
    forget_names(f);
    f->wanted = false;
}

static void drop_unwanted(struct folder *f)
{
    if (!f->wanted)
        drop(f);
}

int watch_files(struct watch *w, const char *const *paths, unsigned count, const char **ret_folder)
{
    struct way *way = calloc(1, sizeof(*way));
    int rc = 0;

    w->refused[0] = '\0';
    *ret_folder = w->refused;
    if (!way)
        return -ENOMEM;
    each_folder(w, unwant);
    for (unsigned i = 0; i < count; i++) {
        int one = watch_way(w, paths[i], way);

        if (one < 0 && rc == 0) {
            rc = one;
            snprintf(w->refused, sizeof(w->refused), "%s", way->done[0] ? way->done : "/");
        }
    }
    each_folder(w, drop_unwanted);
    free(way);
    return rc;
}

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void watch_close(struct watch *w)
{
    if (!w)
        return;
    each_folder(w, drop);
    uv_close((uv_handle_t *)&w->timer, on_watch_closed);
}
