/* Intrusive doubly linked lists. The node is a member of the listed object. */
#ifndef RETRYD_BASE_LIST_H
#define RETRYD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* The head of a list is a node too. The head of an empty list, and a node on no list, point to
 * themselves. */
struct list {
    struct list *next;
    struct list *prev;
};

#define LIST_ENTRY(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Appends `node`, which must not be on a list. */
static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Removes `node` from its list. Does nothing if it is on none. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Removes and returns the last node; NULL if the list is empty. */
static inline struct list *list_pop_last(struct list *head)
{
    struct list *last = head->prev;

    if (last == head)
        return NULL;
    list_remove(last);
    return last;
}

/* Removes and returns the first node; NULL if the list is empty. */
static inline struct list *list_pop(struct list *head)
{
    struct list *first = head->next;

    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

#endif
