/* A look at a text of PEM blocks (RFC 7468): what it holds, and whether it is whole. What the blocks
 * themselves say is for a TLS library to read. */
#ifndef RETRYD_BASE_PEM_H
#define RETRYD_BASE_PEM_H

#include <stdbool.h>

#include "base/str.h"

struct pem {
    unsigned certificates;
    unsigned keys;  /* private ones, of any kind */
    bool encrypted; /* one of the keys is */
    bool broken;    /* a block has no end, another's end, or bytes that are no base64 */
};

/* Text between blocks is a comment. */
struct pem pem_look(struct str text);

#endif
