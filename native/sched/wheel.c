/* Timers by the million; wheel.h says how. */
#include "wheel.h"

#include <stdbool.h>
#include <stddef.h>

static void insert(struct wheel *wheel, struct timer *timer)
{
    uint64_t differs = timer->due ^ wheel->now;
    unsigned level = differs == 0 ? 0 : (63U - (unsigned)__builtin_clzll(differs)) / 6;
    struct timer **head;

    timer->slot = level * WHEEL_SLOTS + (unsigned)((timer->due >> (6 * level)) & 63);
    head = &wheel->slots[timer->slot];
    timer->next = *head;
    if (timer->next != NULL)
        timer->next->link = &timer->next;
    timer->link = head;
    *head = timer;
    wheel->bits[level] |= (uint64_t)1 << (timer->slot & 63);
}

void wheel_arm(struct wheel *wheel, struct timer *timer, int64_t at_ns)
{
    const uint64_t most = ((uint64_t)1 << (6 * WHEEL_LEVELS)) - 1; /* 9,000 years */
    uint64_t due = ((uint64_t)at_ns + ((uint64_t)1 << WHEEL_TICK_BITS) - 1) >> WHEEL_TICK_BITS;

    wheel_disarm(wheel, timer);
    if (due <= wheel->now)
        due = wheel->now + 1;
    timer->due = due < most ? due : most;
    insert(wheel, timer);
}

void wheel_disarm(struct wheel *wheel, struct timer *timer)
{
    if (timer->link == NULL)
        return;
    *timer->link = timer->next;
    if (timer->next != NULL)
        timer->next->link = timer->link;
    if (wheel->slots[timer->slot] == NULL)
        wheel->bits[timer->slot / WHEEL_SLOTS] &= ~((uint64_t)1 << (timer->slot & 63));
    timer->link = NULL;
    timer->next = NULL;
}

/* Where the earliest slot begins, in ticks. False: there is none. */
static bool earliest(const struct wheel *wheel, unsigned *level, unsigned *slot, uint64_t *begins)
{
    for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
        if (wheel->bits[l] == 0)
            continue;
        /* All bits are above the present slot of their level: those below would be in a later turn, one level up. */
        unsigned bit = (unsigned)__builtin_ctzll(wheel->bits[l]);
        uint64_t turn = wheel->now >> (6 * l) >> 6 << 6;

        *level = l;
        *slot = l * WHEEL_SLOTS + bit;
        *begins = (turn | bit) << (6 * l);
        return true;
    }
    return false;
}

struct timer *wheel_expire(struct wheel *wheel, int64_t now_ns)
{
    uint64_t until = (uint64_t)now_ns >> WHEEL_TICK_BITS, begins;
    unsigned level, slot;

    while (earliest(wheel, &level, &slot, &begins)) {
        if (begins > until)
            break;
        struct timer *timer = wheel->slots[slot];

        if (level == 0) {
            wheel->now = begins;
            wheel_disarm(wheel, timer);
            return timer;
        }
        /* The slot has come: what is in it finds its place below. */
        wheel->slots[slot] = NULL;
        wheel->bits[level] &= ~((uint64_t)1 << (slot & 63));
        wheel->now = begins;
        while (timer != NULL) {
            struct timer *next = timer->next;

            insert(wheel, timer);
            timer = next;
        }
    }
    if (until > wheel->now)
        wheel->now = until;
    return NULL;
}

int64_t wheel_next_ns(const struct wheel *wheel)
{
    uint64_t begins;
    unsigned level, slot;

    if (!earliest(wheel, &level, &slot, &begins))
        return -1;
    return (int64_t)(begins << WHEEL_TICK_BITS);
}
