/* Turns a response into the program that sends it. */
#ifndef PROVIDER_COMPOSE_H
#define PROVIDER_COMPOSE_H

#include "answer.h"

/* The caller unrefs the program. */
struct program *compose(const struct answer *a, const struct answer_key *key);

#endif
