/* A token bucket in whole numbers: `capacity` tokens, refilled in one period, never more than full.
 *
 * The level is in tokens times the period, so that `capacity` of it come back each nanosecond and nothing is rounded.
 * capacity × period stays below 2^62. */
#ifndef SCHED_BUCKET_H
#define SCHED_BUCKET_H

#include <stdint.h>

struct bucket {
    uint64_t level;
    int64_t at_ns;
};

static inline void bucket_fill(struct bucket *bucket, uint64_t capacity, int64_t period_ns, int64_t now_ns)
{
    bucket->level = capacity * (uint64_t)period_ns;
    bucket->at_ns = now_ns;
}

static inline void bucket_refill(struct bucket *bucket, uint64_t capacity, int64_t period_ns, int64_t now_ns)
{
    uint64_t full = capacity * (uint64_t)period_ns, passed = (uint64_t)(now_ns - bucket->at_ns);

    if (passed >= (uint64_t)period_ns) {
        bucket->level = full;
    } else {
        bucket->level += passed * capacity;
        if (bucket->level > full)
            bucket->level = full;
    }
    bucket->at_ns = now_ns;
}

/* 0 when there is a token, else the nanoseconds until there is one; -1 when there never will be. */
static inline int64_t bucket_wait_ns(const struct bucket *bucket, uint64_t capacity, int64_t period_ns)
{
    if (bucket->level >= (uint64_t)period_ns)
        return 0;
    if (capacity == 0)
        return -1;
    return (int64_t)(((uint64_t)period_ns - bucket->level + capacity - 1) / capacity);
}

static inline void bucket_take(struct bucket *bucket, int64_t period_ns)
{
    bucket->level -= (uint64_t)period_ns;
}

static inline void bucket_give(struct bucket *bucket, uint64_t capacity, int64_t period_ns)
{
    uint64_t full = capacity * (uint64_t)period_ns;

    bucket->level += (uint64_t)period_ns;
    if (bucket->level > full)
        bucket->level = full;
}

#endif
