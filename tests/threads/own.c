/* Under ThreadSanitizer: threads of which each has a scheduler, a lane, a loop, ids and a connection's front of its own.
 *
 * Whatever native/sched and native/front kept outside of what they are given would be shared by these threads, without
 * a lock between them, and be found. A guest is another thread, at the far ends of the pipes. What is sent has to come
 * back, and the scheduler's sums have to add up. Built and run by .ci/sanitize-threads: `own ROUNDS`. */
#include "front/front.h"
#include "sched/ids.h"
#include "sched/lane.h"
#include "sched/loop.h"
#include "sched/sched.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, SEATS = 6, HEADER = 8, A_CONNECTION = 100, PREFIX = 5 };

#define REQUIRE(holds)                                                                                                 \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #holds, strerror(errno));                           \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void write_all(int fd, const void *data, size_t size)
{
    for (const char *at = data; size > 0;) {
        ssize_t wrote = write(fd, at, size);
        REQUIRE(wrote > 0);
        at += wrote, size -= (size_t)wrote;
    }
}

static bool read_all(int fd, void *data, size_t size)
{
    for (char *at = data; size > 0;) {
        ssize_t got = read(fd, at, size);
        REQUIRE(got >= 0);
        if (got == 0)
            return false;
        at += got, size -= (size_t)got;
    }
    return true;
}

/* --- The loop and its guests -------------------------------------------------------------------------------------- */

struct guest {
    pthread_t thread;
    int answers, events; /* its ends */
    int own[4];          /* the lane's: answers, events, the log and its far end */
    lane_id seat;
};

/* Answers with the payload of the event. */
static void *serve(void *arg)
{
    struct guest *guest = arg;
    uint32_t header[2], meta;
    char body[2048];

    while (read_all(guest->events, header, HEADER)) {
        REQUIRE(header[0] <= sizeof body && read_all(guest->events, body, header[0]));
        memcpy(&meta, body, sizeof meta);
        uint32_t size = header[0] - (uint32_t)sizeof meta - meta, head[2] = {size, LANE_RESULT};
        char answer[HEADER + sizeof body];
        memcpy(answer, head, HEADER);
        memcpy(answer + HEADER, body + sizeof meta + meta, size);
        write_all(guest->answers, answer, HEADER + size);
    }
    close(guest->answers);
    close(guest->events);
    return NULL;
}

/* A count that all threads share, without a lock: the race that is planted. */
static int planted = -1;

static int usage(void *seat, struct loop_usage *used)
{
    (void)seat;
    *used = (struct loop_usage){0};
    return 0;
}

static void ended(struct loop_call *call, void *seat, void *arg)
{
    (void)call, (void)seat;
    ++*(int *)arg;
}

static void handed(struct loop_call *call, void *seat, void *arg)
{
    (void)call, (void)seat, (void)arg;
    REQUIRE(!"a call that is plain was handed over");
}

static void other(const struct lane_news *news, void *arg)
{
    (void)news, (void)arg;
}

static void told(struct loop_call *call)
{
    REQUIRE(call->answer_size == call->payload_size && memcmp(call->answer, call->payload, call->answer_size) == 0);
    ++*(int *)call->user;
    if (planted >= 0)
        planted++;
}

static void seat_guest(struct lane *lane, struct loop *loop, struct guest *guest)
{
    int answers[2], events[2];

    REQUIRE(pipe2(answers, O_CLOEXEC) == 0 && pipe2(events, O_CLOEXEC) == 0 &&
            pipe2(guest->own + 2, O_CLOEXEC | O_NONBLOCK) == 0);
    guest->own[0] = answers[0], guest->own[1] = events[1];
    guest->answers = answers[1], guest->events = events[0];
    for (int end = 0; end < 2; end++)
        REQUIRE(fcntl(guest->own[end], F_SETFL, O_NONBLOCK) == 0);
    guest->seat = lane_add(lane, guest->own[0], guest->own[1], guest->own[2], guest);
    REQUIRE(guest->seat != 0 && lane_watch(lane, guest->seat, true) == 0);
    REQUIRE(loop_offer(loop, guest->seat, &(struct loop_rest){0}) == 0);
    REQUIRE(pthread_create(&guest->thread, NULL, serve, guest) == 0);
}

static void empty_actions(struct sched *sched)
{
    struct sched_action action;

    while (sched_next(sched, &action))
        if (action.what == SCHED_DO_CLOSE)
            REQUIRE(sched_closed(sched, action.sandbox, now_ns()) == 0);
}

static void run_loop(int rounds)
{
    struct sched_capacity capacity = {4, 4, 4, 64, 64};
    struct sched_config config;
    struct guest guests[SEATS];
    struct loop_call calls[SEATS];
    struct lane *lane = malloc(sizeof *lane);
    struct loop loop;
    struct ids ids = {0};
    int books = 0, answers = 0;
    sched_id function, target, busy[SEATS];
    char why[256];

    sched_config_default(&config);
    config.rate_factor = 0;
    config.account_limit = config.room = 64;
    config.min_unreserved = 0;
    struct sched *sched = sched_new(&capacity, &config);
    struct loop_owner owner = {.usage = usage, .ended = ended, .hand = handed, .other = other, .arg = &books};
    REQUIRE(sched != NULL && lane != NULL && lane_open(lane) == 0 && loop_open(&loop, lane, &owner) == 0);
    loop.sched = sched;
    REQUIRE(sched_function_add(sched, &function) == 0 && sched_target_add(sched, function, 1, 0, &target) == 0);
    struct loop_line line = {.target = target, .timeout_ms = 60000, .result_limit = 4096, .arn = "arn:aws:lambda:f"};
    for (int which = 0; which < SEATS; which++) {
        struct sched_decision decision;
        REQUIRE(sched_submit(sched, target, 0, now_ns(), &decision) == 0 && decision.verdict == SCHED_START);
        busy[which] = decision.call;
        seat_guest(lane, &loop, &guests[which]);
        REQUIRE(sched_started(sched, decision.sandbox, guests[which].seat, now_ns(), &decision) == 0);
    }
    for (int which = 0; which < SEATS; which++)
        REQUIRE(sched_finished(sched, busy[which], true, now_ns()) == 0);
    for (int round = 0; round < rounds; round++) {
        char payloads[SEATS][64];
        for (int which = 0; which < SEATS; which++) {
            int size = snprintf(payloads[which], sizeof payloads[which], "{\"round\":%d,\"call\":%d}", round, which);
            calls[which] = (struct loop_call){.line = &line,
                                              .told = told,
                                              .user = &answers,
                                              .payload = (const uint8_t *)payloads[which],
                                              .payload_size = (size_t)size,
                                              .accepted_ns = now_ns()};
            REQUIRE(ids_next(&ids, calls[which].request_id) == 0);
            REQUIRE(loop_submit(&loop, &calls[which]) == LOOP_TAKEN);
        }
        while (answers < (round + 1) * SEATS)
            REQUIRE(loop_turn(&loop, -1) >= 0);
        sched_tick(sched, now_ns());
        empty_actions(sched);
    }
    REQUIRE(books == answers && sched_check(sched, why, sizeof why) == 0);
    for (int which = 0; which < SEATS; which++) {
        lane_remove(lane, guests[which].seat);
        for (int end = 0; end < 4; end++)
            close(guests[which].own[end]);
        REQUIRE(pthread_join(guests[which].thread, NULL) == 0);
    }
    loop_close(&loop);
    lane_close(lane);
    sched_free(sched);
    free(lane);
}

/* --- The front and its client ------------------------------------------------------------------------------------- */

struct books {
    int opened, closed;
    struct front_call *call;
};

static void *opened(void *owner, struct front_call *call, const struct front_head *head)
{
    struct books *books = owner;

    REQUIRE(head->path.size == 5 && memcmp(head->path.data, "/s/go", 5) == 0);
    REQUIRE(front_begin(call, NULL, 0) == 0);
    books->opened++;
    books->call = call;
    return books;
}

static void message(void *user, const uint8_t *data, size_t size, bool compressed)
{
    struct books *books = user;
    char *copy = malloc(size);

    REQUIRE(copy != NULL && !compressed);
    memcpy(copy, data, size);
    front_taken(books->call);
    REQUIRE(front_send(books->call, copy, size, copy) == 0);
}

static void half_closed(void *user, bool whole)
{
    struct books *books = user;

    REQUIRE(whole && front_finish(books->call, 0, (struct front_text){"", 0}, NULL, 0) == 0);
}

static void closed(void *user, bool whole)
{
    REQUIRE(whole);
    ((struct books *)user)->closed++;
}

static void oversized(void *user, size_t size)
{
    (void)user, (void)size;
    REQUIRE(!"a small message is not oversized");
}

static void drained(void *user)
{
    (void)user;
}

static const struct front_ops OPS = {.opened = opened,
                                     .message = message,
                                     .oversized = oversized,
                                     .half_closed = half_closed,
                                     .drained = drained,
                                     .closed = closed,
                                     .released = free};

static size_t frame(uint8_t *at, uint8_t type, uint8_t flags, uint32_t stream, const void *body, size_t size)
{
    const uint8_t head[] = {(uint8_t)(size >> 16),   (uint8_t)(size >> 8),   (uint8_t)size,         type, flags,
                            (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};

    memcpy(at, head, sizeof head);
    memcpy(at + sizeof head, body, size);
    return sizeof head + size;
}

/* A request as RFC 7541 and 9113 have it, nothing of it compressed or remembered. */
static size_t request(uint8_t *at, uint32_t stream)
{
    static const char headers[] = "\x83\x86\x01\x01h\x04\x05/s/go\x0f\x10\x10"
                                  "application/grpc";
    static const char data[] = "\0\0\0\0\5hello";
    size_t size = frame(at, 1, 4, stream, headers, sizeof headers - 1);

    return size + frame(at + size, 0, 1, stream, data, sizeof data - 1);
}

static void run_front(int rounds)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    uint8_t out[4096];
    int pair[2];

    for (int round = 0; round < rounds; round++) {
        struct books books = {0};
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        struct front *front = front_new(pair[0], &OPS, &books, 1 << 20);
        REQUIRE(front != NULL);
        write_all(pair[1], preface, sizeof preface - 1);
        write_all(pair[1], out, frame(out, 4, 0, 0, "", 0));
        for (uint32_t call = 0; call < A_CONNECTION; call++) {
            write_all(pair[1], out, request(out, 2 * call + 1));
            REQUIRE(front_read(front) >= 0 && front_flush(front) == 0);
            ssize_t got = read(pair[1], out, sizeof out);
            REQUIRE(got > PREFIX);
        }
        REQUIRE(books.opened == A_CONNECTION && books.closed == A_CONNECTION && front_calls(front) == 0);
        front_free(front);
        close(pair[0]);
        close(pair[1]);
    }
}

static void *work(void *arg)
{
    int rounds = *(const int *)arg;

    run_loop(rounds);
    run_front(rounds / 50 + 1);
    return NULL;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 500;
    pthread_t threads[THREADS];

    if (argc > 2 && strcmp(argv[2], "planted") == 0)
        planted = 0;
    for (int which = 0; which < THREADS; which++)
        REQUIRE(pthread_create(&threads[which], NULL, work, &rounds) == 0);
    for (int which = 0; which < THREADS; which++)
        REQUIRE(pthread_join(threads[which], NULL) == 0);
    printf("own: %d threads, %d calls and %d requests each\n", THREADS, rounds * SEATS,
           (rounds / 50 + 1) * A_CONNECTION);
    return 0;
}
