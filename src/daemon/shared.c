/* Joins the shared view, and rejoins it after a loss: opens two connections, logs in, and recalls
 * the news in force. */
#include "daemon/shared.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "daemon/shared_private.h"

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000
#define STEADY_MS 5000      /* after this time up, retries start from RETRY_MIN_MS again */
#define SAME_CAUSE_MS 30000 /* minimum interval between two warnings of one cause */
#define SHA_CHARS 40

/* --- scripts ---------------------------------------------------------------------------------- */

/* One sorted set holds everything in force, ordered by the time it ends, so two keys can never
 * disagree. The later end wins, since each daemon sees only a part. A closed breaker is published
 * even if the set does not have it: others may know it from the channel. */
static const char report[] =
    "local time = redis.call('TIME')\n"
    "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))\n"
    "if ARGV[1] == 'closed' then\n"
    "    redis.call('ZREM', KEYS[1], ARGV[2])\n"
    "else\n"
    "    local till = now + tonumber(ARGV[3])\n"
    "    if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or '0') >= till then return 0 end\n"
    "    redis.call('ZADD', KEYS[1], string.format('%.0f', till), ARGV[2])\n"
    "    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -10001)\n"
    "    local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')\n"
    "    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', tonumber(last[2])))\n"
    "end\n"
    "redis.call('PUBLISH', ARGV[5], table.concat({ARGV[1], ARGV[2], ARGV[3], ARGV[4]}, ' '))\n"
    "return 1\n";

/* Publishes on the newcomer's channel instead of returning a list, so that old and new news arrives
 * in the order of its events. The first command writes, which reveals a replica at once. */
static const char recall[] =
    "local time = redis.call('TIME')\n"
    "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
    "local count = 0\n"
    "for i, kind in ipairs({'gate', 'open'}) do\n"
    "    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now))\n"
    "    local known = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')\n"
    "    for j = 1, #known, 2 do\n"
    "        local left = string.format('%.0f', tonumber(known[j + 1]) - now)\n"
    "        local words = {kind, known[j], left, '0000000000000000'}\n"
    "        redis.call('PUBLISH', ARGV[1], table.concat(words, ' '))\n"
    "        count = count + 1\n"
    "    end\n"
    "end\n"
    "return count\n";

/* GCRA: the key holds the time at which all attempts so far are paid for. It is more than ten
 * minutes ahead only after the server's clock was set back, and nobody should wait for that. */
static const char rate[] =
    "local time = redis.call('TIME')\n"
    "local now = time[1] * 1000000 + time[2]\n"
    "local paid = tonumber(redis.call('GET', KEYS[1]) or '0') or 0\n"
    "paid = math.min(math.max(paid, now) + tonumber(ARGV[1]), now + 600000000)\n"
    "redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', \n"
    "           string.format('%.0f', math.ceil((paid - now) / 1000) + 1000))\n"
    "return paid - now\n";

static const struct str scripts[SHARED_SCRIPTS] = {
    [SHARED_REPORT] = {report, sizeof(report) - 1},
    [SHARED_RECALL] = {recall, sizeof(recall) - 1},
    [SHARED_RATE] = {rate, sizeof(rate) - 1},
};

/* --- causes of a loss ------------------------------------------------------------------------- */

/* Texts in the server's error replies. Servers before version 7 put a script's error code in the
 * middle, so the whole reply is searched; the first match counts. */
static const struct {
    const char *words;
    enum shared_cause cause;
} refusals[] = {
    {"NOAUTH", SHARED_NO_LOGIN},
    {"WRONGPASS", SHARED_LOGIN},
    {"invalid password", SHARED_LOGIN},
    {"NOPERM", SHARED_FORBIDDEN},
    {"ACL failure", SHARED_FORBIDDEN},
    {"user executing the script can't", SHARED_FORBIDDEN},
    {"unknown command", SHARED_FORBIDDEN}, /* commands were renamed before there were ACLs */
    {"Unknown Redis command", SHARED_FORBIDDEN},
    {"LOADING", SHARED_LOADING},
    {"READONLY", SHARED_REPLICA},
    {"can't write against a read only replica", SHARED_REPLICA},
    {"MASTERDOWN", SHARED_REPLICA},
    {"WRONGTYPE", SHARED_FOREIGN},
    {"MOVED ", SHARED_CLUSTER},
    {"CROSSSLOT", SHARED_CLUSTER},
    {"CLUSTERDOWN", SHARED_CLUSTER},
    {"OOM ", SHARED_SERVER_MEMORY},
    {"MISCONF", SHARED_UNSAVED},
    {"BUSY ", SHARED_BUSY},
    {"max number of clients", SHARED_FULL},
    {"DENIED", SHARED_GUARDED},
};

static enum shared_cause cause_of_refusal(struct str words)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        if (str_ifind(words, str_from(refusals[i].words)) >= 0)
            return refusals[i].cause;
    return SHARED_OTHER;
}

static enum shared_cause cause_of_end(enum redis_end end)
{
    static const enum shared_cause causes[] = {
        [REDIS_END_ADDRESS] = SHARED_NO_ADDRESS, [REDIS_END_CONNECT] = SHARED_NO_CONNECTION,
        [REDIS_END_LOST] = SHARED_LOST,          [REDIS_END_SILENT] = SHARED_SILENT,
        [REDIS_END_STRANGE] = SHARED_NO_REDIS,   [REDIS_END_MEMORY] = SHARED_NO_MEMORY,
    };

    return causes[end];
}

/* Each text follows the server's address. The server's own words are shown only if nothing else is
 * known, and never after a login: an error about an unknown command repeats its arguments, even a
 * password. */
static const char *const causes[SHARED_CAUSES] = {
    [SHARED_FINE] = "is fine",
    [SHARED_NO_ADDRESS] = "has no address",
    [SHARED_NO_CONNECTION] = "cannot be reached",
    [SHARED_LOST] = "closed the connection",
    [SHARED_SILENT] = "did not reply within a second",
    [SHARED_NO_REDIS] = "is not a Redis server: it speaks another protocol",
    [SHARED_NO_MEMORY] = "was not contacted: retryd is out of memory",
    [SHARED_FULL] = "accepts no more connections (maxclients)",
    [SHARED_GUARDED] = "is in protected mode: it needs a password, or protected-mode no",
    [SHARED_NO_LOGIN] = "requires a password, but none is set",
    [SHARED_LOGIN] = "rejects the user or the password",
    [SHARED_FORBIDDEN] = "denies this user a command, key or channel that retryd needs (ACL)",
    [SHARED_LOADING] = "is still loading its data",
    [SHARED_BUSY] = "is busy running a script",
    [SHARED_REPLICA] = "is a read-only replica: set the address of the primary",
    [SHARED_CLUSTER] = "is part of a cluster: set the address of a standalone server",
    [SHARED_FOREIGN] = "has other data under retryd's key names: set another prefix",
    [SHARED_SERVER_MEMORY] = "is out of memory (maxmemory)",
    [SHARED_UNSAVED] = "refuses writes because it cannot save to disk",
    [SHARED_OTHER] = "refuses the command",
};

static void explain(enum shared_cause cause, const char *address, struct str detail, char *space,
                    size_t size)
{
    int shown = detail.n > 160 ? 160 : (int)detail.n;

    snprintf(space, size, "%s %s%s%.*s", address, causes[cause], shown ? ": " : "", shown,
             shown ? detail.p : "");
    /* The detail comes from outside: no control characters. */
    for (; size > 0 && *space; space++)
        if ((unsigned char)*space < 0x20 || *space == 0x7f)
            *space = ' ';
}

/* --- the state -------------------------------------------------------------------------------- */

static void set_state(struct shared *s, enum shared_state to)
{
    static const bool moves[SHARED_CLOSED + 1][SHARED_CLOSED + 1] = {
        [SHARED_AWAY] = {[SHARED_JOINING] = true, [SHARED_CLOSED] = true},
        [SHARED_JOINING] = {[SHARED_UP] = true, [SHARED_AWAY] = true, [SHARED_CLOSED] = true},
        [SHARED_UP] = {[SHARED_AWAY] = true, [SHARED_CLOSED] = true},
    };

    assert(s->magic == SHARED_MAGIC && moves[s->state][to]);
    s->state = to;
}

static uint64_t random_number(void)
{
    uint64_t n = 0;

    if (uv_random(NULL, NULL, &n, sizeof(n), 0, NULL) < 0)
        n = uv_hrtime() ^ (uint64_t)uv_os_getpid() << 32;
    return n;
}

struct str shared_hex(uint64_t id, char space[SHARED_HEX_BYTES])
{
    snprintf(space, SHARED_HEX_BYTES, "%016" PRIx64, id);
    return (struct str){space, SHARED_HEX_BYTES - 1};
}

/* --- lost ------------------------------------------------------------------------------------- */

static void join(uv_timer_t *timer);

/* Logs a cause once in an outage, and at most every SAME_CAUSE_MS over several outages. */
static void warn(struct shared *s)
{
    uint64_t now = clock_now_ms();
    uint64_t before = s->logged_ms[s->cause];

    if (s->logged == s->cause || (before > 0 && now - before < SAME_CAUSE_MS))
        return;
    s->logged = s->cause;
    s->logged_ms[s->cause] = now;
    log_line(LOG_WARN, "shared view lost: %s; this daemon continues with what it knows itself",
             s->why);
}

/* The delay is random, so that daemons that lost the same server do not return at once. */
static void retry_later(struct shared *s)
{
    uint64_t delay = RETRY_MAX_MS;

    if (s->tries < 7 && (RETRY_MIN_MS << s->tries) < RETRY_MAX_MS)
        delay = RETRY_MIN_MS << s->tries;
    s->tries++;
    uv_update_time(s->loop);
    uv_timer_start(&s->retry, join, delay / 2 + random_number() % (delay / 2 + 1), 0);
}

static void hang_up(struct shared *s)
{
    redis_close(s->commands.redis);
    redis_close(s->hearing.redis);
    s->commands.redis = s->hearing.redis = NULL;
    shared_news_take_back(s);
    shared_rate_forget(s);
}

static void lose(struct shared *s, enum shared_cause cause, struct str detail)
{
    if (s->state == SHARED_UP) {
        s->counts.losses++;
        if (clock_now_ms() - s->up_since_ms >= STEADY_MS)
            s->tries = 0;
    }
    hang_up(s);
    set_state(s, SHARED_AWAY);
    s->cause = cause;
    explain(cause, s->address, detail, s->why, sizeof(s->why));
    warn(s);
    retry_later(s);
}

static void on_dead(void *arg, enum redis_end end, int error)
{
    const struct shared_line *line = arg;

    lose(line->shared, cause_of_end(end), str_from(error ? uv_strerror(error) : NULL));
}

void shared_refused(struct shared *s, const struct redis_reply *a)
{
    if (a->kind != REDIS_IS_REFUSAL) {
        lose(s, SHARED_NO_REDIS, STR(""));
        return;
    }
    enum shared_cause cause = cause_of_refusal(a->text);
    bool own_words = cause == SHARED_OTHER || cause == SHARED_FORBIDDEN;

    lose(s, cause, own_words ? a->text : STR(""));
}

/* --- joining ---------------------------------------------------------------------------------- */

bool shared_script_unknown(const struct redis_reply *a)
{
    return a->kind == REDIS_IS_REFUSAL && str_starts(a->text, STR("NOSCRIPT"));
}

int shared_run(struct shared *s, enum shared_script script, bool with_text, unsigned keys,
               size_t count, const struct str words[], redis_reply_fn *reply, void *tag)
{
    struct str argv[REDIS_ARGS_MAX];
    char space[STR_DECIMAL_MAX];
    int rc;

    assert(count + 3 <= REDIS_ARGS_MAX);
    argv[0] = with_text ? STR("EVAL") : STR("EVALSHA");
    argv[1] = with_text ? scripts[script] : (struct str){s->sha[script], SHA_CHARS};
    argv[2] = str_decimal(keys, space);
    memcpy(argv + 3, words, count * sizeof(*words));
    rc = redis_send(s->commands.redis, count + 3, argv, reply, tag);
    if (rc == 0)
        s->counts.sent++;
    return rc;
}

static void on_recalled(void *arg, void *tag, const struct redis_reply *a)
{
    struct shared *s = ((struct shared_line *)arg)->shared;

    (void)tag;
    if (a->kind != REDIS_IS_NUMBER) {
        shared_refused(s, a);
        return;
    }
    set_state(s, SHARED_UP);
    s->up_since_ms = clock_now_ms();
    s->cause = SHARED_FINE;
    if (s->logged != SHARED_FINE)
        log_line(LOG_INFO, "shared view is back");
    else if (!s->been_up)
        log_line(LOG_INFO, "shared view: joined the daemons that use %s", s->address);
    s->logged = SHARED_FINE;
    s->been_up = true;
    shared_news_flush(s);
}

/* The recall comes after the subscription, so that no news is lost in between. */
static void step(struct shared_line *line)
{
    struct shared *s = line->shared;

    line->steps_left--;
    if (s->commands.steps_left > 0 || s->hearing.steps_left > 0)
        return;
    const struct str words[] = {str_from(s->gates), str_from(s->breakers),
                                str_from(s->own_channel)};
    if (shared_run(s, SHARED_RECALL, false, 2, 3, words, on_recalled, NULL) < 0)
        lose(s, SHARED_NO_MEMORY, STR(""));
}

/* The server's words may repeat the password, so they are never shown. */
static void on_login(void *arg, void *tag, const struct redis_reply *a)
{
    const struct shared_line *line = arg;

    (void)tag;
    if (a->kind == REDIS_IS_TEXT)
        return;
    enum shared_cause cause = SHARED_NO_REDIS;
    if (a->kind == REDIS_IS_REFUSAL) {
        cause = cause_of_refusal(a->text);
        if (cause == SHARED_OTHER || cause == SHARED_FORBIDDEN)
            cause = SHARED_LOGIN;
    }
    lose(line->shared, cause, STR(""));
}

static void on_loaded(void *arg, void *tag, const struct redis_reply *a)
{
    struct shared_line *line = arg;
    char *sha = tag;

    if (a->kind != REDIS_IS_TEXT || a->text.n != SHA_CHARS) {
        shared_refused(line->shared, a);
        return;
    }
    memcpy(sha, a->text.p, SHA_CHARS);
    step(line);
}

static void on_subscribed(void *arg, void *tag, const struct redis_reply *a)
{
    struct shared_line *line = arg;

    (void)tag;
    if (a->kind == REDIS_IS_LIST && a->count == 3 &&
        str_eq(redis_item(a, 0).text, STR("subscribe")))
        step(line);
    else
        shared_refused(line->shared, a);
}

/* The name is for readers of CLIENT LIST; a user that may not set one goes without. As this may be
 * the first reply of all, its error may be about more than the name. */
static void on_named(void *arg, void *tag, const struct redis_reply *a)
{
    const struct shared_line *line = arg;
    enum shared_cause cause = SHARED_OTHER;

    (void)tag;
    if (a->kind == REDIS_IS_REFUSAL)
        cause = cause_of_refusal(a->text);
    if (cause != SHARED_OTHER && cause != SHARED_FORBIDDEN)
        shared_refused(line->shared, a);
}

static bool log_in(struct shared_line *line)
{
    const struct shared *s = line->shared;
    const struct str name[] = {STR("CLIENT"), STR("SETNAME"), STR("retryd")};
    struct str login[3] = {STR("AUTH")};
    size_t n = 1;

    if (s->password) {
        if (s->user[0])
            login[n++] = str_from(s->user);
        login[n++] = secret_text(s->password);
        if (redis_send(line->redis, n, login, on_login, NULL) < 0)
            return false;
    }
    return redis_send(line->redis, 3, name, on_named, NULL) == 0;
}

static void on_commands_connected(void *arg)
{
    struct shared_line *line = arg;
    struct shared *s = line->shared;
    bool ok = log_in(line);

    for (int i = 0; ok && i < SHARED_SCRIPTS; i++) {
        const struct str load[] = {STR("SCRIPT"), STR("LOAD"), scripts[i]};

        ok = redis_send(line->redis, 3, load, on_loaded, s->sha[i]) == 0;
    }
    if (!ok)
        lose(s, SHARED_NO_MEMORY, STR(""));
}

static void on_hearing_connected(void *arg)
{
    struct shared_line *line = arg;
    struct shared *s = line->shared;
    const struct str all[] = {STR("SUBSCRIBE"), str_from(s->channel)};
    const struct str own[] = {STR("SUBSCRIBE"), str_from(s->own_channel)};

    if (!log_in(line) || redis_send(line->redis, 2, all, on_subscribed, NULL) < 0 ||
        redis_send(line->redis, 2, own, on_subscribed, NULL) < 0)
        lose(s, SHARED_NO_MEMORY, STR(""));
}

static void on_message(void *arg, struct str text)
{
    shared_news_hear(((const struct shared_line *)arg)->shared, text);
}

static void open_line(struct shared_line *line, void (*connected)(void *arg), unsigned steps)
{
    const struct redis_handler handler = {
        .connected = connected, .message = on_message, .dead = on_dead, .arg = line};

    line->steps_left = steps;
    line->redis = redis_open(line->shared->loop, line->shared->address, &handler);
}

static void join(uv_timer_t *timer)
{
    struct shared *s = timer->data;

    set_state(s, SHARED_JOINING);
    open_line(&s->commands, on_commands_connected, SHARED_SCRIPTS);
    open_line(&s->hearing, on_hearing_connected, 2);
    if (!s->commands.redis || !s->hearing.redis)
        lose(s, SHARED_NO_MEMORY, STR(""));
}

/* --- beginning and end ------------------------------------------------------------------------ */

static void free_shared(struct shared *s)
{
    shared_news_forget(s);
    secret_free(s->password);
    free(s->user);
    free(s->address);
    s->magic = 0;
    free(s);
}

static bool copy_settings(struct shared *s, const struct shared_settings *settings)
{
    s->address = str_dup(str_from(settings->address));
    s->user = str_dup(str_from(settings->user));
    if (settings->password.n > 0)
        s->password = secret_new(settings->password);
    return s->address && s->user && (s->password || settings->password.n == 0);
}

static void name_keys(struct shared *s, const char *prefix)
{
    uint64_t self = random_number();

    shared_hex(self ? self : 1, s->self);
    snprintf(s->prefix, sizeof(s->prefix), "%s", prefix);
    snprintf(s->gates, sizeof(s->gates), "%s:gates", prefix);
    snprintf(s->breakers, sizeof(s->breakers), "%s:breakers", prefix);
    snprintf(s->channel, sizeof(s->channel), "%s:news", prefix);
    snprintf(s->own_channel, sizeof(s->own_channel), "%s:news:%s", prefix, s->self);
}

struct shared *shared_new(uv_loop_t *loop, const struct shared_settings *settings,
                          const struct shared_handler *handler)
{
    struct shared *s;

    if (redis_address_check(settings->address) < 0 || strlen(settings->prefix) > SHARED_PREFIX_MAX)
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->magic = SHARED_MAGIC;
    s->state = SHARED_AWAY;
    s->loop = loop;
    s->handler = *handler;
    s->commands.shared = s->hearing.shared = s;
    list_init(&s->unsent);
    list_init(&s->unconfirmed);
    list_init(&s->upstreams);
    if (!copy_settings(s, settings)) {
        free_shared(s);
        return NULL;
    }
    name_keys(s, settings->prefix);
    snprintf(s->why, sizeof(s->why), "%s has not replied yet", s->address);
    uv_timer_init(loop, &s->retry);
    uv_timer_init(loop, &s->pace);
    s->retry.data = s->pace.data = s;
    s->open_timers = 2;
    uv_timer_start(&s->retry, join, 0, 0);
    return s;
}

void shared_password(struct shared *s, struct str password)
{
    struct secret *now;

    if (s->password && str_eq(secret_text(s->password), password))
        return;
    now = secret_new(password);
    if (!now)
        return;
    secret_free(s->password);
    s->password = now;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct shared *s = handle->data;

    assert(s->magic == SHARED_MAGIC);
    if (--s->open_timers == 0)
        free_shared(s);
}

void shared_close(struct shared *s)
{
    if (!s)
        return;
    hang_up(s);
    set_state(s, SHARED_CLOSED);
    uv_close((uv_handle_t *)&s->retry, on_timer_closed);
    uv_close((uv_handle_t *)&s->pace, on_timer_closed);
}

bool shared_is_up(const struct shared *s)
{
    return s->state == SHARED_UP;
}

const char *shared_why_down(const struct shared *s)
{
    return s->state == SHARED_UP ? NULL : s->why;
}

struct shared_counts shared_counts(const struct shared *s)
{
    return s->counts;
}
