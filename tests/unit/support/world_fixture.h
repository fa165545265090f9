/* The one fake world of a test (fake_world.h, which knows nothing of check), and what all such
 * tests expect of it. */
#ifndef RETRYD_WORLD_FIXTURE_H
#define RETRYD_WORLD_FIXTURE_H

#include "fake_world.h"

extern struct fake_world w;

/* A fixture: fake_init, fake_deinit; no breach of contract was seen. */
void world_set_up(void);
void world_tear_down(void);
/* Another one after the first, in the same test. */
void world_again(void);

/* Its attempts follow these `n`. */
void world_follow(const struct fake_attempt *script, unsigned n);

/* So many upstreams instead of the one, "a" to "d", without keys; all attempts follow one
 * script. */
void world_upstreams(unsigned n);

/* Once begun: to the end, which comes, and comes once. */
void world_finish(void);

/* The client has got exactly that, so far. */
bool world_body_is(const char *text);
/* ... and it was a good response, to its end. */
void world_answered(const char *text);
/* It ended so; the client has `text` and behind it one error event of that code, the last. */
void world_told(const char *text, const char *code, enum exchange_end end);

#endif
