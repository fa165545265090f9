/* Intrusive pairing heaps. The node is a member of the object, and the smallest node is `first`.
 *
 * Nothing is allocated. Adding a node takes constant time, removing one of n takes O(log n)
 * (amortized). Fredman, Sedgewick, Sleator, Tarjan: The pairing heap (1986). */
#ifndef RETRYD_BASE_HEAP_H
#define RETRYD_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct heap_node {
    struct heap_node *child, *next; /* the first child; the next sibling */
    struct heap_node *before;       /* the previous sibling, or the parent of a first child */
};

struct heap {
    struct heap_node *first; /* NULL if the heap is empty */
    bool (*less)(struct heap_node *a, struct heap_node *b);
};

static inline void heap_init(struct heap *h, bool (*less)(struct heap_node *a, struct heap_node *b))
{
    *h = (struct heap){NULL, less};
}

/* Adds `node`, which must not be in a heap. The values that `less` compares must not change while
 * the node is in the heap. */
void heap_add(struct heap *h, struct heap_node *node);
/* Removes `node`, which must be in this heap. */
void heap_remove(struct heap *h, struct heap_node *node);

#endif
