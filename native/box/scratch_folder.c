/* /tmp as a folder of the host's own file system, which that file system holds to its quota: a project
 * (scratch_project) or a subvolume (scratch_subvolume). What the two share: the folder's place, its mount, and its
 * removal.
 *
 * Other than an image it has a name on the host, so that what a killed engine leaves is there at the next start: it is
 * found in the one folder that holds them all, and removed as its sandbox's end would have. */
#include "internal.h"
#include "mountapi.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>

static const char STAGE[] = "tmp folder";
static const char MOUNT_STAGE[] = "tmp mount";

int box_tmp_folder_open(struct box_scratch *scratch, enum box_scratch_kind kind, const char *dir, unsigned flags,
                        struct box_error *err)
{
    *scratch = (struct box_scratch){.kind = kind, .mount = -1, .image = -1, .flags = flags};
    scratch->root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return scratch->root >= 0 ? 0 : box_fail(err, STAGE, "cannot open %s", dir);
}

int box_tmp_folder_number(uint32_t *number, struct box_error *err)
{
    /* What is small is what an operator gives to projects of their own. */
    do
        if (getrandom(number, sizeof *number, 0) != sizeof *number)
            return box_fail(err, STAGE, "no random number");
    while (*number < 1u << 24 || *number == UINT32_MAX);
    return 0;
}

int box_tmp_folder_mount(struct box_scratch *scratch, struct box_error *err)
{
    /* No noatime, which a copy of a mount would take only in exchange for what it has: the host's choice holds. */
    cleanup_close int mount = box_open_tree(scratch->root, scratch->name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (mount < 0 || box_mount_setattr(mount, 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV) < 0)
        return box_fail(err, MOUNT_STAGE, "cannot mount %s", scratch->name);
    scratch->mount = box_take(&mount);
    BOX_STEP("tmp: ready");
    return 0;
}

/* The root of a btrfs subvolume has a number of its own. */
static int is_subvolume(int folder, const char *name)
{
    struct stat status;
    struct statfs system;

    return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_ino == BTRFS_FIRST_FREE_OBJECTID &&
           fstatfs(folder, &system) == 0 && system.f_type == BTRFS_SUPER_MAGIC;
}

int box_tmp_folder_remove(int folder, const char *name, struct box_error *err)
{
    return is_subvolume(folder, name) ? box_subvolume_remove(folder, name, err) : box_project_remove(folder, name, err);
}

int box_scratch_sweep(const char *dir, struct box_error *err)
{
    int removed = 0, status = 0;
    cleanup_close int folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return errno == ENOENT ? 0 : box_fail(err, STAGE, "cannot open %s", dir);
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again < 0 ? NULL : fdopendir(again);
    struct dirent *entry;

    if (list == NULL) {
        box_fail(err, STAGE, "cannot list %s", dir);
        box_close_ptr(&again);
        return -1;
    }
    while ((entry = readdir(list)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        if (box_tmp_folder_remove(folder, entry->d_name, err) < 0)
            status = -1;
        else
            removed++;
    }
    closedir(list);
    return status < 0 ? -1 : removed;
}
