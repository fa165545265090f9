/* Adds up the events of a stream as a client would. */
#include <assert.h>
#include <check.h>
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "splice_script.h"

static struct buf *entry(struct view *view, const char *key)
{
    for (size_t i = 0; i < view->n; i++)
        if (strcmp(view->entries[i].key, key) == 0)
            return &view->entries[i].text;
    assert(view->n < sizeof view->entries / sizeof view->entries[0]);
    assert(strlen(key) < sizeof view->entries[0].key);
    strncpy(view->entries[view->n].key, key, sizeof view->entries[0].key - 1);
    buf_init(&view->entries[view->n].text, 1 << 20);
    return &view->entries[view->n++].text;
}

static void append(struct view *view, const char *key, const char *text)
{
    (void)buf_add_str(entry(view, key), str_from(text));
}

/* A name that should not change: where it does, all its values stand there. */
static void set(struct view *view, const char *key, const cJSON *value)
{
    char *text = value && !cJSON_IsNull(value) ? cJSON_PrintUnformatted(value) : NULL;

    if (text) {
        struct buf *b = entry(view, key);
        if (!str_eq(buf_str(b), str_from(text)))
            (void)buf_add_str(b, str_from(text));
    }
    cJSON_free(text);
}

static void walk_delta(struct view *view, const char *path, const cJSON *delta)
{
    const cJSON *member;

    cJSON_ArrayForEach(member, delta)
    {
        char key[160];
        const cJSON *index = cJSON_GetObjectItemCaseSensitive(member, "index");
        if (index)
            (void)snprintf(key, sizeof key, "%s.%d", path, index->valueint);
        else
            (void)snprintf(key, sizeof key, "%s.%s", path, member->string ? member->string : "?");
        if (cJSON_IsString(member) && member->valuestring[0])
            append(view, key, member->valuestring);
        else if (cJSON_IsArray(member) || cJSON_IsObject(member))
            walk_delta(view, key, member);
    }
}

static void view_chunk(struct view *view, const cJSON *tree)
{
    static const char *const names[] = {"id", "created", "model", "system_fingerprint"};
    const cJSON *choice;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        set(view, names[i], cJSON_GetObjectItemCaseSensitive(tree, names[i]));
    cJSON_ArrayForEach(choice, cJSON_GetObjectItemCaseSensitive(tree, "choices"))
    {
        int index = cJSON_GetObjectItemCaseSensitive(choice, "index")->valueint;
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(choice, "text");
        const cJSON *finish = cJSON_GetObjectItemCaseSensitive(choice, "finish_reason");
        char path[32];
        (void)snprintf(path, sizeof path, "%d", index);
        walk_delta(view, path, cJSON_GetObjectItemCaseSensitive(choice, "delta"));
        if (cJSON_IsString(text) && text->valuestring[0])
            append(view, path, text->valuestring);
        (void)snprintf(path, sizeof path, "%d.finish", index);
        if (cJSON_IsString(finish))
            append(view, path, finish->valuestring);
    }
    const cJSON *usage = cJSON_GetObjectItemCaseSensitive(tree, "usage");
    if (cJSON_IsObject(usage)) {
        char *printed = cJSON_PrintUnformatted(usage);
        append(view, "usage", printed);
        cJSON_free(printed);
    }
}

static int index_in(const cJSON *tree, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(tree, key);

    return value ? value->valueint : -1;
}

static void view_item(struct view *view, int output, const cJSON *item)
{
    static const char *const names[] = {"id", "type", "call_id", "name"};
    char key[64];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(key, sizeof key, "%d.%s", output, names[i]);
        set(view, key, cJSON_GetObjectItemCaseSensitive(item, names[i]));
    }
}

static void view_response(struct view *view, const cJSON *response)
{
    const cJSON *item;
    int output = 0;

    if (!response)
        return;
    set(view, "id", cJSON_GetObjectItemCaseSensitive(response, "id"));
    set(view, "created", cJSON_GetObjectItemCaseSensitive(response, "created_at"));
    set(view, "usage", cJSON_GetObjectItemCaseSensitive(response, "usage"));
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(response, "output"))
        view_item(view, output++, item);
}

static void view_typed(struct view *view, const cJSON *tree, const char *type)
{
    const cJSON *delta = cJSON_GetObjectItemCaseSensitive(tree, "delta"), *member;
    int output = index_in(tree, "output_index");
    char key[160];

    ck_assert_int_eq(index_in(tree, "sequence_number"), view->sequence);
    view->sequence++;
    (void)snprintf(key, sizeof key, "%s %d %d %d", type, output, index_in(tree, "content_index"),
                   index_in(tree, "summary_index"));
    append(view, key, delta ? delta->valuestring : "x");
    cJSON_ArrayForEach(member, tree)
    {
        if (member != delta && cJSON_IsString(member) && strcmp(member->string, "item_id") != 0 &&
            strcmp(member->string, "type") != 0)
            set(view, key, member);
    }
    const cJSON *item_id = cJSON_GetObjectItemCaseSensitive(tree, "item_id");
    (void)snprintf(key, sizeof key, "%d.id", output);
    set(view, key, item_id);
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, "item");
    if (item)
        view_item(view, output, item);
    view_response(view, cJSON_GetObjectItemCaseSensitive(tree, "response"));
}

void view_event(struct view *view, struct str event)
{
    struct str data = event_data(event);

    if (str_eq(data, STR("[DONE]"))) {
        append(view, "[DONE]", "x");
        return;
    }
    cJSON *tree = cJSON_ParseWithLength(data.p, data.n);
    ck_assert_msg(tree != NULL, "no JSON: %.*s", (int)event.n, event.p);
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(tree, "type");
    if (type)
        view_typed(view, tree, type->valuestring);
    else
        view_chunk(view, tree);
    cJSON_Delete(tree);
}

void view_free(struct view *view)
{
    for (size_t i = 0; i < view->n; i++)
        buf_deinit(&view->entries[i].text);
    *view = (struct view){.n = 0};
}

const char *view_text(const struct view *view, const char *key)
{
    static char text[4096];

    for (size_t i = 0; i < view->n; i++) {
        if (strcmp(view->entries[i].key, key) != 0)
            continue;
        const struct buf *b = &view->entries[i].text;
        (void)snprintf(text, sizeof text, "%.*s", (int)b->len, b->len ? b->p : "");
        return text;
    }
    return "";
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Which of two responses an id is from depends on where the first one broke; that it is one id
 * shows in its having one value. */
static void hide_origin(char *text)
{
    static const char *const ids[] = {"call_", "rs_", "msg_", "fc_"};

    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        for (char *p = strstr(text, ids[i]); p; p = strstr(p + 1, ids[i]))
            if (p[strlen(ids[i])] >= 'A' && p[strlen(ids[i])] <= 'D')
                p[strlen(ids[i])] = '*';
}

/* Sorted: which of two choices comes first is not told apart. */
char *view_print(const struct view *view)
{
    const char *keys[sizeof view->entries / sizeof view->entries[0]];
    struct buf b;
    size_t len;

    for (size_t i = 0; i < view->n; i++)
        keys[i] = view->entries[i].key;
    qsort(keys, view->n, sizeof keys[0], by_key);
    buf_init(&b, 1 << 20);
    for (size_t i = 0; i < view->n; i++)
        (void)buf_printf(&b, "%s = %s\n", keys[i], view_text(view, keys[i]));
    (void)buf_addc(&b, '\0');
    hide_origin(b.p);
    return buf_steal(&b, &len);
}

char *view_print_whole(const struct events *events)
{
    struct view view = {.n = 0};

    for (size_t i = 0; i < events->n; i++)
        view_event(&view, events->at[i]);
    char *text = view_print(&view);
    view_free(&view);
    return text;
}

enum splice_action view_play(struct splice *s, const struct events *events, size_t n,
                             struct view *view)
{
    enum splice_action action = SPLICE_PASS;
    struct buf out;

    buf_init(&out, VIEW_CAP);
    for (size_t i = 0; i < n && action < SPLICE_DIFFERS; i++) {
        struct str event = events->at[i];
        action = splice_event(s, event, event_data(event), &out);
        if (action == SPLICE_PASS)
            view_event(view, event);
        else if (action == SPLICE_REWRITTEN)
            view_event(view, buf_str(&out));
    }
    buf_deinit(&out);
    return action;
}

void view_check(const struct view *view, const char *whole, const char *what, size_t a, size_t b)
{
    char *got = view_print(view);

    if (strcmp(got, whole) != 0)
        ck_abort_msg("%s %zu %zu:\n%s\ninstead of\n%s", what, a, b, got, whole);
    free(got);
}

/* --- single events ---------------------------------------------------------------------------- */

static void take_step(struct splice *s, const struct step *step, struct buf *out)
{
    char event[2000], wanted[2000];

    int n = snprintf(event, sizeof event, "id: 7\r\ndata: %s\n\n", step->data);
    ck_assert_int_lt(n, sizeof event);
    struct str data = {event + 13, (size_t)n - 15};
    enum splice_action action = splice_event(s, (struct str){event, (size_t)n}, data, out);
    enum splice_action want = strcmp(step->want, SAME) == 0      ? SPLICE_PASS
                              : strcmp(step->want, SKIPPED) == 0 ? SPLICE_SKIP
                              : strcmp(step->want, DIFFERS) == 0 ? SPLICE_DIFFERS
                                                                 : SPLICE_REWRITTEN;
    ck_assert_msg(action == want, "%s: %d instead of %d: %.*s", step->data, action, want,
                  action == SPLICE_REWRITTEN ? (int)out->len : 0, out->p);
    if (action != SPLICE_REWRITTEN)
        return;
    (void)snprintf(wanted, sizeof wanted, "id: 7\r\ndata: %s\n\n", step->want);
    ck_assert_msg(str_eq(buf_str(out), str_from(wanted)), "%.*s instead of %s", (int)out->len,
                  out->p, wanted);
}

void steps_run(enum dialect dialect, const struct step *steps, size_t n)
{
    struct splice *s = splice_new(dialect, 10000);
    struct buf out;

    buf_init(&out, 10000);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(steps[i].data, RESTART) == 0) {
            ck_assert(splice_possible(s));
            splice_restart(s);
        } else {
            take_step(s, &steps[i], &out);
        }
    }
    buf_deinit(&out);
    splice_free(s);
}
