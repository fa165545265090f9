/* What the words of errors mean: codes, types and fixed phrases, as the providers document them. */
#ifndef RETRYD_POLICY_APIERROR_WORDS_H
#define RETRYD_POLICY_APIERROR_WORDS_H

#include "policy/apierror.h"

/* What a code, a type or a phrase means. */
struct apierror_meaning {
    enum apierror_kind kind; /* OTHER: unknown, or known by its status alone */
    unsigned status;         /* the HTTP status that it stands for; 0: that of its kind */
};

/* Of a code or type, in any case. */
struct apierror_meaning apierror_word(struct str word);

/* Of a message. Only phrases that are as fixed as a code, and that mean one thing. */
enum apierror_kind apierror_phrase(struct str message);

/* Whether a message says of a quota that it is one of each minute, whatever the code beside it. */
bool apierror_is_throttling(struct str message);

#endif
