/* Timers by the million: a hierarchical wheel of 64 slots a level, with a bit for each slot that has something.
 *
 * After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels". A timer sits at the level of the highest 6 bits in
 * which its tick differs from the present one, so a lower level is always due before a higher one, and the next is
 * found by counting zeros. Arming, disarming and firing cost the same however many there are, and a jump of the clock
 * costs what fires, not what was jumped over. */
#ifndef SCHED_WHEEL_H
#define SCHED_WHEEL_H

#include <stdint.h>

enum { WHEEL_LEVELS = 8, WHEEL_SLOTS = 64, WHEEL_TICK_BITS = 20 }; /* a tick is 2^20 ns: 1.05 ms */

struct timer {
    struct timer *next, **link; /* `link` is what points here; NULL while it is not armed */
    uint64_t due;               /* ticks */
    uint32_t slot;              /* level × 64 + slot */
    uint32_t kind, owner;
};

struct wheel {
    uint64_t now; /* ticks */
    uint64_t bits[WHEEL_LEVELS];
    struct timer *slots[WHEEL_LEVELS * WHEEL_SLOTS];
};

/* It fires in the first advance to `at_ns` or later, rounded up to a tick, and never in this one. Armed ones move. */
void wheel_arm(struct wheel *wheel, struct timer *timer, int64_t at_ns);
void wheel_disarm(struct wheel *wheel, struct timer *timer);
/* The next that is due by `now_ns`, disarmed; NULL, and then the wheel is at that time, when there is none left. */
struct timer *wheel_expire(struct wheel *wheel, int64_t now_ns);
/* No later than the next that fires, in nanoseconds; -1 when none is armed. */
int64_t wheel_next_ns(const struct wheel *wheel);

#endif
