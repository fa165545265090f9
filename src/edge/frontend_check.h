/* What a request head must look like before retryd has anything to do with it.
 *
 * libmicrohttpd 0.9.75 lets several forms pass that two HTTP implementations may read differently
 * (request smuggling, RFC 9112 11.2). These are refused, on every version. */
#ifndef RETRYD_EDGE_FRONTEND_CHECK_H
#define RETRYD_EDGE_FRONTEND_CHECK_H

#include <stdbool.h>

#include "exchange/message.h"

#define CHECK_HEADERS_MAX 100

struct string_view_list {
    const char *const *items;
    unsigned count;
};

/* 0, or the status to refuse with and one sentence in `ret_why`. `version` is the text of the
 * request line ("HTTP/1.1"). Sets head->content_length and head->http_1_0. */
unsigned frontend_check(struct request_head *head, const char *version, const char **ret_why);

/* Contract C30: the Host must be listed (any port), and so must the Origin of a browser's page, or
 * its Sec-Fetch-Site must not say that it comes from another site. True when it may come in. */
bool frontend_may_enter(const struct headers *h, struct string_view_list hosts,
                        struct string_view_list origins, const char **ret_why);

#endif
