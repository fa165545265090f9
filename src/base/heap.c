/* Pairing heaps: a tree in which each node is the smallest of its subtree. */
#include "base/heap.h"

/* Joins two trees. The larger root becomes the first child of the other one. */
static struct heap_node *meld(const struct heap *h, struct heap_node *a, struct heap_node *b)
{
    struct heap_node *root, *under;

    if (!a || !b)
        return a ? a : b;
    root = h->less(b, a) ? b : a;
    under = root == a ? b : a;
    under->next = root->child;
    if (under->next)
        under->next->before = under;
    under->before = root;
    root->child = under;
    root->next = root->before = NULL;
    return root;
}

/* Joins a list of siblings into one tree: first in pairs from left to right, then the pairs from
 * right to left. */
static struct heap_node *meld_all(const struct heap *h, struct heap_node *list)
{
    struct heap_node *pairs = NULL, *root = NULL;

    while (list) {
        struct heap_node *a = list, *b = a->next, *pair;

        list = b ? b->next : NULL;
        a->next = a->before = NULL;
        if (b)
            b->next = b->before = NULL;
        pair = meld(h, a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs) {
        struct heap_node *pair = pairs;

        pairs = pair->next;
        pair->next = NULL;
        root = meld(h, root, pair);
    }
    return root;
}

void heap_add(struct heap *h, struct heap_node *node)
{
    *node = (struct heap_node){NULL, NULL, NULL};
    h->first = meld(h, h->first, node);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    struct heap_node *rest = meld_all(h, node->child);

    if (node == h->first) {
        h->first = rest;
        return;
    }
    if (node->before->child == node)
        node->before->child = node->next;
    else
        node->before->next = node->next;
    if (node->next)
        node->next->before = node->before;
    h->first = meld(h, h->first, rest);
}
