/* The metrics' names, and how the text format writes them. */
#include "worker/metrics_table.h"

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

void metrics_write_seconds(struct buf *out, enum metric m, uint64_t ms)
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
