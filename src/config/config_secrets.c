/* Loads API keys, passwords, certificates, trusted authorities and tokens from files and variables.
 * Keys and passwords are only kept as secrets, and no message shows them. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/escape.h"
#include "config/config_private.h"
#include "config/pem.h"
#include "edge/fetch.h"
#include "targets/target.h"

#define AUTHORITIES_MAX ((size_t)16 * 1024 * 1024)

/* NULL stands for no secret. */
static bool same_secret(const struct secret *a, const struct secret *b)
{
    if (!a || !b)
        return a == b;
    return str_eq(secret_text(a), secret_text(b));
}

/* Keeps the previous secret. */
static struct secret *keep_secret(const struct secret *was, struct config_report *r)
{
    struct secret *s = was ? secret_new(secret_text(was)) : NULL;

    if (was && !s)
        config_no_memory(r);
    return s;
}

/* --- API keys --------------------------------------------------------------------------------- */

static int add_key(struct config_upstream *u, struct str text)
{
    struct secret **keys = config_grow(u->keys, u->key_count, sizeof *keys);

    if (!keys)
        return -ENOMEM;
    u->keys = keys;
    keys[u->key_count] = secret_new(text);
    if (!keys[u->key_count])
        return -ENOMEM;
    u->key_count++;
    return 0;
}

/* Returns a key's fault, or NULL. */
static const char *key_fault(struct str key)
{
    if (!str_is_visible(key))
        return "is not a key; expected printable ASCII without spaces";
    if (key.n > TARGET_KEY_MAX)
        return "is longer than 16 KiB, which no server accepts as a key";
    return NULL;
}

static void keys_from_env(struct config_upstream *u, const struct config_origin *o)
{
    struct config_place place = config_place_of(o, "upstream", "api_key_env");
    char quoted[CONFIG_QUOTED_MAX];
    const char *name = config_quote(str_from(u->api_key_env), quoted);
    const char *value = getenv(u->api_key_env);
    struct str key = str_trim(str_from(value));

    if (key.n == 0)
        config_problem(
            o->report, FAULT_KEY, place,
            "the variable %s is %s; set it, or remove api_key_env so that the client's own key "
            "passes through",
            name, value ? "empty" : "not set");
    else if (key_fault(key))
        config_problem(o->report, FAULT_KEY, place, "the value of %s %s", name, key_fault(key));
    else if (add_key(u, key) < 0)
        config_no_memory(o->report);
}

/* Adds the key on line `n` of the file. Returns false after a problem. */
static bool take_key(struct config_upstream *u, struct config_reading *f, struct str key,
                     unsigned n)
{
    const char *fault = key_fault(key);
    bool again = false;

    for (unsigned i = 0; i < u->key_count; i++)
        again |= str_eq(secret_text(u->keys[i]), key);
    if (fault)
        config_problem(f->report, FAULT_KEY, f->place, "line %u of %s %s", n, f->quoted, fault);
    else if (again)
        config_note(f->report, f->place,
                    "the key on line %u of %s is a duplicate and counts only once", n, f->quoted);
    else if (u->key_count == KEYS_MAX)
        config_problem(f->report, FAULT_KEY, f->place, "%s contains more than %d keys", f->quoted,
                       KEYS_MAX);
    else if (add_key(u, key) == 0)
        return true;
    else
        config_no_memory(f->report);
    return again;
}

static void keys_from_text(struct config_upstream *u, struct config_reading *f)
{
    struct str rest = f->text, line;

    for (unsigned n = 1; str_next(&rest, '\n', &line); n++) {
        if (line.n > 0 && line.p[0] != '#' && !take_key(u, f, line, n))
            return;
    }
    if (u->key_count == 0)
        config_problem(f->report, FAULT_KEY, f->place, "%s contains no key", f->quoted);
}

static bool same_keys(const struct config_upstream *a, const struct config_upstream *b)
{
    if (a->key_count != b->key_count)
        return false;
    for (unsigned i = 0; i < a->key_count; i++)
        if (!same_secret(a->keys[i], b->keys[i]))
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

static void keys_from_file(struct config *c, struct config_upstream *u,
                           const struct config_origin *o)
{
    struct config_reading *f =
        config_reading_new(c, o, "upstream", "api_key_file", u->api_key_file);
    const struct config_upstream *was = config_upstream_before(c, u);

    if (!f)
        return;
    if (config_reading_read(f))
        keys_from_text(u, f);
    if (was && !config_reading_good(f))
        keep_keys(u, was, o->report);
    else if (was)
        config_reading_file(f)->changed = !same_keys(u, was);
    config_reading_free(f);
}

void config_load_keys(struct config *c, struct config_upstream *u, const struct config_origin *o)
{
    if (u->api_key_env[0] && u->api_key_file[0])
        config_problem(o->report, FAULT_VALUE, config_place_of(o, "upstream", "api_key_file"),
                       "api_key_env is set too; expected only one of them");
    else if (u->api_key_env[0])
        keys_from_env(u, o);
    else if (u->api_key_file[0])
        keys_from_file(c, u, o);
}

/* --- passwords -------------------------------------------------------------------------------- */

static void password_from_text(struct config_reading *f, struct secret **ret)
{
    struct str rest = f->text, password;

    if (!str_next(&rest, '\n', &password) || password.n == 0) {
        config_problem(f->report, FAULT_KEY, f->place,
                       "the first line of %s is empty; expected the password", f->quoted);
    } else if (config_has_control(password)) { /* no protocol allows any (RFC 7617 2) */
        config_problem(f->report, FAULT_KEY, f->place,
                       "the first line of %s is not a password; expected text", f->quoted);
    } else {
        *ret = secret_new(password);
        if (!*ret)
            config_no_memory(f->report);
    }
}

/* Reads the first line of the file as a password; `was` is the one before. */
static void load_password(struct config_reading *f, const struct secret *was, struct secret **ret)
{
    if (!f)
        return;
    if (config_reading_read(f))
        password_from_text(f, ret);
    if (f->config->before && !config_reading_good(f))
        *ret = keep_secret(was, f->to);
    else if (f->config->before)
        config_reading_file(f)->changed = !same_secret(was, *ret);
    config_reading_free(f);
}

void config_load_password(struct config *c, const struct config_origin *o)
{
    if (c->shared_password_file[0])
        load_password(
            config_reading_new(c, o, "shared", "redis_password_file", c->shared_password_file),
            c->before ? c->before->shared_password : NULL, &c->shared_password);
}

/* Decodes percent-encoding (RFC 3986 2.1). Returns the end of the output. */
static char *put_decoded(char *to, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        int byte = escape_percent(s, i);

        *to++ = byte > 0 ? (char)byte : s.p[i];
        i += byte > 0 ? 2 : 0;
    }
    return to;
}

/* Encodes all but letters and digits, whatever they mean in a URL. */
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

/* Splits "http://user@host:1". Returns false if it names no user. */
static bool split_user(const char *proxy, struct str *ret_scheme, struct str *ret_user,
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

/* Returns the fault of a password file for `proxy`, or NULL. */
static const char *proxy_fault(const char *proxy)
{
    struct str scheme, user, rest;

    if (!split_user(proxy, &scheme, &user, &rest))
        return "proxy names no user; expected proxy = http://USER@HOST:PORT";
    if (memchr(user.p, ':', user.n))
        return "proxy has a password too; expected only one of them";
    return NULL;
}

/* Puts the password into the URL, which every libcurl decodes once. Some releases (7.88) decode a
 * password that is set by its own option, and others do not. */
static struct secret *join_proxy(const char *proxy, struct str password)
{
    struct str scheme, user, rest;
    struct secret *s = NULL;
    char *plain, *text, *to;

    if (!split_user(proxy, &scheme, &user, &rest))
        return NULL;
    plain = malloc(user.n + 1);
    text = malloc(scheme.n + 3 * user.n + 1 + 3 * password.n + rest.n);
    if (plain && text) {
        user = (struct str){plain, (size_t)(put_decoded(plain, user) - plain)};
        to = put_encoded(mempcpy(text, scheme.p, scheme.n), user);
        *to++ = ':';
        to = mempcpy(put_encoded(to, password), rest.p, rest.n);
        s = secret_new((struct str){text, (size_t)(to - text)});
        explicit_bzero(text, (size_t)(to - text));
    }
    free(text);
    free(plain);
    return s;
}

void config_load_proxy_password(struct config *c, struct config_upstream *u,
                                const struct config_origin *o)
{
    static const char key[] = "proxy_password_file";
    struct config_place place = config_place_of(o, "upstream", key);
    const struct config_upstream *was = config_upstream_before(c, u);

    if (!u->proxy_password_file[0])
        return;
    if (!u->proxy[0]) {
        config_note(o->report, place, "has no effect without proxy");
        return;
    }
    if (proxy_fault(u->proxy)) {
        config_problem(o->report, FAULT_VALUE, place, "%s", proxy_fault(u->proxy));
        return;
    }
    load_password(config_reading_new(c, o, "upstream", key, u->proxy_password_file),
                  was ? was->proxy_password : NULL, &u->proxy_password);
    if (!u->proxy_password)
        return;
    u->proxy_full = join_proxy(u->proxy, secret_text(u->proxy_password));
    if (!u->proxy_full)
        config_no_memory(o->report);
}

/* --- authorities ------------------------------------------------------------------------------ */

/* Whether `found` is not 0 and the text is complete; if not, reports that `expected` is missing. */
static bool pem_has(struct config_reading *f, const struct pem *pem, unsigned found,
                    const char *what, const char *expected)
{
    if (pem->broken)
        config_problem(f->report, f->fault, f->place, "%s is incomplete; expected %s in PEM",
                       f->quoted, expected);
    else if (found == 0)
        config_problem(f->report, f->fault, f->place, "%s contains no %s; expected %s in PEM",
                       f->quoted, what, expected);
    return !pem->broken && found > 0;
}

/* Returns the authorities of an earlier upstream that has the same file, or NULL. */
static struct bundle *shared_bundle(const struct config *c, const struct config_upstream *u)
{
    for (const struct config_upstream *v = c->upstreams; v < u; v++)
        if (v->ca && !strcmp(v->ca_file, u->ca_file))
            return bundle_ref(v->ca);
    return NULL;
}

static struct bundle *read_authorities(struct config_reading *f, const struct config_upstream *was)
{
    struct bundle *b;
    struct pem pem;

    if (!config_reading_read(f))
        return NULL;
    pem = pem_look(f->text);
    if (!pem_has(f, &pem, pem.certificates, "certificate", "certificates"))
        return NULL;
    b = bundle_new(f->text);
    if (!b) {
        config_no_memory(f->report);
        return NULL;
    }
    if (was && was->ca == b)
        return b;
    if (bundle_path(b) &&
        fetch_check_trust(bundle_path(b), STR(""), STR("")) == FETCH_FAULT_AUTHORITIES)
        config_problem(f->report, f->fault, f->place, "a certificate in %s cannot be read",
                       f->quoted);
    if (was && config_reading_good(f))
        config_reading_file(f)->changed = true;
    return b;
}

/* Loads the system's authorities as they are. They may be missing: libcurl then looks for them
 * itself, and requests fail if it finds none. */
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
                             const struct config_origin *o)
{
    const struct config_upstream *was = config_upstream_before(c, u);
    bool of_system = !u->ca_file[0];
    struct config_reading *f;

    if (of_system && !u->tls)
        return;
    u->ca = shared_bundle(c, u);
    if (u->ca)
        return;
    f = config_reading_new(c, o, "upstream", "ca_file", fetch_ca_file(u->ca_file));
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

/* --- the client's certificate ----------------------------------------------------------------- */

/* A certificate and its key; `key` is `cert` if one file holds both. */
struct cert_pair {
    struct config_reading *cert, *key;
};

static bool look_at_key(struct config_reading *f)
{
    struct pem pem = pem_look(f->text);

    if (!pem_has(f, &pem, pem.keys, "private key", "a private key"))
        return false;
    if (pem.encrypted)
        config_problem(
            f->report, f->fault, f->place,
            "the key in %s is encrypted, and there is nobody to enter its passphrase; expected an "
            "unencrypted key (openssl pkey writes one)",
            f->quoted);
    return !pem.encrypted;
}

/* Reports the faults that the TLS library finds. */
static void check_pair(const struct cert_pair *p)
{
    struct config_reading *cert = p->cert, *key = p->key;

    switch (fetch_check_trust("", cert->text, key->text)) {
    case FETCH_FAULT_CERTIFICATE:
        config_problem(cert->report, cert->fault, cert->place,
                       "the certificate in %s cannot be read", cert->quoted);
        break;
    case FETCH_FAULT_KEY:
        config_problem(
            key->report, key->fault, key->place,
            "the key in %s does not match the certificate in client_cert_file, or cannot be read",
            key->quoted);
        break;
    case FETCH_FAULT_MEMORY:
        config_no_memory(key->report);
        break;
    case FETCH_FAULT_NONE:
    case FETCH_FAULT_AUTHORITIES:
        break;
    }
}

static void read_pair(const struct cert_pair *p, struct config_upstream *u,
                      const struct config_upstream *was)
{
    bool cert = false, key;
    struct pem pem;

    if (config_reading_read(p->cert)) {
        pem = pem_look(p->cert->text);
        cert = pem_has(p->cert, &pem, pem.certificates, "certificate", "a certificate");
    }
    key = (p->key == p->cert ? cert : config_reading_read(p->key)) && look_at_key(p->key);
    if (!cert || !key)
        return;
    u->client_cert = secret_new(p->cert->text);
    u->client_key = secret_new(p->key->text);
    if (!u->client_cert || !u->client_key)
        config_no_memory(p->key->report);
    else if (!was || !same_secret(was->client_cert, u->client_cert) ||
             !same_secret(was->client_key, u->client_key))
        check_pair(p);
}

/* During config_renew: keeps the previous pair unless both files are good. */
static void settle_pair(const struct cert_pair *p, struct config_upstream *u,
                        const struct config_upstream *was)
{
    if (config_reading_good(p->cert) && config_reading_good(p->key)) {
        config_reading_file(p->cert)->changed = !same_secret(was->client_cert, u->client_cert);
        config_reading_file(p->key)->changed |= !same_secret(was->client_key, u->client_key);
        return;
    }
    secret_free(u->client_cert);
    secret_free(u->client_key);
    u->client_cert = keep_secret(was->client_cert, p->cert->to);
    u->client_key = keep_secret(was->client_key, p->cert->to);
}

void config_load_client(struct config *c, struct config_upstream *u, const struct config_origin *o)
{
    static const char cert[] = "client_cert_file", key[] = "client_key_file";
    const struct config_upstream *was = config_upstream_before(c, u);
    struct cert_pair p;

    if (!u->client_cert_file[0]) {
        if (u->client_key_file[0])
            config_note(o->report, config_place_of(o, "upstream", key), "has no effect without %s",
                        cert);
        return;
    }
    if (!u->tls)
        config_note(o->report, config_place_of(o, "upstream", cert),
                    "has no effect without an https url");
    p.cert = config_reading_new(c, o, "upstream", cert, u->client_cert_file);
    p.key = u->client_key_file[0] ? config_reading_new(c, o, "upstream", key, u->client_key_file)
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

/* --- tokens: those that clients must send (C29), and those for actions on the admin listener -- */

/* One for the process, so that the tokens before and after a reload can be compared. */
static struct tokens_seed seed;
static pthread_once_t seeded = PTHREAD_ONCE_INIT;
static bool seed_failed;

static void make_seed(void)
{
    seed_failed = getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed;
}

static struct tokens *new_set(void)
{
    pthread_once(&seeded, make_seed);
    return seed_failed ? NULL : tokens_new(&seed);
}

/* --- the file --------------------------------------------------------------------------------- */

/* Adds the token on line `n` of the file, "NAME TOKEN" or "TOKEN". Returns false after a
 * problem. */
static bool take_token(struct tokens *t, struct config_reading *f, struct str line, unsigned n)
{
    struct str name, text;
    const char *fault;
    size_t end = 0;
    int rc;

    while (end < line.n && line.p[end] != ' ' && line.p[end] != '\t')
        end++;
    name = (struct str){line.p, end < line.n ? end : 0};
    text = str_trim(str_after(line, name.n));
    if (memchr(text.p, ' ', text.n) || memchr(text.p, '\t', text.n)) {
        config_problem(f->report, FAULT_KEY, f->place,
                       "line %u of %s has more than two words; expected TOKEN or NAME TOKEN", n,
                       f->quoted);
        return false;
    }
    fault = tokens_name_fault(name);
    if (fault) {
        config_problem(f->report, FAULT_KEY, f->place, "line %u of %s: %s", n, f->quoted, fault);
        return false;
    }
    fault = tokens_text_fault(text);
    if (fault) {
        config_problem(f->report, FAULT_KEY, f->place, "the token on line %u of %s %s", n,
                       f->quoted, fault);
        return false;
    }
    rc = tokens_add(t, name, text);
    if (rc == -ENOMEM)
        config_no_memory(f->report);
    else if (rc == -E2BIG)
        config_problem(f->report, FAULT_KEY, f->place, "%s contains more than %d tokens", f->quoted,
                       TOKENS_MAX);
    else if (rc == -EEXIST)
        config_note(f->report, f->place,
                    "the token on line %u of %s is a duplicate and counts only once", n, f->quoted);
    return rc == 0 || rc == -EEXIST;
}

static void tokens_from_text(struct tokens *t, struct config_reading *f)
{
    struct str rest = f->text, line;

    for (unsigned n = 1; str_next(&rest, '\n', &line); n++) {
        if (line.n > 0 && line.p[0] != '#' && !take_token(t, f, line, n))
            return;
    }
    if (tokens_count(t) == 0)
        config_problem(f->report, FAULT_KEY, f->place,
                       "%s contains no token; expected one per line, with an optional name before "
                       "it",
                       f->quoted);
}

/* Replaces the tokens of the configuration. */
static void put(struct config *c, struct tokens *t)
{
    tokens_unref(c->server.client_tokens);
    c->server.client_tokens = t;
}

/* Loads the tokens of an opened file. `was`: those of the previous configuration, or NULL. */
static struct tokens *load(struct config_reading *f, struct tokens *was)
{
    struct tokens *now = new_set();

    if (!now)
        config_no_memory(f->report);
    else if (config_reading_read(f))
        tokens_from_text(now, f);
    if (was && !config_reading_good(f)) {
        tokens_unref(now);
        now = tokens_ref(was);
    } else if (was) {
        config_reading_file(f)->changed = !tokens_same(was, now);
    }
    config_reading_free(f);
    return now;
}

void config_load_tokens(struct config *c, const struct config_origin *o)
{
    const struct config *was = c->before;
    struct config_reading *f;

    if (was && was->server.client_token_given) {
        config_keep_client_token(c, was);
    } else if (c->server.client_keys_file[0]) {
        f = config_reading_new(c, o, "server", "client_keys_file", c->server.client_keys_file);
        if (f)
            put(c, load(f, was ? was->server.client_tokens : NULL));
    }
    if (!c->admin.token_file[0])
        return;
    f = config_reading_new(c, o, "admin", "token_file", c->admin.token_file);
    if (f)
        c->admin.tokens = load(f, was ? was->admin.tokens : NULL);
}

/* --- the token of config_give_client_token ---------------------------------------------------- */

int config_give_client_token(struct config *c, struct str name, struct str text)
{
    struct tokens *t = new_set();
    int rc = t ? tokens_add(t, name, text) : -ENOMEM;

    if (rc < 0) {
        tokens_unref(t);
        return rc;
    }
    put(c, t);
    c->server.client_token_given = true;
    return 0;
}

void config_keep_client_token(struct config *now, const struct config *was)
{
    if (!was->server.client_token_given)
        return;
    put(now, tokens_ref(was->server.client_tokens));
    now->server.client_token_given = true;
}
