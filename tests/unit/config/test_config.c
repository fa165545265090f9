/* Every key: its default, a good value, a bad one and what is said of it, its bounds. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "config/config_private.h"
#include "config_text.h"
#include "pem_text.h"
#include "policy/settings.h"
#include "unit.h"

/* What stands in the dump for a default (NULL: no line) and for a good value; what is said of a bad
 * one behind `found "..."; expected `. A bad value of NULL: there is none. */
struct sample {
    const char *section, *key, *fallback, *good, *shown, *bad, *expected;
};

#define TIME "a duration such as 250ms, 30s or 10m"
#define BYTES "a size such as 64K, 512M or 2G"
#define NUMBER "a whole number"

static const struct sample samples[] = {
    {"server", "listen", "127.0.0.1:4290", "[::1]:80,unix:/run/x.sock , localhost:0",
     "[::1]:80, unix:/run/x.sock, localhost:0", "",
     "one or more of ADDRESS:PORT, [IPV6]:PORT or unix:/PATH, comma-separated"},
    {"server", "workers", "auto", "8", "8", "some", NUMBER " or auto (at least 1, at most 256)"},
    {"server", "max_connections", "4096", "10", "10", "0", NUMBER " (at least 1, at most 1000000)"},
    {"server", "max_body", "512M", "2G", "2G", "1T", BYTES " (at least 1K, at most 16G)"},
    {"server", "memory_body", "1M", "64K", "64K", "-1", BYTES " (at least 1K, at most 1G)"},
    {"server", "max_buffered", "512M", "1G", "1G", "2T", BYTES " (at least 1M, at most 1T)"},
    {"server", "hold_limit", "4M", "1048576", "1M", "big", BYTES " (at least 1K, at most 1G)"},
    {"server", "spool_dir", "/var/tmp", "/spool", "/spool", NULL, NULL},
    {"server", "drain_timeout", "30s", "0", "0", "5", TIME " (at most 1h)"},
    {"server", "drain_linger", "0", "20s", "20s", "5", TIME " (at most 1h)"},
    {"server", "allowed_hosts", "localhost, 127.0.0.1, [::1]", "a,b ,c", "a, b, c", "a b",
     "a comma-separated list"},
    {"server", "allowed_origins", "", "https://a.example", "https://a.example", "a b",
     "a comma-separated list"},
    {"server", "client_keys_file", "", "./tokens", "./tokens", NULL, NULL},
    {"server", "insecure_listen", "no", "TRUE", "yes", "maybe", "yes or no"},
    {"admin", "listen", "127.0.0.1:4291", "OFF", "off", "4291",
     "ADDRESS:PORT, [IPV6]:PORT or unix:/PATH"},
    {"admin", "insecure_listen", "no", "TRUE", "yes", "maybe", "yes or no"},
    {"admin", "token_file", "", "./tokens", "./tokens", NULL, NULL},
    {"admin", "slow", "30s", "0", "0", "5", TIME " (at most 1d)"},
    {"log", "level", "info", "warn", "warn", "loud", "debug, info, warn or error"},
    {"log", "format", "auto", "JSON", "json", "xml", "auto, logfmt, json or pretty"},
    {"log", "access", "all", "retried", "retried", "none", "all, retried, failed or off"},
    {"upstream", "url", "https://api.openai.com/v1", "HTTP://h:80/x//", "http://h:80/x", "h/v1",
     "a URL that starts with https://, http:// or unix:/"},
    {"upstream", "api_key_env", "", "TEST_KEY", "TEST_KEY", "a-b",
     "the name of an environment variable, such as OPENAI_API_KEY, and not the key itself"},
    {"upstream", "api_key_file", "", "./keys", "./keys", NULL, NULL},
    {"upstream", "auth_header", "Authorization", "api-key", "api-key", "",
     "the name of a header, such as Authorization"},
    {"upstream", "header.X-Org", NULL, "o; p", "***", NULL, NULL},
    {"upstream", "idempotency_header", "", "Idempotency-Key", "Idempotency-Key", "a b",
     "the name of a header, such as Authorization"},
    {"upstream", "client_cert_file", "", "./client.pem", "./client.pem", NULL, NULL},
    {"upstream", "client_key_file", "", "./client.pem", "./client.pem", NULL, NULL},
    {"upstream", "ca_file", "", "./client.pem", "./client.pem", NULL, NULL},
    {"upstream", "proxy", "", "http://u:p@h:1", "http://***@h:1", "ftp://h",
     "a URL such as http://proxy.example:3128 (http, https, socks4, socks4a, socks5 or socks5h)"},
    {"upstream", "proxy_password_file", "", "./keys", "./keys", NULL, NULL},
    {"upstream", "http_version", "auto", "1.1", "1.1", "3", "auto, 1.1 or 2"},
    {"upstream", "max_concurrency", "0", "7", "7", "x", NUMBER " (at most 1000000)"},
    {"upstream", "requests_per_minute", "0", "600", "600", "1.5", NUMBER " (at most 10000000)"},
    {"upstream", "adaptive_pacing", "no", "yes", "yes", "1", "yes or no"},
    {"upstream", "key_cooldown", "5m", "1s", "1s", "0", TIME " (at least 1s, at most 1d)"},
    {"upstream", "connection_lifetime", "5m", "30s", "30s", "x", TIME " (at most 1d)"},
    {"upstream", "model.gpt-4o", NULL, "mine", "mine", NULL, NULL},
    {"retry", "max_attempts", "5", "1", "1", "0", NUMBER " (at least 1, at most 100)"},
    {"retry", "attempts_per_tier", "3", "2", "2", "0", NUMBER " (at least 1, at most 100)"},
    {"retry", "initial_delay", "1s", "0.5s", "500ms", "0", TIME " (at least 1ms, at most 1h)"},
    {"retry", "multiplier", "2", "1.5", "1.5", "0.9",
     "a number such as 2 or 1.5 (at least 1, at most 100)"},
    {"retry", "max_delay", "1m", "90s", "90s", "1 fortnight", TIME " (at least 1ms, at most 1d)"},
    {"retry", "jitter", "equal", "Full", "full", "half", "none, full or equal"},
    {"retry", "retry_on", "connect, reset, timeout, 408, 409, 425, 429, 5xx, empty", "5XX, connect",
     "connect, 5xx", "500",
     "none, or a comma-separated list of connect, reset, timeout, 408, 409, 425, 429, 5xx or empty"},
    {"retry", "retry_ambiguous", "yes", "off", "no", "2", "yes or no"},
    {"retry", "max_hint", "2m", "10s", "10s", "x", TIME " (at most 1d)"},
    {"retry", "deadline", "10m", "0", "0", "-1s", TIME " (at most 1d)"},
    {"retry", "budget", "20%", "100%", "100%", "20", "a percentage such as 20% (at most 1000%)"},
    {"retry", "budget_min", "10", "0", "0", "%", NUMBER " (at most 1000000)"},
    {"retry", "repeat_window", "1m", "0", "0", "1", TIME " (at most 1h)"},
    {"timeout", "connect", "5s", "250ms", "250ms", "0", TIME " (at least 1ms, at most 10m)"},
    {"timeout", "first_byte", "5m", "0", "0", "", TIME " (at most 1d)"},
    {"timeout", "first_content", "5m", "1s", "1s", "s", TIME " (at most 1d)"},
    {"timeout", "idle", "1m", "2h", "2h", "2w", TIME " (at most 1d)"},
    {"timeout", "total", "0", "1d", "1d", "2d", TIME " (at most 1d)"},
    {"stream", "mode", "live", "splice", "splice", "fast", "live, splice or hold"},
    {"stream", "heartbeat", "0", "15s", "15s", "15", TIME " (at most 1h)"},
    {"stream", "mend_timeout", "30s", "15s", "15s", "15", TIME " (at most 1h)"},
    {"breaker", "failures", "5", "0", "0", "no", NUMBER " (at most 10000)"},
    {"breaker", "failure_rate", "50%", "0", "0%", "50", "a percentage such as 20% (at most 100%)"},
    {"breaker", "window", "30s", "1s", "1s", "999ms", TIME " (at least 1s, at most 1h)"},
    {"breaker", "open_for", "15s", "1ms", "1ms", "0", TIME " (at least 1ms, at most 1h)"},
    {"queue", "size", "10000", "1", "1", "0", NUMBER " (at least 1, at most 1000000)"},
    {"queue", "timeout", "2m", "0", "0", "2", TIME " (at most 1d)"},
    {"hedge", "after", "0", "750ms", "750ms", "off", TIME " (at most 1h)"},
    {"hedge", "requests", "safe", "ALL", "all", "some", "safe or all"},
    {"route", "base", "/v1", "/", "/", "v1", "a path such as /v1"},
    {"route", "path", "*", "/chat/*", "/chat/*", "chat", "a pattern that starts with / or *"},
    {"route", "model", "*", "gpt-?o*", "gpt-?o*", "a b",
     "a pattern such as gpt-4o*, without spaces"},
    {"route", "upstreams", "", "openai", "openai", "a b", "a comma-separated list"},
    {"route", "fallback_models", "", "m1,m2,", "m1, m2", "m 1", "a comma-separated list"},
    {"route", "weights", "", "7", "7", "1001",
     "a comma-separated list of whole numbers (at most 1000)"},
    {"route", "fallback_on", "error, timeout, context_length", "Context_length, error",
     "error, context_length", "quota",
     "none, or a comma-separated list of error, timeout or context_length"},
    {"shared", "redis", "", "[::1]:6379", "[::1]:6379", "redis://h",
     "HOST:PORT, [IPV6]:PORT or unix:/PATH"},
    {"shared", "redis_user", "", "app", "app", NULL, NULL},
    {"shared", "redis_password_file", "", "./keys", "./keys", NULL, NULL},
    {"shared", "prefix", "retryd", "team:a-1_x.y", "team:a-1_x.y", "a b",
     "1 to 64 letters, digits, dots, dashes, underscores or colons"},
};
#define SAMPLES (COUNT(samples))

static const char *title_of(const char *section)
{
    if (!strcmp(section, "upstream"))
        return "upstream openai";
    return strcmp(section, "route") != 0 ? section : "route r";
}

static struct loaded load_key(const char *section, const char *key, const char *value)
{
    char text[512];

    snprintf(text, sizeof text, "[%s]\n%s = %s\n", title_of(section), key, value);
    return config_text_load(text);
}

/* Asserts what the dump says; NULL: nothing. */
static void shows(const struct config *c, const struct sample *s, const char *wanted)
{
    char section[64], *dump = config_text_dump(c), *value;

    snprintf(section, sizeof section, "[%s]", title_of(s->section));
    value = config_text_value(dump, section, s->key);
    ck_assert_pstr_eq(value, wanted);
    free(value);
    free(dump);
}

START_TEST(every_row_has_a_sample)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        bool found = false;

        for (size_t k = 0; k < SAMPLES; k++)
            found |= config_row_find(samples[k].section, samples[k].key) == &config_rows[i];
        ck_assert_msg(found, "[%s] %s has no sample", config_rows[i].section, config_rows[i].key);
    }
}
END_TEST

static void check_default(const struct sample *s)
{
    char text[64];
    struct loaded l;

    snprintf(text, sizeof text, "[%s]\n", title_of(s->section));
    l = config_text_load(text);
    ck_assert_str_eq(l.problems, "");
    shows(l.config, s, s->fallback);
    loaded_deinit(&l);
}

START_TEST(each_default)
{
    for (size_t i = 0; i < SAMPLES; i++)
        check_default(&samples[i]);
}
END_TEST

static void check_good_value(const struct sample *s)
{
    struct loaded l;

    ck_assert_int_eq(setenv("TEST_KEY", "k", 1), 0);
    config_text_write("keys", "k\n", 2);
    config_text_write("tokens", "0123456789abcdef\n", 17);
    config_text_write_client(pem_certificate, pem_key);
    l = load_key(s->section, s->key, s->good);
    ck_assert_str_eq(l.problems, "");
    shows(l.config, s, s->shown);
    loaded_deinit(&l);
}

START_TEST(each_good_value)
{
    for (size_t i = 0; i < SAMPLES; i++)
        check_good_value(&samples[i]);
}
END_TEST

static void check_bad_value(const struct sample *s)
{
    char wanted[512], found[64];
    struct loaded l;

    if (!s->bad)
        return;
    l = load_key(s->section, s->key, s->bad);
    ck_assert_ptr_null(l.config);
    ck_assert_int_eq(l.error, EINVAL);
    snprintf(found, sizeof found, "\"%s\"", s->bad);
    snprintf(wanted, sizeof wanted, "t.conf:2: [%s] %s: found %s; expected %s\n",
             title_of(s->section), s->key,
             strcmp(s->key, "api_key_env") ? found
                                           : "a value that is not shown because it may be secret",
             s->expected);
    ck_assert_str_eq(l.problems, wanted);
}

START_TEST(each_bad_value)
{
    for (size_t i = 0; i < SAMPLES; i++)
        check_bad_value(&samples[i]);
}
END_TEST

/* A number of the row's unit: the bounds are taken, one step beyond is not. */
static void bound(const struct config_row *row, uint64_t value, bool good)
{
    static const char *const units[] = {[CONFIG_DURATION] = "ms", [CONFIG_PERCENT] = "%"};
    char text[64];
    struct loaded l;

    snprintf(text, sizeof text, "%llu%s", (unsigned long long)value,
             row->type == CONFIG_DURATION || row->type == CONFIG_PERCENT ? units[row->type] : "");
    l = load_key(row->section, row->key, text);
    /* The waits are bound to each other as well. */
    if (l.config == NULL && good)
        ck_assert_ptr_nonnull(strstr(l.problems, "is less than initial_delay"));
    else
        ck_assert_msg((l.config != NULL) == good, "[%s] %s = %s", row->section, row->key, text);
    loaded_deinit(&l);
}

START_TEST(each_bound)
{
    for (unsigned i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->type > CONFIG_PERCENT)
            continue;
        ck_assert_uint_gt(row->max, row->min);
        bound(row, row->min, true);
        if (row->min)
            bound(row, row->min - 1, false);
        bound(row, row->max, true);
        bound(row, row->max + 1, false);
        bound(row, UINT64_MAX, false);
    }
}
END_TEST

static void has_server_defaults(const struct config *c)
{
    ck_assert_uint_eq(c->server.listen.count, 1);
    ck_assert_str_eq(c->server.listen.items[0], "127.0.0.1:4290");
    ck_assert_uint_eq(c->server.workers, 0);
    ck_assert_uint_eq(c->server.max_connections, 4096);
    ck_assert_uint_eq(c->server.max_body, 512u << 20);
    ck_assert_uint_eq(c->server.memory_body, 1u << 20);
    ck_assert_uint_eq(c->server.hold_limit, 4u << 20);
    ck_assert_str_eq(c->server.spool_dir, "/var/tmp");
    ck_assert_uint_eq(c->server.drain_timeout_ms, 30000);
    ck_assert_uint_eq(c->server.drain_linger_ms, 0);
    ck_assert_uint_eq(c->server.allowed_hosts.count, 3);
    ck_assert_uint_eq(c->server.allowed_origins.count, 0);
    ck_assert_str_eq(c->server.client_keys_file, "");
    ck_assert(!c->server.insecure_listen);
    ck_assert_str_eq(c->admin.listen, "127.0.0.1:4291");
    ck_assert_int_eq(c->log.level, LOG_INFO);
    ck_assert_int_eq(c->log.format, LOG_AUTO);
    ck_assert_int_eq(c->log.access, ACCESS_ALL);
}

static void has_settings_defaults(const struct route_settings *s)
{
    ck_assert_uint_eq(s->retry.max_attempts, 5);
    ck_assert_uint_eq(s->retry.attempts_per_tier, 3);
    ck_assert_uint_eq(s->retry.backoff.initial_delay_ms, 1000);
    ck_assert(fabs(s->retry.backoff.multiplier - 2) < 1e-9);
    ck_assert_uint_eq(s->retry.backoff.max_delay_ms, 60000);
    ck_assert_int_eq(s->retry.backoff.jitter, JITTER_EQUAL);
    ck_assert_uint_eq(s->retry.retry_on, RETRY_ON_ALL);
    ck_assert(s->retry.retry_ambiguous);
    ck_assert_uint_eq(s->retry.max_hint_ms, 120000);
    ck_assert_uint_eq(s->retry.deadline_ms, 600000);
    ck_assert_uint_eq(s->retry.budget_percent, 20);
    ck_assert_uint_eq(s->retry.budget_min, 10);
    ck_assert_uint_eq(s->timeout.connect_ms, 5000);
    ck_assert_uint_eq(s->timeout.first_byte_ms, 300000);
    ck_assert_uint_eq(s->timeout.first_content_ms, 300000);
    ck_assert_uint_eq(s->timeout.idle_ms, 60000);
    ck_assert_uint_eq(s->timeout.total_ms, 0);
    ck_assert_int_eq(s->stream.mode, STREAM_LIVE);
    ck_assert_uint_eq(s->stream.heartbeat_ms, 0);
    ck_assert_uint_eq(s->stream.mend_timeout_ms, 30000);
    ck_assert_uint_eq(s->breaker.failures, 5);
    ck_assert_uint_eq(s->breaker.failure_rate_percent, 50);
    ck_assert_uint_eq(s->breaker.window_ms, 30000);
    ck_assert_uint_eq(s->breaker.open_for_ms, 15000);
    ck_assert_uint_eq(s->queue.size, 10000);
    ck_assert_uint_eq(s->queue.timeout_ms, 120000);
    ck_assert_uint_eq(s->hedge.after_ms, 0);
    ck_assert_int_eq(s->hedge.requests, HEDGE_SAFE);
}

static void has_default_upstream(const struct config *c)
{
    const struct config_upstream *u = &c->upstreams[0];

    ck_assert_uint_eq(c->upstream_count, 1);
    ck_assert_str_eq(u->name, "openai");
    ck_assert_str_eq(u->url, "https://api.openai.com/v1");
    ck_assert_str_eq(u->origin, "https://api.openai.com");
    ck_assert_str_eq(u->base_path, "/v1");
    ck_assert_str_eq(u->query, "");
    ck_assert_str_eq(u->host, "api.openai.com");
    ck_assert_str_eq(u->unix_socket, "");
    ck_assert(u->tls);
    ck_assert_uint_eq(u->key_count, 0);
    ck_assert_str_eq(u->auth_header, "Authorization");
    ck_assert_int_eq(u->http_version, HTTP_VERSION_AUTO);
}

static void has_no_limits(const struct config_upstream *u)
{
    ck_assert_uint_eq(u->max_concurrency, 0);
    ck_assert_uint_eq(u->requests_per_minute, 0);
    ck_assert(!u->adaptive_pacing);
    ck_assert_uint_eq(u->key_cooldown_ms, 300000);
}

static void has_shared_defaults(const struct config *c)
{
    ck_assert_str_eq(c->shared_redis, "");
    ck_assert_str_eq(c->shared_redis_user, "");
    ck_assert_str_eq(c->shared_password_file, "");
    ck_assert_ptr_null(c->shared_password);
    ck_assert_str_eq(c->shared_prefix, "retryd");
}

/* Without a file, and with a file that sets something else, an upstream is there all the same. */
START_TEST(without_a_file_the_defaults)
{
    struct loaded l = config_text_load("[log]\nlevel = info\n");
    struct buf problems, notes;
    struct config *c;

    buf_init(&problems, 1024);
    buf_init(&notes, 1024);
    c = config_load(NULL, &problems, &notes);
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq(problems.len + notes.len, 0);
    ck_assert_ptr_null(c->path);
    has_server_defaults(c);
    has_settings_defaults(&c->defaults);
    has_default_upstream(c);
    has_no_limits(&c->upstreams[0]);
    has_shared_defaults(c);
    ck_assert_uint_eq(c->route_count, 1);
    ck_assert_ptr_null(c->routes[0].weights);
    ck_assert_uint_eq(c->routes[0].fallback_on, FALLBACK_ON_ALL);
    has_settings_defaults(&c->routes[0].settings);
    ck_assert_ptr_eq(c->routes[0].upstreams[0], &c->upstreams[0]);
    ck_assert_str_eq(l.config->path, "t.conf");
    has_default_upstream(l.config);
    config_unref(config_ref(c));
    config_unref(c);
    config_unref(NULL);
    loaded_deinit(&l);
}
END_TEST

/* --- which settings a restart needs ------------------------------------------------------------ */

START_TEST(restart_names_what_a_reload_cannot_change)
{
    struct loaded a = config_text_load("[retry]\nmax_attempts = 2\n");
    struct loaded b = config_text_load("[server]\nlisten = 127.0.0.1:1, [::1]:2\nworkers = 3\n"
                                       "max_connections = 5\nmax_body = 1M\n"
                                       "[admin]\nlisten = off\n"
                                       "[shared]\nredis = h:1\nprefix = p\n");
    struct buf out;

    buf_init(&out, 1024);
    config_diff_restart(a.config, a.config, &out);
    ck_assert_uint_eq(out.len, 0);
    config_diff_restart(a.config, b.config, &out);
    buf_addc(&out, '\0');
    ck_assert_str_eq(out.p, "server.listen, server.workers, server.max_connections, admin.listen, "
                            "shared.redis, shared.prefix");
    buf_deinit(&out);
    loaded_deinit(&a);
    loaded_deinit(&b);
}
END_TEST

void unit_tests(Suite *suite)
{
    TCase *keys = unit_case(suite, "keys"), *whole = unit_case(suite, "whole");

    tcase_add_test(keys, every_row_has_a_sample);
    tcase_add_test(keys, each_default);
    tcase_add_test(keys, each_good_value);
    tcase_add_test(keys, each_bad_value);
    tcase_add_test(keys, each_bound);
    tcase_add_test(whole, without_a_file_the_defaults);
    tcase_add_test(whole, restart_names_what_a_reload_cannot_change);
}
