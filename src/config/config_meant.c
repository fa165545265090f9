/* What was meant by a name that is none: the nearest one, or where a key belongs. */
#include <stdio.h>
#include <string.h>

#include "config/config_table.h"

#define WORD_MAX 40

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance; words that are too long are far from everything. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], n = strlen(b);

    if (strlen(a) > WORD_MAX || n > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            size_t change = diagonal + (a[i - 1] != b[j - 1]);

            row[j] = least(change, least(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[n];
}

/* Near enough to be a slip: a third of the letters, but of a short word at least two. */
static bool near(const char *meant, size_t far)
{
    size_t third = strlen(meant) / 3;

    return far <= (third > 2 ? third : 2) && far < strlen(meant);
}

/* One begins with the other: api_key for api_key_env. */
static bool part_of(const char *a, const char *b)
{
    size_t n = least(strlen(a), strlen(b));

    return n >= 5 && strncmp(a, b, n) == 0;
}

const char *config_section_nearest(const char *name)
{
    const char *best = NULL;
    size_t best_far = WORD_MAX;

    for (unsigned i = 0; i < config_section_count; i++) {
        size_t far = distance(name, config_sections[i].name);

        if (far < best_far && near(config_sections[i].name, far)) {
            best = config_sections[i].name;
            best_far = far;
        }
    }
    return best;
}

/* A route's keys include, behind the section's name and a dot, those it may override. */
static void full_key(const char *section, const struct config_row *row, struct buf *out)
{
    if (strcmp(section, row->section) != 0)
        buf_printf(out, "%s.", row->section);
    buf_printf(out, "%s%s", row->key, config_row_is_prefix(row) ? "NAME" : "");
}

/* How far `key` is from the row's own name in such a section; WORD_MAX: too far to be it. */
static size_t row_distance(const struct config_row *row, const char *section, const char *key)
{
    bool own = !strcmp(row->section, section);
    char name[WORD_MAX * 2], head[WORD_MAX + 1];
    size_t far;

    if (!own && (strcmp(section, "route") != 0 || !config_section_overridable(row->section)))
        return WORD_MAX;
    if (own)
        snprintf(name, sizeof name, "%s", row->key);
    else
        snprintf(name, sizeof name, "%s.%s", row->section, row->key);
    /* Of haeder.X-Org only what stands before the name counts. */
    snprintf(head, sizeof head, "%s", key);
    if (config_row_is_prefix(row) && strchr(head, '.'))
        strchr(head, '.')[1] = '\0';
    far = distance(head, name);
    return near(row->key, far) || part_of(head, name) ? far : WORD_MAX;
}

static const struct config_row *nearest_row(const char *section, const char *key)
{
    const struct config_row *best = NULL;
    size_t best_far = WORD_MAX;

    for (unsigned i = 0; i < config_row_count; i++) {
        size_t far = row_distance(&config_rows[i], section, key);

        if (far < best_far) {
            best = &config_rows[i];
            best_far = far;
        }
    }
    return best;
}

void config_key_hint(const char *section, const char *key, struct buf *out)
{
    const struct config_row *row = nearest_row(section, key);

    if (row) {
        buf_printf(out, "; did you mean ");
        full_key(section, row, out);
        buf_addc(out, '?');
        return;
    }
    for (unsigned i = 0; i < config_row_count; i++) {
        row = &config_rows[i];
        if (strcmp(row->key, key) != 0 || config_row_is_prefix(row))
            continue;
        if (!strcmp(section, "route") && config_section_overridable(row->section))
            buf_printf(out, "; in a route it is %s.%s", row->section, row->key);
        else
            buf_printf(out, "; it belongs in [%s]", row->section);
        return;
    }
}
