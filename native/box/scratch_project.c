/* /tmp as a folder that is a project of its own: ext4 and XFS count what is stored under a project's number, and refuse
 * what is over its hard limits of bytes and of files.
 *
 * What is made in the folder belongs to the project by inheritance, and the file system moves and links nothing across
 * projects. That a file's owner may give it to another project, outside of user namespaces, is why the filter of system
 * calls refuses that request (seccomp.c). Where the file system can encrypt, the folder is locked as an image's is
 * (scratch_crypt); the key hangs on the host's file system then, so that a killed engine's is wiped by the next start.
 *
 * The number is chosen at random among those that nobody uses, since several engines may share a file system. */
#include "internal.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

static const char STAGE[] = "tmp project";

enum {
    NUMBER_TRIES = 16,
    UNIT = 1024, /* of Q_SETQUOTA's limits, QIF_DQBLKSIZE in linux/quota.h */
    BLOCK_MAX = 1 << 16,
    GONE_TRIES = 100, /* times 2 ms */
};

static int quota(int fd, int command, uint32_t project, void *argument)
{
    return (int)syscall(SYS_quotactl_fd, (unsigned)fd, QCMD(command, PRJQUOTA), project, argument);
}

/* What a project stores and its limits. One that the file system has never heard of is nothing. */
static int ask(int fd, uint32_t project, struct if_dqblk *found)
{
    memset(found, 0, sizeof *found);
    if (quota(fd, Q_GETQUOTA, project, found) == 0)
        return 0;
    return errno == ENOENT || errno == ESRCH ? 0 : -1;
}

static int limit(int fd, uint32_t project, uint64_t units, uint64_t files)
{
    struct if_dqblk wanted = {.dqb_bhardlimit = units, .dqb_ihardlimit = files, .dqb_valid = QIF_LIMITS};

    return quota(fd, Q_SETQUOTA, project, &wanted);
}

/* Whether limits of projects hold here, and not only counts. */
static int check_enforced(int fd, struct box_error *err)
{
    struct fs_quota_statv state = {.qs_version = FS_QSTATV_VERSION1};

    if (quota(fd, Q_XGETQSTATV, 0, &state) < 0) {
        if (errno == ENOSYS)
            return box_fail(err, STAGE, "this kernel has no quotas (CONFIG_QUOTA), or is older than 5.14");
        return box_fail(err, STAGE, "the file system keeps no quotas of projects");
    }
    if (state.qs_flags & FS_QUOTA_PDQ_ENFD)
        return 0;
    errno = ESRCH;
    return box_fail(err, STAGE, "the file system is mounted without limits of projects");
}

static int choose_number(struct box_scratch *scratch, struct box_error *err)
{
    for (int tries = 0; tries < NUMBER_TRIES; tries++) {
        struct if_dqblk found;
        if (box_tmp_folder_number(&scratch->project, err) < 0)
            return -1;
        if (ask(scratch->root, scratch->project, &found) < 0)
            return box_fail(err, STAGE, "cannot ask for a project's quota");
        if (found.dqb_curspace == 0 && found.dqb_curinodes == 0 && found.dqb_bhardlimit == 0)
            return 0;
    }
    errno = EUSERS;
    return box_fail(err, STAGE, "found no number that is free for a project");
}

static int make_project(int folder, uint32_t project, struct box_error *err)
{
    struct fsxattr attributes;

    if (ioctl(folder, FS_IOC_FSGETXATTR, &attributes) < 0)
        return box_fail(err, STAGE, "the file system knows no projects");
    attributes.fsx_projid = project;
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    if (ioctl(folder, FS_IOC_FSSETXATTR, &attributes) < 0)
        return box_fail(err, STAGE, "the file system takes no project");
    if (ioctl(folder, FS_IOC_FSGETXATTR, &attributes) < 0 || attributes.fsx_projid != project ||
        !(attributes.fsx_xflags & FS_XFLAG_PROJINHERIT)) {
        errno = 0;
        return box_fail(err, STAGE, "the folder did not become part of its project");
    }
    return 0;
}

static int set_limits(int fd, uint32_t project, uint64_t size_bytes, uint64_t files, struct box_error *err)
{
    struct if_dqblk found;
    /* XFS keeps whole blocks of its own. */
    uint64_t units = (size_bytes + BLOCK_MAX - 1) / BLOCK_MAX * (BLOCK_MAX / UNIT);

    /* One file is the folder itself. */
    if (limit(fd, project, units, files + 1) < 0)
        return box_fail(err, STAGE, "cannot write the limits");
    if (ask(fd, project, &found) < 0)
        return box_fail(err, STAGE, "cannot read the limits back");
    if (found.dqb_bhardlimit != units || found.dqb_ihardlimit != files + 1) {
        errno = 0;
        return box_fail(err, STAGE, "the kernel has other limits than were written");
    }
    return 0;
}

static int fill_project(struct box_scratch *scratch, uint64_t size_bytes, uint64_t files, struct box_error *err)
{
    if (check_enforced(scratch->root, err) < 0 || choose_number(scratch, err) < 0)
        return -1;
    char name[sizeof scratch->name];
    snprintf(name, sizeof name, "%08x", scratch->project);
    if (mkdirat(scratch->root, name, 0700) < 0)
        return box_fail(err, STAGE, "cannot make a folder");
    memcpy(scratch->name, name, sizeof name); /* from here on there is something to remove */
    BOX_STEP("tmp: folder made");
    cleanup_close int folder = openat(scratch->root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return box_fail(err, STAGE, "cannot open a folder");
    if (make_project(folder, scratch->project, err) < 0)
        return -1;
    BOX_STEP("tmp: project set");
    if (set_limits(folder, scratch->project, size_bytes, files, err) < 0)
        return -1;
    BOX_STEP("tmp: limits set");
    if (scratch->flags & BOX_SCRATCH_ENCRYPT && box_crypt_lock(scratch->root, name, scratch->key_id, err) < 0)
        return -1;
    if (fchmod(folder, 01777) < 0)
        return box_fail(err, STAGE, "cannot open the folder to all");
    return box_tmp_folder_mount(scratch, err);
}

int box_scratch_project(struct box_scratch *scratch, const char *dir, uint64_t size_bytes, uint64_t files,
                        unsigned flags, struct box_error *err)
{
    if (box_tmp_folder_open(scratch, BOX_SCRATCH_PROJECT, dir, flags, err) < 0)
        return -1;
    if (fill_project(scratch, size_bytes, files, err) == 0)
        return 0;
    box_scratch_close(scratch);
    return -1;
}

/* Whether nothing but the folder is left of a project. XFS takes away what was removed in its own time. */
static int is_empty(int folder, uint32_t project)
{
    static const struct timespec A_MOMENT = {.tv_nsec = 2000000};
    struct if_dqblk found;
    struct statfs pushed;

    for (int tries = 0; tries < GONE_TRIES; tries++) {
        /* Being asked for this, XFS hurries. */
        if (fstatfs(folder, &pushed) < 0 || ask(folder, project, &found) < 0)
            return 0;
        if (found.dqb_curinodes <= 1)
            return 1;
        nanosleep(&A_MOMENT, NULL);
    }
    return 0;
}

/* The order is that of a death at any point: while the folder is there, the next start finds its number and its key. */
int box_project_remove(int root, const char *name, struct box_error *err)
{
    struct fsxattr attributes = {0};
    uint8_t key_id[BOX_KEY_ID];

    cleanup_close int folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return errno == ENOENT ? 0 : box_fail(err, STAGE, "cannot open %s", name);
    if (fchmod(folder, 0700) < 0 || box_folder_empty(folder) < 0)
        return box_fail(err, STAGE, "cannot empty %s", name);
    BOX_STEP("tmp: emptied");
    if (ioctl(folder, FS_IOC_FSGETXATTR, &attributes) < 0)
        attributes.fsx_projid = 0;
    /* It is called by its number. What has another one inherited it, from a folder above that is somebody's project. */
    uint32_t project = (uint32_t)strtoul(name, NULL, 16);
    if (attributes.fsx_projid != project)
        project = 0;
    if (project != 0 && !is_empty(folder, project)) {
        errno = EBUSY; /* then its limits stay, and hold */
        return box_fail(err, STAGE, "somebody has a file of %s open", name);
    }
    int locked = box_crypt_key(folder, key_id), held;
    close(box_take(&folder));
    if (locked)
        box_crypt_forget(root, key_id, &held); /* is not there after a boot */
    if (project != 0 && limit(root, project, 0, 0) < 0)
        return box_fail(err, STAGE, "cannot take the limits of %s away", name);
    BOX_STEP("tmp: limits gone");
    if (unlinkat(root, name, AT_REMOVEDIR) < 0)
        return box_fail(err, STAGE, "cannot remove %s", name);
    return 0;
}
