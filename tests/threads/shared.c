/* Under ThreadSanitizer: the box as the threads of an engine use it, all on one host's cgroups.
 *
 * Makers make sandboxes' leaves, /tmps and network namespaces, and take them away again, as an engine's builders and
 * janitors do; the reader asks for what is used, and kills, as its event loop does, between the two. What is handed from
 * one to another goes through a lock; what the box kept outside of that would be found. Beside them the two ends of a
 * fork server's socket, here both threads. As root. Built and run by .ci/sanitize-threads: `shared ROUNDS`. */
#include "box.h"
#include "wire.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAKERS = 3 };

#define REQUIRE(holds)                                                                                                 \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            fprintf(stderr, "%s:%d: %s: %s: %s (%d)\n", __FILE__, __LINE__, #holds, err.stage, err.text, err.errnum);  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct sandbox {
    struct box_leaf leaf;
    struct box_scratch tmp;
    struct box_net net;
    bool to_read, done;
};

static struct {
    struct box_host host; /* written before there are threads, and read by all of them */
    int rounds;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sandbox *slots[MAKERS]; /* what is the reader's */
    int makers;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *make(void *arg)
{
    const struct box_limits limits = {.memory_bytes = 128 << 20, .cpu_quota_us = 50000, .cpu_shares = 64, .pids = 16};
    struct box_error err = {.errnum = 0};
    size_t own = (size_t)arg;

    for (int round = 0; round < all.rounds; round++) {
        struct sandbox one = {.to_read = true};
        char name[64];
        int into, join[BOX_HIERARCHIES];
        snprintf(name, sizeof name, "leaf-%zu-%d", own, round);
        REQUIRE(box_leaf_create(&all.host, &one.leaf, name, &limits, &err) == 0);
        REQUIRE(box_leaf_relimit(&all.host, &one.leaf, &limits, &err) == 0);
        int joins = box_leaf_join_fds(&all.host, &one.leaf, &into, join, &err);
        REQUIRE(joins >= 0);
        while (joins > 0)
            close(join[--joins]);
        if (into >= 0)
            close(into);
        REQUIRE(box_scratch_tmpfs(&one.tmp, 1 << 20, 64, &err) == 0);
        REQUIRE(box_net_make(NULL, &one.net, &err) == 0);

        pthread_mutex_lock(&all.lock);
        all.slots[own] = &one;
        pthread_cond_broadcast(&all.changed);
        while (!one.done)
            pthread_cond_wait(&all.changed, &all.lock);
        pthread_mutex_unlock(&all.lock);

        close(one.net.ns);
        box_scratch_close(&one.tmp);
        REQUIRE(box_leaf_remove(&all.host, &one.leaf, &err) == 0);
    }
    pthread_mutex_lock(&all.lock);
    all.makers--;
    pthread_cond_broadcast(&all.changed);
    pthread_mutex_unlock(&all.lock);
    return NULL;
}

static void look(const struct sandbox *one)
{
    struct box_error err = {.errnum = 0};
    struct box_usage usage;
    uint64_t count;

    REQUIRE(box_leaf_usage(&all.host, &one->leaf, &usage, &err) == 0);
    REQUIRE(box_leaf_reclaimable(&all.host, &one->leaf, &count, &err) == 0);
    REQUIRE(box_leaf_kernel(&all.host, &one->leaf, &count, &err) == 0);
    REQUIRE(box_leaf_oom_kills(&all.host, &one->leaf, &count, &err) == 0);
    REQUIRE(box_scratch_used(&one->tmp, &count, &err) == 0);
    REQUIRE(box_leaf_set_cpu(&all.host, &one->leaf, 0, &err) == 0);
    (void)box_leaf_kill(&all.host, &one->leaf); /* which not every kernel can */
}

/* The loop's thread. */
static void read_all(void)
{
    pthread_mutex_lock(&all.lock);
    while (all.makers > 0) {
        struct sandbox *found = NULL;
        for (int own = 0; own < MAKERS && found == NULL; own++)
            if (all.slots[own] != NULL) {
                found = all.slots[own];
                all.slots[own] = NULL;
            }
        if (found == NULL) {
            pthread_cond_wait(&all.changed, &all.lock);
            continue;
        }
        pthread_mutex_unlock(&all.lock);
        look(found);
        pthread_mutex_lock(&all.lock);
        found->done = true;
        pthread_cond_broadcast(&all.changed);
    }
    pthread_mutex_unlock(&all.lock);
}

/* What a fork server does with a request, but for the fork. */
static void *answer(void *arg)
{
    struct box_error err = {.errnum = 0};
    int sock = *(int *)arg, flat[BOX_WIRE_FDS];
    struct box_fork_request request;

    for (;;) {
        size_t count = BOX_WIRE_FDS;
        ssize_t size = box_wire_receive(sock, &request, sizeof request, flat, &count);
        if (size == 0)
            return NULL;
        REQUIRE(size == sizeof request && request.version == BOX_WIRE_VERSION && count == 5);
        while (count > 0)
            close(flat[--count]);
        struct box_fork_reply reply = {.pid = (int32_t)request.uid};
        int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        REQUIRE(pidfd >= 0 && box_wire_send(sock, &reply, sizeof reply, &pidfd, 1) == 0);
        close(pidfd);
    }
}

static void *ask(void *arg)
{
    struct box_error err = {.errnum = 0};
    pthread_t server;
    int pair[2], journal = (int)syscall(SYS_memfd_create, "journal", 1);

    (void)arg;
    REQUIRE(journal >= 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    REQUIRE(pthread_create(&server, NULL, answer, &pair[1]) == 0);
    for (int round = 0; round < 10 * all.rounds; round++) {
        const struct box_fork_request request = {.version = BOX_WIRE_VERSION, .uid = 1000 + (uint32_t)round};
        const struct box_fork_fds fds = {0, 1, 2, 0, 1, -1, -1, -1, -1, {0}};
        pid_t pid;
        int pidfd = box_fork_ask(pair[0], journal, &request, &fds, 10000, &pid, &err), status;
        REQUIRE(pidfd >= 0 && pid == 1000 + round);
        struct box_usage usage;
        REQUIRE(box_reap(pidfd, &status, &usage, &err) == -1); /* nobody waits for itself */
        close(pidfd);
    }
    shutdown(pair[0], SHUT_RDWR);
    REQUIRE(pthread_join(server, NULL) == 0);
    close(pair[0]);
    close(pair[1]);
    close(journal);
    return NULL;
}

int main(int argc, char **argv)
{
    struct box_error err = {.errnum = 0};
    pthread_t threads[MAKERS + 1];
    char slice[64];

    all.rounds = argc > 1 ? atoi(argv[1]) : 50;
    all.makers = MAKERS;
    snprintf(slice, sizeof slice, "cleave-threads-%d", getpid());
    REQUIRE(box_host_probe(&all.host, slice, BOX_LIMIT_ALL, &err) == 0);
    REQUIRE(box_host_open(&all.host, &err) == 0);
    for (size_t own = 0; own < MAKERS; own++)
        REQUIRE(pthread_create(&threads[own], NULL, make, (void *)own) == 0);
    REQUIRE(pthread_create(&threads[MAKERS], NULL, ask, NULL) == 0);
    read_all();
    for (int own = 0; own <= MAKERS; own++)
        REQUIRE(pthread_join(threads[own], NULL) == 0);
    REQUIRE(box_host_sweep(&all.host, 1, &err) == 0);
    printf("shared: %d threads, %d sandboxes each\n", MAKERS + 3, all.rounds);
    return 0;
}
