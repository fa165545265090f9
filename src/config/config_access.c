/* What root can read, and the user of a service cannot: for --check, which is often run as root. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config/config_table.h"

#define PATH_SIZE 4096

/* What keeps everybody but the owner and a group from it. */
struct obstacle {
    char path[PATH_SIZE]; /* the file, or the folder above it that nobody else may enter */
    unsigned mode;
    bool folder;
};

static bool lets_in(const char *path, unsigned bits, struct obstacle *ret)
{
    struct stat st;

    if (stat(path, &st) < 0 || (st.st_mode & bits) == bits)
        return true; /* what is not there is another check's */
    snprintf(ret->path, sizeof(ret->path), "%s", path);
    ret->mode = (unsigned)(st.st_mode & 07777);
    ret->folder = S_ISDIR(st.st_mode);
    return false;
}

/* Whether a user whom nothing here knows of can use the file: each folder above it, and itself. */
static bool open_to_all(const char *path, unsigned bits, struct obstacle *ret)
{
    char part[PATH_SIZE];

    if (strlen(path) >= sizeof part)
        return true;
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t n = slash == path ? 1 : (size_t)(slash - path);

        memcpy(part, path, n);
        part[n] = '\0';
        if (!lets_in(part, S_IXOTH, ret))
            return false;
    }
    return lets_in(path, bits, ret);
}

/* ProtectHome= and PrivateTmp= of the unit: what is there is not there for the service. */
static bool hidden_by_unit(const char *path)
{
    static const char *const folders[] = {"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"};
    char real[PATH_MAX];

    if (!realpath(path, real))
        return false;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        if (str_starts(str_from(real), str_from(folders[i])))
            return true;
    return false;
}

static void note_path(const struct config_row *row, const char *title, const char *path,
                      struct buf *notes)
{
    bool spool = !strcmp(row->key, "spool_dir");
    char quoted[CONFIG_QUOTED_MAX], barrier[CONFIG_QUOTED_MAX];
    bool secret = strstr(row->key, "key") || strstr(row->key, "password");
    struct obstacle o;

    if (!strchr(path, '/'))
        return;
    if (row->section && !spool && hidden_by_unit(path))
        buf_printf(
            notes,
            "[%s] %s: %s is in a folder that retryd.service does not see (/home, /root, /tmp "
            "and such); /etc/retryd is for what it is to read\n",
            title, row->key, config_quote(str_from(path), quoted));
    if (open_to_all(path, spool ? S_IWOTH | S_IXOTH : S_IROTH, &o))
        return;
    buf_printf(notes,
               "[%s] %s: not every user can %s %s (%s has mode %04o): root can, the user of "
               "retryd.service cannot%s\n",
               title, row->key, spool ? "write to" : "read", config_quote(str_from(path), quoted),
               config_quote(str_from(o.path), barrier), o.mode,
               secret ? "; there it is to be a credential (LoadCredential=), and a name without a "
                        "slash here"
                      : "");
}

static void note_rows(enum config_owner kind, const void *owner, const char *title,
                      struct buf *notes)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->owner == kind && row->type == CONFIG_PATH && !row->later)
            note_path(row, title ? title : row->section,
                      *(char *const *)config_field_const(row, owner), notes);
    }
}

void config_note_access(const struct config *c, struct buf *notes)
{
    static const struct config_row file = {.key = "the file itself"};
    char title[96];

    if (c->path)
        note_path(&file, "configuration", c->path, notes);
    note_rows(OWNER_CONFIG, c, NULL, notes);
    for (unsigned i = 0; i < c->upstream_count; i++) {
        snprintf(title, sizeof title, "upstream %s", c->upstreams[i].name);
        note_rows(OWNER_UPSTREAM, &c->upstreams[i], title, notes);
    }
}
