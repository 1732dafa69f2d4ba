/* Plain calls to warm sandboxes: loop.h. */
#include "loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_SEATS = 64, EVENT_KIND = 2, FRAME_HEAD = 8, META_HEAD = 4, TRACE_DIGITS = 32 };
static const int64_t MS = 1000000, S = 1000000000;

static int64_t clock_ns(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * S + now.tv_nsec;
}

static struct loop_seat *seat_of(const struct loop *loop, lane_id id)
{
    uint32_t index = (uint32_t)id - 1;

    return index < loop->count && loop->seats[index].id == id ? &loop->seats[index] : NULL;
}

int loop_open(struct loop *loop, struct lane *lane, const struct loop_owner *owner)
{
    /* No seat has the id 0: the lane tells nobody of it, but its descriptor is readable. */
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};

    *loop = (struct loop){.lane = lane, .owner = *owner, .timer = -1, .fires_ns = INT64_MAX};
    loop->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->timer < 0)
        return -1;
    if (epoll_ctl(lane->epoll, EPOLL_CTL_ADD, loop->timer, &event) < 0) {
        int error = errno;
        loop_close(loop);
        errno = error;
        return -1;
    }
    return 0;
}

void loop_close(struct loop *loop)
{
    if (loop->timer >= 0)
        close(loop->timer);
    loop->timer = -1;
    free(loop->seats);
    loop->seats = NULL;
    loop->count = 0;
    loop->sched = NULL;
}

int loop_offer(struct loop *loop, lane_id id, const struct loop_rest *rest)
{
    uint32_t index = (uint32_t)id - 1;

    if (index >= loop->count) {
        uint32_t count = loop->count ? loop->count : FIRST_SEATS;
        while (count <= index)
            count *= 2;
        struct loop_seat *seats = realloc(loop->seats, count * sizeof *seats);
        if (seats == NULL)
            return -1;
        memset(seats + loop->count, 0, (count - loop->count) * sizeof *seats);
        loop->seats = seats;
        loop->count = count;
    }
    if (loop->seats[index].call != NULL) {
        errno = EBUSY;
        return -1;
    }
    loop->seats[index] = (struct loop_seat){.id = id, .ready = true, .rest = *rest};
    return 0;
}

static void give(struct loop *loop, struct loop_call *call, enum loop_stands as)
{
    call->stands = as;
    loop->handed++;
    loop->owner.hand(call, lane_owner(loop->lane, call->seat), loop->owner.arg);
}

static void hand(struct loop *loop, struct loop_seat *seat)
{
    struct loop_call *call = seat->call;

    seat->call = NULL;
    seat->ready = false;
    loop->running--;
    give(loop, call, LOOP_RUNS);
}

bool loop_take(struct loop *loop, lane_id id)
{
    struct loop_seat *seat = seat_of(loop, id);

    if (seat == NULL || !seat->ready)
        return false;
    seat->ready = false;
    if (seat->call != NULL)
        hand(loop, seat);
    return true;
}

bool loop_rest(const struct loop *loop, lane_id id, struct loop_rest *rest)
{
    const struct loop_seat *seat = seat_of(loop, id);

    if (seat != NULL)
        *rest = seat->rest;
    return seat != NULL;
}

struct loop_call *loop_of(const struct loop *loop, lane_id id)
{
    struct loop_seat *seat = seat_of(loop, id);

    return seat == NULL ? NULL : seat->call;
}

void loop_cancel(struct loop *loop, struct loop_call *call)
{
    if (call->stands == LOOP_WAITS)
        loop_act(loop); /* what was decided is done first: it may wait no longer */
    if (call->stands == LOOP_WAITS) {
        loop->waiting--;
        sched_cancel(loop->sched, call->call, clock_ns(CLOCK_MONOTONIC));
        give(loop, call, LOOP_LEFT); /* it may be gone from here on */
        loop->owner.stirred(loop->owner.arg);
        return;
    }
    struct loop_seat *seat = seat_of(loop, call->seat);

    if (seat != NULL && seat->call == call)
        hand(loop, seat);
}

/* The timer fires for the first deadline that there was, and is set anew for the first that there is then: most calls
 * end long before theirs, and set nothing. */
static void set_timer(struct loop *loop, int64_t due_ns)
{
    struct itimerspec at = {.it_value = {.tv_sec = due_ns / S, .tv_nsec = due_ns % S}};

    loop->fires_ns = due_ns;
    timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void look_at_deadlines(struct loop *loop, int64_t now_ns)
{
    uint64_t times;
    int64_t next = INT64_MAX;

    if (now_ns < loop->fires_ns)
        return;
    loop->fires_ns = INT64_MAX;
    if (read(loop->timer, &times, sizeof times) < 0 && errno != EAGAIN)
        return;
    for (uint32_t index = 0; index < loop->count && loop->running > 0; index++) {
        if (loop->seats[index].call == NULL)
            continue;
        if (loop->seats[index].due_ns <= now_ns)
            hand(loop, &loop->seats[index]); /* which may move the table */
        else if (loop->seats[index].due_ns < next)
            next = loop->seats[index].due_ns;
    }
    if (next < loop->fires_ns)
        set_timer(loop, next);
}

/* --- The event's frame ------------------------------------------------------------------------------------------- */

static void put_u32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof value); /* little-endian, as is every machine that it is built for */
}

size_t loop_frame(const struct loop_call *call, uint8_t head[LOOP_HEAD])
{
    const struct loop_line *line = call->line;
    char digits[TRACE_DIGITS];
    int count = 0;

    for (int at = 0; at < LOOP_ID && count < TRACE_DIGITS; at++) {
        char digit = call->request_id[at];
        if (digit != '-')
            digits[count++] = (char)(digit >= 'A' && digit <= 'F' ? digit + ('a' - 'A') : digit);
    }
    if (count < TRACE_DIGITS)
        return 0;
    size_t start = FRAME_HEAD + META_HEAD, room = LOOP_HEAD - start;
    int meta = snprintf((char *)head + start, room,
                        "{\"request_id\":\"%.36s\",\"timeout_ms\":%u,\"deadline_ms\":%lld,\"function_arn\":\"%s\","
                        "\"trace_id\":\"Root=1-%08x-%.24s;Parent=%.16s;Sampled=0\"}",
                        call->request_id, line->timeout_ms, (long long)(call->begun_wall_ns / MS + line->timeout_ms),
                        line->arn, (unsigned)(call->begun_wall_ns / S), digits, digits + 16);
    if (meta < 0 || (size_t)meta >= room)
        return 0;
    put_u32(head, (uint32_t)(META_HEAD + (size_t)meta + call->payload_size));
    put_u32(head + 4, EVENT_KIND);
    put_u32(head + FRAME_HEAD, (uint32_t)meta);
    return start + (size_t)meta;
}

/* Write its frame to the sandbox that it was given; false where nothing of it was taken. */
static bool begin(struct loop *loop, struct loop_call *call, const uint8_t *head, size_t size)
{
    struct loop_seat *seat = seat_of(loop, call->seat);

    if (seat == NULL || !seat->ready || size == 0 || call->payload_size > LOOP_EVENT_MOST)
        return false;
    ssize_t sent = lane_call(loop->lane, call->seat, head, size, call->payload, call->payload_size);
    if (sent <= 0)
        return false; /* nobody reads, or not now */
    seat->call = call;
    seat->due_ns = call->began_ns + call->line->timeout_ms * MS;
    call->sent = (size_t)sent;
    call->stands = LOOP_RUNS;
    loop->running++;
    if (seat->due_ns < loop->fires_ns)
        set_timer(loop, seat->due_ns);
    if ((size_t)sent < size + call->payload_size)
        hand(loop, seat);
    return true;
}

enum loop_submitted loop_submit(struct loop *loop, struct loop_call *call)
{
    struct sched_decision decision;
    uint8_t head[LOOP_HEAD];

    call->stands = LOOP_NOWHERE;
    call->waits_ns = 0;
    call->begun_wall_ns = clock_ns(CLOCK_REALTIME);
    size_t size = loop_frame(call, head);
    if (loop->sched == NULL || size == 0)
        return LOOP_ELSEWHERE;
    call->began_ns = clock_ns(CLOCK_MONOTONIC);
    if (sched_submit_claimed(loop->sched, call->line->target, (uintptr_t)call, call->began_ns, &decision) < 0 ||
        decision.verdict == SCHED_NOTHING)
        return LOOP_ELSEWHERE;
    call->call = decision.call;
    call->sandbox = decision.sandbox;
    call->seat = decision.user;
    if (decision.verdict == SCHED_WAIT) {
        call->stands = LOOP_WAITS;
        call->waits_ns = call->began_ns;
        call->began_ns = call->begun_wall_ns = 0;
        loop->taken++;
        loop->waiting++;
        if (sched_pending(loop->sched))
            loop->owner.stirred(loop->owner.arg);
        return LOOP_TAKEN;
    }
    call->stands = LOOP_CHOSEN;
    if (!begin(loop, call, head, size))
        return LOOP_LENT;
    loop->taken++;
    return LOOP_TAKEN;
}

void loop_act(struct loop *loop)
{
    struct sched_action action;
    uint8_t head[LOOP_HEAD];

    while (loop->sched != NULL && sched_next_claimed(loop->sched, &action)) {
        struct loop_call *call = (struct loop_call *)(uintptr_t)action.call_user;

        loop->waiting--;
        call->sandbox = action.sandbox;
        if (action.what == SCHED_DO_RUN) {
            call->seat = action.sandbox_user;
            call->begun_wall_ns = clock_ns(CLOCK_REALTIME);
            call->began_ns = clock_ns(CLOCK_MONOTONIC);
            if (!begin(loop, call, head, loop_frame(call, head)))
                give(loop, call, LOOP_CHOSEN);
        } else {
            give(loop, call, action.what == SCHED_DO_START ? LOOP_STARTS : LOOP_REFUSED);
        }
    }
}

/* --- What comes -------------------------------------------------------------------------------------------------- */

/* Whether the call ends by this: a whole answer, and nothing that its report would have to ask for. */
static bool plain(struct loop *loop, struct loop_seat *seat, const struct lane_news *news)
{
    struct loop_usage used;

    if (news->what != LANE_ANSWER || news->logged || news->size > seat->call->line->result_limit ||
        loop->owner.usage(news->owner, &used) < 0 || used.peak_bytes != seat->rest.peak_bytes ||
        used.stored_bytes > seat->rest.stored_bytes || used.cpu_us < seat->rest.cpu_us)
        return false;
    seat->call->peak_bytes = seat->rest.shown_bytes;
    seat->call->cpu_us = used.cpu_us - seat->rest.cpu_us;
    seat->rest.cpu_us = used.cpu_us;
    seat->rest.stored_bytes = used.stored_bytes;
    return true;
}

static void take(const struct lane_news *news, void *arg)
{
    struct loop *loop = arg;
    struct loop_seat *seat = seat_of(loop, news->seat);

    if (seat == NULL || seat->call == NULL) {
        loop->owner.other(news, loop->owner.arg);
        return;
    }
    if (!plain(loop, seat, news)) {
        hand(loop, seat);
        loop->owner.other(news, loop->owner.arg);
        return;
    }
    struct loop_call *call = seat->call;
    seat->call = NULL;
    loop->running--;
    loop->told++;
    call->answer = news->data;
    call->answer_size = news->size;
    call->answered_ns = news->at_ns;
    call->ended_wall_ns = clock_ns(CLOCK_REALTIME);
    call->stands = LOOP_NOWHERE;
    sched_finished(loop->sched, call->call, true, news->at_ns);
    loop->owner.ended(call, news->owner, loop->owner.arg);
    loop_act(loop);   /* the sandbox has its next call before anything else is done */
    call->told(call); /* the last: it may be submitted again, or be gone */
}

int loop_turn(struct loop *loop, int timeout_ms)
{
    int told = lane_turn(loop->lane, timeout_ms, take, loop);

    if (loop->running > 0 || loop->fires_ns < INT64_MAX)
        look_at_deadlines(loop, clock_ns(CLOCK_MONOTONIC));
    return told;
}
