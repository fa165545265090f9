/* The environment of the child of `retryd run`. */
#include "cli/run_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

#define VALUE_MAX (128 * 1024) /* the limit of exec */

static void wipe(char *item)
{
    if (item)
        explicit_bzero(item, strlen(item));
    free(item);
}

static bool grow(struct run_env *e)
{
    char **items = realloc(e->items, (e->count + 2) * sizeof(*items));

    if (!items) {
        e->failed = true;
        return false;
    }
    e->items = items;
    return true;
}

static void add(struct run_env *e, char *item)
{
    if (!item || !grow(e)) {
        e->failed = true;
        wipe(item);
        return;
    }
    e->items[e->count++] = item;
    e->items[e->count] = NULL;
}

void run_env_init(struct run_env *e)
{
    *e = (struct run_env){.count = 0};
    for (char **v = environ; v && *v; v++)
        add(e, strdup(*v));
    if (!e->items && grow(e))
        e->items[0] = NULL;
}

void run_env_deinit(struct run_env *e)
{
    for (unsigned i = 0; i < e->count; i++)
        wipe(e->items[i]);
    free(e->items);
}

static char **find(const struct run_env *e, const char *name)
{
    size_t n = strlen(name);

    for (unsigned i = 0; i < e->count; i++)
        if (!strncmp(e->items[i], name, n) && e->items[i][n] == '=')
            return &e->items[i];
    return NULL;
}

const char *run_env_get(const struct run_env *e, const char *name)
{
    char **at = find(e, name);
    const char *value = at ? *at + strlen(name) + 1 : NULL;

    return value && value[0] ? value : NULL;
}

const char *run_env_either(const struct run_env *e, const char *name, const char *other)
{
    const char *value = run_env_get(e, name);

    return value ? value : run_env_get(e, other);
}

void run_env_set(struct run_env *e, const char *name, const char *value)
{
    size_t n = strlen(name) + strlen(value) + 2;
    char *item = malloc(n), **at = find(e, name);

    if (item)
        snprintf(item, n, "%s=%s", name, value);
    if (!at || !item) {
        add(e, item);
        return;
    }
    wipe(*at);
    *at = item;
}

void run_env_remove(struct run_env *e, const char *name, bool prefix, struct buf *ret_names)
{
    size_t n = strlen(name);
    unsigned kept = 0;

    for (unsigned i = 0; i < e->count; i++) {
        char *item = e->items[i];

        if (strncmp(item, name, n) != 0 || (!prefix && item[n] != '=')) {
            e->items[kept++] = item;
            continue;
        }
        if (ret_names)
            buf_printf(ret_names, "%s%.*s", ret_names->len ? ", " : "", (int)strcspn(item, "="),
                       item);
        wipe(item);
    }
    e->count = kept;
    if (e->items)
        e->items[kept] = NULL;
}

/* --- proxies ---------------------------------------------------------------------------------- */

static bool is_loopback(struct str host)
{
    return str_ieq(host, STR("localhost")) || str_starts(host, STR("127.")) ||
           str_eq(host, STR("[::1]"));
}

/* Whether an entry of NO_PROXY names the host: itself, a domain above it, or all. */
static bool covers(struct str entry, struct str host)
{
    if (str_eq(entry, STR("*")))
        return true;
    while (entry.n > 0 && (entry.p[0] == '.' || entry.p[0] == '*'))
        entry = str_after(entry, 1);
    if (entry.n == 0 || host.n < entry.n ||
        !str_ieq((struct str){host.p + host.n - entry.n, entry.n}, entry))
        return false;
    return host.n == entry.n || host.p[host.n - entry.n - 1] == '.';
}

bool run_env_no_proxy(const struct run_env *e, const char *host)
{
    const char *list = run_env_either(e, "no_proxy", "NO_PROXY");
    struct str rest = str_from(list ? list : ""), entry;

    if (is_loopback(str_from(host)))
        return true;
    while (str_next(&rest, ',', &entry))
        if (covers(entry, str_from(host)))
            return true;
    return false;
}

/* Sets both spellings, because programs read one, the other, or the first that is set. */
static void exempt(struct run_env *e, const char *name, const char *other, const char *host)
{
    const char *list = run_env_either(e, name, other);
    struct buf text;

    buf_init(&text, VALUE_MAX);
    buf_printf(&text, "%s%s%s", list ? list : "", list ? "," : "", host);
    buf_addc(&text, '\0');
    if (text.failed)
        e->failed = true;
    else
        run_env_set(e, name, text.p);
    buf_deinit(&text);
}

void run_env_exempt(struct run_env *e, const char *host)
{
    static const char *const proxies[] = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"};
    const char *list = run_env_either(e, "no_proxy", "NO_PROXY");
    bool any = false;

    for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++)
        any |= run_env_get(e, proxies[i]) != NULL;
    if (!any || (list && str_eq(str_from(list), STR("*"))))
        return;
    /* If only one is set, the other gets the same. */
    exempt(e, "no_proxy", "NO_PROXY", host);
    if (run_env_get(e, "NO_PROXY"))
        exempt(e, "NO_PROXY", "no_proxy", host);
    else if ((list = run_env_get(e, "no_proxy"))) /* unless out of memory */
        run_env_set(e, "NO_PROXY", list);
}
