/* The meanings of error codes, error types and fixed phrases, as the providers document them. */
#ifndef RETRYD_POLICY_APIERROR_WORDS_H
#define RETRYD_POLICY_APIERROR_WORDS_H

#include "policy/apierror.h"

struct apierror_meaning {
    enum apierror_kind kind; /* OTHER: unknown, or only the status is known */
    unsigned status;         /* the HTTP status that it stands for; 0: the one of its kind */
};

/* Returns the meaning of an error code or type, ignoring case. */
struct apierror_meaning apierror_word(struct str word);

/* Returns the kind of error that a message describes. Only phrases that are as fixed as a code and
 * have one meaning count. */
enum apierror_kind apierror_phrase(struct str message);

/* Whether the message says that the quota is per minute, whatever the error code is. */
bool apierror_is_throttling(struct str message);

#endif
