/* Whole streams as an upstream sends them, and what a client makes of one. */
#ifndef RETRYD_STREAM_TEXT_H
#define RETRYD_STREAM_TEXT_H

#include "fake_world.h"
#include "splice_script.h"

/* A short chat answer, and its events. */
#define CHUNK(delta) "data: {\"id\":\"A\",\"choices\":[{\"index\":0,\"delta\":" delta "}]}\n\n"
#define ROLE CHUNK("{\"role\":\"assistant\"}")
#define TEXT(text) CHUNK("{\"content\":\"" text "\"}")
#define STOP \
    "data: {\"id\":\"A\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define DONE "data: [DONE]\n\n"
#define WHOLE ROLE TEXT("Hello") TEXT(" you") STOP DONE

struct stream_text {
    struct buf bytes;
    size_t ends[400]; /* where each event ends */
    size_t n;
};

/* The response of a script, or these events up to a NULL. */
void stream_text_write(struct stream_text *ret, const struct script *script);
void stream_text_of(struct stream_text *ret, const char *const *events);
void stream_text_free(struct stream_text *t);

/* An attempt that sends these bytes and then breaks, or ends. */
struct fake_attempt stream_attempt(const char *text, enum transport end);

/* Where the last whole event of the first `cut` bytes ends. */
size_t stream_text_whole(const struct stream_text *t, size_t cut);

/* What a client was told. */
struct stream_told {
    char *answer;    /* all events but errors added up (view_print); the caller frees it */
    unsigned events; /* with data */
    unsigned errors; /* events with an `error` */
    unsigned failed; /* response.failed: no part of a response either */
    char code[64];   /* of the last one; "" where it has none */
    bool error_last; /* nothing came behind it */
    unsigned beats;  /* our keep-alive comments */
    size_t rest;     /* bytes of half an event at the end */
};

void stream_read(struct str body, struct stream_told *ret);

/* The path of a request in this dialect. */
const char *stream_path(enum dialect d);

#endif
