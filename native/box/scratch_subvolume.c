/* /tmp as a btrfs subvolume whose quota group has a limit of bytes.
 *
 * What describes a file takes bytes of the same limit, so that many small files end at it too; there is no limit of
 * files. btrfs has no encryption. A user may make subvolumes, each of which would be without a limit: the filter of
 * system calls refuses that (seccomp.c). */
#include "internal.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static const char STAGE[] = "tmp subvolume";

/* A number that the kernel shows of a quota group. */
static int read_group(int fd, uint64_t subvolume, const char *what, uint64_t *number)
{
    struct btrfs_ioctl_fs_info_args info = {0};
    char path[128], hex[2 * BTRFS_FSID_SIZE + 5], *put = hex;

    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
        return -1;
    for (int which = 0; which < BTRFS_FSID_SIZE; which++)
        put += sprintf(put, which == 4 || which == 6 || which == 8 || which == 10 ? "-%02x" : "%02x", info.fsid[which]);
    snprintf(path, sizeof path, "/sys/fs/btrfs/%s/qgroups/0_%llu/%s", hex, (unsigned long long)subvolume, what);
    cleanup_close int file = open(path, O_RDONLY | O_CLOEXEC);
    return file < 0 ? -1 : box_number(file, number);
}

int box_subvolume_used(const struct box_scratch *scratch, uint64_t *bytes, struct box_error *err)
{
    uint64_t stored, reserved;

    /* What is written counts as reserved until the file system's next commit. */
    if (read_group(scratch->root, scratch->subvolume, "referenced", &stored) < 0 ||
        read_group(scratch->root, scratch->subvolume, "rsv_data", &reserved) < 0)
        return box_fail(err, STAGE, "cannot ask for what is used");
    *bytes = stored + reserved;
    return 0;
}

static int set_limit(const struct box_scratch *scratch, uint64_t size_bytes, struct box_error *err)
{
    struct btrfs_ioctl_qgroup_limit_args wanted = {
        .qgroupid = scratch->subvolume,
        .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = size_bytes},
    };
    uint64_t found;

    if (ioctl(scratch->root, BTRFS_IOC_QGROUP_LIMIT, &wanted) < 0)
        return errno == ENOTCONN ? box_fail(err, STAGE, "quotas are off in this btrfs")
                                 : box_fail(err, STAGE, "cannot write the limit");
    if (read_group(scratch->root, scratch->subvolume, "max_referenced", &found) < 0)
        return box_fail(err, STAGE, "cannot read the limit back");
    if (found != size_bytes) {
        errno = 0;
        return box_fail(err, STAGE, "the kernel has another limit than was written");
    }
    return 0;
}

/* The number of the subvolume that a folder is the root of. */
static int find_number(int folder, uint64_t *number)
{
    struct btrfs_ioctl_ino_lookup_args asked = {.objectid = BTRFS_FIRST_FREE_OBJECTID};

    if (ioctl(folder, BTRFS_IOC_INO_LOOKUP, &asked) < 0)
        return -1;
    *number = asked.treeid;
    return 0;
}

static int fill_subvolume(struct box_scratch *scratch, uint64_t size_bytes, struct box_error *err)
{
    struct btrfs_ioctl_vol_args wanted = {0};
    uint32_t number;

    if (box_tmp_folder_number(&number, err) < 0)
        return -1;
    snprintf(wanted.name, sizeof wanted.name, "%08x", number);
    if (ioctl(scratch->root, BTRFS_IOC_SUBVOL_CREATE, &wanted) < 0)
        return errno == ENOTTY ? box_fail(err, STAGE, "the file system is not btrfs")
                               : box_fail(err, STAGE, "cannot make a subvolume");
    memcpy(scratch->name, wanted.name, sizeof scratch->name); /* from here on there is something to remove */
    BOX_STEP("tmp: folder made");
    cleanup_close int folder = openat(scratch->root, scratch->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0 || find_number(folder, &scratch->subvolume) < 0)
        return box_fail(err, STAGE, "cannot find the subvolume's number");
    if (set_limit(scratch, size_bytes, err) < 0)
        return -1;
    BOX_STEP("tmp: limits set");
    if (fchmod(folder, 01777) < 0)
        return box_fail(err, STAGE, "cannot open the folder to all");
    return box_tmp_folder_mount(scratch, err);
}

int box_scratch_subvolume(struct box_scratch *scratch, const char *dir, uint64_t size_bytes, struct box_error *err)
{
    if (box_tmp_folder_open(scratch, BOX_SCRATCH_SUBVOLUME, dir, 0, err) < 0)
        return -1;
    if (fill_subvolume(scratch, size_bytes, err) == 0)
        return 0;
    box_scratch_close(scratch);
    return -1;
}

int box_subvolume_quota(const char *dir, struct box_error *err)
{
    struct btrfs_ioctl_quota_ctl_args on = {.cmd = BTRFS_QUOTA_CTL_ENABLE};

    cleanup_close int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return box_fail(err, STAGE, "cannot open %s", dir);
    if (ioctl(folder, BTRFS_IOC_QUOTA_CTL, &on) < 0 && errno != EEXIST)
        return errno == ENOTTY ? box_fail(err, STAGE, "the file system is not btrfs")
                               : box_fail(err, STAGE, "cannot turn quotas on");
    return 0;
}

int box_subvolume_remove(int root, const char *name, struct box_error *err)
{
    struct btrfs_ioctl_vol_args gone = {0};
    struct btrfs_ioctl_qgroup_create_args group = {.create = 0};
    uint64_t number = 0;

    cleanup_close int folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return errno == ENOENT ? 0 : box_fail(err, STAGE, "cannot open %s", name);
    if (find_number(folder, &number) < 0)
        return box_fail(err, STAGE, "cannot find the number of %s", name);
    close(box_take(&folder));
    snprintf(gone.name, sizeof gone.name, "%s", name);
    if (ioctl(root, BTRFS_IOC_SNAP_DESTROY, &gone) < 0)
        return box_fail(err, STAGE, "cannot remove %s", name);
    BOX_STEP("tmp: emptied");
    /* From Linux 6.11 on the kernel does it itself, and refuses to be asked before all of it is gone. */
    group.qgroupid = number;
    (void)ioctl(root, BTRFS_IOC_QGROUP_CREATE, &group);
    return 0;
}
