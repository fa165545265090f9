/* Compiles "wire": a response written byte by byte. */
#ifndef PROVIDER_WIRE_H
#define PROVIDER_WIRE_H

#include "program.h"

#include <cjson/cJSON.h>

/* Returns a program the caller unrefs, or NULL with a message of at most 256 bytes in error.
 * Each send is a write of its own. */
struct program *wire_compile(const cJSON *list, char *error);

#endif
