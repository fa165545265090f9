/* Reads the configuration again on SIGHUP, and the files it names when they change. Reports to the
 * log, systemd and /metrics. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "daemon/server_private.h"
#include "worker/metrics_table.h"

#define TEXT_BYTES_MAX (64 * 1024)
#define STATUS_PROBLEM_MAX 200 /* bytes of a problem shown in systemd's status line */

/* --- changed files with keys, passwords and certificates -------------------------------------- */

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
    if (rc < 0 && !s->unwatched_warned) {
        log_begin(LOG_WARN,
                  "cannot watch a folder with keys or certificates: reload after a change there");
        log_text("folder", folder);
        log_text("why", uv_strerror(rc));
        log_end();
    }
    s->unwatched_warned = rc < 0;
    free(paths);
}

static void log_file(const struct config_file *f, bool *warned)
{
    if (f->changed) {
        log_begin(LOG_INFO, "a file changed, and its new content is in force");
        log_text("section", f->section);
        log_text("key", f->key);
        log_text("file", f->path);
        log_end();
    }
    if (f->problem && !*warned)
        log_line(LOG_WARN,
                 "a file changed but cannot be used, and its previous content stays in force: %.*s",
                 (int)strcspn(f->problem, "\n"), f->problem);
    *warned = f->problem != NULL;
}

static void put_in_force(struct server *s, struct config *now)
{
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
        for (unsigned i = 0; now && i < now->file_count; i++)
            log_file(&now->files[i], &s->file_warned[i]);
        if (now)
            put_in_force(s, now);
        else
            log_line(LOG_ERROR, "out of memory: a changed file was not read");
    }
    rewatch(s);
}

static void on_file_change(void *arg)
{
    rotation_look(arg);
}

int rotation_begin(struct server *s)
{
    bool *warned = calloc(s->config->file_count + 1, sizeof(*warned));

    if (!s->watch)
        s->watch = watch_new(&s->loop, on_file_change, s);
    if (!warned || !s->watch) {
        free(warned);
        return -ENOMEM;
    }
    free(s->file_warned);
    s->file_warned = warned;
    rewatch(s);
    rotation_look(s); /* finds changes from before the watch */
    return 0;
}

void rotation_close(struct server *s)
{
    watch_close(s->watch);
    s->watch = NULL;
}

/* --- the status ------------------------------------------------------------------------------- */

/* Whether the last reload was refused and the file has not been restored since. */
static bool stays_refused(const struct server *s, const struct config_mark *disk)
{
    return s->reloads.refused && (!config_mark_same(disk, &s->config->mark) ||
                                  config_mark_same(&s->reloads.refused_mark, &s->config->mark));
}

static void write_status(const struct server *s, const struct config_mark *disk, struct buf *out)
{
    const struct reloads *r = &s->reloads;

    if (stays_refused(s, disk))
        buf_printf(out, "Serving with the previous configuration: the reload was refused: %s",
                   r->problem);
    else if (r->differs)
        buf_printf(out,
                   "Serving with the previous configuration: %s was changed after it was read "
                   "(systemctl reload)",
                   s->config->path);
    else
        buf_printf(out, "Serving");
}

/* Compares the file on disk with the one in force. Notifies systemd if the result has changed, or
 * if `always`. */
static void look(struct server *s, bool always)
{
    struct config_mark disk = config_mark(s->config->path);
    bool known = s->config->path && s->config->mark.inode != 0;
    bool differs = known && !config_mark_same(&disk, &s->config->mark);
    bool news = always || differs != s->reloads.differs;
    struct buf status;

    s->reloads.differs = differs;
    if (!news || s->ending)
        return;
    buf_init(&status, 8192);
    write_status(s, &disk, &status);
    if (!status.failed)
        sd_notifyf(0, "READY=1\nSTATUS=%.*s", (int)status.len, status.p);
    buf_deinit(&status);
}

void reload_started(struct server *s)
{
    s->reloads.tried_s = s->reloads.taken_s = clock_unix_ms() / 1000;
    look(s, true);
}

void reload_look(struct server *s)
{
    if (s->config->path)
        look(s, false);
}

void reload_metrics(const struct server *s, struct buf *out)
{
    const struct reloads *r = &s->reloads;

    metrics_write_count(out, METRIC_RELOAD_SUCCESSFUL, !r->refused);
    metrics_write_count(out, METRIC_RELOAD_TRIED, r->tried_s);
    metrics_write_count(out, METRIC_RELOAD_TAKEN, r->taken_s);
    metrics_write_count(out, METRIC_CONFIG_CHANGED, r->differs);
}

/* --- the reload ------------------------------------------------------------------------------- */

/* Adds the lines to the output and to the log. */
static void report(struct buf *output, enum log_level level, struct str lines)
{
    struct str line;

    while (str_next(&lines, '\n', &line)) {
        if (line.n == 0)
            continue;
        log_line(level, "%.*s", (int)line.n, line.p);
        buf_printf(output, "%.*s\n", (int)line.n, line.p);
    }
}

/* systemd copies credentials only when it starts a service. */
static void report_credentials(const struct config *c, struct buf *output)
{
    for (unsigned i = 0; i < c->file_count; i++) {
        if (!config_is_credential(c->files[i].path))
            continue;
        report(
            output, LOG_INFO,
            STR("systemd credentials are read at the start only; new ones need systemctl restart"));
        return;
    }
}

static void adopt(struct server *s, struct config *now, struct buf *output)
{
    struct buf restart, line;

    buf_init(&restart, TEXT_BYTES_MAX);
    buf_init(&line, TEXT_BYTES_MAX);
    config_diff_restart(s->config, now, &restart);
    if (restart.len > 0) {
        buf_printf(&line, "changed, but takes effect only after a restart: %.*s", (int)restart.len,
                   restart.p);
        report(output, LOG_WARN, buf_str(&line));
    }
    buf_deinit(&restart);
    log_configure((enum log_level)now->log.level, now->log.format == LOG_JSON);
    put_in_force(s, now);
    s->reloads.refused = false;
    s->reloads.taken_s = s->reloads.tried_s;
    report_credentials(now, output);
    buf_reset(&line, 0);
    buf_printf(&line, "configuration reloaded from %s", now->path);
    report(output, LOG_INFO, buf_str(&line));
    buf_deinit(&line);
    /* This may put yet another configuration in force. */
    if (rotation_begin(s) < 0)
        log_line(LOG_ERROR, "out of memory: changed files will not be noticed");
}

static void refuse(struct server *s, const struct config_mark *disk, const struct buf *problems,
                   struct buf *output)
{
    struct str rest = buf_str(problems), first = STR("");
    size_t n;

    (void)str_next(&rest, '\n', &first);
    n = first.n < STATUS_PROBLEM_MAX ? first.n : STATUS_PROBLEM_MAX;
    while (n < first.n && n > 0 && ((unsigned char)first.p[n] & 0xc0) == 0x80)
        n--; /* systemd accepts only whole characters */
    s->reloads.refused = true;
    s->reloads.refused_mark = *disk;
    snprintf(s->reloads.problem, sizeof(s->reloads.problem), "%.*s", (int)n, first.p);
    report(output, LOG_ERROR, buf_str(problems));
    report(output, LOG_ERROR, STR("reload failed: the previous configuration stays in force"));
}

/* Returns why nothing can be reloaded; NULL if it can. */
static const char *why_no_reload(const struct server *s)
{
    if (!s->config->path)
        return "reload: no configuration file was given";
    return s->ending ? "reload: retryd is shutting down and does not read its configuration" : NULL;
}

enum exit_code reload(struct server *s, struct buf *output)
{
    const char *why = why_no_reload(s);
    enum exit_code result = EXIT_OK;
    struct buf problems, notes;
    struct config_mark disk;
    struct config *now;

    if (why) {
        report(output, LOG_INFO, str_from(why));
        return EXIT_FAILED;
    }
    sd_notify(0, "RELOADING=1");
    buf_init(&problems, TEXT_BYTES_MAX);
    buf_init(&notes, TEXT_BYTES_MAX);
    s->reloads.tried_s = clock_unix_ms() / 1000;
    disk = config_mark(s->config->path);
    errno = 0;
    now = config_load(s->config->path, &problems, &notes);
    if (now)
        config_keep_client_token(now, s->config);
    if (!now)
        result = exit_for_load(errno);
    else if (listeners_loop(s, now, &problems) || !listeners_allowed(s, now, &problems))
        result = EXIT_CONFIG;
    report(output, LOG_WARN, buf_str(&notes));
    if (now && result == EXIT_OK) {
        adopt(s, now, output);
    } else {
        config_unref(now);
        refuse(s, &disk, &problems, output);
    }
    buf_deinit(&problems);
    buf_deinit(&notes);
    look(s, true);
    return result;
}
