/* The allocator's wrappers behind failmem.h; the linker's --wrap sends every call here. */

#include "failmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static _Thread_local struct {
    size_t count;
    size_t first; /* the allocation to fail, 0 while disarmed */
    bool from;    /* and all after it */
    bool failed;
} state;

void failmem_arm(size_t n)
{
    state.count = 0;
    state.first = n;
    state.from = false;
    state.failed = false;
}

void failmem_arm_from(size_t n)
{
    failmem_arm(n);
    state.from = true;
}

bool failmem_disarm(void)
{
    state.first = 0;
    return state.failed;
}

size_t failmem_count(void)
{
    return state.count;
}

static bool must_fail(void)
{
    state.count++;
    if (state.first == 0 || state.count < state.first)
        return false;
    if (state.count > state.first && !state.from)
        return false;
    state.failed = true;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return must_fail() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return must_fail() ? NULL : __real_realloc(p, size);
}

char *__wrap_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = __wrap_malloc(len + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *__wrap_strdup(const char *s)
{
    return __wrap_strndup(s, strlen(s));
}
