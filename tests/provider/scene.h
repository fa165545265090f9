/* What the bodies of all presets are made of: a text, cut into deltas, and events. */
#ifndef PROVIDER_SCENE_H
#define PROVIDER_SCENE_H

#include "body.h"

/* What all the parts of one body need to know. */
struct scene {
    struct body *body;
    struct buf *out; /* body->bytes */
    const struct answer *a;
    const char *model; /* the text of a JSON string */
    struct buf text;   /* the whole content */
    size_t *cuts;      /* where each of the n deltas ends in text */
    uint32_t n;
    uint32_t sequence;
    long long created;
};

/* Fills text and cuts by the options of the response; the caller frees both. */
void scene_init_text(struct scene *s);
/* The i-th piece of the content, or all of it, as a JSON string. */
void scene_delta(struct scene *s, uint32_t i);
void scene_text(struct scene *s);
/* One server-sent event: what is written between the two. delta: the i-th with content. */
void scene_begin(struct scene *s, bool delta, uint32_t i);
void scene_end(struct scene *s);
void scene_usage(struct scene *s, const char *in, const char *out);

/* The Responses API: in one object, and as a stream. */
void responses_whole(struct scene *s);
void responses_stream(struct scene *s);

/* Gemini's API: in one object, and as a stream. */
void gemini_whole(struct scene *s);
void gemini_stream(struct scene *s);

/* Anthropic's messages: in one object, and as a stream. */
void messages_whole(struct scene *s);
void messages_stream(struct scene *s);

#endif
