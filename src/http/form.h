/* Keeps the value of one field of a form (multipart/form-data, RFC 7578) that passes by in pieces
 * and is never in memory as a whole.
 *
 * The boundary is read from the form's own first line: clients send no preamble (RFC 2046, 5.1.1
 * allows one; retryd does not recognize such a form). A part with a filename is a file and no
 * field. */
#ifndef RETRYD_HTTP_FORM_H
#define RETRYD_HTTP_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define FORM_BOUNDARY_MAX 70 /* RFC 2046, 5.1.1 */
#define FORM_LINE_MAX 256    /* a longer line of a part's headers is ignored */

struct form_field {
    struct str name; /* of the field; not owned */

    /* Its value: the first bytes, raw and not terminated; its offset in the form; and its length,
     * kept or not. If the field occurs twice, the last value counts. */
    bool found;
    char text[192];
    size_t n;
    uint64_t at, length;

    /* Private to form.c. */
    enum { FORM_START, FORM_BOUNDARY, FORM_HEADER, FORM_CONTENT, FORM_OVER } state;
    uint64_t passed;                  /* bytes so far */
    char mark[2 + FORM_BOUNDARY_MAX]; /* "--boundary", which begins the line that ends a part */
    size_t mark_length;
    char line[FORM_LINE_MAX]; /* the beginning of the current line */
    uint64_t line_length;     /* of the line so far */
    uint64_t line_at;         /* the offset of the line */
    bool ends_cr;             /* the line so far ends in CR */
    bool behind_crlf;         /* it follows a CR LF of the same content */
    bool wanted;              /* the part is the field */
    uint64_t begun;           /* the offset of the part's content */
    char kept[192];           /* the first bytes of the content */
    uint64_t kept_length;     /* the length of the content so far */
};

/* Initializes a search for the field `name`, which must outlive `w`. */
void form_field_init(struct form_field *w, struct str name);

/* Reads the form's next piece, however it is cut. Text that is no form, or a broken one, gives no
 * value. */
void form_field_feed(struct form_field *w, struct str piece);

#endif
