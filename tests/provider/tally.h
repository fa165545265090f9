/* How many requests each rule of the script has got, and how many of them at a time. */
#ifndef PROVIDER_TALLY_H
#define PROVIDER_TALLY_H

#include "buf.h"

/* A request is in flight from when it has been read (or is answered at its head) until its response
 * has come to its end, or its peer has left. */
struct tally_count {
    uint64_t requests;
    uint64_t in_flight;
    uint64_t most; /* in flight at a time */
};

struct tally {
    struct tally_count all;
    struct tally_count fallback; /* the script's default */
    struct tally_count *rules;
    size_t n_rules;
    uint64_t script; /* counts the scripts: requests of an older one leave only `all` */
};

/* Where a request was counted; zeroed while it is not in flight. */
struct tally_mark {
    bool in;
    int rule;
    uint64_t script;
};

/* A new script with so many rules: their counts begin anew, that of all goes on. */
void tally_begin(struct tally *tally, size_t n_rules);
/* Forgets what was; what is in flight stays. */
void tally_clear(struct tally *tally);
void tally_deinit(struct tally *tally);
/* A request gets a response of this rule, -1 for the default. */
struct tally_mark tally_enter(struct tally *tally, int rule);
/* It is over; doing that again is harmless. */
void tally_leave(struct tally *tally, struct tally_mark *mark);
/* ,"in_flight":..,"max_in_flight":..,"rules":[..],"default":{..} */
void tally_json(const struct tally *tally, struct buf *out);

#endif
