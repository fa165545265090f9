/* The bodies the real API would send, near enough for the SDKs. */
#ifndef PROVIDER_PRESETS_H
#define PROVIDER_PRESETS_H

#include "body.h"

/* Which preset "auto" stands for. */
enum preset preset_for(const char *path, size_t path_len, bool stream);
/* Writes the body of key->preset, with the options of the response, as pieces. */
void preset_write(struct body *body, const struct answer *a, const struct answer_key *key);
const char *status_reason(int status);

#endif
