/* Answers for the tests of splice, written from a script, and a client that adds them up. */

#ifndef RETRYD_SPLICE_SCRIPT_H
#define RETRYD_SPLICE_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"
#include "stream/splice.h"

/* What a response says, and how it is cut and spelled. */
struct script {
    enum dialect dialect;
    const char *name; /* in its ids: two responses have two */
    size_t chunk;     /* characters in one event; 0: all */
    int spelling;     /* 0: UTF-8 as it is; 1: with escapes, also where none is needed */
    const char *reasoning, *content, *refusal, *second; /* second: of choice 1 */
    const char *arguments[2];
    const char *finish; /* NULL: the usual one */
};

/* The script that all tests start from. */
extern const struct script script_whole;

/* The texts that its dialect has, by number; NULL behind the last. */
const char **script_text(struct script *script, size_t i);

struct events {
    struct str at[400]; /* whole SSE events, each memory of its own */
    size_t n;
};

void script_write(const struct script *script, struct events *ret_events);
void events_add(struct events *events, const char *data);
void events_free(struct events *events);

/* The data of an event that has one data line. */
struct str event_data(struct str event);

/* A client adds up what it gets as the SDKs do: what is given twice stands twice. */
struct view {
    struct {
        char key[96];
        struct buf text;
    } entries[120];
    size_t n;
    long sequence; /* the next one */
};

void view_event(struct view *view, struct str event);
void view_free(struct view *view);

/* What one channel holds; "" where there is none. */
const char *view_text(const struct view *view, const char *key);

/* All of it as text, to be compared; and what a whole response comes to. The caller frees it. */
char *view_print(const struct view *view);
char *view_print_whole(const struct events *events);

/* The first `n` events go through splice and, as it decides, to the client; the last action. */
#define VIEW_CAP 65536
enum splice_action view_play(struct splice *s, const struct events *events, size_t n,
                             struct view *view);

/* One event of a response and what must come of it. */
struct step {
    const char *data; /* or RESTART */
    const char *want; /* SAME, SKIPPED, DIFFERS, or the data of the rewritten event */
};
#define SAME "="
#define SKIPPED "-"
#define DIFFERS "!"
#define RESTART "restart"

void steps_run(enum dialect dialect, const struct step *steps, size_t n);
#define RUN(dialect, ...)                                          \
    do {                                                           \
        const struct step steps[] = {__VA_ARGS__};                 \
        steps_run(dialect, steps, sizeof steps / sizeof steps[0]); \
    } while (0)

/* Fails the test where the client has anything else than `whole`; the rest is said then. */
void view_check(const struct view *view, const char *whole, const char *what, size_t a, size_t b);

#endif
