/* Plays a program on a link: writes, waits, and says when it comes to the end. */
#ifndef PROVIDER_PLAYER_H
#define PROVIDER_PLAYER_H

#include "link.h"
#include "program.h"
#include "record.h"

enum play {
    PLAY_WAIT,  /* for the link or the timer */
    PLAY_END,   /* the response is complete; play on for what follows it */
    PLAY_STOP,  /* nothing follows */
    PLAY_CLOSE, /* the connection is to end, in one of these ways */
    PLAY_FIN,
    PLAY_RESET,
    PLAY_GONE /* the peer is not there any more */
};

/* The owner calls player_play again when the link has drained, the timer has fired, or *released
 * has become true. */
struct player {
    struct link *link;
    uv_timer_t *timer;
    uv_timer_cb on_timer;
    const bool *released;  /* what is held may go */
    struct record *record; /* or NULL; not owned */
    struct program *program;
    size_t op;
    uint64_t done; /* bytes of the current op, or 1 once its delay has begun */
    uint64_t loops[PROGRAM_LOOPS_MAX + 1];
    unsigned depth;
    char number[NUMBER_LEN];
};

/* Takes over a reference to the program. serial fills the number marks. */
void player_load(struct player *p, struct program *program, uint64_t serial);
void player_unload(struct player *p);
enum play player_play(struct player *p);

#endif
