/* Intrusive pairing heaps: the node lives in the thing that is put there; the first comes out first.
 *
 * Nothing is allocated. Adding takes constant time, removing any of n the logarithm of n, amortised.
 * Fredman, Sedgewick, Sleator, Tarjan: The pairing heap (1986). */
#ifndef RETRYD_BASE_HEAP_H
#define RETRYD_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct heap_node {
    struct heap_node *child, *next; /* its first child; the next of its siblings */
    struct heap_node *before;       /* the one before it among them, or its parent */
};

struct heap {
    struct heap_node *first; /* NULL: it is empty */
    bool (*less)(struct heap_node *a, struct heap_node *b);
};

static inline void heap_init(struct heap *h, bool (*less)(struct heap_node *a, struct heap_node *b))
{
    *h = (struct heap){NULL, less};
}

/* Puts `node`, which is in no heap, into this one. What `less` looks at stays as it is while it is there. */
void heap_add(struct heap *h, struct heap_node *node);
/* Takes `node` out of this heap, which it is in. */
void heap_remove(struct heap *h, struct heap_node *node);

#endif
