/* Keeps the value of one field of a form (multipart/form-data, RFC 7578) while the form passes by
 * in pieces and is never in memory as a whole.
 *
 * The boundary is read from the form's own first line: clients send no preamble (RFC 2046, 5.1.1
 * allows one; such a form is taken for none). A part with a filename is a file and no field. */
#ifndef RETRYD_HTTP_FORM_H
#define RETRYD_HTTP_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define FORM_BOUNDARY_MAX 70 /* RFC 2046, 5.1.1 */
#define FORM_LINE_MAX 256    /* a longer line of a part's header is passed over */

struct form_field {
    struct str name; /* of the field; not owned */

    /* Its value: the first bytes as they stand, not terminated; the offset in the form where it
     * begins; and its length, kept or not. A field that stands twice gives its last value. */
    bool found;
    char text[192];
    size_t n;
    uint64_t at, length;

    /* For its own use. */
    enum { FORM_START, FORM_BOUNDARY, FORM_HEADER, FORM_CONTENT, FORM_OVER } state;
    uint64_t passed;                  /* bytes so far */
    char mark[2 + FORM_BOUNDARY_MAX]; /* "--boundary", which begins the line that ends a part */
    size_t mark_length;
    char line[FORM_LINE_MAX]; /* the beginning of the line in hand */
    uint64_t line_length;     /* all of it so far */
    uint64_t line_at;         /* the offset where it begins */
    bool ends_cr;             /* it ends in CR so far */
    bool behind_crlf;         /* it stands behind CR LF of the same content */
    bool wanted;              /* the part is the field */
    uint64_t begun;           /* the offset where its content begins */
    char kept[192];           /* the first bytes of that */
    uint64_t kept_length;     /* all of it so far */
};

/* `name` must outlive `w`. */
void form_field_init(struct form_field *w, struct str name);

/* Reads the form's next piece, however it is cut. Anything that is no form, or a broken one, gives no value. */
void form_field_feed(struct form_field *w, struct str piece);

#endif
