/* Which answer a request gets: rules, and how far each has come in its list. */
#ifndef PROVIDER_SCRIPT_H
#define PROVIDER_SCRIPT_H

#include "answer.h"
#include "request.h"

enum accept_how { ACCEPT_RESET, ACCEPT_FIN, ACCEPT_SILENCE };

/* Opaque but for what happens to the next connections. */
struct script {
    cJSON *json; /* owns every string the rules and answers point to */
    struct rule *rules;
    size_t n_rules;
    struct answer fallback;
    bool any_on_head;
    bool any_model;
    bool any_time;   /* a rule asks what time it is */
    double begun_ms; /* of its first request; 0 before it */
    uint64_t accept_left;
    enum accept_how accept_how;
};

/* rule and index are -1 for the default answer; index alone for what is beyond a rule's rate. */
struct pick {
    struct answer *answer;
    int rule;
    int index;
};

/* Every request gets the preset "auto". */
struct script *script_new_auto(void);
/* Returns NULL with a message in error when the text is not a script. */
struct script *script_parse(const char *text, size_t len, char error[ANSWER_ERROR_MAX]);
void script_free(struct script *s);
/* Takes the next response for a whole request. */
struct pick script_pick(struct script *s, const struct request *req);
/* For a request whose head alone is in: takes its response if that one is to be given at once. */
bool script_pick_at_head(struct script *s, const struct request *req, struct pick *ret_pick);

#endif
