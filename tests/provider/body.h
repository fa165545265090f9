/* The body of a response in the pieces it is to be sent in. */
#ifndef PROVIDER_BODY_H
#define PROVIDER_BODY_H

#include "answer.h"

struct piece {
    bool pattern; /* off is a position of the pattern, else of body.bytes */
    bool event;   /* a whole server-sent event */
    bool delta;   /* one with content */
    bool open;    /* does not end its chunk: the next piece goes on with it */
    bool inside;  /* goes on with the chunk of the piece before */
    uint32_t delay_ms;
    uint64_t off;
    uint64_t len;
    uint64_t chunk; /* the size its chunk declares */
};

struct body {
    struct buf bytes;
    struct piece *pieces;
    size_t n;
    size_t cap;
    const char *type; /* content-type */
    bool stream;
};

void body_deinit(struct body *body);
/* Opens a piece: what is added to bytes from now on, up to body_end, is its content. */
struct piece *body_begin(struct body *body);
void body_end(struct body *body);
void body_pattern(struct body *body, uint64_t len);
uint64_t body_total(const struct body *body);
/* Writes zeros over the marks, where the bytes will be cut, paced or compressed. */
void body_unmark(struct body *body);
/* Compresses it piece by piece, each flushed so that it can be read when it arrives. */
void body_encode(struct body *body, enum encoding encoding);
/* The index of the first piece after the limit; splits a piece where it must. */
size_t body_split(struct body *body, const struct limit *limit);
/* Cuts it into pieces of at most bytes, the later ones delayed by ms. */
void body_pace(struct body *body, uint32_t bytes, uint32_t ms);

#endif
