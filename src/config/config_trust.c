/* Loads whom an upstream's connections trust, and the certificate that they show. */
#include <stdlib.h>
#include <string.h>

#include "base/pem.h"
#include "config/config_table.h"
#include "edge/fetch.h"

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
