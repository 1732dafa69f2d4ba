/* What can be seen: the minimal root that a zygote enters once and its forks inherit, and the mounts of each sandbox.
 */
#include "internal.h"
#include "mountapi.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static const char STAGE[] = "root";
static const char STAGING[] = "/tmp"; /* any folder does: the mount over it is seen by the zygote alone */

enum { BIND_MAX = 16 };

/* What everybody may read in /proc and that is about the host alone. Each costs a start about 7 µs; what only root may
 * read is not here. */
static const char EMPTY_FOLDER[] = "/var/empty";
static const struct {
    const char *path;
    int is_folder;
    const char *reason;
} MASKED[] = {
    {"/proc/cmdline", 0, "how the host was booted, at times with addresses and secrets"},
    {"/proc/kallsyms", 0, "the kernel's symbols, on some hosts with their addresses"},
    {"/proc/diskstats", 0, "what others do to the host's disks"},
    {"/proc/partitions", 0, "the host's disks"},
    {"/proc/swaps", 0, "paths on the host"},
    {"/proc/interrupts", 0, "what others do to the host's devices"},
    {"/proc/bus", 1, "the host's devices"},
    {"/proc/fs", 1, "the host's file systems"},
    {"/proc/irq", 1, "the host's devices"},
};

struct bind {
    char path[256];
    int fd;
};

static int take_folder(const char *path, unsigned recursive, struct box_error *err)
{
    cleanup_close int fd = box_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);

    if (fd < 0)
        return box_fail(err, "code mount", "cannot take %s", path);
    if (box_mount_setattr(fd, recursive, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV) < 0)
        return box_fail(err, "code mount", "cannot make %s read-only", path);
    BOX_STEP("mount: folder taken");
    return box_take(&fd);
}

/* The descriptor's own name, for who takes names alone. */
static void name_descriptor(char name[32], int fd)
{
    snprintf(name, 32, "/proc/self/fd/%d", fd);
}

/* `layers`: folders as the kernel wants them named, the first on top. */
static int lay_over(const char *layers, const char *first, struct box_error *err)
{
    cleanup_close int fs = box_fsopen("overlay");

    if (fs < 0 || box_fsconfig(fs, FSCONFIG_SET_STRING, "source", "code") < 0 ||
        box_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", layers) < 0 ||
        box_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return box_fail(err, "code mount", "cannot lay an overlay over %s", first);
    int mount = box_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (mount < 0)
        return box_fail(err, "code mount", "cannot mount the overlay over %s", first);
    BOX_STEP("mount: overlay made");
    return mount;
}

/* An overlay without an upper layer wants two lower ones: the last is empty. Layers are named by descriptors, for a
 * mount's options are in everybody's mountinfo too. */
int box_merged_mount(const char *const *paths, size_t count, const char *nothing, struct box_error *err)
{
    char layers[(BOX_MAX_LAYERS + 1) * 32];
    int folders[BOX_MAX_LAYERS + 1], mount = -1;
    size_t taken = 0, length = 0;

    if (count == 0 || count > BOX_MAX_LAYERS) {
        errno = EINVAL;
        return box_fail(err, "code mount", "cannot merge %zu folders", count);
    }
    for (; taken <= count; taken++) {
        const char *path = taken < count ? paths[taken] : nothing;
        char name[32];
        folders[taken] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folders[taken] < 0) {
            box_fail(err, "code mount", "cannot take %s", path);
            break;
        }
        name_descriptor(name, folders[taken]);
        length += (size_t)snprintf(layers + length, sizeof layers - length, taken ? ":%s" : "%s", name);
    }
    if (taken > count)
        mount = lay_over(layers, paths[0], err);
    while (taken > 0)
        close(folders[--taken]);
    return mount;
}

int box_code_mount(const char *path, const char *nothing, struct box_error *err)
{
    return nothing ? box_merged_mount(&path, 1, nothing, err) : take_folder(path, 0, err);
}

int box_mount_clone(int mount, struct box_error *err)
{
    int clone = box_open_tree(mount, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    return clone >= 0 ? clone : box_fail(err, "code mount", "cannot take it again");
}

/* mkdir -p below the staging root; `path` is absolute. */
static int make_directories(const char *path, struct box_error *err)
{
    char whole[512];
    size_t start = strlen(STAGING) + 1;

    snprintf(whole, sizeof whole, "%s%s", STAGING, path);
    for (char *slash = whole + start; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = '\0';
        if (mkdir(whole, 0755) < 0 && errno != EEXIST)
            return box_fail(err, STAGE, "cannot make %s", whole);
    }
    if (mkdir(whole, 0755) < 0 && errno != EEXIST)
        return box_fail(err, STAGE, "cannot make %s", whole);
    return 0;
}

/* Top-level folders that are links on hosts with a merged /usr stay links; those that are not are shown as they are. */
static int link_or_bind(const char *path, struct bind *binds, size_t *count, char links[][64], size_t *n_links,
                        struct box_error *err)
{
    char target[64];
    ssize_t length = readlink(path, target, sizeof target - 1);

    if (length > 0) {
        target[length] = '\0';
        snprintf(links[(*n_links)++], 64, "%s", path);
        snprintf(links[(*n_links)++], 64, "%s", target);
        return 0;
    }
    if (access(path, F_OK) < 0)
        return 0;
    if (*count == BIND_MAX) {
        errno = 0;
        return box_fail(err, STAGE, "too many folders to show");
    }
    int fd = take_folder(path, 0, err);
    /* In a user namespace the kernel shows no folder without what the host has mounted in it. */
    if (fd < 0 && err->errnum == EINVAL)
        fd = take_folder(path, AT_RECURSIVE, err);
    if (fd < 0)
        return -1;
    snprintf(binds[*count].path, sizeof binds[0].path, "%s", path);
    binds[(*count)++].fd = fd;
    return 0;
}

static int write_file(const char *path, const char *text, struct box_error *err)
{
    char whole[128];

    snprintf(whole, sizeof whole, "%s%s", STAGING, path);
    cleanup_close int fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return box_fail(err, STAGE, "cannot write %s", path);
    return 0;
}

static int copy_file(const char *path, struct box_error *err)
{
    char whole[128], block[16384];
    ssize_t got = 0;

    cleanup_close int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return 0; /* a host without it does without it */
    snprintf(whole, sizeof whole, "%s%s", STAGING, path);
    cleanup_close int to = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    while (to >= 0 && (got = read(from, block, sizeof block)) > 0)
        if (write(to, block, (size_t)got) != got)
            got = -1;
    return to < 0 || got < 0 ? box_fail(err, STAGE, "cannot copy %s", path) : 0;
}

/* A user for each sandbox, so that getpwuid answers inside. */
static int write_users(uint32_t uid_base, uint32_t uid_count, struct box_error *err)
{
    cleanup_close int users = open("/tmp/etc/passwd", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    cleanup_close int groups = open("/tmp/etc/group", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (users < 0 || groups < 0)
        return box_fail(err, STAGE, "cannot write /etc/passwd and /etc/group");
    dprintf(users, "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n");
    dprintf(groups, "root:x:0:\nnogroup:x:65534:\n");
    for (uint32_t slot = 0; slot < uid_count; slot++) {
        uint32_t uid = uid_base + slot;
        dprintf(users, "sbx_user%u:x:%u:%u::/tmp:/sbin/nologin\n", slot, uid, uid);
        dprintf(groups, "sbx_user%u:x:%u:\n", slot, uid);
    }
    return 0;
}

/* A device of the host's, where no node can be made. */
static int show_device(const char *path, struct box_error *err)
{
    const char *own = path + strlen(STAGING);
    cleanup_close int empty = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    cleanup_close int device = box_open_tree(AT_FDCWD, own, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (empty < 0 || device < 0 ||
        box_mount_setattr(device, 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC) < 0 ||
        box_move_mount(device, path) < 0)
        return box_fail(err, STAGE, "cannot show %s", own);
    return 0;
}

static int make_device(const char *path, unsigned major_number, unsigned minor_number, struct box_error *err)
{
    if (mknod(path, S_IFCHR | 0666, makedev(major_number, minor_number)) == 0)
        return chmod(path, 0666) == 0 ? 0 : box_fail(err, STAGE, "cannot open %s to all", path);
    /* In a user namespace the kernel lets nobody make one. */
    return errno == EPERM ? show_device(path, err) : box_fail(err, STAGE, "cannot make %s", path);
}

static int make_devices(struct box_error *err)
{
    static const struct {
        const char *path;
        unsigned minor_major[2];
    } DEVICES[] = {
        {"/tmp/dev/null", {1, 3}},   {"/tmp/dev/zero", {1, 5}},    {"/tmp/dev/full", {1, 7}},
        {"/tmp/dev/random", {1, 8}}, {"/tmp/dev/urandom", {1, 9}}, {"/tmp/dev/tty", {5, 0}},
    };
    static const char *const LINKS[][2] = {{"/proc/self/fd", "/tmp/dev/fd"},
                                           {"/proc/self/fd/0", "/tmp/dev/stdin"},
                                           {"/proc/self/fd/1", "/tmp/dev/stdout"},
                                           {"/proc/self/fd/2", "/tmp/dev/stderr"}};

    for (size_t which = 0; which < sizeof DEVICES / sizeof *DEVICES; which++)
        if (make_device(DEVICES[which].path, DEVICES[which].minor_major[0], DEVICES[which].minor_major[1], err) < 0)
            return -1;
    for (size_t which = 0; which < sizeof LINKS / sizeof *LINKS; which++)
        if (symlink(LINKS[which][0], LINKS[which][1]) < 0)
            return box_fail(err, STAGE, "cannot make %s", LINKS[which][1]);
    return 0;
}

static int fill_root(const struct bind *binds, size_t count, char links[][64], size_t n_links, uint32_t uid_base,
                     uint32_t uid_count, struct box_error *err)
{
    static const char *const FOLDERS[] = {"/dev", "/etc",       "/opt",         "/proc",
                                          "/tmp", "/var/empty", "/var/runtime", "/var/task"};
    char whole[512];

    for (size_t which = 0; which < sizeof FOLDERS / sizeof *FOLDERS; which++)
        if (make_directories(FOLDERS[which], err) < 0)
            return -1;
    for (size_t which = 0; which < n_links; which += 2) {
        snprintf(whole, sizeof whole, "%s%s", STAGING, links[which]);
        if (symlink(links[which + 1], whole) < 0)
            return box_fail(err, STAGE, "cannot link %s", links[which]);
    }
    for (size_t which = 0; which < count; which++) {
        if (make_directories(binds[which].path, err) < 0)
            return -1;
        snprintf(whole, sizeof whole, "%s%s", STAGING, binds[which].path);
        if (box_move_mount(binds[which].fd, whole) < 0)
            return box_fail(err, STAGE, "cannot show %s", binds[which].path);
    }
    if (write_users(uid_base, uid_count, err) < 0 ||
        write_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", err) < 0 ||
        write_file("/etc/resolv.conf",
                   "nameserver " BOX_RESOLVER "\nnameserver " BOX_RESOLVER_ELSE "\noptions timeout:2 attempts:2\n",
                   err) < 0 ||
        write_file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", err) < 0 ||
        copy_file("/etc/ld.so.cache", err) < 0 || copy_file("/etc/mime.types", err) < 0)
        return -1;
    return make_devices(err);
}

/* The kernel gives a /proc to a user namespace only where one is in full sight already. */
static int keep_proc(struct box_error *err)
{
    cleanup_close int proc =
        box_open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (unsigned)AT_RECURSIVE);
    char whole[64];

    snprintf(whole, sizeof whole, "%s/proc", STAGING);
    if (proc < 0 || box_move_mount(proc, whole) < 0)
        return box_fail(err, STAGE, "cannot keep /proc");
    return 0;
}

int box_root_enter(const char *const *prefixes, size_t n_prefixes, uint32_t uid_base, uint32_t uid_count, int own_user,
                   const char *name, struct box_error *err)
{
    static const char *const SHOWN[] = {"/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/etc/ssl/certs"};
    struct bind binds[BIND_MAX];
    char links[2 * BIND_MAX][64];
    size_t count = 0, n_links = 0;
    mode_t mask = umask(022);
    int status = -1;

    if ((!own_user && unshare(CLONE_NEWNS) < 0) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return box_fail(err, STAGE, "cannot make a mount namespace");
    BOX_STEP("zygote: mount namespace made");
    /* Take every source before the staging root hides what is under it. */
    for (size_t which = 0; which < sizeof SHOWN / sizeof *SHOWN; which++)
        if (link_or_bind(SHOWN[which], binds, &count, links, &n_links, err) < 0)
            goto out;
    for (size_t which = 0; which < n_prefixes; which++)
        if (strncmp(prefixes[which], "/usr/", 5) != 0 &&
            link_or_bind(prefixes[which], binds, &count, links, &n_links, err) < 0)
            goto out;
    if (mount(name, STAGING, "tmpfs", MS_NOSUID, "mode=0755") < 0) {
        box_fail(err, STAGE, "cannot mount the new root");
        goto out;
    }
    if (fill_root(binds, count, links, n_links, uid_base, uid_count, err) < 0 || (own_user && keep_proc(err) < 0))
        goto out;
    BOX_STEP("zygote: root filled");
    if (chdir(STAGING) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
        box_fail(err, STAGE, "cannot enter the new root");
        goto out;
    }
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL) < 0) {
        box_fail(err, STAGE, "cannot make the new root read-only");
        goto out;
    }
    BOX_STEP("zygote: root entered");
    status = 0;
out:
    for (size_t which = 0; which < count; which++)
        close(binds[which].fd);
    umask(mask);
    return status;
}

/* Attach what the engine made for /tmp. Of an image, the folder in it is what is shown, and covers the rest. */
static int enter_tmp(int tmp_fd, struct box_error *err)
{
    if (box_move_mount(tmp_fd, "/tmp") < 0)
        return box_fail(err, "mount /tmp", "cannot attach it");
    cleanup_close int folder = box_open_tree(AT_FDCWD, "/tmp/" BOX_SCRATCH_FOLDER, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (folder < 0 ? errno != ENOENT : box_move_mount(folder, "/tmp") < 0)
        return box_fail(err, "mount /tmp", "cannot show the folder in it");
    return 0;
}

/* /proc of this PID namespace, read-only: what a process may write there of its own (mem, comm, oom_score_adj, triggers
 * of pressure) no function needs. */
int box_proc_make(struct box_error *err)
{
    cleanup_close int fs = box_fsopen("proc");
    if (fs < 0 || box_fsconfig(fs, FSCONFIG_SET_STRING, "source", "proc") < 0 ||
        box_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return box_fail(err, "mount /proc", "cannot make it");
    int proc = box_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    return proc >= 0 ? proc : box_fail(err, "mount /proc", "cannot have one");
}

static int enter_proc(struct box_error *err)
{
    /* One call, where a detached mount that is attached takes six and 15 µs more. */
    if (mount("proc", "/proc", "proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return box_fail(err, "mount /proc", "cannot mount it");
    for (size_t which = 0; which < sizeof MASKED / sizeof *MASKED; which++) {
        const char *nothing = MASKED[which].is_folder ? EMPTY_FOLDER : "/dev/null";
        if (mount(nothing, MASKED[which].path, NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
            return box_fail(err, "mount /proc", "cannot hide %s", MASKED[which].path);
    }
    return 0;
}

int box_mounts_enter(int tmp_fd, int code_fd, int opt_fd, struct box_error *err)
{
    if (enter_proc(err) < 0)
        return -1;
    BOX_STEP("sandbox: /proc mounted");
    if (tmp_fd >= 0 && enter_tmp(tmp_fd, err) < 0)
        return -1;
    BOX_STEP("sandbox: /tmp mounted");
    if (code_fd >= 0 && box_move_mount(code_fd, "/var/task") < 0)
        return box_fail(err, "mount /var/task", "cannot attach it");
    if (opt_fd >= 0 && box_move_mount(opt_fd, "/opt") < 0)
        return box_fail(err, "mount /opt", "cannot attach it");
    return 0;
}

int box_mount_own(int mount, const char *path, struct box_error *err)
{
    if (unshare(CLONE_NEWNS) < 0 || box_move_mount(mount, path) < 0)
        return box_fail(err, STAGE, "cannot attach %s", path);
    return 0;
}
