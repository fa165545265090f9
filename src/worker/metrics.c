/* The metrics: their table, the workers' counters and their sums, the process; written for
 * Prometheus. */
#include "worker/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "edge/fetch.h"
#include "edge/frontend.h"
#include "worker/metrics_table.h"
#include "worker/worker.h"

/* --- the table, and how the text format writes it --------------------------------------------- */

const struct metrics_family metrics_families[METRIC_FAMILIES] = {
#define X(constant, type, name, labels, help) \
    [METRIC_##constant] = {(name), (labels), (help), METRIC_##type},
    METRICS_FAMILIES(X)
#undef X
};

const char *metrics_type_word(enum metric_type type)
{
    static const char *const words[] = {
        [METRIC_COUNTER] = "counter",
        [METRIC_GAUGE] = "gauge",
        [METRIC_HISTOGRAM] = "histogram",
    };

    return words[type];
}

void metrics_write_head(struct buf *out, enum metric m)
{
    const struct metrics_family *f = &metrics_families[m];

    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
               metrics_type_word(f->type));
}

void metrics_write_count(struct buf *out, enum metric m, uint64_t value)
{
    metrics_write_head(out, m);
    buf_printf(out, "%s %llu\n", metrics_families[m].name, (unsigned long long)value);
}

static void write_seconds(struct buf *out, enum metric m, uint64_t ms)
{
    metrics_write_head(out, m);
    buf_printf(out, "%s %.3f\n", metrics_families[m].name, (double)ms / 1000);
}

void metrics_write_label(struct buf *out, const char *name, const char *value)
{
    if (out->len > 0 && out->p[out->len - 1] != '{')
        buf_addc(out, ',');
    buf_printf(out, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            buf_addc(out, '\\');
        buf_addc(out, *value);
    }
    buf_addc(out, '"');
}

/* --- sums ------------------------------------------------------------------------------------- */

static const uint32_t bucket_limits_ms[METRICS_BUCKETS] = {
    10, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000, 300000, 600000};

/* --- counting --------------------------------------------------------------------------------- */

void metrics_init(struct metrics *m)
{
    memcpy(m->other_upstream.named.name, "other", sizeof("other"));
    memcpy(m->no_upstream.named.name, "none", sizeof("none"));
    memcpy(m->other_client.named.name, "other", sizeof("other"));
}

static void free_list(struct metrics_list *l)
{
    for (unsigned i = 0; i < METRICS_NAMES_MAX; i++)
        free(atomic_load_explicit(&l->items[i], memory_order_relaxed));
}

void metrics_deinit(struct metrics *m)
{
    free_list(&m->upstreams);
    free_list(&m->clients);
}

static unsigned count_of(struct metrics_list *l)
{
    return atomic_load_explicit(&l->count, memory_order_acquire);
}

static struct metrics_named *item_of(struct metrics_list *l, unsigned i)
{
    return atomic_load_explicit(&l->items[i], memory_order_relaxed);
}

/* Returns the item of that name; NULL if there is no room for it. */
static struct metrics_named *find(struct metrics_list *l, const char *name, size_t size)
{
    unsigned n = count_of(l);
    struct metrics_named *item;

    for (unsigned i = 0; i < n; i++)
        if (!strncmp(item_of(l, i)->name, name, METRICS_NAME_MAX - 1))
            return item_of(l, i);
    item = n < METRICS_NAMES_MAX ? calloc(1, size) : NULL;
    if (!item)
        return NULL;
    memcpy(item->name, name, strnlen(name, METRICS_NAME_MAX - 1));
    atomic_store_explicit(&l->items[n], item, memory_order_relaxed);
    atomic_store_explicit(&l->count, n + 1, memory_order_release);
    return item;
}

struct metrics_upstream *metrics_upstream(struct metrics *m, const char *name)
{
    struct metrics_named *item = find(&m->upstreams, name, sizeof(struct metrics_upstream));

    return item ? (struct metrics_upstream *)(void *)item : &m->other_upstream;
}

struct metrics_client *metrics_client(struct metrics *m, const char *name)
{
    struct metrics_named *item = find(&m->clients, name, sizeof(struct metrics_client));

    return item ? (struct metrics_client *)(void *)item : &m->other_client;
}

void metrics_failed(struct metrics_upstream *u, unsigned status, enum reason reason)
{
    unsigned class = status / 100;

    metrics_add(&u->failed[class < METRICS_STATUS_CLASSES ? class : 0][reason], 1);
}

/* Counts into the buckets without a branch for each. */
static void observe(struct metrics_histogram *h, uint64_t ms)
{
    unsigned at = 0;

    for (unsigned i = 0; i < METRICS_BUCKETS; i++)
        at += ms > bucket_limits_ms[i];
    metrics_add(&h->counts[at], 1);
    metrics_add(&h->sum_ms, ms);
}

void metrics_request(struct metrics_upstream *u, const struct exchange *x)
{
    observe(&u->duration[x->end], x->ended_ms - x->started_ms);
    observe(&u->wait[x->end], x->wait_ms);
    if (x->reply.first_byte_ms)
        observe(&u->first_byte[x->end], x->reply.first_byte_ms - x->started_ms);
}

/* --- sums ------------------------------------------------------------------------------------- */

static uint64_t value_of(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static uint64_t sum(struct metrics *const *sets, unsigned count, size_t offset)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < count; i++)
        total += value_of((_Atomic uint64_t *)(void *)((char *)sets[i] + offset));
    return total;
}

void metrics_add_to_sum(const struct metrics *m, struct metrics_sum *sum)
{
    sum->requests += value_of(&m->requests);
    sum->rescued += value_of(&m->rescued);
    sum->wait_ms += value_of(&m->wait_ms);
    sum->failed += value_of(&m->ends[END_FAILED]) + value_of(&m->ends[END_BROKEN]);
    for (unsigned r = 1; r < REASON_COUNT; r++) {
        sum->failures += value_of(&m->failures[r]);
        sum->retries += value_of(&m->retries[r]);
    }
}

static uint64_t largest_lag(struct metrics *const *sets, unsigned count, uint64_t now_ms)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < count; i++) {
        uint64_t lag = peak_read(&sets[i]->lag, now_ms);

        most = lag > most ? lag : most;
    }
    return most;
}

static void write_sums(struct metrics *const *sets, unsigned count, uint64_t now_ms,
                       struct buf *out)
{
#define X(field, family) \
    metrics_write_count(out, METRIC_##family, sum(sets, count, offsetof(struct metrics, field)));
    METRICS_SUMS(X)
#undef X
    write_seconds(out, METRIC_HANDSHAKE_TIME,
                  sum(sets, count, offsetof(struct metrics, handshake_us)) / 1000);
    write_seconds(out, METRIC_LAG, largest_lag(sets, count, now_ms));
    metrics_write_count(out, METRIC_BUFFERED_MAX, worker_most_buffered());
    metrics_write_count(out, METRIC_LOG_DROPPED, log_dropped());
}

static void write_by_reason(struct metrics *const *sets, unsigned count, struct buf *out,
                            enum metric m, size_t offset)
{
    metrics_write_head(out, m);
    for (unsigned r = 1; r < REASON_COUNT; r++) {
        uint64_t n = sum(sets, count, offset + r * sizeof(uint64_t));

        if (n)
            buf_printf(out, "%s{reason=\"%s\"} %llu\n", metrics_families[m].name,
                       reason_word((enum reason)r), (unsigned long long)n);
    }
}

static void write_ends(struct metrics *const *sets, unsigned count, struct buf *out)
{
    metrics_write_head(out, METRIC_ENDED);
    for (unsigned e = END_ANSWERED; e <= END_CLIENT_GONE; e++)
        buf_printf(out, "%s{end=\"%s\"} %llu\n", metrics_families[METRIC_ENDED].name,
                   exchange_end_word((enum exchange_end)e),
                   (unsigned long long)sum(sets, count,
                                           offsetof(struct metrics, ends) + e * sizeof(uint64_t)));
}

/* --- sums by name ----------------------------------------------------------------------------- */

#define ROWS_MAX (METRICS_NAMES_MAX + 2) /* with "other" and "none" */

/* The sums of all workers, a row for each name. */
struct rows {
    char *items;
    unsigned count;
    size_t size; /* of an item: a struct metrics_named, then only counters */
};

static struct metrics_named *row_of(const struct rows *rows, unsigned i)
{
    return (struct metrics_named *)(void *)(rows->items + i * rows->size);
}

/* Adds one worker's item. Workers may have more names than there are rows; the others go to the
 * first row, "other". */
static void add_item(struct rows *rows, const struct metrics_named *item)
{
    size_t words = (rows->size - sizeof(*item)) / sizeof(uint64_t);
    struct metrics_named *to = NULL;

    for (unsigned i = 0; i < rows->count && !to; i++)
        if (!strcmp(row_of(rows, i)->name, item->name))
            to = row_of(rows, i);
    if (!to && rows->count < ROWS_MAX) {
        to = row_of(rows, rows->count++);
        memcpy(to->name, item->name, sizeof(to->name));
    }
    if (!to)
        to = row_of(rows, 0);
    for (size_t i = 0; i < words; i++)
        ((uint64_t *)(void *)(to + 1))[i] +=
            value_of((const _Atomic uint64_t *)(const void *)(item + 1) + i);
}

static void add_list(struct rows *rows, struct metrics_list *l)
{
    unsigned n = count_of(l);

    for (unsigned i = 0; i < n; i++)
        add_item(rows, item_of(l, i));
}

/* Writes the first counter after each name. The first `special` rows, "other" and "none", have a
 * sample only if something was counted. */
static void write_named(const struct rows *rows, unsigned special, enum metric m, const char *label,
                        struct buf *out)
{
    metrics_write_head(out, m);
    for (unsigned i = 0; i < rows->count; i++) {
        const struct metrics_named *row = row_of(rows, i);
        uint64_t n = value_of((const _Atomic uint64_t *)(const void *)(row + 1));

        if (i < special && n == 0)
            continue;
        buf_printf(out, "%s{", metrics_families[m].name);
        metrics_write_label(out, label, row->name);
        buf_printf(out, "} %llu\n", (unsigned long long)n);
    }
}

static void write_failed(const struct metrics_upstream *u, struct buf *out)
{
    static const char *const classes[METRICS_STATUS_CLASSES] = {"none", "1xx", "2xx",
                                                                "3xx",  "4xx", "5xx"};

    for (unsigned c = 0; c < METRICS_STATUS_CLASSES; c++) {
        for (unsigned r = 0; r < REASON_COUNT; r++) {
            uint64_t n = value_of(&u->failed[c][r]);

            if (n == 0)
                continue;
            buf_printf(out, "%s{", metrics_families[METRIC_FAILED].name);
            metrics_write_label(out, "upstream", u->named.name);
            buf_printf(out, ",status=\"%s\",reason=\"%s\"} %llu\n", classes[c],
                       reason_word((enum reason)r), (unsigned long long)n);
        }
    }
}

static void write_sample(struct buf *out, const char *name, const char *part, struct str labels,
                         const char *limit)
{
    buf_printf(out, "%s_%s{%.*s", name, part, (int)labels.n, labels.p);
    if (limit)
        buf_printf(out, ",le=\"%s\"", limit);
    buf_addc(out, '}');
    buf_addc(out, ' ');
}

static void write_histogram(const struct metrics_histogram *h, const char *name, struct str labels,
                            struct buf *out)
{
    uint64_t total = 0;
    char limit[32];

    for (unsigned i = 0; i <= METRICS_BUCKETS; i++) {
        total += value_of(&h->counts[i]);
        if (i < METRICS_BUCKETS)
            snprintf(limit, sizeof(limit), "%g", (double)bucket_limits_ms[i] / 1000);
        write_sample(out, name, "bucket", labels, i < METRICS_BUCKETS ? limit : "+Inf");
        buf_printf(out, "%llu\n", (unsigned long long)total);
    }
    write_sample(out, name, "sum", labels, NULL);
    buf_printf(out, "%.3f\n", (double)value_of(&h->sum_ms) / 1000);
    write_sample(out, name, "count", labels, NULL);
    buf_printf(out, "%llu\n", (unsigned long long)total);
}

static bool is_empty(const struct metrics_histogram *h)
{
    for (unsigned i = 0; i <= METRICS_BUCKETS; i++)
        if (value_of(&h->counts[i]) > 0)
            return false;
    return true;
}

/* `offset` is that of the array with a histogram for each outcome. */
static void write_histograms(const struct rows *rows, enum metric m, size_t offset, struct buf *out)
{
    struct buf labels;

    buf_init(&labels, 1024);
    metrics_write_head(out, m);
    for (unsigned i = 0; i < rows->count; i++) {
        const struct metrics_histogram *all = (void *)(rows->items + i * rows->size + offset);

        for (unsigned e = END_ANSWERED; e < METRICS_OUTCOMES; e++) {
            if (is_empty(&all[e]))
                continue;
            buf_reset(&labels, 1024);
            metrics_write_label(&labels, "upstream", row_of(rows, i)->name);
            metrics_write_label(&labels, "outcome", exchange_end_word((enum exchange_end)e));
            write_histogram(&all[e], metrics_families[m].name, buf_str(&labels), out);
        }
    }
    out->failed |= labels.failed;
    buf_deinit(&labels);
}

/* Returns false if out of memory. */
static bool rows_init(struct rows *rows, size_t size, struct buf *out)
{
    *rows = (struct rows){.size = size, .items = calloc(ROWS_MAX, size)};
    out->failed |= !rows->items;
    return rows->items;
}

static void write_upstreams(struct metrics *const *sets, unsigned count, struct buf *out)
{
    struct rows rows;

    if (!rows_init(&rows, sizeof(struct metrics_upstream), out))
        return;
    for (unsigned i = 0; i < count; i++) {
        add_item(&rows, &sets[i]->other_upstream.named);
        add_item(&rows, &sets[i]->no_upstream.named);
    }
    for (unsigned i = 0; i < count; i++)
        add_list(&rows, &sets[i]->upstreams);
    write_named(&rows, 2, METRIC_ATTEMPTS, "upstream", out);
    metrics_write_head(out, METRIC_FAILED);
    for (unsigned i = 0; i < rows.count; i++)
        write_failed((void *)row_of(&rows, i), out);
    write_histograms(&rows, METRIC_DURATION, offsetof(struct metrics_upstream, duration), out);
    write_histograms(&rows, METRIC_FIRST_BYTE, offsetof(struct metrics_upstream, first_byte), out);
    write_histograms(&rows, METRIC_WAIT, offsetof(struct metrics_upstream, wait), out);
    free(rows.items);
}

static void write_clients(struct metrics *const *sets, unsigned count, struct buf *out)
{
    struct rows rows;

    if (!rows_init(&rows, sizeof(struct metrics_client), out))
        return;
    for (unsigned i = 0; i < count; i++)
        add_item(&rows, &sets[i]->other_client.named);
    for (unsigned i = 0; i < count; i++)
        add_list(&rows, &sets[i]->clients);
    write_named(&rows, 1, METRIC_CLIENT_REQUESTS, "client", out);
    free(rows.items);
}

void metrics_write(struct metrics *const *sets, unsigned count, uint64_t now_ms, struct buf *out)
{
    write_sums(sets, count, now_ms, out);
    write_ends(sets, count, out);
    write_by_reason(sets, count, out, METRIC_RETRIES, offsetof(struct metrics, retries));
    write_by_reason(sets, count, out, METRIC_UNTRIED, offsetof(struct metrics, untried));
    write_upstreams(sets, count, out);
    write_clients(sets, count, out);
}

/* --- the process: the metrics of Prometheus' client libraries, and the versions --------------- */

/* Returns "7.88.1" of "libcurl/7.88.1 OpenSSL/3.0.15". */
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
    write_seconds(out, METRIC_PROCESS_CPU, p.cpu_us / 1000);
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
