/* The settings: one row per key.
 *
 * To add a setting, add its field to config.h and its row here; the tests then demand its lines in
 * conf/retryd.conf and docs/configuration.md. */
#include <stdio.h>
#include <string.h>

#include "config/config_private.h"

#define MS 1u
#define SECONDS (1000 * MS)
#define MINUTES (60 * SECONDS)
#define HOURS (60 * MINUTES)
#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define IN_CONFIG(field) .owner = OWNER_CONFIG, .offset = offsetof(struct config, field)
#define IN_UPSTREAM(field) \
    .owner = OWNER_UPSTREAM, .offset = offsetof(struct config_upstream, field)
#define IN_SETTINGS(field) .owner = OWNER_SETTINGS, .offset = offsetof(struct route_settings, field)
#define IN_ROUTE(field) .owner = OWNER_ROUTE, .offset = offsetof(struct config_route, field)

/* The choices of an enum, in the order of its values. */
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"auto", "logfmt", "json", "pretty", NULL};
static const char *const accesses[] = {"all", "retried", "failed", "off", NULL};
static const char *const http_versions[] = {"auto", "1.1", "2", NULL};
static const char *const jitters[] = {"none", "full", "equal", NULL};
static const char *const causes[] = {"connect", "reset", "timeout", "408",   "409",
                                     "425",     "429",   "5xx",     "empty", NULL};
static const char *const stream_modes[] = {"live", "splice", "hold", NULL};
static const char *const fallback_causes[] = {"error", "timeout", "context_length", NULL};
static const char *const hedged[] = {"safe", "all", NULL};

const struct config_section_row config_sections[] = {
    {"server", false, false, "Listeners for clients, and limits on their requests."},
    {"admin", false, false, "Health and metrics."},
    {"log", false, false, "The log on standard error."},
    {"upstream", true, false, "A provider. Each one has its own section, [upstream NAME]."},
    {"retry", false, true, "Retries: their causes, delays and limits."},
    {"timeout", false, true, "Time limits for the steps of one attempt."},
    {"stream", false, true, "Streamed responses."},
    {"breaker", false, true, "The circuit breaker of each target (a model at an upstream)."},
    {"queue", false, true, "The queue of requests that wait for a target."},
    {"hedge", false, true, "A second attempt alongside a silent one."},
    {"route", true, false,
     "Requests with upstreams or settings of their own, in sections [route NAME]. The first route "
     "that matches is taken. Any key of [retry], [timeout], [stream], [breaker], [queue] and "
     "[hedge] "
     "may be set for one route: retry.max_attempts = 3."},
    {"shared", false, false, "State that several daemons share."},
};
const unsigned config_section_count = sizeof config_sections / sizeof config_sections[0];

const struct config_row config_rows[] = {
    {"server", "listen", CONFIG_ADDRESSES, IN_CONFIG(server.listen), .fallback = "127.0.0.1:4290",
     .restart = true, .help = "addresses that clients connect to"},
    {"server", "workers", CONFIG_INTEGER, IN_CONFIG(server.workers), .min = 1, .max = 256,
     .zero_word = "auto", .fallback = "auto", .restart = true,
     .help = "worker threads; auto: one for each CPU that retryd may use"},
    {"server", "max_connections", CONFIG_INTEGER, IN_CONFIG(server.max_connections), .min = 1,
     .max = 1000000, .fallback = "4096", .restart = true,
     .help = "maximum number of client connections, over all workers"},
    {"server", "max_body", CONFIG_SIZE, IN_CONFIG(server.max_body), .min = 1 * KIB, .max = 16 * GIB,
     .fallback = "512M", .help = "largest request body; a larger one gets 413"},
    {"server", "memory_body", CONFIG_SIZE, IN_CONFIG(server.memory_body), .min = 1 * KIB,
     .max = 1 * GIB, .fallback = "1M",
     .help = "largest request body that is kept in memory; a larger one goes to a file"},
    {"server", "max_buffered", CONFIG_SIZE, IN_CONFIG(server.max_buffered), .min = 1 * MIB,
     .max = 1024 * GIB, .fallback = "512M",
     .help =
         "memory for the bodies and responses of all requests; near this limit new requests get "
         "503"},
    {"server", "hold_limit", CONFIG_SIZE, IN_CONFIG(server.hold_limit), .min = 1 * KIB,
     .max = 1 * GIB, .fallback = "4M",
     .help =
         "largest response that is held until it is complete; a larger one is passed on earlier"},
    {"server", "spool_dir", CONFIG_PATH, IN_CONFIG(server.spool_dir), .fallback = "/var/tmp",
     .help = "folder for the files with large request bodies"},
    {"server", "drain_timeout", CONFIG_DURATION, IN_CONFIG(server.drain_timeout_ms),
     .max = 1 * HOURS, .fallback = "30s", .zero_means = "retryd ends at once",
     .help = "time for requests to finish after SIGTERM (and drain_linger)"},
    {"server", "drain_linger", CONFIG_DURATION, IN_CONFIG(server.drain_linger_ms), .max = 1 * HOURS,
     .fallback = "0", .zero_means = "none are accepted",
     .help =
         "time during which new connections are still accepted after SIGTERM, before drain_timeout "
         "begins"},
    {"server", "allowed_hosts", CONFIG_LIST, IN_CONFIG(server.allowed_hosts),
     .fallback = "localhost, 127.0.0.1, [::1]",
     .help = "names allowed in a request's Host header, with or without a port"},
    {"server", "allowed_origins", CONFIG_LIST, IN_CONFIG(server.allowed_origins), .fallback = "",
     .help = "web origins whose pages may send requests, such as https://app.example"},
    {"server", "client_keys_file", CONFIG_PATH, IN_CONFIG(server.client_keys_file), .fallback = "",
     .zero_means = "clients need no token",
     .help = "file with the tokens that clients must send, one per line, with an optional name "
             "before it"},
    {"server", "insecure_listen", CONFIG_YES_NO, IN_CONFIG(server.insecure_listen),
     .fallback = "no",
     .help = "allows addresses that other machines can reach without client_keys_file; whoever "
             "reaches them spends your key"},

    {"admin", "listen", CONFIG_ADDRESS, IN_CONFIG(admin.listen), .fallback = "127.0.0.1:4291",
     .restart = true, .help = "address of /healthz, /readyz and /metrics, or off"},
    {"admin", "insecure_listen", CONFIG_YES_NO, IN_CONFIG(admin.insecure_listen), .fallback = "no",
     .help = "allows an address that other machines can reach; whoever reaches it reads the pages"},
    {"admin", "slow", CONFIG_DURATION, IN_CONFIG(admin.slow_ms), .max = 24 * HOURS,
     .fallback = "30s", .zero_means = "none is",
     .help = "time after which a response that has not begun makes its request slow: the status "
             "page lists it"},
    {"admin", "token_file", CONFIG_PATH, IN_CONFIG(admin.token_file), .fallback = "",
     .zero_means = "no actions",
     .help = "file with the tokens that allow actions (reload, drain, reset), one per line"},

    {"log", "level", CONFIG_ENUM, IN_CONFIG(log.level), .choices = log_levels, .fallback = "info",
     .help = "lowest level that is logged"},
    {"log", "format", CONFIG_ENUM, IN_CONFIG(log.format), .choices = log_formats,
     .fallback = "auto",
     .help = "key=value pairs, one JSON object per line, or lines for a person; auto: pretty on a "
             "terminal, else logfmt"},
    {"log", "access", CONFIG_ENUM, IN_CONFIG(log.access), .choices = accesses, .fallback = "all",
     .help = "requests that are logged"},

    {"upstream", "url", CONFIG_URL, IN_UPSTREAM(url), .fallback = "https://api.openai.com/v1",
     .help =
         "base URL as the provider documents it, or unix:/path/to/socket:/v1 (plain HTTP); {model} "
         "in the path stands for the model, and a query is added to that of every request"},
    {"upstream", "api_key_env", CONFIG_VARIABLE, IN_UPSTREAM(api_key_env), .fallback = "",
     .zero_means = "the client's own key passes through",
     .help = "environment variable that holds the API key"},
    {"upstream", "api_key_file", CONFIG_PATH, IN_UPSTREAM(api_key_file), .fallback = "",
     .zero_means = "the client's own key passes through",
     .help = "file with API keys, one per line; several form a pool; a name without a slash is a "
             "systemd credential"},
    {"upstream", "key_cooldown", CONFIG_DURATION, IN_UPSTREAM(key_cooldown_ms), .min = 1 * SECONDS,
     .max = 24 * HOURS, .fallback = "5m",
     .help =
         "time during which a key that is out of quota or rejected is not used, if the file has "
         "others"},
    {"upstream", "auth_header", CONFIG_TOKEN, IN_UPSTREAM(auth_header), .fallback = "Authorization",
     .help = "header that carries the key; api-key for Azure"},
    {"upstream", "header.", CONFIG_HEADER, IN_UPSTREAM(headers), .fallback = "",
     .help =
         "header.NAME = value sets a header on every request, such as header.OpenAI-Organization"},
    {"upstream", "idempotency_header", CONFIG_TOKEN, IN_UPSTREAM(idempotency_header),
     .fallback = "", .zero_means = "not sent",
     .help =
         "header that carries the same idempotency key in all attempts of a request, for providers "
         "that honour it"},
    {"upstream", "client_cert_file", CONFIG_PATH, IN_UPSTREAM(client_cert_file), .fallback = "",
     .zero_means = "no certificate",
     .help = "PEM file with the client certificate, for servers that ask for one (mTLS)"},
    {"upstream", "client_key_file", CONFIG_PATH, IN_UPSTREAM(client_key_file), .fallback = "",
     .zero_means = "the key is in client_cert_file",
     .help = "PEM file with that certificate's private key, not encrypted"},
    {"upstream", "ca_file", CONFIG_PATH, IN_UPSTREAM(ca_file), .fallback = "",
     .zero_means = "the system's", .help = "PEM file with the trusted certificate authorities"},
    {"upstream", "proxy", CONFIG_PROXY, IN_UPSTREAM(proxy), .fallback = "", .zero_means = "none",
     .help = "forward proxy, such as http://proxy.example:3128"},
    {"upstream", "proxy_password_file", CONFIG_PATH, IN_UPSTREAM(proxy_password_file),
     .fallback = "", .zero_means = "the password in proxy, if any",
     .help = "file whose first line is the proxy's password, for the user named in proxy"},
    {"upstream", "http_version", CONFIG_ENUM, IN_UPSTREAM(http_version), .choices = http_versions,
     .fallback = "auto",
     .help = "auto: HTTP/1.1; 2: HTTP/2 if the server and libcurl (8.4 or later) support it"},
    {"upstream", "connection_lifetime", CONFIG_DURATION, IN_UPSTREAM(connection_lifetime_ms),
     .max = 24 * HOURS, .fallback = "5m", .zero_means = "no limit",
     .help =
         "age at which a connection stops taking new requests, so that changes in DNS take effect"},
    {"upstream", "max_concurrency", CONFIG_INTEGER, IN_UPSTREAM(max_concurrency), .max = 1000000,
     .fallback = "0", .zero_means = "no limit",
     .help = "maximum number of requests in flight; further ones wait in the queue"},
    {"upstream", "requests_per_minute", CONFIG_INTEGER, IN_UPSTREAM(requests_per_minute),
     .max = 10000000, .fallback = "0", .zero_means = "no limit",
     .help =
         "maximum number of requests started per minute, spread evenly; further ones wait in the "
         "queue"},
    {"upstream", "adaptive_pacing", CONFIG_YES_NO, IN_UPSTREAM(adaptive_pacing), .fallback = "no",
     .help = "halves the rate of requests after repeated 429s without a hint, then raises it again "
             "slowly"},
    {"upstream", "model.", CONFIG_MODEL, IN_UPSTREAM(models), .fallback = "",
     .help =
         "the upstream's own names for models: model.NAME = other, or models = NAME -> other, ..."},

    {"retry", "max_attempts", CONFIG_INTEGER, IN_SETTINGS(retry.max_attempts), .min = 1, .max = 100,
     .fallback = "5", .help = "attempts per request, including the first one"},
    {"retry", "attempts_per_tier", CONFIG_INTEGER, IN_SETTINGS(retry.attempts_per_tier), .min = 1,
     .max = 100, .fallback = "3", .help = "attempts before the next fallback model is tried"},
    {"retry", "initial_delay", CONFIG_DURATION, IN_SETTINGS(retry.backoff.initial_delay_ms),
     .min = 1 * MS, .max = 1 * HOURS, .fallback = "1s", .help = "delay before the second attempt"},
    {"retry", "multiplier", CONFIG_DECIMAL, IN_SETTINGS(retry.backoff.multiplier), .min = 1,
     .max = 100, .fallback = "2", .help = "factor by which the delay grows after each attempt"},
    {"retry", "max_delay", CONFIG_DURATION, IN_SETTINGS(retry.backoff.max_delay_ms), .min = 1 * MS,
     .max = 24 * HOURS, .fallback = "60s", .help = "longest backoff delay"},
    {"retry", "jitter", CONFIG_ENUM, IN_SETTINGS(retry.backoff.jitter), .choices = jitters,
     .fallback = "equal",
     .help = "random part of a delay: none, all of it (full) or half of it (equal)"},
    {"retry", "retry_on", CONFIG_SET, IN_SETTINGS(retry.retry_on), .choices = causes,
     .fallback = "connect, reset, timeout, 408, 409, 425, 429, 5xx, empty",
     .help = "failures that are worth another attempt; 5xx excludes 501 and 505"},
    {"retry", "retry_ambiguous", CONFIG_YES_NO, IN_SETTINGS(retry.retry_ambiguous),
     .fallback = "yes",
     .help = "repeats requests that the upstream may have processed (and charged), as the SDKs do"},
    {"retry", "max_hint", CONFIG_DURATION, IN_SETTINGS(retry.max_hint_ms), .max = 24 * HOURS,
     .fallback = "120s",
     .help = "longest Retry-After that retryd waits for; a longer one ends the request"},
    {"retry", "deadline", CONFIG_DURATION, IN_SETTINGS(retry.deadline_ms), .max = 24 * HOURS,
     .fallback = "10m", .zero_means = "none",
     .help = "time until the response begins, including all attempts and delays"},
    {"retry", "budget", CONFIG_PERCENT, IN_SETTINGS(retry.budget_percent), .max = 1000,
     .fallback = "20%", .help = "largest share of retries among an upstream's requests"},
    {"retry", "budget_min", CONFIG_INTEGER, IN_SETTINGS(retry.budget_min), .max = 1000000,
     .fallback = "10", .help = "retries per second that the budget always allows"},
    {"retry", "repeat_window", CONFIG_DURATION, IN_SETTINGS(retry.repeat_window_ms),
     .max = 1 * HOURS, .fallback = "1m", .zero_means = "off",
     .help = "time after a final failure during which the same request counts as the client's own "
             "retry and gets one attempt"},

    {"timeout", "connect", CONFIG_DURATION, IN_SETTINGS(timeout.connect_ms), .min = 1 * MS,
     .max = 10 * MINUTES, .fallback = "5s", .help = "DNS lookup, connection and TLS handshake"},
    {"timeout", "first_byte", CONFIG_DURATION, IN_SETTINGS(timeout.first_byte_ms),
     .max = 24 * HOURS, .fallback = "5m", .zero_means = "no limit",
     .help =
         "time until the response headers; a slow model needs more here, in deadline, and in the "
         "client's timeout"},
    {"timeout", "first_content", CONFIG_DURATION, IN_SETTINGS(timeout.first_content_ms),
     .max = 24 * HOURS, .fallback = "5m", .zero_means = "no limit",
     .help = "time until a stream's first content, whatever events precede it"},
    {"timeout", "idle", CONFIG_DURATION, IN_SETTINGS(timeout.idle_ms), .max = 24 * HOURS,
     .fallback = "60s", .zero_means = "no limit",
     .help =
         "time between two pieces of a response (of a stream, after its first content), and for a "
         "client to read some of it"},
    {"timeout", "total", CONFIG_DURATION, IN_SETTINGS(timeout.total_ms), .max = 24 * HOURS,
     .fallback = "0", .zero_means = "no limit", .help = "time for one whole attempt"},

    {"stream", "mode", CONFIG_ENUM, IN_SETTINGS(stream.mode), .choices = stream_modes,
     .fallback = "live",
     .help =
         "live passes events on at once and reports a break; splice mends it; hold waits for the "
         "whole response"},
    {"stream", "heartbeat", CONFIG_DURATION, IN_SETTINGS(stream.heartbeat_ms), .max = 1 * HOURS,
     .fallback = "0", .zero_means = "none",
     .help = "interval between keep-alive comments while a stream waits; the first one commits the "
             "status 200"},
    {"stream", "mend_timeout", CONFIG_DURATION, IN_SETTINGS(stream.mend_timeout_ms),
     .max = 1 * HOURS, .fallback = "30s", .zero_means = "no limit",
     .help = "time for mending a stream that broke after its first content, over all breaks and "
             "attempts; then the break is reported"},

    {"breaker", "failures", CONFIG_INTEGER, IN_SETTINGS(breaker.failures), .max = 10000,
     .fallback = "5", .zero_means = "not counted",
     .help = "consecutive failures that open the breaker"},
    {"breaker", "failure_rate", CONFIG_PERCENT, IN_SETTINGS(breaker.failure_rate_percent),
     .max = 100, .fallback = "50%", .zero_means = "not counted",
     .help = "share of failures in the window that opens the breaker"},
    {"breaker", "window", CONFIG_DURATION, IN_SETTINGS(breaker.window_ms), .min = 1 * SECONDS,
     .max = 1 * HOURS, .fallback = "30s", .help = "time over which failure_rate is measured"},
    {"breaker", "open_for", CONFIG_DURATION, IN_SETTINGS(breaker.open_for_ms), .min = 1 * MS,
     .max = 1 * HOURS, .fallback = "15s", .help = "time before the first probe"},

    {"queue", "size", CONFIG_INTEGER, IN_SETTINGS(queue.size), .min = 1, .max = 1000000,
     .fallback = "10000",
     .help = "maximum number of waiting requests, over all routes; further ones get 503"},
    {"queue", "timeout", CONFIG_DURATION, IN_SETTINGS(queue.timeout_ms), .max = 24 * HOURS,
     .fallback = "2m", .zero_means = "no limit",
     .help = "longest time that a request waits; then it gets 429 or 503"},

    {"hedge", "after", CONFIG_DURATION, IN_SETTINGS(hedge.after_ms), .max = 1 * HOURS,
     .fallback = "0", .zero_means = "off",
     .help = "silence before a second attempt joins the first; the first good response is taken"},
    {"hedge", "requests", CONFIG_ENUM, IN_SETTINGS(hedge.requests), .choices = hedged,
     .fallback = "safe",
     .help =
         "safe: GET, HEAD, embeddings, moderations, rankings and token counts; all: every request "
         "of the route, and both attempts may be charged"},

    {"route", "base", CONFIG_BASE, IN_ROUTE(base), .fallback = "/v1",
     .help = "the client's base path, which the upstream's url replaces"},
    {"route", "path", CONFIG_PATH_GLOB, IN_ROUTE(path), .fallback = "*",
     .help = "pattern for the path after the base, such as /chat/completions"},
    {"route", "model", CONFIG_GLOB, IN_ROUTE(model), .fallback = "*",
     .help = "pattern for the requested model, such as gpt-4o*"},
    {"route", "upstreams", CONFIG_LIST, IN_ROUTE(upstream_names), .fallback = "",
     .zero_means = "the first one in the file",
     .help = "names of up to 16 [upstream] sections that can serve the model"},
    {"route", "weights", CONFIG_WEIGHTS, IN_ROUTE(weight_texts), .min = 0, .max = CONFIG_WEIGHT_MAX,
     .fallback = "", .zero_means = "the first healthy upstream takes all",
     .help = "each upstream's share of the requests, in the order of upstreams"},
    {"route", "fallback_models", CONFIG_LIST, IN_ROUTE(fallback_models), .fallback = "",
     .zero_means = "none", .help = "models to try, in this order, if the requested one fails"},
    {"route", "fallback_on", CONFIG_SET, IN_ROUTE(fallback_on), .choices = fallback_causes,
     .fallback = "error, timeout, context_length",
     .help = "failures that lead to a fallback model"},

    {"shared", "redis", CONFIG_SERVER, IN_CONFIG(shared_redis), .fallback = "",
     .zero_means = "each daemon keeps its own view", .restart = true,
     .help = "Redis server for the shared view of rate limits"},
    {"shared", "redis_user", CONFIG_TEXT, IN_CONFIG(shared_redis_user), .fallback = "",
     .zero_means = "the server's default user", .restart = true,
     .help = "user to log in as; needs redis_password_file"},
    {"shared", "redis_password_file", CONFIG_PATH, IN_CONFIG(shared_password_file), .fallback = "",
     .zero_means = "no login", .restart = true,
     .help = "file whose first line is the password; a name without a slash is a systemd "
             "credential"},
    {"shared", "prefix", CONFIG_PREFIX, IN_CONFIG(shared_prefix), .fallback = "retryd",
     .restart = true,
     .help = "prefix of the keys and the channel; daemons that use the same account have the same "
             "prefix"},
};
const unsigned config_row_count = sizeof config_rows / sizeof config_rows[0];

_Static_assert(sizeof config_rows / sizeof config_rows[0] < CONFIG_ROWS_MAX, "raise the maximum");

/* --- finding ---------------------------------------------------------------------------------- */

unsigned config_row_index(const struct config_row *row)
{
    return (unsigned)(row - config_rows);
}

const struct config_section_row *config_section_find(const char *name)
{
    for (unsigned i = 0; i < config_section_count; i++) {
        if (!strcmp(config_sections[i].name, name))
            return &config_sections[i];
    }
    return NULL;
}

static bool is_overridable(const char *section)
{
    const struct config_section_row *row = config_section_find(section);

    return row && row->overridable;
}

bool config_row_key(const char *section, const struct config_row *row, char out[CONFIG_KEY_MAX])
{
    bool own = !strcmp(section, row->section);

    if (!own && (strcmp(section, "route") != 0 || !is_overridable(row->section)))
        return false;
    snprintf(out, CONFIG_KEY_MAX, "%s%s%s", own ? "" : row->section, own ? "" : ".", row->key);
    return true;
}

const struct config_row *config_row_find(const char *section, const char *key)
{
    char name[CONFIG_KEY_MAX];

    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (config_row_key(section, row, name) &&
            !(config_row_is_prefix(row) ? strncmp(key, name, strlen(name)) : strcmp(key, name)))
            return row;
    }
    return NULL;
}

unsigned config_key_line(const struct config_origin *o, const char *section, const char *key)
{
    const struct config_row *row = config_row_find(section, key);

    return row ? o->lines[config_row_index(row)] : 0;
}

struct config_place config_place_of(const struct config_origin *o, const char *section,
                                    const char *key)
{
    unsigned line = config_key_line(o, section, key);
    bool override = o->title && !config_section_find(section)->named;

    return (struct config_place){.line = line ? line : o->line,
                                 .title = o->title ? o->title : section,
                                 .group = override ? section : NULL,
                                 .key = key};
}

/* --- misspelt names --------------------------------------------------------------------------- */

#define WORD_MAX CONFIG_FAR

/* Returns Levenshtein's distance, or WORD_MAX if a word is longer than that. */
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
            size_t above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);

            best = above + 1 < best ? above + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
        }
    }
    return row[n];
}

/* One may be the beginning of the other (api_key, api_key_env), or a third of the letters of
 * `word`, or two of a short word, may be wrong. */
bool config_name_nearer(const char *typed, const char *name, const char *word, size_t *far)
{
    size_t d = distance(typed, name), n = strlen(word), a = strlen(typed), b = strlen(name);
    size_t shorter = a < b ? a : b;
    bool part = shorter >= 5 && !strncmp(typed, name, shorter);

    if (d >= *far || (!part && (d >= n || d > (n < 6 ? 2 : n / 3))))
        return false;
    *far = d;
    return true;
}

const char *config_section_nearest(const char *name)
{
    const char *best = NULL;
    size_t far = WORD_MAX;

    for (unsigned i = 0; i < config_section_count; i++) {
        const char *section = config_sections[i].name;

        if (config_name_nearer(name, section, section, &far))
            best = section;
    }
    return best;
}

void config_key_hint(const char *section, const char *key, struct buf *out)
{
    const struct config_row *best = NULL, *home = NULL;
    char name[CONFIG_KEY_MAX], beginning[WORD_MAX + 1];
    size_t far = WORD_MAX;

    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (!home && !strcmp(row->key, key))
            home = row;
        snprintf(beginning, sizeof beginning, "%s", key);
        if (config_row_is_prefix(row) && strchr(beginning, '.'))
            strchr(beginning, '.')[1] = '\0'; /* "haeder." of haeder.X-Org */
        if (config_row_key(section, row, name) &&
            config_name_nearer(beginning, name, row->key, &far))
            best = row;
    }
    if (best && config_row_key(section, best, name))
        buf_printf(out, "; did you mean %s%s?", name, config_row_is_prefix(best) ? "NAME" : "");
    else if (home && config_row_key(section, home, name))
        buf_printf(out, "; in a route it is %s", name);
    else if (home)
        buf_printf(out, "; it belongs in [%s]", home->section);
}
