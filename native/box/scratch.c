/* /tmp: an ext4 image of the quota's size in a nameless file, on a loop device, as a detached mount.
 *
 * A tmpfs would be simpler, and its pages would be charged to the memory tier (moby#47967). Here the pages are
 * reclaimable cache. Nothing of it has a name: the file is unlinked from birth, the loop device clears itself, the
 * mount hangs on its descriptor. Whatever is killed, the kernel takes all of it away. */
#include "internal.h"
#include "mountapi.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

static const char STAGE[] = "tmp image";

/* Copy the parts of a sparse file that hold data. */
static int copy_extents(int from, int to, struct box_error *err)
{
    off_t start = 0, end;
    struct stat status;

    if (fstat(from, &status) < 0 || ftruncate(to, status.st_size) < 0)
        return box_fail(err, STAGE, "cannot size the image");
    while ((start = lseek(from, start, SEEK_DATA)) >= 0) {
        end = lseek(from, start, SEEK_HOLE);
        if (end < 0)
            return box_fail(err, STAGE, "cannot find the end of an extent");
        while (start < end) {
            off_t into = start;
            ssize_t copied = copy_file_range(from, &start, to, &into, (size_t)(end - start), 0);
            if (copied <= 0)
                return box_fail(err, STAGE, "cannot copy the image");
        }
    }
    return errno == ENXIO ? 0 : box_fail(err, STAGE, "cannot find the next extent");
}

/* Bind `image` to a free loop device that clears itself; returns the device and writes its path. */
static int attach_loop(int image, char *path, size_t size, struct box_error *err)
{
    cleanup_close int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (control < 0)
        return box_fail(err, "tmp loop device", "cannot open /dev/loop-control");
    for (int tries = 0; tries < 64; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return box_fail(err, "tmp loop device", "no free loop device");
        snprintf(path, size, "/dev/loop%d", number);
        cleanup_close int device = open(path, O_RDWR | O_CLOEXEC);
        if (device < 0)
            return box_fail(err, "tmp loop device", "cannot open %s", path);
        struct loop_config config = {.fd = (unsigned)image, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        if (ioctl(device, LOOP_CONFIGURE, &config) == 0)
            return box_take(&device);
        if (errno != EBUSY) /* EBUSY: somebody else took that number in between */
            return box_fail(err, "tmp loop device", "cannot configure %s", path);
    }
    return box_fail(err, "tmp loop device", "every free loop device was taken by others");
}

int box_scratch_mount(const char *template_path, const char *dir, struct box_error *err)
{
    char device_path[32];

    cleanup_close int template = open(template_path, O_RDONLY | O_CLOEXEC);
    if (template <0)
        return box_fail(err, STAGE, "cannot open the template %s", template_path);
    cleanup_close int image = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (image < 0)
        return box_fail(err, STAGE, "cannot make a nameless file in %s", dir);
    if (copy_extents(template, image, err) < 0)
        return -1;
    cleanup_close int device = attach_loop(image, device_path, sizeof device_path, err);
    if (device < 0)
        return -1;
    cleanup_close int fs = box_fsopen("ext4");
    if (fs < 0)
        return box_fail(err, "tmp mount", "this kernel has no ext4");
    /* noinit_itable: no kernel thread that writes inode tables nobody will use. */
    if (box_fsconfig(fs, FSCONFIG_SET_STRING, "source", device_path) < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_FLAG, "noinit_itable", NULL) < 0 ||
        box_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return box_fail(err, "tmp mount", "cannot mount %s", device_path);
    cleanup_close int mount = box_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
    if (mount < 0)
        return box_fail(err, "tmp mount", "cannot mount %s", device_path);
    if (fchmodat(mount, ".", 01777, 0) < 0 || (unlinkat(mount, "lost+found", AT_REMOVEDIR) < 0 && errno != ENOENT))
        return box_fail(err, "tmp mount", "cannot prepare /tmp");
    return box_take(&mount);
}

int box_scratch_tmpfs(uint64_t size_bytes, struct box_error *err)
{
    char size[24];

    snprintf(size, sizeof size, "%llu", (unsigned long long)size_bytes);
    cleanup_close int fs = box_fsopen("tmpfs");
    if (fs < 0 || box_fsconfig(fs, FSCONFIG_SET_STRING, "size", size) < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "1777") < 0 ||
        box_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return box_fail(err, "tmp mount", "cannot make a tmpfs of %s bytes", size);
    int mount = box_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
    return mount >= 0 ? mount : box_fail(err, "tmp mount", "cannot mount a tmpfs");
}

int box_mount_used(int mount_fd, uint64_t *bytes, struct box_error *err)
{
    struct statfs status;

    if (fstatfs(mount_fd, &status) < 0)
        return box_fail(err, "tmp mount", "cannot ask for what is used");
    *bytes = (uint64_t)(status.f_blocks - status.f_bfree) * (uint64_t)status.f_bsize;
    return 0;
}
