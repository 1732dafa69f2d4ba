/* /tmp in memory: a tmpfs of so many bytes and files, as a detached mount.
 *
 * Its pages are charged to the cgroup of whoever writes them, so that it eats the memory tier of a sandbox: the weaker
 * form. It needs no device and no privilege beyond its own user namespace: only CAP_SYS_ADMIN over the one that the
 * caller's mount namespace belongs to. */
#include "internal.h"
#include "mountapi.h"
#include "scratch.h"

#include <stdio.h>

static const char STAGE[] = "tmp mount";

int box_tmpfs_mount(uint64_t size_bytes, uint64_t files, struct box_error *err)
{
    char size[24], inodes[24];

    snprintf(size, sizeof size, "%llu", (unsigned long long)size_bytes);
    snprintf(inodes, sizeof inodes, "%llu", (unsigned long long)files + 1); /* one is the root's */
    cleanup_close int fs = box_fsopen("tmpfs");
    if (fs < 0 || box_fsconfig(fs, FSCONFIG_SET_STRING, "size", size) < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", inodes) < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "1777") < 0 ||
        box_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return box_fail(err, STAGE, "cannot make a tmpfs of %s bytes", size);
    int mount = box_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
    return mount >= 0 ? mount : box_fail(err, STAGE, "cannot mount a tmpfs");
}

int box_scratch_tmpfs(struct box_scratch *scratch, uint64_t size_bytes, uint64_t files, struct box_error *err)
{
    *scratch = (struct box_scratch){.kind = BOX_SCRATCH_TMPFS, .root = -1, .image = -1};
    scratch->mount = box_tmpfs_mount(size_bytes, files, err);
    return scratch->mount < 0 ? -1 : 0;
}
