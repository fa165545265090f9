/* Takes checked values out of a response's JSON. */
#ifndef PROVIDER_FIELDS_H
#define PROVIDER_FIELDS_H

#include "answer.h"

enum { FIELD_MS_MAX = 24 * 3600 * 1000 };

/* One parse: where the response goes, and the first complaint. */
struct parse {
    struct answer *a;
    char *error;
};

/* Writes the complaint about a key; always false. */
bool parse_complain(struct parse *p, const char *key, const char *what);
/* Each returns false with a complaint when v is not of its kind; *ret then stays as it was. */
bool get_number(struct parse *p, const cJSON *v, double max, double *ret);
bool get_u32(struct parse *p, const cJSON *v, uint32_t max, uint32_t *ret);
bool get_bool(struct parse *p, const cJSON *v, bool *ret);
bool get_text(struct parse *p, const cJSON *v, const char **ret);
/* {"name": "value"} or [["name", "value"], ...]; a null value suppresses a header of our own. */
bool get_fields(struct parse *p, const cJSON *v, const cJSON **ret);

#endif
