/* Doubly linked lists of pool slots, with the links inside the items. 0 is the end. */
#ifndef SCHED_LISTS_H
#define SCHED_LISTS_H

#include <stdint.h>

struct link {
    uint32_t next, prev;
};

struct list {
    uint32_t first, last;
};

struct sched;

/* The verbs of one kind of list, by the function that finds an item's link. */
#define LIST_OF(name, link_of)                                                                                         \
    static inline void name##_append(struct sched *s, struct list *list, uint32_t slot)                                \
    {                                                                                                                  \
        struct link *link = link_of(s, slot);                                                                          \
                                                                                                                       \
        link->next = 0;                                                                                                \
        link->prev = list->last;                                                                                       \
        if (list->last != 0)                                                                                           \
            link_of(s, list->last)->next = slot;                                                                       \
        else                                                                                                           \
            list->first = slot;                                                                                        \
        list->last = slot;                                                                                             \
    }                                                                                                                  \
                                                                                                                       \
    static inline void name##_remove(struct sched *s, struct list *list, uint32_t slot)                                \
    {                                                                                                                  \
        struct link *link = link_of(s, slot);                                                                          \
                                                                                                                       \
        if (link->next != 0)                                                                                           \
            link_of(s, link->next)->prev = link->prev;                                                                 \
        else                                                                                                           \
            list->last = link->prev;                                                                                   \
        if (link->prev != 0)                                                                                           \
            link_of(s, link->prev)->next = link->next;                                                                 \
        else                                                                                                           \
            list->first = link->next;                                                                                  \
        link->next = link->prev = 0;                                                                                   \
    }                                                                                                                  \
                                                                                                                       \
    /* The first becomes the last. */                                                                                  \
    static inline void name##_rotate(struct sched *s, struct list *list)                                               \
    {                                                                                                                  \
        uint32_t first = list->first;                                                                                  \
                                                                                                                       \
        if (first != list->last) {                                                                                     \
            name##_remove(s, list, first);                                                                             \
            name##_append(s, list, first);                                                                             \
        }                                                                                                              \
    }

#endif
