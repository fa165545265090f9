/* Reads a PEM text line by line; keeps certificates in files in memory. */
#include "config/pem.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/list.h"

/* --- a text ----------------------------------------------------------------------------------- */

static const struct str dashes = STR("-----"), encrypted = STR("ENCRYPTED");

/* Reads the label X of a line "-----BEGIN X-----", where `word` is "BEGIN ". Returns false for any
 * other line. */
static bool boundary(struct str line, struct str word, struct str *ret_label)
{
    size_t around = 2 * dashes.n + word.n;

    if (line.n < around || !str_starts(line, dashes) || !str_ends(line, dashes))
        return false;
    if (!str_starts(str_after(line, dashes.n), word))
        return false;
    *ret_label = (struct str){line.p + dashes.n + word.n, line.n - around};
    return true;
}

/* Whether a line is base64, or one of the header fields in front of it (RFC 1421, 4.6). */
static bool is_body(struct str line)
{
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];

        if (c == ':')
            return true;
        if (!isalnum(c) && c != '+' && c != '/' && c != '=' && c != '-')
            return false;
    }
    return true;
}

struct pem pem_look(struct str text)
{
    struct pem p = {.broken = false};
    struct str line, label, open = {NULL, 0};
    bool inside = false;

    while (str_next(&text, '\n', &line)) {
        if (boundary(line, STR("BEGIN "), &label)) {
            p.broken |= inside;
            inside = true;
            open = label;
            if (str_ends(label, STR("CERTIFICATE")))
                p.certificates++;
            if (str_ends(label, STR("PRIVATE KEY"))) {
                p.keys++;
                p.encrypted |= str_starts(label, encrypted);
            }
        } else if (boundary(line, STR("END "), &label)) {
            p.broken |= !inside || !str_eq(label, open);
            inside = false;
        } else if (inside) {
            p.broken |= !is_body(line);
            p.encrypted |= str_istarts(line, STR("Proc-Type:")) && str_ifind(line, encrypted) >= 0;
        }
    }
    p.broken |= inside;
    return p;
}

/* --- a copy ----------------------------------------------------------------------------------- */

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

struct bundle {
    struct list node; /* in `all` */
    unsigned refs;
    uint64_t fingerprint;
    int fd; /* -1: none */
    char path[32];
};

/* Some systems require the flag that forbids execution, and older ones do not know it. */
static int open_memory(void)
{
    int fd = memfd_create("certificates", MFD_CLOEXEC | MFD_NOEXEC_SEAL);

    return fd < 0 && errno == EINVAL ? memfd_create("certificates", MFD_CLOEXEC) : fd;
}

static int write_all(int fd, struct str text)
{
    while (text.n > 0) {
        ssize_t n = write(fd, text.p, text.n);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        text.p += n;
        text.n -= (size_t)n;
    }
    return 0;
}

static void keep(struct bundle *b, struct str text)
{
    b->fd = open_memory();
    if (b->fd < 0)
        return;
    snprintf(b->path, sizeof(b->path), "/proc/self/fd/%d", b->fd);
    if (write_all(b->fd, text) == 0 && access(b->path, R_OK) == 0)
        return;
    close(b->fd);
    b->fd = -1;
}

/* All copies. The same text keeps its path, by which libcurl recognizes connections. */
static struct list all = {&all, &all};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct bundle *find(uint64_t fingerprint)
{
    for (struct list *n = all.next; n != &all; n = n->next) {
        struct bundle *b = LIST_ENTRY(n, struct bundle, node);

        if (b->fingerprint == fingerprint)
            return b;
    }
    return NULL;
}

struct bundle *bundle_new(struct str text)
{
    uint64_t fingerprint = fingerprint_of(text);
    struct bundle *b;

    pthread_mutex_lock(&lock);
    b = find(fingerprint);
    if (!b && (b = calloc(1, sizeof(*b)))) {
        b->fingerprint = fingerprint;
        keep(b, text);
        list_init(&b->node);
        list_append(&all, &b->node);
    }
    if (b)
        b->refs++;
    pthread_mutex_unlock(&lock);
    return b;
}

struct bundle *bundle_ref(struct bundle *b)
{
    pthread_mutex_lock(&lock);
    b->refs++;
    pthread_mutex_unlock(&lock);
    return b;
}

void bundle_unref(struct bundle *b)
{
    bool last;

    if (!b)
        return;
    pthread_mutex_lock(&lock);
    last = --b->refs == 0;
    if (last)
        list_remove(&b->node);
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    if (b->fd >= 0)
        close(b->fd);
    free(b);
}

const char *bundle_path(const struct bundle *b)
{
    return b->fd >= 0 ? b->path : NULL;
}

uint32_t bundle_version(const struct bundle *b)
{
    return (uint32_t)(b->fingerprint ^ b->fingerprint >> 32);
}
