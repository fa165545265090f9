/* The files behind a configuration: which one it was read from, and what is systemd's. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config/config.h"

struct config_mark config_mark(const char *path)
{
    struct config_mark mark = {0};
    struct stat st;

    if (path && stat(path, &st) == 0)
        mark = (struct config_mark){
            .device = st.st_dev,
            .inode = st.st_ino,
            .size = (uint64_t)st.st_size,
            .changed_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec,
        };
    return mark;
}

bool config_mark_same(const struct config_mark *a, const struct config_mark *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed_ns == b->changed_ns;
}

bool config_is_credential(const char *name)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    size_t n = folder ? strlen(folder) : 0;

    if (!strchr(name, '/'))
        return name[0] != '\0';
    return n > 0 && !strncmp(name, folder, n) && name[n] == '/';
}
