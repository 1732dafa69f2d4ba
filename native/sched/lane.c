/* The pipes of sandboxes, in one epoll set: lane.h. */
#include "lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_SEATS = 64 };

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static struct lane_seat *seat_of(struct lane *lane, lane_id id)
{
    uint32_t index = (uint32_t)id - 1;

    if (index >= lane->count)
        return NULL;
    struct lane_seat *seat = &lane->seats[index];
    return seat->taken && seat->generation == id >> 32 ? seat : NULL;
}

int lane_open(struct lane *lane)
{
    lane->count = lane->free_count = 0;
    lane->seats = NULL;
    lane->free_seats = NULL;
    lane->epoll = epoll_create1(EPOLL_CLOEXEC);
    return lane->epoll < 0 ? -1 : 0;
}

void lane_close(struct lane *lane)
{
    if (lane->epoll >= 0)
        close(lane->epoll);
    lane->epoll = -1;
    free(lane->seats);
    free(lane->free_seats);
    lane->seats = NULL;
    lane->free_seats = NULL;
    lane->count = lane->free_count = 0;
}

static int grow(struct lane *lane)
{
    uint32_t count = lane->count ? lane->count * 2 : FIRST_SEATS;
    struct lane_seat *seats = realloc(lane->seats, count * sizeof *seats);
    if (seats == NULL)
        return -1;
    lane->seats = seats;
    uint32_t *free_seats = realloc(lane->free_seats, count * sizeof *free_seats);
    if (free_seats == NULL)
        return -1;
    lane->free_seats = free_seats;
    memset(seats + lane->count, 0, (count - lane->count) * sizeof *seats);
    for (uint32_t index = count; index-- > lane->count;)
        lane->free_seats[lane->free_count++] = index;
    lane->count = count;
    return 0;
}

lane_id lane_add(struct lane *lane, int answers, int events, int log, void *owner)
{
    if (lane->free_count == 0 && grow(lane) < 0)
        return 0;
    uint32_t index = lane->free_seats[--lane->free_count];
    struct lane_seat *seat = &lane->seats[index];
    *seat = (struct lane_seat){.answers = answers,
                               .events = events,
                               .log = log,
                               .generation = seat->generation + 1,
                               .taken = true,
                               .owner = owner};
    return (uint64_t)seat->generation << 32 | (index + 1);
}

void lane_remove(struct lane *lane, lane_id id)
{
    struct lane_seat *seat = seat_of(lane, id);

    if (seat == NULL)
        return;
    lane_watch(lane, id, false);
    seat->taken = seat->busy = false;
    seat->owner = NULL;
    lane->free_seats[lane->free_count++] = (uint32_t)id - 1;
}

void *lane_owner(struct lane *lane, lane_id id)
{
    struct lane_seat *seat = seat_of(lane, id);

    return seat == NULL ? NULL : seat->owner;
}

int lane_watch(struct lane *lane, lane_id id, bool watch)
{
    struct lane_seat *seat = seat_of(lane, id);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = id};

    if (seat == NULL) {
        errno = ESTALE;
        return -1;
    }
    if (seat->watched == watch)
        return 0;
    if (epoll_ctl(lane->epoll, watch ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, seat->answers, &event) < 0)
        return -1;
    seat->watched = watch;
    return 0;
}

ssize_t lane_call(struct lane *lane, lane_id id, const void *head, size_t head_size, const void *payload,
                  size_t payload_size)
{
    struct lane_seat *seat = seat_of(lane, id);
    struct iovec parts[] = {{(void *)head, head_size}, {(void *)payload, payload_size}};

    if (seat == NULL) {
        errno = EPIPE;
        return -1;
    }
    ssize_t sent = writev(seat->events, parts, payload_size ? 2 : 1);
    seat->busy = sent == (ssize_t)(head_size + payload_size);
    return sent;
}

void lane_leave(struct lane *lane, lane_id id)
{
    struct lane_seat *seat = seat_of(lane, id);

    if (seat != NULL)
        seat->busy = false;
}

/* Whether it is one RESULT frame, and nothing else. */
static bool is_answer(const uint8_t *data, size_t size)
{
    uint32_t length;

    if (size < LANE_HEADER || data[4] != LANE_RESULT)
        return false;
    memcpy(&length, data, sizeof length); /* little-endian, as is every machine that it is built for */
    return length == size - LANE_HEADER;
}

/* What a busy seat's guest sent; false where it was nothing after all. */
static bool take(struct lane *lane, struct lane_seat *seat, struct lane_news *news)
{
    ssize_t got = read(seat->answers, lane->buffer, sizeof lane->buffer);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    seat->busy = false;
    news->what = LANE_END;
    if (got <= 0)
        return true;
    news->what = LANE_DATA;
    news->data = lane->buffer;
    news->size = (size_t)got;
    if (is_answer(lane->buffer, (size_t)got)) {
        int waiting = 0;
        news->what = LANE_ANSWER;
        news->data += LANE_HEADER;
        news->size -= LANE_HEADER;
        news->logged = ioctl(seat->log, FIONREAD, &waiting) < 0 || waiting > 0;
    }
    return true;
}

int lane_turn(struct lane *lane, int timeout_ms, lane_tell *tell, void *arg)
{
    struct epoll_event events[LANE_BATCH];
    int told = 0;
    int ready = epoll_wait(lane->epoll, events, LANE_BATCH, timeout_ms);

    if (ready < 0)
        return errno == EINTR ? 0 : -1;
    for (int which = 0; which < ready; which++) {
        /* What was told before may have ended it, and moved the table. */
        struct lane_seat *seat = seat_of(lane, events[which].data.u64);
        if (seat == NULL || !seat->watched)
            continue;
        struct lane_news news = {.what = LANE_READY, .seat = events[which].data.u64, .owner = seat->owner};
        if (seat->busy && !take(lane, seat, &news))
            continue;
        news.at_ns = now_ns();
        tell(&news, arg);
        told++;
    }
    return told;
}
