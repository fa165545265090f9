/* The configuration: one immutable, reference-counted snapshot of everything a user can set.
 *
 * Read from one INI file (docs/configuration.md). The table in config_table.c has a row per key
 * and drives parsing, defaults, bounds, --check, --dump-config, --help and the check of the sample file. */
#ifndef RETRYD_CONFIG_CONFIG_H
#define RETRYD_CONFIG_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/secret.h"
#include "config/bundle.h"
#include "policy/settings.h"

struct string_list {
    char **items;
    unsigned count;
};

enum http_version { HTTP_VERSION_AUTO, HTTP_VERSION_1_1, HTTP_VERSION_2 };
enum log_format { LOG_LOGFMT, LOG_JSON };
enum log_access { ACCESS_ALL, ACCESS_RETRIED, ACCESS_FAILED, ACCESS_OFF };

struct config_server {
    struct string_list listen; /* host:port, [v6]:port or unix:PATH; syntax checked */
    unsigned workers;          /* 0: auto, one per usable CPU */
    unsigned max_connections;
    uint64_t max_body;
    uint64_t memory_body;
    uint64_t max_buffered;
    uint64_t hold_limit;
    char *spool_dir;
    uint64_t drain_timeout_ms;
    uint64_t drain_linger_ms;
    struct string_list allowed_hosts;
    struct string_list allowed_origins;
    char *client_keys_file; /* "" where none */
    bool insecure_listen;
};

struct config_admin {
    char *listen; /* host:port, unix:PATH, or "off" */
};

struct config_log {
    int level; /* enum log_level of base/log.h */
    enum log_format format;
    enum log_access access;
};

struct config_header {
    char *name;
    char *value;
};

struct config_upstream {
    char *name;
    char *url;         /* as configured, without a trailing slash; or unix:PATH:/base?query */
    char *origin;      /* "https://host:port" part, for libcurl; "http://localhost" with a socket */
    char *base_path;   /* the url's path, "" or "/v1", without a trailing slash; it may contain
                          {model} once, which stands for the upstream's name for the model */
    char *query;       /* belongs to each request's query: "a=b&c=d"; "" where none */
    char *host;        /* for Proxy-Status and logs */
    char *unix_socket; /* path of a Unix socket to connect to; "" where none */
    bool tls;
    char *api_key_env;
    char *api_key_file;
    struct secret **keys; /* loaded; key_count 0: the client's own passes through */
    unsigned key_count;
    char *auth_header;
    struct config_header *headers; /* header.NAME = value */
    unsigned header_count;
    struct config_header *models; /* model.NAME = the upstream's own name for it */
    unsigned model_count;
    char *idempotency_header;   /* "" where none */
    char *client_cert_file;     /* "" where none */
    char *client_key_file;      /* "": the key is in client_cert_file */
    struct secret *client_cert; /* loaded, PEM; NULL: none is shown */
    struct secret *client_key;  /* ... not NULL then */
    char *ca_file;
    struct bundle *ca; /* what ca_file, or the system's, held; NULL: not to be had, or no TLS */
    char *proxy;
    char *proxy_password_file;     /* "" where none */
    struct secret *proxy_password; /* loaded; NULL: proxy says all */
    struct secret *proxy_full;     /* ... proxy with it; NULL then, too */
    enum http_version http_version;
    unsigned max_concurrency;     /* 0: no limit */
    unsigned requests_per_minute; /* 0: no limit */
    bool adaptive_pacing;
    uint64_t key_cooldown_ms;
    uint64_t connection_lifetime_ms; /* 0: no limit */
};

#define CONFIG_UPSTREAMS_MAX 16 /* of one route */
#define CONFIG_WEIGHT_MAX 1000

struct config_route {
    char *name;
    char *base; /* the client's base path, "/v1"; "" where it is "/" */
    char *path; /* glob on what follows it */
    char *model;
    struct string_list upstream_names;
    const struct config_upstream **upstreams; /* resolved; upstream_count >= 1 */
    unsigned upstream_count;                  /* 1 to CONFIG_UPSTREAMS_MAX */
    struct string_list weight_texts;
    unsigned *weights; /* one for each upstream, not all 0; NULL where the first healthy one takes
                          all */
    struct string_list fallback_models; /* each once */
    unsigned fallback_on;               /* enum fallback_on bits of policy/move.h */
    struct route_settings settings;     /* the global ones with this route's overrides */
};

/* Which file it was, and of when: what tells one that was changed since. All 0: there was none. */
struct config_mark {
    uint64_t device, inode, size, changed_ns;
};

/* Tells one state of a file from another. */
struct file_mark {
    uint64_t device, inode, size, changed_ns, modified_ns; /* all 0: it was not there */
    bool young; /* it changed so short before it was read that it may have changed since unseen */
};

/* A file whose contents are a part of the configuration. */
struct config_file {
    char *section; /* "upstream openai" */
    const char *key;
    char *path;            /* as it was opened */
    struct file_mark mark; /* when it was read */
    bool changed;          /* config_renew: it holds something else than before */
    char *problem;         /* config_renew: why what it held before was kept; else NULL */
};

struct config_source;

struct config {
    atomic_uint refs;
    uint64_t serial;         /* 1, 2, 3 ... in the order in which they were loaded */
    char *path;              /* the file; NULL for the built-in defaults */
    struct config_mark mark; /* of the file, from just before it was read */
    struct config_source
        *source; /* what the file said; the same for all that were renewed from it */
    const struct config
        *before;               /* only in config_renew: what is kept where a file cannot be used */
    struct config_file *files; /* in the order in which they were read */
    unsigned file_count;
    struct config_server server;
    struct config_admin admin;
    struct config_log log;
    char *shared_redis;             /* host:port, [v6]:port or unix:PATH; "" where none */
    char *shared_redis_user;        /* "" where none */
    char *shared_password_file;     /* "" where none */
    struct secret *shared_password; /* loaded from it; NULL where there is no file */
    char *shared_prefix;            /* letters, digits and ".-_:" */
    struct route_settings defaults;
    struct config_upstream *upstreams; /* in file order; at least one */
    unsigned upstream_count;
    struct config_route *routes; /* in file order, then a catch-all (base /v1, first upstream) */
    unsigned route_count;
};

/* Reads `path` (NULL: the defaults), loads the key files it names, resolves routes to upstreams.
 * Every problem is appended to `problems` as one line "FILE:LINE: [section] key: what was found;
 * what would be right", all of them, not only the first. Returns a snapshot with one reference, or
 * NULL with `problems` not empty. Keys of clauses that a later version brings into force are
 * accepted; where one is set, a line goes to `notes` ("accepted, not in force in this version").
 * Secrets never appear in either.
 * With NULL, errno says what kind of problem was the worst: ENOMEM; EINVAL (a value or the form of
 * the file); EACCES (the user may not read the file); ENOENT (it cannot be read for another reason); ENXIO (nothing worse than a
 * route that names an upstream which is not there); ENOKEY (nothing worse than API keys, or the
 * password of the shared view, that cannot be had). */
struct config *config_load(const char *path, struct buf *problems, struct buf *notes);

/* The same for --check and --dump-config: a key or password that is a credential of systemd is not there outside
 * of the service, and then it is missing from the snapshot, with a note. */
struct config *config_examine(const char *path, struct buf *problems, struct buf *notes);

/* Notes what not every user of this machine can read or, of spool_dir, write to. For a caller who is root, and
 * can: the user that the service runs as cannot. */
void config_note_access(const struct config *c, struct buf *notes);

/* The mark of the file that is there now; path may be NULL. */
struct config_mark config_mark(const char *path);
bool config_mark_same(const struct config_mark *a, const struct config_mark *b);

/* Whether that is a credential of systemd: a bare name, as configured, or a path in their folder. */
bool config_is_credential(const char *name);
/* The same configuration, with what its files (keys, passwords, certificates) hold by now. Where one
 * cannot be read, or is not whole, what it held before is kept, and the file's `problem` says so. Its
 * files are those of `c`, in the same order; so are upstreams and routes. A snapshot with one reference; NULL when out
 * of memory. */
struct config *config_renew(const struct config *c);

/* Whether one of the files is not what it was when it was read. */
bool config_files_differ(const struct config *c);

/* Whether the keys of that upstream of `c` are in a file that is not what it was. */
bool config_key_file_differs(const struct config *c, const struct config_upstream *u);

/* Whether one has been renewed from the other, or both from a third. */
bool config_same_source(const struct config *a, const struct config *b);

/* Whether the file asks for a log of JSON, for all that may be wrong with the rest of it. */
bool config_wants_json(const char *path);

/* The address of the admin listener alone, without upstreams, keys and routes: on the heap. NULL
 * with `problems` not empty, as above. For --health, which runs beside the daemon. */
char *config_admin_address(const char *path, struct buf *problems);

struct config *config_ref(struct config *c);
void config_unref(struct config *c); /* frees with the last reference; thread-safe; NULL is fine */

/* Writes the configuration in force as INI, secrets masked ("***"), loadable again. */
void config_dump(const struct config *c, FILE *out);

/* Writes every key with default, unit, bounds and help: for --help. */
void config_help(FILE *out);

/* Names (in `out`, comma-separated) of settings that differ and need a restart. */
void config_diff_restart(const struct config *old, const struct config *now, struct buf *out);

/* The route for a request: the first whose base, path and model match. `path` is the raw target's
 * path without the query; `model` may be empty. NULL when no base matches. */
const struct config_route *config_route_for(const struct config *c, struct str path,
                                            struct str model);

/* Whether what is sent to that upstream comes in at a listener's address ("127.0.0.1:4290"). */
bool config_leads_to(const struct config_upstream *u, const char *address);

/* Why a request has no route, and what its client should do: a sentence. */
void config_no_route(const struct config *c, struct str path, struct str model, char *ret,
                     size_t size);
/* Whether a version ("/v1/v1/") stands twice in the path of a completion or the like, as it does where a
 * client that adds it by itself has it in its base URL too. No API has such paths. */
bool config_says_twice(struct str path, struct str *ret_version);

/* Whether a request without a model that takes `route` (NULL: none) would take another one with the model
 * that a route before it is for. */
bool config_routes_ask_model(const struct config *c, struct str path,
                             const struct config_route *route);

/* Whether other machines may reach an address that it listens on: one for clients, or the admin pages' (C29). */
bool config_may_be_reached(const struct config *c, bool admin);

/* Whether an address to listen on ("127.0.0.1:4291", "unix:PATH") is out of other machines' reach. */
bool config_address_is_local(const char *address);

#endif
