/* Intrusive doubly linked lists: the node lives in the thing that is listed. */
#ifndef RETRYD_BASE_LIST_H
#define RETRYD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* A head is a node that points to itself when the list is empty; so is a node on no list. */
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

/* Puts `node`, which is on no list, at the end. */
static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Takes `node` off whatever list it is on; harmless when it is on none. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* The last node, taken off; NULL when empty. */
static inline struct list *list_pop_last(struct list *head)
{
    struct list *last = head->prev;

    if (last == head)
        return NULL;
    list_remove(last);
    return last;
}

/* The first node, taken off; NULL when empty. */
static inline struct list *list_pop(struct list *head)
{
    struct list *first = head->next;

    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

#endif
