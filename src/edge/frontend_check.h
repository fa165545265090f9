/* What a request head must look like before retryd has anything to do with it.
 *
 * libmicrohttpd 0.9.75 lets several forms pass that two HTTP implementations may read differently
 * (request smuggling, RFC 9112 11.2). These are refused, on every version. */
#ifndef RETRYD_EDGE_FRONTEND_CHECK_H
#define RETRYD_EDGE_FRONTEND_CHECK_H

#include <stdbool.h>

#include "http/message.h"

#define CHECK_HEADERS_MAX 100

struct string_view_list {
    const char *const *items;
    unsigned count;
};

/* 0, or the status to refuse with and one sentence in `ret_why`. `version` is the text of the
 * request line ("HTTP/1.1"). Sets head->content_length and head->http_1_0; a target in absolute form
 * becomes one in origin form, and its host the Host. */
unsigned frontend_check(struct http_request *request, const char *version, const char **ret_why);

/* Whether the fields stand in memory as they stood on the wire: each right behind the one before, with
 * nothing but the colon and blanks amid and CR LF at its end. libmicrohttpd 0.9.75 cuts what it reads at
 * a NUL, adds a folded line to the field's *name*, takes a bare LF for a line's end and the line ": x"
 * for the end of the head, all without a word; but it parses in place, and so each of these leaves a
 * gap that shows. 1.0 refuses them by itself, and moves what it parses. */
struct frontend_trail {
    const char *next; /* where the next field must begin */
    bool broken;
};

/* The three parts of the request line as libmicrohttpd has them; the fields follow in their order. */
void frontend_trail_begin(struct frontend_trail *t, struct str method, struct str target,
                          const char *version);
void frontend_trail_field(struct frontend_trail *t, struct str name, struct str value);
/* `end` is behind the head's last byte. */
bool frontend_trail_ends(const struct frontend_trail *t, const char *end);

/* Contract C30: the Host must be listed (any port), and so must the Origin of a browser's page, or
 * its Sec-Fetch-Site must not say that it comes from another site. True when it may come in. */
bool frontend_may_enter(const struct headers *h, struct string_view_list hosts,
                        struct string_view_list origins, const char **ret_why);

/* What the client is told then: which Host or Origin that was, and the key that could let it in. `origins`:
 * NULL where none could be let in. */
void frontend_tell_refused(const struct headers *h, struct string_view_list hosts,
                           const struct string_view_list *origins, const char *why, char *ret,
                           size_t size);

#endif
