/* Looks at a text of PEM blocks (RFC 7468): which blocks it has, and whether they are complete. A
 * TLS library parses their content later. */
#ifndef RETRYD_BASE_PEM_H
#define RETRYD_BASE_PEM_H

#include <stdbool.h>

#include "base/str.h"

struct pem {
    unsigned certificates;
    unsigned keys;  /* private keys of any type */
    bool encrypted; /* one of the keys is encrypted */
    bool broken;    /* a block has no end line, the wrong one, or bytes that are not base64 */
};

/* Counts the blocks of `text`. Text between blocks is a comment. */
struct pem pem_look(struct str text);

#endif
