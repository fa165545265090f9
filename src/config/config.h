/* The configuration: one immutable, reference-counted snapshot of everything a user can set.
 *
 * It is read from one INI file, and from the environment (docs/configuration.md). The table in
 * config_table.c has a row for each setting, which drives parsing, defaults, bounds, --check,
 * --dump-config and --help. */
#ifndef RETRYD_CONFIG_CONFIG_H
#define RETRYD_CONFIG_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/secret.h"
#include "config/pem.h"
#include "http/credentials.h"
#include "policy/settings.h"

struct string_list {
    char **items;
    unsigned count;
};

enum http_version { HTTP_VERSION_AUTO, HTTP_VERSION_1_1, HTTP_VERSION_2 };
enum log_format { LOG_AUTO, LOG_LOGFMT, LOG_JSON, LOG_PRETTY };
enum log_access { ACCESS_ALL, ACCESS_RETRIED, ACCESS_FAILED, ACCESS_OFF };

struct config_server {
    struct string_list listen; /* valid addresses: host:port, [v6]:port or unix:PATH */
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
    char *client_keys_file;       /* "": none */
    struct tokens *client_tokens; /* loaded; NULL: clients need none */
    bool client_token_given;      /* set by config_give_client_token; no file changes it */
    bool insecure_listen;
};

struct config_admin {
    char *listen; /* host:port, unix:PATH, or "off" */
    bool insecure_listen;
    uint64_t slow_ms;      /* 0: no request is slow */
    char *token_file;      /* "": none */
    struct tokens *tokens; /* loaded; NULL: there are no actions */
};

struct config_log {
    int level; /* enum log_level of base/log.h */
    enum log_format format;
    enum log_access access;
};

struct config_pair {
    char *name;
    char *value;
};

struct config_pairs {
    struct config_pair *items;
    unsigned count;
};

/* An upstream as the file has it. worker_config.c makes a struct upstream (targets/target.h), which
 * a plan has, and a struct fetch_upstream of it. */
struct config_upstream {
    char *name;
    char *url;         /* as configured, without a trailing slash; or unix:PATH:/base?query */
    char *origin;      /* "https://host:port", for libcurl; "http://localhost" with a socket */
    char *base_path;   /* the url's path without a trailing slash, "" or "/v1"; it has {model} at
                          most once, which stands for the upstream's name for the model */
    char *query;       /* added to each request's query: "a=b&c=d"; "": none */
    char *host;        /* for Proxy-Status and logs */
    char *unix_socket; /* path of the Unix socket to connect to; "": none */
    bool tls;
    char *api_key_env;
    char *api_key_file;
    struct secret **keys; /* loaded; if there are none, the client's own key passes through */
    unsigned key_count;
    char *auth_header;
    struct config_pairs headers; /* header.NAME = value */
    struct config_pairs models;  /* model.NAME = the upstream's own name for it */
    char *idempotency_header;    /* "": none */
    char *client_cert_file;      /* "": none */
    char *client_key_file;       /* "": the key is in client_cert_file */
    struct secret *client_cert;  /* loaded, PEM; NULL: none */
    struct secret *client_key;   /* loaded together with client_cert */
    char *ca_file;
    /* The contents of ca_file, or of the system's; NULL: unavailable, or no TLS. */
    struct bundle *ca;
    char *proxy;
    char *proxy_password_file;     /* "": none */
    struct secret *proxy_password; /* loaded; NULL: none */
    struct secret *proxy_full;     /* proxy with the password in it; NULL: none */
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
    char *base; /* the client's base path, "/v1"; "" if it is "/" */
    char *path; /* pattern for what follows the base */
    char *model;
    struct string_list upstream_names;
    const struct config_upstream **upstreams; /* the upstreams of those names */
    unsigned upstream_count;                  /* 1 to CONFIG_UPSTREAMS_MAX */
    struct string_list weight_texts;
    unsigned *weights; /* one per upstream, not all 0; NULL: the first healthy one takes all */
    struct string_list fallback_models; /* without duplicates */
    unsigned fallback_on;               /* enum fallback_on bits of policy/settings.h */
    struct route_settings settings;     /* the global settings with this route's overrides */
};

/* Identifies the configuration file and its state. All 0: there was no file. */
struct config_mark {
    uint64_t device, inode, size, changed_ns;
};

/* Identifies the state of a file whose contents belong to the configuration. */
struct file_mark {
    uint64_t device, inode, size, changed_ns, modified_ns; /* all 0: there was no file */
    bool young; /* it changed just before it was read, so a later change may not be visible */
};

/* A file whose contents belong to the configuration. */
struct config_file {
    char *section; /* "upstream openai" */
    const char *key;
    char *path;            /* the path that was opened */
    struct file_mark mark; /* when it was read */
    bool changed;          /* set by config_renew: the contents have changed */
    char *problem;         /* set by config_renew: why the previous contents were kept; else NULL */
};

struct config_source;

struct config {
    atomic_uint refs;
    uint64_t serial;         /* 1, 2, 3 ... in the order of loading */
    char *path;              /* the file; NULL: the built-in defaults */
    struct config_mark mark; /* of the file, taken just before it was read */
    /* The file's entries; shared by all configurations that are renewed from it. */
    struct config_source *source;
    /* Within config_renew: its contents are kept if a file is unusable. */
    const struct config *before;
    struct config_file *files; /* in the order in which they were read */
    unsigned file_count;
    struct config_server server;
    struct config_admin admin;
    struct config_log log;
    char *shared_redis;             /* host:port, [v6]:port or unix:PATH; "": none */
    char *shared_redis_user;        /* "": none */
    char *shared_password_file;     /* "": none */
    struct secret *shared_password; /* loaded; NULL: none */
    char *shared_prefix;            /* letters, digits and ".-_:" */
    struct route_settings defaults;
    struct config_upstream *upstreams; /* in file order; at least one */
    unsigned upstream_count;
    struct config_route *routes; /* in file order, then a catch-all: base /v1, first upstream */
    unsigned route_count;
};

/* Reads the file (NULL: the defaults) and the variables RETRYD_*, which override it, loads the
 * files that it names, and finds the upstreams of each route. Returns a snapshot with one
 * reference, or NULL.
 *
 * All problems are appended to `problems`, not only the first, each as one line "FILE:LINE:
 * [section] key: what was found; what is expected". A setting that this version accepts but does
 * not implement yet, or that has no effect, adds a line to `notes`. Secrets appear in neither.
 *
 * With NULL, errno is the worst problem: ENOMEM; EINVAL (a value, or the form of the file); EACCES
 * (the user may not read the file); ENOENT (it cannot be read for another reason); ENXIO (a route
 * names an unknown upstream); ENOKEY (an API key or the Redis password is unavailable). */
struct config *config_load(const char *path, struct buf *problems, struct buf *notes);

/* A setting that is added to the file's, or replaces one of them. */
struct config_setting {
    const char *kind; /* of the section: "upstream" */
    const char *name; /* of the section; "" */
    const char *key;
    const char *value;
};

/* Like config_load, with further settings. Their sections that the file does not have come after
 * those of the file. */
struct config *config_load_with(const char *path, const struct config_setting *settings,
                                unsigned count, struct buf *problems, struct buf *notes);

/* Whether the file, or a further setting, has a section of that kind and name (NULL: any name). */
bool config_has_section(const struct config *c, const char *kind, const char *name);

/* Like config_load, for --check and --dump-config, which run outside of the service: a missing
 * systemd credential is only noted, and left out of the snapshot. */
struct config *config_examine(const char *path, struct buf *problems, struct buf *notes);

/* Notes files that not every user can read, and a spool_dir that not every user can write to. This
 * is for root, who can access them all, while the user of the service cannot. */
void config_note_access(const struct config *c, struct buf *notes);

/* Returns the mark of the file as it is now; `path` may be NULL. */
struct config_mark config_mark(const char *path);
bool config_mark_same(const struct config_mark *a, const struct config_mark *b);

/* Whether a file is a systemd credential: a bare name, or a path in the credentials folder. */
bool config_is_credential(const char *name);

/* Returns the same configuration with the present contents of its files (keys, passwords,
 * certificates), and one reference. The contents of a file that cannot be read, or is incomplete,
 * are kept, and the file's `problem` says why. Files, upstreams and routes are those of `c`, in the
 * same order. NULL if out of memory. */
struct config *config_renew(const struct config *c);

/* Makes a valid token (http/credentials.h) the only one that clients may send (C29). Call it before
 * the snapshot is shared. Returns 0 or -ENOMEM. */
int config_give_client_token(struct config *c, struct str name, struct str text);

/* Gives `now` the token that config_give_client_token gave `was`, if any. Call it before `now` is
 * shared. */
void config_keep_client_token(struct config *now, const struct config *was);

/* Whether any of the files has changed since it was read. */
bool config_files_differ(const struct config *c);

/* Whether the key file of an upstream of `c` has changed since it was read. */
bool config_key_file_differs(const struct config *c, const struct config_upstream *u);

/* Whether one was renewed from the other, or both from a third one. */
bool config_same_source(const struct config *a, const struct config *b);

/* Whether the file asks for a log in JSON, even if the rest of it is wrong. */
bool config_wants_json(const char *path);

/* Returns the address of the admin listener without loading upstreams, keys and routes; the caller
 * frees it. NULL with `problems` not empty, as above. --health uses it beside the daemon. */
char *config_admin_address(const char *path, struct buf *problems);

struct config *config_ref(struct config *c);
void config_unref(
    struct config *c); /* frees it with the last reference; thread-safe; NULL is fine */

/* Writes the configuration in force as INI that can be loaded again, with secrets masked by
 * "***". With `sources`, a comment before each value that is no default names the file's line or
 * the variable that it comes from. */
void config_dump(const struct config *c, bool sources, FILE *out);

/* Writes a line for each variable of the environment that is in force, and what it replaces. */
void config_note_variables(const struct config *c, FILE *out);

/* Writes every key with its default, unit, bounds and help, for --help. */
void config_help(FILE *out);

/* Writes the same as the manual page retryd.conf(5). */
void config_manual(FILE *out);

/* Appends the names of settings that differ and need a restart, separated by commas. */
void config_diff_restart(const struct config *old, const struct config *now, struct buf *out);

/* Returns the route of a request: the first whose base, path and model match. `path` is the path of
 * the raw target without the query; `model` may be empty. NULL if none matches. */
const struct config_route *config_route_for(const struct config *c, struct str path,
                                            struct str model);

/* Whether requests to the upstream arrive at a listener's address ("127.0.0.1:4290"). */
bool config_leads_to(const struct config_upstream *u, const char *address);

/* Writes a sentence that says why a request has no route, and what its client should do. */
void config_no_route(const struct config *c, struct str path, struct str model, char *ret,
                     size_t size);

/* Whether a version occurs twice in a row ("/v1/v1/") in the path of a completion or the like. No
 * API has such paths: the client adds the version, and its base URL has it too. */
bool config_says_twice(struct str path, struct str *ret_version);

/* Whether a request without a model that takes `route` (NULL: none) could take an earlier route if
 * it had one. */
bool config_routes_ask_model(const struct config *c, struct str path,
                             const struct config_route *route);

/* Whether other machines may reach the listeners for clients, or for the admin pages (C29). */
bool config_may_be_reached(const struct config *c, bool admin);

/* Returns what lifts that refusal, for a message. */
const char *config_reach_advice(bool admin);

/* Whether only this machine can reach an address to listen on ("127.0.0.1:4291", "unix:PATH"). */
bool config_address_is_local(const char *address);

#endif
