/* /tmp: an ext4 image of the quota's size in a nameless file, on a loop device, as a detached mount.
 *
 * A tmpfs would be simpler, and its pages would be charged to the memory tier (moby#47967). Here the pages are
 * reclaimable cache. Nothing of it has a name: the file is unlinked from birth, the loop device clears itself, the
 * mount hangs on its descriptor. Whatever is killed, the kernel takes all of it away.
 *
 * What becomes /tmp is a folder in the image, since fscrypt takes no policy on a root. The mount that a sandbox gets is
 * of the whole image; the sandbox covers it with that folder (box_mounts_enter). A detached mount of the folder alone
 * could be made here from Linux 6.15 on only.
 *
 * An image costs some 2 ms to make and 2 ms to take away, so one that was used is emptied and handed out again under
 * another key, in a tenth of that: only where it is encrypted, because removing the key proves that nobody has a file
 * of it open, and only if it is then exactly as it was. */
#include "scratch.h"
#include "internal.h"
#include "mountapi.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

static const char STAGE[] = "tmp image";
static const char MOUNT_STAGE[] = "tmp mount";

enum {
    WIPE_MAX = 1000,       /* files that are removed one by one; more go with the file system */
    RENEWALS_MAX = 64,     /* what a sandbox may leave in the kernel's structures does not add up */
    KEPT_BYTES = 4 << 20,  /* what an image may take of the disk beyond a fresh one before that is given back */
    DIRTY_BYTES = 1 << 20, /* not worth the trouble of dropping */
    BLOCK_BYTES = 4096,    /* of the device as of the file system: a mount then does not begin with smaller ones */
    SHUTDOWN_NO_FLUSH = 2, /* EXT4_GOING_FLAGS_NOLOGFLUSH */
};
#define EXT4_SHUTDOWN _IOR('X', 125, uint32_t)

/* Copy the parts of a sparse file that hold data. */
static int copy_extents(int from, int to, struct box_error *err)
{
    off_t start = 0, end;

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

/* A nameless file of the template's size. */
static int make_image(int template, const char *dir, unsigned flags, struct box_error *err)
{
    struct stat status;

    cleanup_close int image = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (image < 0)
        return box_fail(err, STAGE, "cannot make a nameless file in %s", dir);
    BOX_STEP("tmp: image made");
    if (fstat(template, &status) < 0 || ftruncate(image, status.st_size) < 0)
        return box_fail(err, STAGE, "cannot size the image");
    if (flags & BOX_SCRATCH_RESERVE && fallocate(image, 0, 0, status.st_size) < 0)
        return box_fail(err, STAGE, "cannot set %lld MB aside in %s", (long long)status.st_size >> 20, dir);
    return box_take(&image);
}

static void loop_path(unsigned loop, char *path, size_t size)
{
    snprintf(path, size, "/dev/loop%u", loop);
}

static int bind_loop(int image, const char *path)
{
    struct loop_config config = {.fd = (unsigned)image, .block_size = BLOCK_BYTES, .info.lo_flags = LO_FLAGS_AUTOCLEAR};

    cleanup_close int device = open(path, O_RDWR | O_CLOEXEC);
    BOX_STEP("tmp: loop device opened");
    return device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) == 0 ? box_take(&device) : -1;
}

/* Bind `image` to device `near` if that is there and free: asking for one the kernel looks at all, while nobody else
 * may ask. */
static int attach_near(int image, int near, unsigned *loop)
{
    char path[64];

    if (near < 0)
        return -1;
    snprintf(path, sizeof path, "/sys/block/loop%d/loop", near);
    if (access(path, F_OK) == 0) /* somebody's: not even opened */
        return -1;
    loop_path(*loop = (unsigned)near, path, sizeof path);
    return bind_loop(image, path);
}

/* Bind `image` to a free loop device that clears itself; returns the device and its number. */
static int attach_loop(int image, int near, unsigned *loop, struct box_error *err)
{
    char path[32];
    int device = attach_near(image, near, loop);

    if (device >= 0)
        return device;
    cleanup_close int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return box_fail(err, "tmp loop device", "cannot open /dev/loop-control");
    for (int tries = 0; tries < 64; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return box_fail(err, "tmp loop device", "no free loop device");
        loop_path(*loop = (unsigned)number, path, sizeof path);
        device = bind_loop(image, path);
        if (device >= 0)
            return device;
        if (errno != EBUSY) /* EBUSY: somebody else took that number in between */
            return box_fail(err, "tmp loop device", "cannot have %s", path);
    }
    return box_fail(err, "tmp loop device", "every free loop device was taken by others");
}

/* A detached mount of the image: its file system is opened by the first, and the same one for those after. */
static int mount_image(unsigned loop, struct box_error *err)
{
    char path[32];

    loop_path(loop, path, sizeof path);
    cleanup_close int fs = box_fsopen("ext4");
    if (fs < 0)
        return box_fail(err, MOUNT_STAGE, "this kernel has no ext4");
    /* noinit_itable: no kernel thread that writes inode tables nobody will use. nobarrier: nobody reads the image after
     * a crash, so that no fsync in a sandbox has to wait for the host's disk. remount-ro: when a full disk has cost the
     * file system a part of itself, writes fail from there on. */
    if (box_fsconfig(fs, FSCONFIG_SET_STRING, "source", path) < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_FLAG, "noinit_itable", NULL) < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_FLAG, "nobarrier", NULL) < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_STRING, "errors", "remount-ro") < 0 ||
        box_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return box_fail(err, MOUNT_STAGE, "cannot mount %s", path);
    BOX_STEP("tmp: file system open");
    int mount = box_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
    return mount >= 0 ? mount : box_fail(err, MOUNT_STAGE, "cannot mount %s", path);
}

/* How full the file system is. */
static int count_used(int fd, uint64_t *bytes, uint64_t *files)
{
    struct statfs status;

    if (fstatfs(fd, &status) < 0)
        return -1;
    *bytes = (uint64_t)(status.f_blocks - status.f_bfree) * (uint64_t)status.f_bsize;
    *files = (uint64_t)(status.f_files - status.f_ffree);
    return 0;
}

/* Bytes of the disk that an image takes. */
static int count_disk(int image, uint64_t *bytes)
{
    struct stat status;

    if (fstat(image, &status) < 0)
        return -1;
    *bytes = (uint64_t)status.st_blocks * 512;
    return 0;
}

static int make_folder(int root, struct box_error *err)
{
    if (mkdirat(root, BOX_SCRATCH_FOLDER, 0700) < 0)
        return box_fail(err, MOUNT_STAGE, "cannot make the folder for /tmp");
    if (fchmodat(root, BOX_SCRATCH_FOLDER, 01777, 0) < 0)
        return box_fail(err, MOUNT_STAGE, "cannot open the folder for /tmp to all");
    return 0;
}

static int lock_folder(struct box_scratch *scratch, struct box_error *err)
{
    return scratch->flags & BOX_SCRATCH_ENCRYPT
               ? box_crypt_lock(scratch->root, BOX_SCRATCH_FOLDER, scratch->key_id, err)
               : 0;
}

int box_scratch_template(const char *path, struct box_error *err)
{
    unsigned loop;

    cleanup_close int image = open(path, O_RDWR | O_CLOEXEC);
    if (image < 0)
        return box_fail(err, STAGE, "cannot open the template %s", path);
    cleanup_close int device = attach_loop(image, -1, &loop, err);
    if (device < 0)
        return -1;
    cleanup_close int mount = mount_image(loop, err);
    if (mount < 0)
        return -1;
    cleanup_close int root = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* What lies around the folder is the engine's: closed to the sandbox, should it ever see it. */
    if (root < 0 || fchmod(root, 0700) < 0 || (unlinkat(root, "lost+found", AT_REMOVEDIR) < 0 && errno != ENOENT))
        return box_fail(err, MOUNT_STAGE, "cannot prepare /tmp");
    if (make_folder(root, err) < 0)
        return -1;
    return syncfs(root) < 0 ? box_fail(err, MOUNT_STAGE, "cannot store the template %s", path) : 0;
}

static int fill_scratch(struct box_scratch *scratch, const char *template_path, const char *dir, int near,
                        struct box_error *err)
{
    cleanup_close int template = open(template_path, O_RDONLY | O_CLOEXEC);
    if (template <0)
        return box_fail(err, STAGE, "cannot open the template %s", template_path);
    scratch->image = make_image(template, dir, scratch->flags, err);
    if (scratch->image < 0)
        return -1;
    /* Bound while it is empty: the kernel writes to the disk what is in a file that becomes a device (loop_configure of
     * drivers/block/loop.c), and waits for that. */
    cleanup_close int device = attach_loop(scratch->image, near, &scratch->loop, err);
    if (device < 0)
        return -1;
    BOX_STEP("tmp: loop device bound");
    if (copy_extents(template, scratch->image, err) < 0)
        return -1;
    BOX_STEP("tmp: image filled");
    scratch->mount = mount_image(scratch->loop, err);
    if (scratch->mount < 0)
        return -1;
    BOX_STEP("tmp: mounted");
    scratch->root = openat(scratch->mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (scratch->root < 0)
        return box_fail(err, MOUNT_STAGE, "cannot open what is mounted");
    if (lock_folder(scratch, err) < 0)
        return -1;
    if (count_used(scratch->root, &scratch->base_bytes, &scratch->base_files) < 0 ||
        count_disk(scratch->image, &scratch->base_disk) < 0)
        return box_fail(err, MOUNT_STAGE, "cannot ask for what is used");
    BOX_STEP("tmp: ready");
    return 0;
}

int box_scratch_open(struct box_scratch *scratch, const char *template_path, const char *dir, unsigned flags, int near,
                     struct box_error *err)
{
    *scratch = (struct box_scratch){.kind = BOX_SCRATCH_IMAGE, .mount = -1, .root = -1, .image = -1, .flags = flags};
    if (fill_scratch(scratch, template_path, dir, near, err) == 0)
        return 0;
    box_scratch_close(scratch);
    return -1;
}

int box_scratch_used(const struct box_scratch *scratch, uint64_t *bytes, struct box_error *err)
{
    uint64_t files;

    if (scratch->kind == BOX_SCRATCH_SUBVOLUME)
        return box_subvolume_used(scratch, bytes, err);
    /* Of a project's folder it is the project that is shown. */
    if (count_used(scratch->mount, bytes, &files) < 0)
        return box_fail(err, MOUNT_STAGE, "cannot ask for what is used");
    return 0;
}

/* Remove what the sandbox made. Pages that were not written to the disk yet never will be. */
static int wipe(const struct box_scratch *scratch)
{
    uint64_t bytes, files;

    if (count_used(scratch->root, &bytes, &files) < 0 || files > scratch->base_files + WIPE_MAX)
        return -1;
    cleanup_close int folder =
        openat(scratch->root, BOX_SCRATCH_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return folder < 0 ? -1 : box_folder_empty(folder);
}

/* Give the disk back what the image took of it, if that is worth it. */
static int trim(const struct box_scratch *scratch)
{
    struct fstrim_range all = {.len = ~0ull};
    uint64_t bytes;

    if (scratch->flags & BOX_SCRATCH_RESERVE)
        return 0;
    if (count_disk(scratch->image, &bytes) < 0)
        return -1;
    if (bytes <= scratch->base_disk + KEPT_BYTES)
        return 0;
    if (ioctl(scratch->root, FITRIM, &all) < 0 || count_disk(scratch->image, &bytes) < 0)
        return -1;
    return bytes <= scratch->base_disk + KEPT_BYTES ? 0 : -1;
}

int box_scratch_renew(struct box_scratch *scratch)
{
    struct box_error ignored;
    uint64_t bytes, files;

    if (scratch->kind != BOX_SCRATCH_IMAGE || !(scratch->flags & BOX_SCRATCH_ENCRYPT) || scratch->root < 0 ||
        scratch->renewals == RENEWALS_MAX)
        return 0;
    box_close_ptr(&scratch->mount);
    scratch->mount = -1;
    if (!scratch->held && (wipe(scratch) < 0 || unlinkat(scratch->root, BOX_SCRATCH_FOLDER, AT_REMOVEDIR) < 0))
        return 0;
    if (box_crypt_forget(scratch->root, scratch->key_id, &scratch->held) < 0 || trim(scratch) < 0)
        return 0;
    BOX_STEP("tmp: emptied");
    if (make_folder(scratch->root, &ignored) < 0 || lock_folder(scratch, &ignored) < 0 ||
        count_used(scratch->root, &bytes, &files) < 0 || bytes != scratch->base_bytes || files != scratch->base_files)
        return 0;
    scratch->mount = mount_image(scratch->loop, &ignored);
    if (scratch->mount < 0)
        return 0;
    scratch->renewals++;
    BOX_STEP("tmp: renewed");
    return 1;
}

/* Keep the last unmount from writing what nobody will read: 100 MB of it is a second of encryption. */
static void drop_unwritten(const struct box_scratch *scratch)
{
    uint64_t bytes, files;
    uint32_t how = SHUTDOWN_NO_FLUSH;

    if (count_used(scratch->root, &bytes, &files) < 0 || bytes < scratch->base_bytes + DIRTY_BYTES)
        return;
    /* The kernel logs each shutdown, so that one is only for what would take long to remove. */
    if (wipe(scratch) < 0 && ioctl(scratch->root, EXT4_SHUTDOWN, &how) < 0)
        return; /* then it is written, which takes its time */
}

void box_scratch_close(struct box_scratch *scratch)
{
    struct box_error ignored;

    if (scratch->kind == BOX_SCRATCH_IMAGE && scratch->root >= 0)
        drop_unwritten(scratch);
    box_close_ptr(&scratch->mount);
    if (scratch->name[0] != '\0') /* what cannot be removed keeps its limits, and is the next start's */
        (void)box_tmp_folder_remove(scratch->root, scratch->name, &ignored);
    scratch->name[0] = '\0';
    box_close_ptr(&scratch->root);
    box_close_ptr(&scratch->image);
    scratch->mount = scratch->root = scratch->image = -1;
}
