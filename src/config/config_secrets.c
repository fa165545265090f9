/* Loads what an upstream's files and variables hold: API keys, passwords, certificates and their authorities.
 * Keys and passwords are kept only as secrets; no message shows any of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/pem.h"
#include "config/config_private.h"
#include "edge/fetch.h"
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

#define AUTHORITIES_MAX ((size_t)16 * 1024 * 1024)

/* "[section] key: what is wrong with the file" */
static void bad_file(struct config_reading *f, const char *before, const char *behind)
{
    char quoted[CONFIG_QUOTED_MAX];

    config_problem(f->report, f->fault, f->line, "[%s] %s: %s%s%s", f->title, f->key, before,
                   config_quote(str_from(f->path), quoted), behind);
}

/* --- authorities --------------------------------------------------------------------------------- */

/* An upstream before this one may have the same. */
static struct bundle *shared_bundle(const struct config *c, const struct config_upstream *u)
{
    for (const struct config_upstream *v = c->upstreams; v < u; v++)
        if (v->ca && !strcmp(v->ca_file, u->ca_file))
            return bundle_ref(v->ca);
    return NULL;
}

/* Whether a TLS library can read them all. */
static void check_authorities(struct config_reading *f, const struct bundle *b)
{
    const char *path = bundle_path(b);

    if (path && fetch_check_trust(path, STR(""), STR("")) == FETCH_FAULT_AUTHORITIES)
        bad_file(f, "a certificate in ", " cannot be read");
}

static bool look_at_authorities(struct config_reading *f)
{
    struct pem pem = pem_look(f->text);

    if (pem.broken)
        bad_file(f, "", " is not whole; expected certificates in PEM");
    else if (pem.certificates == 0)
        bad_file(f, "", " holds no certificate; expected some in PEM");
    return !pem.broken && pem.certificates > 0;
}

static struct bundle *read_authorities(struct config_reading *f, const struct config_upstream *was)
{
    struct bundle *b;

    if (!config_reading_read(f) || !look_at_authorities(f))
        return NULL;
    b = bundle_new(f->text);
    if (!b) {
        config_no_memory(f->report);
        return NULL;
    }
    if (was && was->ca == b)
        return b;
    check_authorities(f, b);
    if (was && config_reading_good(f))
        config_reading_file(f)->changed = true;
    return b;
}

/* The system's are taken for what they are, and may be missing: then requests find out, for libcurl looks
 * for them itself. */
static void load_system(struct config_reading *f, struct config_upstream *u)
{
    struct config_report aside;

    config_report_init(&aside, NULL);
    f->report = &aside;
    if (config_reading_read(f)) {
        u->ca = bundle_new(f->text);
        if (!u->ca)
            config_no_memory(f->to);
    } else if (aside.faults[FAULT_MEMORY]) {
        config_no_memory(f->to);
    }
    config_report_deinit(&aside);
    f->report = f->to;
}

void config_load_authorities(struct config *c, struct config_upstream *u,
                             const struct config_origin *o, struct config_report *r)
{
    const struct config_upstream *was = config_upstream_before(c, u);
    bool of_system = !u->ca_file[0];
    struct config_reading *f;

    if (of_system && !u->tls)
        return;
    u->ca = shared_bundle(c, u);
    if (u->ca)
        return;
    f = config_reading_new(c, o->title, "ca_file", fetch_ca_file(u->ca_file),
                           config_origin_line(o, "upstream", "ca_file"), r);
    if (!f)
        return;
    f->fault = FAULT_VALUE;
    f->secret = false;
    f->most = AUTHORITIES_MAX;
    if (config_reading_as_before(f))
        u->ca = was->ca ? bundle_ref(was->ca) : NULL;
    else if (of_system && !was)
        load_system(f, u);
    else
        u->ca = read_authorities(f, was);
    if (was && !config_reading_good(f)) {
        bundle_unref(u->ca);
        u->ca = was->ca ? bundle_ref(was->ca) : NULL;
    }
    config_reading_free(f);
}

/* --- the client's certificate --------------------------------------------------------------------- */

/* The two that belong together; `key` is `cert` where one file holds both. */
struct pair {
    struct config_reading *cert, *key;
};

static bool look_at_certificate(struct config_reading *f)
{
    struct pem pem = pem_look(f->text);

    if (pem.broken)
        bad_file(f, "", " is not whole; expected a certificate in PEM");
    else if (pem.certificates == 0)
        bad_file(f, "", " holds no certificate; expected one in PEM");
    return !pem.broken && pem.certificates > 0;
}

static bool look_at_key(struct config_reading *f)
{
    struct pem pem = pem_look(f->text);

    if (pem.broken)
        bad_file(f, "", " is not whole; expected a private key in PEM");
    else if (pem.keys == 0)
        bad_file(f, "", " holds no private key; expected one in PEM");
    else if (pem.encrypted)
        bad_file(f, "the key in ",
                 " is encrypted, and nobody is there to give its passphrase; "
                 "expected one that is not (openssl pkey writes it)");
    return !pem.broken && pem.keys > 0 && !pem.encrypted;
}

static void check_pair(const struct pair *p)
{
    switch (fetch_check_trust("", p->cert->text, p->key->text)) {
    case FETCH_FAULT_CERTIFICATE:
        bad_file(p->cert, "the certificate in ", " cannot be read");
        break;
    case FETCH_FAULT_KEY:
        bad_file(p->key, "the key in ",
                 " does not fit the certificate in client_cert_file, or "
                 "cannot be read");
        break;
    case FETCH_FAULT_MEMORY:
        config_no_memory(p->key->report);
        break;
    case FETCH_FAULT_NONE:
    case FETCH_FAULT_AUTHORITIES:
        break;
    }
}

static void read_pair(const struct pair *p, struct config_upstream *u,
                      const struct config_upstream *was)
{
    bool cert = config_reading_read(p->cert) && look_at_certificate(p->cert);
    bool key = (p->key == p->cert ? cert : config_reading_read(p->key)) && look_at_key(p->key);

    if (!cert || !key)
        return;
    u->client_cert = secret_new(p->cert->text);
    u->client_key = secret_new(p->key->text);
    if (!u->client_cert || !u->client_key)
        config_no_memory(p->key->report);
    else if (!was || !config_same_secret(was->client_cert, u->client_cert) ||
             !config_same_secret(was->client_key, u->client_key))
        check_pair(p);
}

static void settle_pair(const struct pair *p, struct config_upstream *u,
                        const struct config_upstream *was)
{
    if (config_reading_good(p->cert) && config_reading_good(p->key)) {
        config_reading_file(p->cert)->changed =
            !config_same_secret(was->client_cert, u->client_cert);
        config_reading_file(p->key)->changed |= !config_same_secret(was->client_key, u->client_key);
        return;
    }
    secret_free(u->client_cert);
    secret_free(u->client_key);
    u->client_cert = config_keep_secret(was->client_cert, p->cert->to);
    u->client_key = config_keep_secret(was->client_key, p->cert->to);
}

void config_load_client(struct config *c, struct config_upstream *u, const struct config_origin *o,
                        struct config_report *r)
{
    static const char cert_key[] = "client_cert_file", key_key[] = "client_key_file";
    unsigned cert_line = config_origin_line(o, "upstream", cert_key),
             key_line = config_origin_line(o, "upstream", key_key);
    const struct config_upstream *was = config_upstream_before(c, u);
    struct pair p;

    if (!u->client_cert_file[0]) {
        if (u->client_key_file[0])
            config_note(r, key_line, "[%s] %s: has no effect without %s", o->title, key_key,
                        cert_key);
        return;
    }
    if (!u->tls)
        config_note(r, cert_line, "[%s] %s: has no effect without an https url", o->title,
                    cert_key);
    p.cert = config_reading_new(c, o->title, cert_key, u->client_cert_file, cert_line, r);
    p.key = u->client_key_file[0]
                ? config_reading_new(c, o->title, key_key, u->client_key_file, key_line, r)
                : p.cert;
    if (p.cert && p.key) {
        p.cert->secret = p.key == p.cert;
        read_pair(&p, u, was);
        if (was)
            settle_pair(&p, u, was);
    }
    if (p.key != p.cert)
        config_reading_free(p.key);
    config_reading_free(p.cert);
}
