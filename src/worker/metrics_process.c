/* Writes what Prometheus' client libraries tell of each process, and the versions. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "edge/fetch.h"
#include "edge/frontend.h"
#include "worker/metrics.h"

/* Of "libcurl/7.88.1 OpenSSL/3.0.15": "7.88.1". */
static const char *number_of(const char *version, char ret[32])
{
    const char *slash = strchr(version, '/');

    snprintf(ret, 32, "%.*s", slash ? (int)strcspn(slash + 1, " ") : 0, slash ? slash + 1 : "");
    return ret;
}

static void write_build(struct buf *out)
{
    char number[32];

    metrics_write_head(out, METRIC_BUILD);
    buf_printf(out, "%s{", metrics_families[METRIC_BUILD].name);
    metrics_write_label(out, "version", RETRYD_VERSION);
    metrics_write_label(out, "libmicrohttpd", number_of(frontend_version(), number));
    metrics_write_label(out, "libcurl", number_of(fetch_version(), number));
    buf_printf(out, "} 1\n");
}

struct metrics_process metrics_process(void)
{
    FILE *statm = fopen("/proc/self/statm", "re");
    unsigned long long all = 0, resident = 0, page = (unsigned long long)sysconf(_SC_PAGESIZE);
    struct metrics_process p = {.cpu_us = 0};
    struct rusage u;

    if (getrusage(RUSAGE_SELF, &u) == 0)
        p.cpu_us = (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
                   (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    if (statm && fscanf(statm, "%llu %llu", &all, &resident) == 2) {
        p.resident = resident * page;
        p.all = all * page;
    }
    if (statm)
        fclose(statm);
    return p;
}

static void write_descriptors(struct buf *out)
{
    DIR *folder = opendir("/proc/self/fd");
    struct rlimit limit;
    uint64_t n = 0;

    while (folder && readdir(folder))
        n++;
    if (folder && n >= 3) /* ".", ".." and the folder's own */
        metrics_write_count(out, METRIC_PROCESS_FDS, n - 3);
    if (folder)
        closedir(folder);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        metrics_write_count(out, METRIC_PROCESS_MAX_FDS, limit.rlim_cur);
}

/* Reads the 22nd field of /proc/self/stat, in ticks since boot. The name before it may have spaces,
 * and ends with the last parenthesis. Returns seconds since 1970, or 0. */
static uint64_t find_start(void)
{
    FILE *stat = fopen("/proc/self/stat", "re");
    struct timespec boot;
    uint64_t now_ms, up_ms, age_ms;
    unsigned long long ticks = 0;
    char text[1024] = "";
    size_t n = stat ? fread(text, 1, sizeof(text) - 1, stat) : 0;
    const char *behind = n > 0 ? memrchr(text, ')', n) : NULL;

    if (stat)
        fclose(stat);
    if (!behind ||
        sscanf(behind,
               ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
               "%*d %llu",
               &ticks) != 1)
        return 0;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    now_ms = clock_unix_ms();
    up_ms = (uint64_t)boot.tv_sec * 1000 + (uint64_t)boot.tv_nsec / 1000000;
    age_ms = up_ms - ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    return (now_ms - age_ms) / 1000;
}

void metrics_write_process(struct buf *out)
{
    static uint64_t start_s; /* found once: the clocks do not agree to the last digit */
    struct metrics_process p = metrics_process();

    write_build(out);
    metrics_write_seconds(out, METRIC_PROCESS_CPU, p.cpu_us / 1000);
    if (p.all > 0) {
        metrics_write_count(out, METRIC_PROCESS_RESIDENT, p.resident);
        metrics_write_count(out, METRIC_PROCESS_VIRTUAL, p.all);
    }
    write_descriptors(out);
    if (start_s == 0)
        start_s = find_start();
    if (start_s > 0)
        metrics_write_count(out, METRIC_PROCESS_START, start_s);
}
