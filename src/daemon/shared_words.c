/* The scripts that run in the server, and what its refusals mean to a person. */
#include <stdio.h>

#include "daemon/shared_private.h"

/* One sorted set holds all that is in force, by the time it ends: nothing can be known under one key
 * and missing in another. The later end wins, for each daemon has seen a part of the truth. An end
 * of a breaker is told even where none was known: others may have it from a channel. */
static const char tell[] =
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

/* Told through the newcomer's channel, not in the answer: so old news and new ones come in the order
 * in which they were true. The first line writes, and so a replica is found out at once. */
static const char recall[] =
    "local time = redis.call('TIME')\n"
    "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
    "local told = 0\n"
    "for i, kind in ipairs({'gate', 'open'}) do\n"
    "    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.0f', now))\n"
    "    local known = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')\n"
    "    for j = 1, #known, 2 do\n"
    "        local left = string.format('%.0f', tonumber(known[j + 1]) - now)\n"
    "        local words = {kind, known[j], left, '0000000000000000'}\n"
    "        redis.call('PUBLISH', ARGV[1], table.concat(words, ' '))\n"
    "        told = told + 1\n"
    "    end\n"
    "end\n"
    "return told\n";

/* GCRA: the key holds the time at which all attempts so far are paid for. More than ten minutes ahead
 * it cannot be but by a clock that was set back, and nobody is to wait for that. */
static const char rate[] =
    "local time = redis.call('TIME')\n"
    "local now = time[1] * 1000000 + time[2]\n"
    "local paid = tonumber(redis.call('GET', KEYS[1]) or '0') or 0\n"
    "paid = math.min(math.max(paid, now) + tonumber(ARGV[1]), now + 600000000)\n"
    "redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', \n"
    "           string.format('%.0f', math.ceil((paid - now) / 1000) + 1000))\n"
    "return paid - now\n";

const struct str shared_scripts[SHARED_SCRIPTS] = {
    [SHARED_TELL] = {tell, sizeof(tell) - 1},
    [SHARED_RECALL] = {recall, sizeof(recall) - 1},
    [SHARED_RATE] = {rate, sizeof(rate) - 1},
};

/* What the server's words contain. A script's refusal has the code in the middle in servers before
 * 7, so it is looked for everywhere; the first line that fits counts. */
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
    {"unknown command", SHARED_FORBIDDEN}, /* renamed, as one did before there were ACLs */
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

enum shared_cause shared_cause_of_refusal(struct str words)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        if (str_ifind(words, str_from(refusals[i].words)) >= 0)
            return refusals[i].cause;
    return SHARED_OTHER;
}

enum shared_cause shared_cause_of_end(enum redis_end end)
{
    static const enum shared_cause causes[] = {
        [REDIS_END_ADDRESS] = SHARED_NO_ADDRESS, [REDIS_END_CONNECT] = SHARED_NO_CONNECTION,
        [REDIS_END_LOST] = SHARED_LOST,          [REDIS_END_SILENT] = SHARED_SILENT,
        [REDIS_END_STRANGE] = SHARED_NO_REDIS,   [REDIS_END_MEMORY] = SHARED_NO_MEMORY,
    };

    return causes[end];
}

/* Follows the server's name. The server's own words are only repeated where nothing else is known,
 * and never after a login: an unknown command is answered with its words, the password too. */
static const char *const causes[SHARED_CAUSES] = {
    [SHARED_FINE] = "is fine",
    [SHARED_NO_ADDRESS] = "has no address",
    [SHARED_NO_CONNECTION] = "cannot be reached",
    [SHARED_LOST] = "closed the connection",
    [SHARED_SILENT] = "gave no answer within a second",
    [SHARED_NO_REDIS] = "is no Redis server: it speaks another protocol",
    [SHARED_NO_MEMORY] = "was not asked: out of memory here",
    [SHARED_FULL] = "takes no more connections (maxclients)",
    [SHARED_GUARDED] = "is in protected mode: it needs a password, or protected-mode no",
    [SHARED_NO_LOGIN] = "asks for a password, and none is set here",
    [SHARED_LOGIN] = "refuses the user or the password",
    [SHARED_FORBIDDEN] = "forbids this user a command, key or channel that is needed (ACL)",
    [SHARED_LOADING] = "is still loading its data",
    [SHARED_BUSY] = "is busy with somebody's script",
    [SHARED_REPLICA] = "is a read-only replica: set the address of the primary",
    [SHARED_CLUSTER] = "is part of a cluster: set the address of a server that is not",
    [SHARED_FOREIGN] = "has other data under the names of our keys: set another prefix",
    [SHARED_SERVER_MEMORY] = "is out of memory (maxmemory)",
    [SHARED_UNSAVED] = "takes nothing, for it cannot save to its disk",
    [SHARED_OTHER] = "refuses",
};

void shared_explain(enum shared_cause cause, const char *address, struct str detail, char *space,
                    size_t size)
{
    int shown = detail.n > 160 ? 160 : (int)detail.n;

    snprintf(space, size, "%s %s%s%.*s", address, causes[cause], shown ? ": " : "", shown,
             shown ? detail.p : "");
    /* A stranger may have written it. */
    for (; size > 0 && *space; space++)
        if ((unsigned char)*space < 0x20 || *space == 0x7f)
            *space = ' ';
}
