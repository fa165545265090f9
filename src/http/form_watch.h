/* Keeps the value of one field of a form (multipart/form-data, RFC 7578) while the form passes by
 * in pieces and is never in memory as a whole.
 *
 * The boundary is read from the form's own first line: clients send no preamble (RFC 2046, 5.1.1
 * allows one; such a form is taken for none). A part with a filename is a file and no field. */
#ifndef RETRYD_HTTP_FORM_WATCH_H
#define RETRYD_HTTP_FORM_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define FORM_BOUNDARY_MAX 70 /* RFC 2046, 5.1.1 */
#define FORM_LINE_MAX 256 /* of a part's header that is looked at; what is longer is passed over */

struct form_watch {
    struct str name; /* of the field; not owned */

    /* Its value: the first bytes as they stand, not terminated; where it begins, counted from the
     * form's first byte; and its length, kept or not. A field that stands twice gives its last
     * value. */
    bool found;
    char text[192];
    size_t n;
    uint64_t at, length;

    /* Its own. */
    enum { FORM_START, FORM_BEHIND_BOUNDARY, FORM_HEADER, FORM_CONTENT, FORM_OVER } state;
    uint64_t passed;                  /* bytes before the current piece */
    char mark[4 + FORM_BOUNDARY_MAX]; /* CR LF - - boundary: what ends a part */
    size_t mark_length, mark_matched; /* of it so far */
    char line[FORM_LINE_MAX];         /* so far */
    size_t line_length;               /* of all of it; may pass what fits */
    bool wanted;                      /* the part is the field ... */
    uint64_t begun;                   /* ... and its content began here */
    char kept[192];                   /* ... with these bytes */
    size_t kept_length;
};

/* `name` stays the caller's, and stays. */
void form_watch_init(struct form_watch *w, struct str name);

/* The form's next piece, however it is cut. What is no form, or a broken one, gives nothing more. */
void form_watch_feed(struct form_watch *w, struct str piece);

#endif
