/* A zygote's side: one request in, one sandbox out.
 *
 * The clone is CLONE_PARENT: the engine is the sandbox's parent and only reaper, and a zygote that dies takes nobody
 * with it. The new process tells its own set-up failures on its report pipe; the zygote answers as soon as it is
 * cloned. */
#include "internal.h"
#include "wire.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static const char STAGE[] = "clone";

struct clone3_args { /* linux/sched.h before 5.7 has no cgroup */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

static pid_t clone_sandbox(uint64_t namespaces, int into_fd, int *pidfd, pid_t *journal)
{
    int *tid = box_tid_address();
    void *robust_head = NULL;
    size_t robust_size = 0;
    struct clone3_args args = {
        .flags = namespaces | CLONE_PARENT | CLONE_PIDFD | CLONE_PARENT_SETTID,
        .pidfd = (uintptr_t)pidfd,
        .parent_tid = (uintptr_t)journal,
    };

    if (tid != NULL) {
        args.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
        args.child_tid = (uintptr_t)tid;
    }
    if (into_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)into_fd;
    }
    syscall(SYS_get_robust_list, 0, &robust_head, &robust_size);
    *journal = 0; /* and the page is there: the kernel's own write cannot fail in a process that is being killed */
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0)
        *pidfd = -1; /* the kernel writes it early, and leaves the number there when it fails later */
    /* The kernel clears the list of robust futexes in a child; the C library relies on it. */
    if (pid == 0 && robust_head != NULL)
        syscall(SYS_set_robust_list, robust_head, robust_size);
    return pid;
}

/* Sort the descriptors of a message into their places; -1 if they are not what the request says. */
static int unpack(const struct box_fork_request *request, ssize_t size, const int *flat, size_t count,
                  struct box_fork_fds *fds)
{
    if (size != sizeof *request || request->version != BOX_WIRE_VERSION || request->n_join > BOX_HIERARCHIES ||
        count != 5 + (request->code != 0) + (request->opt != 0) + (request->net != 0) + (request->into != 0) +
                     request->n_join)
        return -1;
    size_t next = 5;
    fds->answers = flat[0];
    fds->events = flat[1];
    fds->log = flat[2];
    fds->report = flat[3];
    fds->tmp = flat[4];
    fds->code = request->code ? flat[next++] : -1;
    fds->opt = request->opt ? flat[next++] : -1;
    fds->net = request->net ? flat[next++] : -1;
    fds->into = request->into ? flat[next++] : -1;
    for (uint32_t which = 0; which < request->n_join; which++)
        fds->join[which] = flat[next++];
    return 0;
}

/* What a request makes of the clone. */
struct start {
    uint64_t namespaces;
    int outcome; /* of box_forkserver, in the guest */
    int (*set_up)(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_boot *boot,
                  struct box_error *err);
};

static int plan(const struct box_fork_request *request, ssize_t size, const int *flat, size_t count,
                struct box_fork_fds *fds, struct start *start)
{
#ifdef BOX_BARE
    /* A clone without any isolation, to measure what isolation costs. Only the module that bench/bare_build.py makes
     * for itself has these lines: an engine's zygote answers that such a request is not of its version, and nothing in
     * an engine makes one. */
    const struct box_bare_request *bare = (const struct box_bare_request *)request;
    if (size == sizeof *bare && bare->version == BOX_WIRE_BARE && count == 4) {
        *fds = (struct box_fork_fds){.answers = flat[0], .events = flat[1], .log = flat[2], .report = flat[3]};
        fds->into = -1;
        *start = (struct start){0, bare->parks ? 2 : 1, box_spawn_bare};
        return 0;
    }
#endif
    if (unpack(request, size, flat, count, fds) < 0)
        return -1;
    *start = (struct start){CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS, request->code ? 1 : 2,
                            box_spawn_setup};
    if (fds->net < 0 && !box_net_made_inside(request, fds))
        start->namespaces |= CLONE_NEWNET;
    if (request->own_user)
        start->namespaces |= CLONE_NEWUSER;
    return 0;
}

/* Where the kernel itself notes each clone. Not in the memory of sandboxes, which could write there. */
static pid_t *map_journal(int journal, struct box_error *err)
{
    void *page = mmap(NULL, sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED, journal, 0);

    if (page == MAP_FAILED || madvise(page, sizeof(pid_t), MADV_DONTFORK) < 0 || close(journal) < 0) {
        box_fail(err, "zygote", "cannot map its journal");
        return NULL;
    }
    return page;
}

int box_zygote_leave_host(struct box_error *err)
{
    static const char hostname[] = "sandbox";

    if (unshare(CLONE_NEWNET | CLONE_NEWUTS) < 0)
        return box_fail(err, "zygote", "cannot leave the host's network");
    return sethostname(hostname, sizeof hostname - 1) < 0 ? box_fail(err, "hostname", "cannot set it") : 0;
}

int box_forkserver(int sock, int journal, const struct box_fork_hooks *hooks, struct box_boot *boot,
                   struct box_error *err)
{
    pid_t *cloned = map_journal(journal, err);

    if (cloned == NULL)
        return -1;
    box_seccomp_prepare();
    for (;;) {
        struct box_fork_request request;
        struct box_fork_reply reply = {.pid = -1};
        struct box_fork_fds fds;
        struct start start = {0};
        int flat[BOX_WIRE_FDS], pidfd = -1;
        size_t count = BOX_WIRE_FDS;

        ssize_t size = box_wire_receive(sock, &request, sizeof request, flat, &count);
        if (size == 0)
            return 0;
        BOX_STEP("zygote: asked");
        if (size < 0)
            return box_fail(err, "zygote", "cannot receive a request");
        if (plan(&request, size, flat, count, &fds, &start) < 0) {
            errno = EPROTO;
            box_fail(&reply.error, "zygote", "the request is not of this version");
        } else {
            hooks->before();
            reply.pid = clone_sandbox(start.namespaces, fds.into, &pidfd, cloned);
            if (reply.pid == 0) {
                boot->ns[0] = box_now_ns();
                BOX_STEP("sandbox: cloned");
                if (start.set_up(&request, &fds, boot, err) < 0)
                    _exit(125);
                hooks->child();
                boot->ns[BOX_BOOT_MARKS - 1] = box_now_ns();
                return start.outcome;
            }
            if (reply.pid < 0)
                box_fail(&reply.error, STAGE, "cannot clone a sandbox");
            hooks->parent();
            BOX_STEP("zygote: cloned");
        }
        for (size_t which = 0; which < count; which++)
            close(flat[which]);
        BOX_STEP("zygote: let go");
        int sent = box_wire_send(sock, &reply, sizeof reply, &pidfd, pidfd >= 0);
        BOX_STEP("zygote: answered");
        if (pidfd >= 0)
            close(pidfd);
        if (sent < 0)
            return errno == EPIPE ? 0 : box_fail(err, "zygote", "cannot answer");
    }
}
