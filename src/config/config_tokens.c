/* Loads the tokens that clients must send (C29), and those for actions on the admin listener. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "config/config_private.h"

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

/* Adds the token on line `n` of the file, "NAME TOKEN" or "TOKEN". Returns false after a problem. */
static bool take_token(struct tokens *t, struct config_reading *f, struct str line, unsigned n)
{
    struct str name, text;
    const char *fault;
    size_t end = 0;
    int rc;

    while (end < line.n && line.p[end] != ' ' && line.p[end] != '\t')
        end++;
    name = (struct str){line.p, end < line.n ? end : 0};
    text = str_trim((struct str){line.p + name.n, line.n - name.n});
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

/* Loads the tokens of a file that has been opened for that. `was`: those of the configuration that
 * is renewed, or NULL. */
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

/* --- a token that no file has ----------------------------------------------------------------- */

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
