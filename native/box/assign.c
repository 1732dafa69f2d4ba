/* What turns a parked sandbox, which has everything but a function, into one function's: its limits, and its code, put
 * in from outside. Nothing in the sandbox has a privilege for either, and no user code has run in it yet. */
#include "internal.h"
#include "mountapi.h"

#include <fcntl.h>
#include <sched.h>

static const char STAGE[] = "assign";

int box_mount_into(int pidfd, int mount_fd, const char *path, int opt_fd, struct box_error *err)
{
    /* A thread that shares its folder and root with others may not change its mount namespace. */
    if (unshare(CLONE_FS) < 0)
        return box_fail(err, STAGE, "cannot have a root of its own");
    cleanup_close int own = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC);
    cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (own < 0 || root < 0 || folder < 0)
        return box_fail(err, STAGE, "cannot hold on to the mount namespace");
    if (setns(pidfd, CLONE_NEWNS) < 0)
        return box_fail(err, STAGE, "cannot enter the sandbox's mounts");
    int status = box_move_mount(mount_fd, path) < 0 ? box_fail(err, STAGE, "cannot attach %s", path) : 0;
    if (status == 0 && opt_fd >= 0 && box_move_mount(opt_fd, "/opt") < 0)
        status = box_fail(err, STAGE, "cannot attach /opt");
    /* Who enters a mount namespace is at its root: also on the way back. */
    if (setns(own, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0 || fchdir(folder) < 0)
        return box_fail(err, BOX_STRANDED, "this thread cannot go back to its own mounts");
    BOX_STEP("assign: code mounted");
    return status;
}
