/* User namespaces: how an engine that is not root has sandboxes all the same.
 *
 * Two levels. A zygote (and the engine's mounter, which makes detached mounts) leaves the host's user namespace for one
 * where its own ids go on meaning what they meant and where it has every capability, over what it makes there and over
 * nothing of the host. Each sandbox is cloned into a namespace below that: in its own numbering it is a user of its
 * own, the kernel counts its processes apart from its neighbours' (RLIMIT_NPROC, Linux 5.14), and the mounts that it
 * inherits are locked. To the host all of them are the engine's user. Where the user has ids of its own to give away,
 * the engine maps them into the zygote's namespace, and sandboxes are made there as root makes them.
 * user_namespaces(7). */
#include "internal.h"
#include "mountapi.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static const char STAGE[] = "user namespace";

static int write_once(const char *path, const char *text, struct box_error *err)
{
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t length = (ssize_t)strlen(text);

    if (fd < 0 || write(fd, text, (size_t)length) != length)
        return box_fail(err, STAGE, "cannot write %s", path);
    return 0;
}

/* One id each: what a user may map without being asked. The groups that the user is in besides stay, and cannot be
 * given up: the kernel demands that before it lets a group be mapped. */
static int map_ids(uint32_t uid, uint32_t outer_uid, uint32_t gid, uint32_t outer_gid, struct box_error *err)
{
    char users[48], groups[48];

    snprintf(users, sizeof users, "%u %u 1", uid, outer_uid);
    snprintf(groups, sizeof groups, "%u %u 1", gid, outer_gid);
    if (write_once("/proc/self/setgroups", "deny", err) < 0 || write_once("/proc/self/uid_map", users, err) < 0 ||
        write_once("/proc/self/gid_map", groups, err) < 0)
        return -1;
    return 0;
}

int box_user_enter(int mapped, struct box_error *err)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return box_fail(err, STAGE, "cannot make one");
    return mapped ? 0 : map_ids(uid, uid, gid, gid, err);
}

int box_user_become(uint32_t uid, uint32_t outer_uid, uint32_t outer_gid, struct box_error *err)
{
    return map_ids(uid, outer_uid, uid, outer_gid, err);
}

/* The first process of the new PID namespace: it alone can make a /proc of it. */
static int try_proc(struct box_error *err)
{
    int status = 0;
    pid_t first = fork();

    if (first == 0) {
        cleanup_close int proc = box_proc_make(err);
        _exit(proc < 0 ? (errno & 0x7f) | 0x80 : 0);
    }
    if (first < 0 || waitpid(first, &status, 0) < 0)
        return box_fail(err, "processes", "cannot start one in a PID namespace of its own");
    if (status == 0)
        return 0;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) & 0x7f : 0;
    return box_fail(err, "mount /proc", "cannot have one");
}

static int try_all(uid_t uid, gid_t gid, struct box_error *err)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                CLONE_NEWCGROUP) < 0)
        return box_fail(err, STAGE, "cannot make those of a sandbox");
    if (box_user_become(1, uid, gid, err) < 0 || box_net_loopback_up(err) < 0)
        return -1;
    return try_proc(err);
}

int box_user_try(struct box_error *err)
{
    struct box_error said = {0};
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int ends[2], status;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return box_fail(err, STAGE, "cannot make a pipe");
    cleanup_close int from = ends[0], into = ends[1];
    pid_t child = fork();
    if (child == 0) {
        if (try_all(uid, gid, &said) < 0 && write(into, &said, sizeof said) < 0)
            _exit(2);
        _exit(0);
    }
    close(box_take(&into));
    if (child < 0)
        return box_fail(err, STAGE, "cannot start a process");
    ssize_t got = read(from, &said, sizeof said);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (got == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (got != sizeof said) {
        errno = 0;
        return box_fail(err, STAGE, "the trial did not come to its end");
    }
    *err = said;
    return -1;
}
