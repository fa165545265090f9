/* Any file as a configuration: it loads, or says why, line by line; and what is in force, written out, is
 * read back the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "fuzz.h"

/* Names of files in an input could be anything: a pipe that never ends, too. */
static bool names_devices(struct str input)
{
    return input.n &&
           (memmem(input.p, input.n, "/dev", 4) || memmem(input.p, input.n, "/proc", 5) ||
            memmem(input.p, input.n, "/sys", 4) || memmem(input.p, input.n, "..", 2));
}

/* Loads the text as a file that is in memory only. */
static struct config *load(struct str text, struct buf *problems, struct buf *notes, char path[64])
{
    int fd = memfd_create("fuzz", 0);

    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(write(fd, text.p, text.n) == (ssize_t)text.n);
    (void)snprintf(path, 64, "/proc/self/fd/%d", fd);
    buf_init(problems, 1 << 20);
    buf_init(notes, 1 << 20);
    struct config *c = config_load(path, problems, notes);
    (void)close(fd);
    return c;
}

/* "FILE: what" or "FILE:LINE: what", one line each; of a value that came in no byte does harm to whoever
 * reads it on a terminal. */
static void check_lines(const struct buf *lines, const char *path)
{
    struct str rest = buf_str(lines);
    size_t n = strlen(path);

    while (rest.n > 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        FUZZ_CHECK(end);
        struct str line = {rest.p, (size_t)(end - rest.p)};
        FUZZ_CHECK(line.n > n + 2 && !memcmp(line.p, path, n) && line.p[n] == ':');
        for (size_t i = 0; i < line.n; i++)
            FUZZ_CHECK(((unsigned char)line.p[i] >= 0x20 || line.p[i] == '\t') &&
                       line.p[i] != 0x7f);
        rest = (struct str){end + 1, rest.n - line.n - 1};
    }
}

static char *dump(const struct config *c)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    FUZZ_CHECK(f);
    config_dump(c, false, f);
    FUZZ_CHECK(fclose(f) == 0 && strlen(text) == n);
    return text;
}

static void read_back(const struct config *c)
{
    struct buf problems, notes, differs;
    char path[64];
    char *first = dump(c);
    struct config *again = load(str_from(first), &problems, &notes, path);

    if (!again)
        (void)fprintf(stderr, "%s\n%s\n", first, problems.p);
    FUZZ_CHECK(again);
    char *second = dump(again);
    if (strcmp(first, second) != 0)
        (void)fprintf(stderr, "%s\n--- and then ---\n%s\n", first, second);
    FUZZ_CHECK(!strcmp(first, second));
    buf_init(&differs, 1 << 16);
    config_diff_restart(c, again, &differs);
    FUZZ_CHECK(differs.len == 0);
    buf_deinit(&differs);
    free(first);
    free(second);
    config_unref(again);
    buf_deinit(&problems);
    buf_deinit(&notes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = {(const char *)data, size};
    struct buf problems, notes;
    char path[64];

    if (names_devices(input))
        return 0;
    struct config *c = load(input, &problems, &notes, path);
    FUZZ_CHECK((c != NULL) == (problems.len == 0));
    check_lines(&problems, path);
    check_lines(&notes, path);
    if (c) {
        FUZZ_CHECK(c->upstream_count > 0 && c->route_count > 0);
        const struct config_route *r = config_route_for(c, STR("/v1/chat/completions"), STR("gpt"));
        FUZZ_CHECK(!r || r->upstream_count > 0);
        read_back(c);
        config_unref(c);
    }
    buf_deinit(&problems);
    buf_deinit(&notes);
    return 0;
}
