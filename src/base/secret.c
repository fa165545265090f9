/* Keeps each secret on its own pages, out of core dumps and, if permitted, out of swap. */
#include "base/secret.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct secret {
    size_t mapped;
    size_t n;
    char text[];
};

struct secret *secret_new(struct str s)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t need = sizeof(struct secret) + s.n + 1;
    size_t mapped = (need + page - 1) / page * page;

    void *at = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    /* Best effort: an old kernel or a low RLIMIT_MEMLOCK may refuse. */
    (void)madvise(at, mapped, MADV_DONTDUMP);
    (void)mlock(at, mapped);

    struct secret *secret = at;
    secret->mapped = mapped;
    secret->n = s.n;
    if (s.n > 0)
        memcpy(secret->text, s.p, s.n);
    secret->text[s.n] = '\0';
    return secret;
}

void secret_free(struct secret *s)
{
    if (!s)
        return;

    size_t mapped = s->mapped;
    explicit_bzero(s, mapped);
    (void)munmap(s, mapped);
}

struct str secret_text(const struct secret *s)
{
    return (struct str){s->text, s->n};
}
