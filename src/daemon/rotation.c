/* Keys, passwords and certificates that change on disk while retryd runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "daemon/server_private.h"

static void rewatch(struct server *s)
{
    const struct config *c = s->config;
    const char **paths = calloc(c->file_count + 1, sizeof(*paths)), *folder = "";
    int rc;

    if (!paths)
        return;
    for (unsigned i = 0; i < c->file_count; i++)
        paths[i] = c->files[i].path;
    rc = watch_files(s->watch, paths, c->file_count, &folder);
    if (rc < 0 && !s->unwatched_told) {
        log_begin(LOG_WARN, "changes of a file with keys or certificates will not be noticed here: "
                            "reload after one");
        log_text("folder", folder);
        log_text("why", uv_strerror(rc));
        log_end();
    }
    s->unwatched_told = rc < 0;
    free(paths);
}

static void tell_file(const struct config_file *f, bool *told)
{
    if (f->changed) {
        log_begin(LOG_INFO, "a file has changed, and what it holds is in force");
        log_text("section", f->section);
        log_text("key", f->key);
        log_text("file", f->path);
        log_end();
    }
    if (f->problem && !*told)
        log_line(LOG_WARN,
                 "a file has changed and cannot be used, what it held before stays in "
                 "force: %.*s",
                 (int)strcspn(f->problem, "\n"), f->problem);
    *told = f->problem != NULL;
}

static void take(struct server *s, struct config *now)
{
    for (unsigned i = 0; i < now->file_count; i++)
        tell_file(&now->files[i], &s->told[i]);
    config_unref(s->config);
    s->config = now;
    sharing_configure(s->sharing, now);
    for (unsigned i = 0; i < s->worker_count; i++)
        worker_configure(s->workers[i], now);
}

void rotation_look(struct server *s)
{
    struct config *now;

    if (s->closed || !s->watch)
        return;
    if (config_files_differ(s->config)) {
        now = config_renew(s->config);
        if (now)
            take(s, now);
        else
            log_line(LOG_ERROR, "out of memory: a file that has changed was not read");
    }
    rewatch(s);
}

static void on_file_change(void *arg)
{
    rotation_look(arg);
}

int rotation_begin(struct server *s)
{
    bool *told = calloc(s->config->file_count + 1, sizeof(*told));

    if (!s->watch)
        s->watch = watch_new(&s->loop, on_file_change, s);
    if (!told || !s->watch) {
        free(told);
        return -ENOMEM;
    }
    free(s->told);
    s->told = told;
    rewatch(s);
    rotation_look(s); /* what has changed before it was watched */
    return 0;
}

void rotation_close(struct server *s)
{
    watch_close(s->watch);
    s->watch = NULL;
}
