/* Plain calls from the connection to the loop and back: join.h. */
#include "front/join.h"

#include "front/invoke.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    MESSAGE_MOST = LOOP_EVENT_MOST + 1024, /* a larger one has a larger event, or a name that nobody has */
    TIMEOUT_DIGITS = 8,
    CANCELLED = 1,
    DEADLINE_EXCEEDED = 4,
};
static const int64_t S = 1000000000, MS = 1000000, US = 1000, LONGEST_S = 100000000, NEVER = INT64_MAX;

enum state {
    FRESH,   /* in its connection's list: its request is coming in */
    RUNNING, /* in the join's list: the loop has it */
    OVER,    /* in no list: it has its status, which is on its way */
};

struct joined {
    struct door_call door; /* first: told and handed get this */
    struct join_end *end;
    struct front_call *call;
    struct joined *next, **from;
    enum state state;
    int64_t due_ns;
    uint8_t *message;
    size_t message_size;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * S + now.tv_nsec;
}

static void link_to(struct joined **list, struct joined *one)
{
    one->from = list;
    one->next = *list;
    if (*list != NULL)
        (*list)->from = &one->next;
    *list = one;
}

static void unlink_it(struct joined *one)
{
    if (one->from == NULL)
        return;
    *one->from = one->next;
    if (one->next != NULL)
        one->next->from = one->from;
    one->from = NULL;
}

static void forget(struct joined *one)
{
    unlink_it(one);
    free(one->message);
    free(one);
}

static void one_less(struct join *join)
{
    if (--join->under_way == 0 && join->shut)
        join->ops->none(join->owner);
}

/* --- Deadlines --------------------------------------------------------------------------------------------------- */

/* grpc-timeout: up to eight digits and a unit. False where it is none. */
static bool read_timeout(struct front_text text, int64_t *due_ns)
{
    static const char units[] = "HMSmun";
    static const int64_t of[] = {3600 * 1000000000LL, 60 * 1000000000LL, 1000000000LL, 1000000, 1000, 1};
    int64_t number = 0;

    *due_ns = NEVER;
    if (text.size == 0)
        return true;
    const char *unit = text.data[text.size - 1] == '\0' ? NULL : strchr(units, text.data[text.size - 1]);
    if (unit == NULL || text.size < 2 || text.size > TIMEOUT_DIGITS + 1)
        return false;
    for (size_t at = 0; at + 1 < text.size; at++) {
        if (text.data[at] < '0' || text.data[at] > '9')
            return false;
        number = number * 10 + (text.data[at] - '0');
    }
    int64_t per = of[unit - units], longest = LONGEST_S * S;
    *due_ns = now_ns() + (number > longest / per ? longest : number * per);
    return true;
}

/* As the loop's own (loop.c): set for the first that there was, and anew for the first that there is then. Whole
 * milliseconds, so that no client has it ring for each of its calls. */
static void set_timer(struct join *join, int64_t due_ns)
{
    due_ns = (due_ns / MS + 1) * MS;
    struct itimerspec at = {.it_value = {.tv_sec = due_ns / S, .tv_nsec = due_ns % S}};

    join->fires_ns = due_ns;
    timerfd_settime(join->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* With this status, whatever its handler is doing. */
static void stop(struct joined *one, int status, const char *why)
{
    struct join *join = one->end->join;

    unlink_it(one);
    one->state = OVER;
    join->left++;
    if (front_finish(one->call, status, (struct front_text){why, strlen(why)}, NULL, 0) < 0)
        front_reset(one->call);
    join->ops->queued(one->end->owner);
    join->door->cancel(join->door->self, &one->door); /* the last: Python has its turn */
}

void join_due(struct join *join)
{
    int64_t now = now_ns(), next = NEVER;
    uint64_t times;
    struct joined *late = NULL, *after;

    if (read(join->timer, &times, sizeof times) < 0 && errno != EAGAIN)
        return;
    join->fires_ns = NEVER;
    for (struct joined *one = join->calls; one != NULL; one = after) {
        after = one->next;
        if (one->due_ns <= now) {
            unlink_it(one);
            link_to(&late, one);
        } else if (one->due_ns < next) {
            next = one->due_ns;
        }
    }
    if (next < NEVER)
        set_timer(join, next);
    while (late != NULL) /* each may end others */
        stop(late, DEADLINE_EXCEEDED, "Deadline Exceeded");
}

/* --- What the loop tells ----------------------------------------------------------------------------------------- */

static void told(struct door_call *door)
{
    struct joined *one = (struct joined *)door;
    struct join *join = one->end->join;
    const struct loop_call *loop = &door->loop;
    const struct invoke_report report = {
        .id = {(const uint8_t *)loop->request_id, LOOP_ID},
        .version = {(const uint8_t *)loop->line->version, strlen(loop->line->version)},
        .queue_us = loop->waits_ns == 0 ? 0 : (uint64_t)((loop->began_ns - loop->waits_ns) / US),
        .handler_us = (uint64_t)((loop->answered_ns - loop->began_ns) / US),
        .total_us = (uint64_t)((loop->answered_ns - loop->accepted_ns) / US),
        .peak_bytes = loop->peak_bytes,
        .cpu_us = loop->cpu_us,
        .memory_mb = loop->line->memory_mb,
    };

    unlink_it(one);
    one->state = OVER;
    join->told++;
    free(one->message);
    one->message = NULL;
    uint8_t *message = malloc(invoke_room(loop->answer_size, &report));
    if (message == NULL) {
        front_reset(one->call);
    } else {
        size_t size = invoke_write(message, loop->answer, loop->answer_size, &report);
        if (front_send(one->call, message, size, message) < 0 ||
            front_finish(one->call, 0, (struct front_text){NULL, 0}, NULL, 0) < 0)
            front_reset(one->call);
    }
    join->ops->queued(one->end->owner);
}

static void handed(struct door_call *door, void *standing)
{
    struct joined *one = (struct joined *)door;
    struct join_end *end = one->end;
    struct join *join = end->join;
    struct front_call *call = one->call;
    struct front_head head = front_head_of(call);
    int64_t left_ns = one->due_ns == NEVER ? NEVER : one->due_ns - now_ns();
    void *user = standing == NULL ? NULL : join->ops->handed(end->owner, call, &head, standing, left_ns);

    join->handed++;
    front_become(call, join->other, user);
    if (user == NULL)
        front_reset(call);
    join->ops->queued(end->owner);
    forget(one);
    one_less(join);
}

/* --- What the connection tells ----------------------------------------------------------------------------------- */

/* It is the servicer's, from its beginning on. */
static void *give_up(struct joined *one)
{
    struct join_end *end = one->end;
    const struct front_ops *other = end->join->other;
    struct front_call *call = one->call;
    struct front_head head = front_head_of(call);

    unlink_it(one);
    void *user = other->opened(end->owner, call, &head);
    front_become(call, other, user);
    if (user == NULL)
        front_reset(call);
    else if (one->message != NULL)
        other->message(user, one->message, one->message_size, false);
    forget(one);
    return user;
}

/* Whether the loop has it. */
static bool submit(struct joined *one)
{
    struct join *join = one->end->join;
    struct door *door = join->door;
    struct loop_call *loop = &one->door.loop;
    struct front_call *call = one->call;
    struct invoke_request request;

    if (join->shut || !invoke_read(one->message, one->message_size, &request))
        return false;
    loop->line = door->line(door->self, (const char *)request.function.data, request.function.size);
    if (loop->line == NULL)
        return false;
    if (request.id.size == LOOP_ID)
        memcpy(loop->request_id, request.id.data, LOOP_ID); /* which the door looks at */
    else if (request.id.size > 0 || door->new_id(door->self, loop->request_id) < 0)
        return false;
    loop->payload = request.payload.data;
    loop->payload_size = request.payload.size;
    loop->accepted_ns = now_ns();
    one->door.told = told;
    one->door.handed = handed;
    int64_t due_ns = one->due_ns;
    unlink_it(one);
    link_to(&join->calls, one);
    one->state = RUNNING;
    join->under_way++;
    if (door->submit(door->self, &one->door) == LOOP_TAKEN) {
        /* It may be gone: handed over. */
        join->taken++;
        front_taken(call);
        if (due_ns < join->fires_ns)
            set_timer(join, due_ns);
        return true;
    }
    join->under_way--;
    unlink_it(one);
    one->state = FRESH;
    return false;
}

static bool is(struct front_text text, const char *word)
{
    return text.size == strlen(word) && memcmp(text.data, word, text.size) == 0;
}

static void *opened(void *owner, struct front_call *call, const struct front_head *head)
{
    struct join_end *end = owner;
    struct join *join = end->join;
    int64_t due_ns;

    if (!join->shut && is(head->path, "/engine.v1.InvocationService/Invoke") &&
        (head->encoding.size == 0 || is(head->encoding, "identity")) && read_timeout(head->timeout, &due_ns)) {
        struct joined *one = calloc(1, sizeof *one);
        if (one != NULL) {
            one->end = end;
            one->call = call;
            one->due_ns = due_ns;
            link_to(&end->fresh, one);
            return one;
        }
    }
    void *user = join->other->opened(end->owner, call, head);
    front_become(call, join->other, user);
    return user;
}

static void message(void *user, const uint8_t *data, size_t size, bool compressed)
{
    struct joined *one = user;
    const struct front_ops *other = one->end->join->other;

    if (one->state != FRESH)
        return;
    if (!compressed && one->message == NULL && size > 0 && size <= MESSAGE_MOST) {
        one->message = malloc(size);
        if (one->message != NULL) {
            memcpy(one->message, data, size);
            one->message_size = size;
            return;
        }
    }
    user = give_up(one);
    if (user != NULL)
        other->message(user, data, size, compressed);
}

static void oversized(void *user, size_t size)
{
    struct joined *one = user;
    const struct front_ops *other = one->end->join->other;

    if (one->state != FRESH)
        return;
    user = give_up(one);
    if (user != NULL)
        other->oversized(user, size);
}

static void half_closed(void *user, bool whole)
{
    struct joined *one = user;
    const struct front_ops *other = one->end->join->other;

    if (one->state != FRESH || (whole && one->message != NULL && submit(one)))
        return;
    user = give_up(one);
    if (user != NULL)
        other->half_closed(user, whole);
}

static void drained(void *user)
{
    (void)user; /* there is nothing more to say */
}

static void closed(void *user, bool whole)
{
    (void)whole;
    struct joined *one = user;
    struct join *join = one->end->join;
    bool running = one->state == RUNNING, fresh = one->state == FRESH;

    unlink_it(one);
    if (running) {
        join->left++;
        join->door->cancel(join->door->self, &one->door);
    }
    forget(one);
    if (!fresh)
        one_less(join);
}

const struct front_ops JOIN_FRONT = {opened, message, oversized, half_closed, drained, closed, free};

/* --- All of them ------------------------------------------------------------------------------------------------- */

int join_open(struct join *join, struct door *door, const struct front_ops *other, const struct join_ops *ops,
              void *owner)
{
    *join = (struct join){.other = other, .ops = ops, .door = door, .owner = owner, .fires_ns = NEVER};
    join->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return join->timer < 0 ? -1 : 0;
}

void join_close(struct join *join)
{
    if (join->timer >= 0)
        close(join->timer);
    join->timer = -1;
}

void join_settle(struct join_end *end)
{
    while (end->fresh != NULL)
        give_up(end->fresh);
}

void join_shut(struct join *join)
{
    join->shut = true;
}

void join_stop(struct join *join)
{
    while (join->calls != NULL)
        stop(join->calls, CANCELLED, "the server has stopped the call");
}
