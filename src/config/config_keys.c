/* Loads an upstream's API keys from the environment or a file, and passwords from files. They are kept only
 * as secrets; no message shows any of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_table.h"
#include "targets/target.h"

static int add_key(struct config_upstream *u, struct str text)
{
    struct secret **keys = realloc(u->keys, (u->key_count + 1) * sizeof *keys);

    if (!keys)
        return -ENOMEM;
    u->keys = keys;
    keys[u->key_count] = secret_new(text);
    if (!keys[u->key_count])
        return -ENOMEM;
    u->key_count++;
    return 0;
}

/* Why it is no key; NULL: it is one. */
static const char *key_fault(struct str key)
{
    if (!str_is_visible(key))
        return "is no key; expected printable ASCII without spaces";
    if (key.n > TARGET_KEY_MAX)
        return "is longer than 16 KiB, which no server takes for a key";
    return NULL;
}

static void keys_from_env(struct config_upstream *u, const char *title, unsigned line,
                          struct config_report *r)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *name = config_quote(str_from(u->api_key_env), quoted);
    const char *value = getenv(u->api_key_env);
    struct str key = str_trim(str_from(value));

    if (key.n == 0)
        config_problem(r, FAULT_KEY, line,
                       "[%s] api_key_env: the variable %s is %s; set it or remove the key; without "
                       "one the client's own key passes through",
                       title, name, value ? "empty" : "not set");
    else if (key_fault(key))
        config_problem(r, FAULT_KEY, line, "[%s] api_key_env: what %s holds %s", title, name,
                       key_fault(key));
    else if (add_key(u, key) < 0)
        config_no_memory(r);
}

static bool has_key(const struct config_upstream *u, struct str key)
{
    for (unsigned i = 0; i < u->key_count; i++) {
        if (str_eq(secret_text(u->keys[i]), key))
            return true;
    }
    return false;
}

static void keys_from_text(struct config_upstream *u, struct config_reading *f)
{
    char quoted[CONFIG_QUOTED_MAX];
    const char *path = config_quote(str_from(f->path), quoted);
    struct str rest = f->text, line;

    for (unsigned n = 1; str_next(&rest, '\n', &line); n++) {
        if (line.n == 0 || line.p[0] == '#')
            continue;
        if (key_fault(line)) {
            config_problem(f->report, FAULT_KEY, f->line, "[%s] api_key_file: line %u of %s %s",
                           f->title, n, path, key_fault(line));
            return;
        } else if (has_key(u, line)) {
            config_note(f->report, f->line,
                        "[%s] api_key_file: the key on line %u of %s is there already, and counts "
                        "once",
                        f->title, n, path);
        } else if (u->key_count == KEYS_MAX) {
            config_problem(f->report, FAULT_KEY, f->line,
                           "[%s] api_key_file: %s holds more than %d keys", f->title, path,
                           KEYS_MAX);
            return;
        } else if (add_key(u, line) < 0) {
            config_no_memory(f->report);
            return;
        }
    }
    if (u->key_count == 0)
        config_problem(f->report, FAULT_KEY, f->line, "[%s] api_key_file: %s holds no key",
                       f->title, path);
}

/* --- renewing ---------------------------------------------------------------------------------------- */

static bool same_keys(const struct config_upstream *a, const struct config_upstream *b)
{
    if (a->key_count != b->key_count)
        return false;
    for (unsigned i = 0; i < a->key_count; i++)
        if (!config_same_secret(a->keys[i], b->keys[i]))
            return false;
    return true;
}

static void keep_keys(struct config_upstream *u, const struct config_upstream *was,
                      struct config_report *r)
{
    while (u->key_count > 0)
        secret_free(u->keys[--u->key_count]);
    for (unsigned i = 0; i < was->key_count; i++) {
        if (add_key(u, secret_text(was->keys[i])) < 0) {
            config_no_memory(r);
            return;
        }
    }
}

/* --- by key ------------------------------------------------------------------------------------------ */

static void load_key_file(struct config *c, struct config_upstream *u,
                          const struct config_origin *o, unsigned line, struct config_report *r)
{
    struct config_reading *f =
        config_reading_new(c, o->title, "api_key_file", u->api_key_file, line, r);
    const struct config_upstream *was = config_upstream_before(c, u);

    if (!f)
        return;
    if (config_reading_read(f))
        keys_from_text(u, f);
    if (was && !config_reading_good(f))
        keep_keys(u, was, r);
    else if (was)
        config_reading_file(f)->changed = !same_keys(u, was);
    config_reading_free(f);
}

void config_load_keys(struct config *c, struct config_upstream *u, const struct config_origin *o,
                      struct config_report *r)
{
    unsigned line = config_origin_line(o, "upstream", "api_key_file");

    if (u->api_key_env[0] && u->api_key_file[0])
        config_problem(r, FAULT_VALUE, line,
                       "[%s] api_key_file: api_key_env is set as well; expected one of the two",
                       o->title);
    else if (u->api_key_env[0])
        keys_from_env(u, o->title, config_origin_line(o, "upstream", "api_key_env"), r);
    else if (u->api_key_file[0])
        load_key_file(c, u, o, line, r);
}

void config_load_password(struct config *c, const struct config_origin *o, struct config_report *r)
{
    struct config_reading *f;

    if (!c->shared_password_file[0])
        return;
    f = config_reading_new(c, "shared", "redis_password_file", c->shared_password_file,
                           config_origin_line(o, "shared", "redis_password_file"), r);
    if (f)
        config_take_password(f, c->before ? c->before->shared_password : NULL, &c->shared_password);
    config_reading_free(f);
}

/* --- a proxy's --------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* As it stands in a URL (RFC 3986 2.1). */
static char *percent_decoded(struct str s)
{
    char *out = calloc(1, s.n + 1), *to = out;

    for (size_t i = 0; out && i < s.n; i++) {
        int high = s.p[i] == '%' && i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s.p[i + 2]) : -1;

        if (low >= 0 && (high | low) != 0) {
            *to++ = (char)(high << 4 | low);
            i += 2;
        } else {
            *to++ = s.p[i];
        }
    }
    return out;
}

/* "http://user@host:1" in three parts. False where there is no user. */
static bool split_user(const char *proxy, struct str *ret_user, struct str *ret_scheme,
                       struct str *ret_rest)
{
    const char *start = strstr(proxy, "://"), *at = strrchr(proxy, '@');

    if (!start || !at || at <= start + 3)
        return false;
    start += 3;
    *ret_scheme = (struct str){proxy, (size_t)(start - proxy)};
    *ret_user = (struct str){start, (size_t)(at - start)};
    *ret_rest = str_from(at);
    return true;
}

/* NULL, or what is wrong with the key beside `proxy`. */
static const char *check_proxy(const struct config_upstream *u)
{
    struct str user, scheme, rest;

    if (!split_user(u->proxy, &user, &scheme, &rest))
        return "proxy names no user; expected proxy = http://USER@HOST:PORT";
    if (memchr(user.p, ':', user.n))
        return "proxy has a password as well; expected one of the two";
    return NULL;
}

static char *put(char *to, struct str s)
{
    memcpy(to, s.p, s.n);
    return to + s.n;
}

/* All but letters and digits as %XX, whatever it means in a URL. */
static char *put_encoded(char *to, struct str s)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    return to;
}

/* The password goes into the URL, which every libcurl decodes once: what has an option of its own is decoded
 * by some releases (7.88 does it), and not by others. */
static struct secret *join_proxy(const char *proxy, struct str password)
{
    struct str user, scheme, rest;
    struct secret *s = NULL;
    char *user_text, *text, *to;

    if (!split_user(proxy, &user, &scheme, &rest))
        return NULL;
    user_text = percent_decoded(user);
    text = malloc(scheme.n + 3 * user.n + 1 + 3 * password.n + rest.n);
    if (user_text && text) {
        to = put_encoded(put(text, scheme), str_from(user_text));
        *to++ = ':';
        to = put(put_encoded(to, password), rest);
        s = secret_new((struct str){text, (size_t)(to - text)});
        explicit_bzero(text, (size_t)(to - text));
    }
    free(text);
    free(user_text);
    return s;
}

void config_load_proxy_password(struct config *c, struct config_upstream *u,
                                const struct config_origin *o, struct config_report *r)
{
    static const char key[] = "proxy_password_file";
    unsigned line = config_origin_line(o, "upstream", key);
    const struct config_upstream *was = config_upstream_before(c, u);
    struct config_reading *f;
    const char *why;

    if (!u->proxy_password_file[0])
        return;
    if (!u->proxy[0]) {
        config_note(r, line, "[%s] %s: has no effect without proxy", o->title, key);
        return;
    }
    why = check_proxy(u);
    if (why) {
        config_problem(r, FAULT_VALUE, line, "[%s] %s: %s", o->title, key, why);
        return;
    }
    f = config_reading_new(c, o->title, key, u->proxy_password_file, line, r);
    if (f)
        config_take_password(f, was ? was->proxy_password : NULL, &u->proxy_password);
    config_reading_free(f);
    if (u->proxy_password) {
        u->proxy_full = join_proxy(u->proxy, secret_text(u->proxy_password));
        if (!u->proxy_full)
            config_no_memory(r);
    }
}
