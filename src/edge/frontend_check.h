/* Checks request lines and headers.
 *
 * libmicrohttpd 0.9.75 accepts several forms that two HTTP implementations may read differently
 * (request smuggling, RFC 9112 11.2). These functions refuse them with every version of the
 * library. */
#ifndef RETRYD_EDGE_FRONTEND_CHECK_H
#define RETRYD_EDGE_FRONTEND_CHECK_H

#include <stdbool.h>

#include "http/message.h"

#define CHECK_HEADERS_MAX 100

struct string_view_list {
    const char *const *items;
    unsigned count;
};

/* Returns 0, or the status of the refusal with a sentence in `ret_why`. `version` is the text in
 * the request line ("HTTP/1.1"). Sets request->content_length and request->http_1_0. Turns a target
 * in absolute form into origin form, and its host into the Host header. */
unsigned frontend_check(struct http_request *request, const char *version, const char **ret_why);

/* Checks that the headers in memory are as the client sent them: each directly after the one
 * before, with only the colon and blanks between name and value, and CR LF at its end.
 * libmicrohttpd 0.9.75 silently cuts a field at a NUL, adds a folded line to the field's *name*,
 * and accepts a bare LF as the end of a line and the line ": x" as the end of the headers. As it
 * parses in place, each of these leaves a visible gap. Version 1.0 refuses them itself, and moves
 * the text that it parses. */
struct frontend_trail {
    const char *next; /* where the next field must begin */
    bool broken;
};

/* Takes the three parts of the request line as libmicrohttpd has them. The headers follow in
 * order. */
void frontend_trail_begin(struct frontend_trail *t, struct str method, struct str target,
                          const char *version);
void frontend_trail_field(struct frontend_trail *t, struct str name, struct str value);
/* `end` points behind the last byte of the headers. */
bool frontend_trail_ends(const struct frontend_trail *t, const char *end);

/* Contract C30: whether a request is allowed. Its Host must be listed, with any port. Its Origin
 * must be listed too; without an Origin, Sec-Fetch-Site must not name another site. */
bool frontend_may_enter(const struct headers *h, struct string_view_list hosts,
                        struct string_view_list origins, const char **ret_why);

/* Whether the Host is an IP address, which, unlike a name, nobody can point at another machine. */
bool frontend_host_is_address(const struct headers *h);

/* Writes the message for a refused client: its Host or Origin, and the key that could allow it.
 * `origins`: NULL if no origin can be allowed. */
void frontend_explain_refusal(const struct headers *h, struct string_view_list hosts,
                              const struct string_view_list *origins, const char *why, char *ret,
                              size_t size);

#endif
