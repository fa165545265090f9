/* cJSON as a judge of validity, and where its grammar is another than ours.
 *
 * cJSON takes more: any control character, as white space and in strings; numbers as strtod reads
 * them ("01", "1."); \u with digits that are none; bytes behind a NUL; 1000 levels. And less:
 * no lone surrogate escapes, no number of 64 characters and more, no NaN and Infinity. */
#ifndef RETRYD_JSON_ORACLE_H
#define RETRYD_JSON_ORACLE_H

#include <stdbool.h>

#include "base/str.h"

/* Whether `text` is free of all that, so that both have to agree. */
bool json_oracle_comparable(struct str text);

/* What cJSON says. */
bool json_oracle_valid(struct str text);

/* The text as cJSON writes it, and once more with white space and the members of every object in reverse
 * order. Both are to be freed. False: cJSON cannot read it, and nothing is to be freed. */
bool json_oracle_turned(struct str text, char **ret_straight, char **ret_turned);

#endif
