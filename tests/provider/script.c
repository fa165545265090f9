/* Which answer a request gets: rules, and how far each has come in its list. */
#include "script.h"
#include "when.h"

#include <assert.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };
enum then { THEN_REPEAT, THEN_NEXT, THEN_CYCLE };

/* How far one value of the key header has come. */
struct position {
    struct position *next;
    uint64_t taken;
    char value[];
};

struct rule {
    const char *method;
    const char *path;
    const char *model;
    const cJSON *header;
    const char *key;
    enum then then;
    struct answer *answers;
    size_t n_answers;
    struct between between;
    struct rate rate;
    uint64_t taken;
    struct position **buckets; /* only with a key */
};

/* ---- reading ---- */

static bool complain(char *error, const char *what)
{
    snprintf(error, ANSWER_ERROR_MAX, "script: %s", what);
    return false;
}

static bool parse_match(struct rule *r, const cJSON *match, char *error)
{
    const cJSON *v;
    const cJSON *h;

    assert(r);
    cJSON_ArrayForEach(v, match)
    {
        const char **field = strcmp(v->string, "method") == 0  ? &r->method
                             : strcmp(v->string, "path") == 0  ? &r->path
                             : strcmp(v->string, "model") == 0 ? &r->model
                                                               : NULL;
        if (field != NULL && cJSON_IsString(v)) {
            *field = v->valuestring;
        } else if (strcmp(v->string, "header") == 0 && cJSON_IsObject(v)) {
            r->header = v;
        } else {
            return complain(error, "match has method, path, model (globs) and header (an object)");
        }
    }
    cJSON_ArrayForEach(h, r->header)
    {
        if (!cJSON_IsString(h)) {
            return complain(error, "a header to match needs a glob");
        }
    }
    return cJSON_IsObject(match) || complain(error, "match must be an object");
}

static bool parse_answers(struct rule *r, const cJSON *list, char *error)
{
    const cJSON *item;

    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) == 0) {
        return complain(error, "answers must be a list of at least one answer");
    }
    r->answers = must_alloc((size_t)cJSON_GetArraySize(list) * sizeof(*r->answers));
    cJSON_ArrayForEach(item, list)
    {
        if (answer_parse(&r->answers[r->n_answers], item, error) < 0) {
            return false;
        }
        r->n_answers++;
    }
    return true;
}

static bool parse_then(struct rule *r, const cJSON *v, char *error)
{
    static const char *const names[] = {"repeat", "next", "cycle"};

    for (size_t i = 0; cJSON_IsString(v) && i < 3; i++) {
        if (strcmp(v->valuestring, names[i]) == 0) {
            r->then = (enum then)i;
            return true;
        }
    }
    return complain(error, "then must be repeat, next or cycle");
}

static bool parse_rule(struct rule *r, const cJSON *json, char *error)
{
    const cJSON *v;
    bool ok = cJSON_IsObject(json) || complain(error, "a rule must be an object");

    cJSON_ArrayForEach(v, json)
    {
        if (!ok) {
            break;
        }
        if (v->string == NULL) {
            ok = complain(error, "a rule must be an object");
        } else if (strcmp(v->string, "match") == 0) {
            ok = parse_match(r, v, error);
        } else if (strcmp(v->string, "answers") == 0) {
            ok = r->answers == NULL && parse_answers(r, v, error);
        } else if (strcmp(v->string, "then") == 0) {
            ok = parse_then(r, v, error);
        } else if (strcmp(v->string, "key") == 0 && cJSON_IsString(v)) {
            r->key = v->valuestring;
            r->buckets = must_alloc(BUCKETS * sizeof(struct position *));
        } else if (strcmp(v->string, "between") == 0) {
            ok = between_parse(&r->between, v, error);
        } else if (strcmp(v->string, "rate") == 0 && r->rate.per_second == 0) {
            ok = rate_parse(&r->rate, v, error);
        } else {
            ok = complain(error, "a rule has match, between, rate, key, answers and then");
        }
    }
    return ok && (r->n_answers > 0 || complain(error, "a rule needs answers"));
}

static bool parse_rules(struct script *s, const cJSON *list, char *error)
{
    const cJSON *item;

    if (!cJSON_IsArray(list)) {
        return complain(error, "rules must be a list");
    }
    s->rules = must_alloc((size_t)cJSON_GetArraySize(list) * sizeof(*s->rules));
    cJSON_ArrayForEach(item, list)
    {
        struct rule *r = &s->rules[s->n_rules++];

        if (!parse_rule(r, item, error)) {
            return false;
        }
        s->any_model = s->any_model || r->model != NULL;
        s->any_time = s->any_time || r->between.set || r->rate.per_second > 0;
        s->any_on_head = s->any_on_head || (r->rate.per_second > 0 && r->rate.otherwise.on_head);
        for (size_t i = 0; i < r->n_answers; i++) {
            s->any_on_head = s->any_on_head || r->answers[i].on_head;
        }
    }
    return true;
}

static bool parse_on_accept(struct script *s, const cJSON *v, char *error)
{
    static const char *const names[] = {"reset", "fin", "silence"};
    const cJSON *count = cJSON_GetObjectItemCaseSensitive(v, "count");
    const cJSON *how = cJSON_GetObjectItemCaseSensitive(v, "how");

    if (cJSON_IsNumber(count) && count->valuedouble >= 0 && count->valuedouble < 1e12) {
        s->accept_left = (uint64_t)count->valuedouble;
        for (size_t i = 0; cJSON_IsString(how) && i < 3; i++) {
            if (strcmp(how->valuestring, names[i]) == 0) {
                s->accept_how = (enum accept_how)i;
                return true;
            }
        }
    }
    return complain(error, "on_accept is {\"count\":N,\"how\":\"reset|fin|silence\"}");
}

static bool parse_default(struct script *s, const cJSON *v, char *error)
{
    answer_deinit(&s->fallback);
    if (answer_parse(&s->fallback, v, error) < 0) {
        return false;
    }
    s->any_on_head = s->any_on_head || s->fallback.on_head;
    return true;
}

static bool parse_script(struct script *s, char *error)
{
    const cJSON *v;

    if (!cJSON_IsObject(s->json)) {
        return complain(error, "must be a JSON object");
    }
    cJSON_ArrayForEach(v, s->json)
    {
        bool ok;

        if (strcmp(v->string, "rules") == 0 && s->rules == NULL) {
            ok = parse_rules(s, v, error);
        } else if (strcmp(v->string, "default") == 0) {
            ok = parse_default(s, v, error);
        } else if (strcmp(v->string, "on_accept") == 0) {
            ok = parse_on_accept(s, v, error);
        } else {
            ok = complain(error, "has rules, default and on_accept, each once");
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

struct script *script_new_auto(void)
{
    struct script *s = must_alloc(sizeof(*s));

    answer_init_auto(&s->fallback);
    return s;
}

struct script *script_parse(const char *text, size_t len, char error[ANSWER_ERROR_MAX])
{
    struct script *s = script_new_auto();

    s->json = cJSON_ParseWithLength(text, len);
    if (!parse_script(s, error)) {
        script_free(s);
        return NULL;
    }
    return s;
}

static void rule_deinit(struct rule *r)
{
    for (size_t i = 0; i < r->n_answers; i++) {
        answer_deinit(&r->answers[i]);
    }
    for (size_t i = 0; r->buckets != NULL && i < BUCKETS; i++) {
        while (r->buckets[i] != NULL) {
            struct position *gone = r->buckets[i];

            r->buckets[i] = gone->next;
            free(gone);
        }
    }
    free(r->buckets);
    free(r->answers);
    rate_deinit(&r->rate);
}

void script_free(struct script *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->n_rules; i++) {
        rule_deinit(&s->rules[i]);
    }
    free(s->rules);
    answer_deinit(&s->fallback);
    cJSON_Delete(s->json);
    free(s);
}

/* ---- matching ---- */

static bool glob(const char *pattern, const char *text)
{
    return pattern == NULL || fnmatch(pattern, text, 0) == 0;
}

static bool match_path(const char *pattern, const struct request *req)
{
    char path[4096];

    if (pattern == NULL) {
        return true;
    }
    if (req->path_len >= sizeof(path)) {
        return false;
    }
    memcpy(path, req->target, req->path_len);
    path[req->path_len] = '\0';
    return fnmatch(pattern, path, 0) == 0;
}

/* All but the model, which is in the body. */
static bool match_head(const struct rule *r, const struct request *req, double age_ms)
{
    const cJSON *h;

    if (!between_holds(&r->between, age_ms) || !glob(r->method, req->method) ||
        !match_path(r->path, req)) {
        return false;
    }
    cJSON_ArrayForEach(h, r->header)
    {
        const char *value = request_header(req, h->string);

        if (value == NULL || fnmatch(h->valuestring, value, 0) != 0) {
            return false;
        }
    }
    return true;
}

static uint64_t *keyed_counter(struct rule *r, const char *value)
{
    struct position **slot;
    struct position *p;
    uint32_t hash = 2166136261U;

    for (const char *c = value; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 16777619U;
    }
    slot = &r->buckets[hash % BUCKETS];
    for (p = *slot; p != NULL; p = p->next) {
        if (strcmp(p->value, value) == 0) {
            return &p->taken;
        }
    }
    p = must_alloc(sizeof(*p) + strlen(value) + 1);
    memcpy(p->value, value, strlen(value) + 1);
    p->next = *slot;
    *slot = p;
    return &p->taken;
}

static uint64_t *counter(struct rule *r, const struct request *req)
{
    const char *value = r->key != NULL ? request_header(req, r->key) : NULL;

    return r->key != NULL ? keyed_counter(r, value != NULL ? value : "") : &r->taken;
}

/* The place in the list of the rule's next response, or -1 when it falls through. */
static int next_index(const struct rule *r, uint64_t taken)
{
    if (taken < r->n_answers) {
        return (int)taken;
    }
    if (r->then == THEN_NEXT) {
        return -1;
    }
    return (int)(r->then == THEN_CYCLE ? taken % r->n_answers : r->n_answers - 1);
}

/* What a rule that matches would answer now. answer is NULL where it falls through. */
struct offer {
    struct answer *answer;
    uint64_t *taken; /* NULL: it is beyond the rate, and takes nothing from the list */
    int index;
};

static struct offer make_offer(struct rule *r, const struct request *req, double now_ms)
{
    uint64_t *taken = counter(r, req);
    int index = next_index(r, *taken);

    if (index < 0) {
        return (struct offer){NULL, NULL, -1};
    }
    if (r->rate.per_second > 0 && !rate_has_room(&r->rate, now_ms)) {
        return (struct offer){&r->rate.otherwise, NULL, -1};
    }
    return (struct offer){&r->answers[index], taken, index};
}

static void take(struct rule *r, const struct offer *offer, double now_ms)
{
    if (offer->taken != NULL) {
        (*offer->taken)++;
        if (r->rate.per_second > 0) {
            rate_take(&r->rate, now_ms);
        }
    }
}

/* Now, and the script's begin with its first request; a script without times asks no clock. */
static double look_at_clock(struct script *s)
{
    double now = s->any_time ? now_ms() : 0;

    s->begun_ms = s->begun_ms > 0 ? s->begun_ms : now;
    return now;
}

struct pick script_pick(struct script *s, const struct request *req)
{
    double now = look_at_clock(s);

    for (size_t i = 0; i < s->n_rules; i++) {
        struct rule *r = &s->rules[i];

        if (match_head(r, req, now - s->begun_ms) && glob(r->model, req->peek.model)) {
            struct offer offer = make_offer(r, req, now);

            if (offer.answer != NULL) {
                take(r, &offer, now);
                return (struct pick){offer.answer, (int)i, offer.index};
            }
        }
    }
    return (struct pick){&s->fallback, -1, -1};
}

bool script_pick_at_head(struct script *s, const struct request *req, struct pick *ret_pick)
{
    double now = look_at_clock(s);

    for (size_t i = 0; s->any_on_head && i < s->n_rules; i++) {
        struct rule *r = &s->rules[i];
        struct offer offer;

        if (!match_head(r, req, now - s->begun_ms)) {
            continue;
        }
        if (r->model != NULL) {
            return false; /* only the body can tell */
        }
        offer = make_offer(r, req, now);
        if (offer.answer == NULL) {
            continue;
        }
        if (!offer.answer->on_head) {
            return false;
        }
        take(r, &offer, now);
        *ret_pick = (struct pick){offer.answer, (int)i, offer.index};
        return true;
    }
    *ret_pick = (struct pick){&s->fallback, -1, -1};
    return s->fallback.on_head;
}
