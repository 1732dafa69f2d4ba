/* Leaves: made, limited, joined, measured, removed. What differs between v1 and v2 is behind box_cgroup_ops. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const char *const STAGE[BOX_HIERARCHIES] = {
    [BOX_MEMORY] = "cgroup memory", [BOX_CPU] = "cgroup cpu",         [BOX_CPUACCT] = "cgroup cpuacct",
    [BOX_PIDS] = "cgroup pids",     [BOX_UNIFIED] = "cgroup unified",
};

static const struct box_cgroup_ops *ops(const struct box_host *host)
{
    return host->kind == BOX_CGROUP_V2 ? &box_cgroup_v2 : &box_cgroup_v1;
}

/* On v2 every hierarchy is the same directory, and on v1 two may be mounted together: act once on each. */
static int first_of_its_kind(const struct box_host *host, int hierarchy)
{
    if (host->dir[hierarchy][0] == '\0')
        return 0;
    for (int earlier = 0; earlier < hierarchy; earlier++)
        if (strcmp(host->dir[earlier], host->dir[hierarchy]) == 0)
            return 0;
    return 1;
}

static int leaf_path(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                     const char *file, char *path, size_t size)
{
    const char *slash = file[0] ? "/" : "";
    int used = snprintf(path, size, "%s/%s%s%s", host->dir[hierarchy], leaf->name, slash, file);
    return used > 0 && (size_t)used < size ? 0 : -1;
}

int box_knob_open(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                  const char *file, int flags, struct box_error *err)
{
    char path[512];

    errno = 0;
    if (leaf_path(host, leaf, hierarchy, file, path, sizeof path) < 0)
        return box_fail(err, STAGE[hierarchy], "the path of %s is too long", file);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return box_fail(err, STAGE[hierarchy], "cannot open %s", path);
    return fd;
}

int box_knob_write(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                   const char *file, const char *value, struct box_error *err)
{
    cleanup_close int fd = box_knob_open(host, leaf, hierarchy, file, O_WRONLY, err);
    if (fd < 0)
        return -1;
    if (write(fd, value, strlen(value)) < 0)
        return box_fail(err, STAGE[hierarchy], "cannot write %s to %s", value, file);
    BOX_STEP("cgroup: limit written");
    return 0;
}

int box_knob_read(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                  const char *file, char *buffer, size_t size, struct box_error *err)
{
    cleanup_close int fd = box_knob_open(host, leaf, hierarchy, file, O_RDONLY, err);
    if (fd < 0)
        return -1;
    ssize_t got = read(fd, buffer, size - 1);
    if (got < 0)
        return box_fail(err, STAGE[hierarchy], "cannot read %s", file);
    buffer[got] = '\0';
    return 0;
}

int box_knob_set(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                 const char *file, const char *value, struct box_error *err)
{
    char found[64];

    cleanup_close int fd = box_knob_open(host, leaf, hierarchy, file, O_RDWR, err);
    if (fd < 0)
        return -1;
    if (write(fd, value, strlen(value)) < 0)
        return box_fail(err, STAGE[hierarchy], "cannot write %s to %s", value, file);
    BOX_STEP("cgroup: limit written");
    ssize_t got = pread(fd, found, sizeof found - 1, 0);
    if (got < 0)
        return box_fail(err, STAGE[hierarchy], "cannot read %s", file);
    found[got] = '\0';
    found[strcspn(found, "\n")] = '\0';
    if (strcmp(found, value) != 0) {
        errno = 0;
        return box_fail(err, STAGE[hierarchy], "%s was set to %s and reads back as %s", file, value, found);
    }
    return 0;
}

int box_number(int fd, uint64_t *number)
{
    char text[32];
    ssize_t got = pread(fd, text, sizeof text - 1, 0);

    if (got < 0)
        return -1;
    text[got] = '\0';
    *number = strtoull(text, NULL, 10);
    return 0;
}

uint64_t box_keyed(const char *text, const char *key)
{
    size_t length = strlen(key);

    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return strtoull(line + length + 1, NULL, 10);
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    return 0;
}

static const unsigned LIMITED[] = {[BOX_MEMORY] = BOX_LIMIT_MEMORY,
                                   [BOX_CPU] = BOX_LIMIT_CPU,
                                   [BOX_CPUACCT] = BOX_LIMIT_CPU,
                                   [BOX_PIDS] = BOX_LIMIT_PIDS};

int box_host_probe(struct box_host *host, const char *slice, unsigned limited, struct box_error *err)
{
    static const char *const CONTROLLER[] = {
        [BOX_MEMORY] = "memory", [BOX_CPU] = "cpu", [BOX_CPUACCT] = "cpuacct", [BOX_PIDS] = "pids"};
    struct mntent entry;
    char buffer[1024];

    memset(host, 0, sizeof *host);
    if (limited == 0)
        return 0;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (mounts == NULL)
        return box_fail(err, "cgroup probe", "cannot read /proc/self/mounts");
    while (getmntent_r(mounts, &entry, buffer, sizeof buffer) != NULL) {
        if (strlen(entry.mnt_dir) + strlen(slice) + 2 > sizeof host->dir[0])
            continue;
        if (strcmp(entry.mnt_type, "cgroup2") == 0 && host->dir[BOX_UNIFIED][0] == '\0') {
            snprintf(host->dir[BOX_UNIFIED], sizeof host->dir[0], "%s/%s", entry.mnt_dir, slice);
            snprintf(host->tree, sizeof host->tree, "%s", entry.mnt_dir);
        }
        if (strcmp(entry.mnt_type, "cgroup") != 0)
            continue;
        for (int which = BOX_MEMORY; which <= BOX_PIDS; which++)
            if (hasmntopt(&entry, CONTROLLER[which]) != NULL && host->dir[which][0] == '\0')
                snprintf(host->dir[which], sizeof host->dir[0], "%s/%s", entry.mnt_dir, slice);
    }
    endmntent(mounts);

    int v1 = 0, missing = 0;
    for (int which = BOX_MEMORY; which <= BOX_PIDS; which++) {
        v1 += host->dir[which][0] != '\0';
        missing += host->dir[which][0] == '\0' && limited & LIMITED[which];
        if (!(limited & LIMITED[which]))
            host->dir[which][0] = '\0';
    }
    host->limited = limited;
    if (missing == 0) {
        host->kind = BOX_CGROUP_V1;
    } else if (v1 == 0 && host->dir[BOX_UNIFIED][0] != '\0') {
        host->kind = BOX_CGROUP_V2;
        return box_home_find(host, slice, err);
    }
    return 0;
}

/* All sandboxes together weigh as many processes as there are CPUs: beside others on the host, one that uses the vCPU
 * it bought counts as one of them. v1's default would make one of all. On v2 the engine's cgroup is its service
 * manager's to weigh. */
static int weigh_sandboxes(const struct box_host *host, struct box_error *err)
{
    const struct box_leaf all = {.name = ".", .peak_fd = -1, .usage_fd = -1, .cache_fd = -1};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    char shares[24];

    snprintf(shares, sizeof shares, "%ld", 1024 * (cpus < 1 ? 1 : cpus > 256 ? 256 : cpus));
    return box_knob_set(host, &all, BOX_CPU, "cpu.shares", shares, err);
}

/* Without all of them there are no limits, and no half of them is taken for the whole. */
static int refuse_none(const struct box_host *host, struct box_error *err)
{
    char missing[64] = "";

    for (int which = BOX_MEMORY; which <= BOX_PIDS; which++)
        if (host->dir[which][0] == '\0' && host->limited & LIMITED[which]) {
            size_t used = strlen(missing);
            snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "", STAGE[which] + strlen("cgroup "));
        }
    errno = 0;
    return box_fail(err, "cgroup probe", "no cgroups for %s are mounted", missing);
}

int box_host_open(const struct box_host *host, struct box_error *err)
{
    if (host->kind == BOX_CGROUP_NONE)
        return refuse_none(host, err);
    /* An engine of this name that ran elsewhere on the tree: under systemd before, by hand this time. */
    if (host->kind == BOX_CGROUP_V2 && strcmp(host->home, host->tree) != 0) {
        struct box_host elsewhere = *host;
        const char *slice = strrchr(host->dir[BOX_UNIFIED], '/');
        for (int which = 0; which < BOX_HIERARCHIES; which++)
            snprintf(elsewhere.dir[which], sizeof elsewhere.dir[0], "%s%s", host->tree, slice);
        if (access(elsewhere.dir[BOX_UNIFIED], F_OK) == 0 && box_host_sweep(&elsewhere, 1, err) < 0)
            return -1;
    }
    if (host->kind == BOX_CGROUP_V2 && box_home_open(host, err) < 0)
        return -1;
    for (int which = 0; which < BOX_HIERARCHIES; which++)
        if (first_of_its_kind(host, which) && mkdir(host->dir[which], 0755) < 0 && errno != EEXIST)
            return box_fail(err, STAGE[which], "cannot make %s", host->dir[which]);
    if (host->kind == BOX_CGROUP_V1 && host->limited & BOX_LIMIT_CPU && weigh_sandboxes(host, err) < 0)
        return -1;
    return host->kind == BOX_CGROUP_V2 ? box_controllers_enable(host->dir[BOX_UNIFIED], host->limited, err) : 0;
}

static int open_memory(const struct box_host *host, struct box_leaf *leaf, struct box_error *err)
{
    if (!(host->limited & BOX_LIMIT_MEMORY))
        return 0;
    leaf->cache_fd = box_knob_open(host, leaf, BOX_MEMORY, "memory.stat", O_RDONLY, err);
    return leaf->cache_fd < 0 ? -1 : ops(host)->open_peak(host, leaf, err);
}

int box_leaf_create(const struct box_host *host, struct box_leaf *leaf, const char *name,
                    const struct box_limits *limits, struct box_error *err)
{
    struct box_error ignored;
    char path[512];

    leaf->peak_fd = leaf->usage_fd = leaf->cache_fd = -1;
    leaf->peak_sampled = 0;
    snprintf(leaf->name, sizeof leaf->name, "%s", name);
    for (int which = 0; which < BOX_HIERARCHIES; which++) {
        if (!first_of_its_kind(host, which))
            continue;
        if (leaf_path(host, leaf, which, "", path, sizeof path) < 0 || mkdir(path, 0755) < 0) {
            box_fail(err, STAGE[which], "cannot make %s", path);
            box_leaf_remove(host, leaf, &ignored);
            return -1;
        }
        BOX_STEP("leaf: directory made");
    }
    if (ops(host)->write_limits(host, leaf, limits, err) == 0 && open_memory(host, leaf, err) == 0 &&
        (!(host->limited & BOX_LIMIT_CPU) || (leaf->usage_fd = ops(host)->open_usage(host, leaf, err)) >= 0))
        return 0;
    box_leaf_remove(host, leaf, &ignored);
    return -1;
}

int box_leaf_join_fds(const struct box_host *host, const struct box_leaf *leaf, int *into_fd, int *join_fds,
                      struct box_error *err)
{
    int count = 0;

    *into_fd = -1;
    if (host->dir[BOX_UNIFIED][0] != '\0') {
        *into_fd = box_knob_open(host, leaf, BOX_UNIFIED, "", O_RDONLY | O_DIRECTORY, err);
        if (*into_fd < 0)
            return -1;
    }
    if (host->kind != BOX_CGROUP_V1)
        return 0;
    for (int which = BOX_MEMORY; which <= BOX_PIDS; which++) {
        if (!first_of_its_kind(host, which))
            continue;
        /* `tasks`, not `cgroup.procs`: a single-threaded process joins by it without waiting for a grace period. */
        int fd = box_knob_open(host, leaf, which, "tasks", O_WRONLY, err);
        if (fd < 0) {
            while (count > 0)
                close(join_fds[--count]);
            if (*into_fd >= 0)
                close(box_take(into_fd));
            return -1;
        }
        join_fds[count++] = fd;
    }
    return count;
}

int box_leaf_relimit(const struct box_host *host, const struct box_leaf *leaf, const struct box_limits *limits,
                     struct box_error *err)
{
    return ops(host)->write_limits(host, leaf, limits, err);
}

int box_leaf_set_cpu(const struct box_host *host, const struct box_leaf *leaf, uint32_t quota_us, struct box_error *err)
{
    return host->limited & BOX_LIMIT_CPU ? ops(host)->set_cpu(host, leaf, quota_us, err) : 0;
}

int box_leaf_kill(const struct box_host *host, const struct box_leaf *leaf)
{
    struct box_error ignored;

    return host->dir[BOX_UNIFIED][0] != '\0' &&
           box_knob_write(host, leaf, BOX_UNIFIED, "cgroup.kill", "1", &ignored) == 0;
}

int box_leaf_usage(const struct box_host *host, const struct box_leaf *leaf, struct box_usage *usage,
                   struct box_error *err)
{
    *usage = (struct box_usage){0};
    if (host->limited & BOX_LIMIT_MEMORY && ops(host)->read_peak(host, leaf, &usage->peak_bytes, err) < 0)
        return -1;
    return host->limited & BOX_LIMIT_CPU ? ops(host)->cpu_us(leaf->usage_fd, &usage->cpu_us, err) : 0;
}

int box_leaf_reclaimable(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes,
                         struct box_error *err)
{
    char text[4096];

    *bytes = 0;
    if (!(host->limited & BOX_LIMIT_MEMORY))
        return 0;
    ssize_t got = pread(leaf->cache_fd, text, sizeof text - 1, 0);
    if (got < 0)
        return box_fail(err, STAGE[BOX_MEMORY], "cannot read memory.stat");
    text[got] = '\0';
    *bytes = box_keyed(text, "inactive_file") + box_keyed(text, "active_file");
    return 0;
}

int box_leaf_kernel(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err)
{
    *bytes = 0;
    return host->limited & BOX_LIMIT_MEMORY ? ops(host)->kernel(host, leaf, bytes, err) : 0;
}

int box_leaf_oom_kills(const struct box_host *host, const struct box_leaf *leaf, uint64_t *count, struct box_error *err)
{
    *count = 0;
    return host->limited & BOX_LIMIT_MEMORY ? ops(host)->oom_kills(host, leaf, count, err) : 0;
}

/* A directory that has just lost its last process may answer EBUSY for some milliseconds. */
static int remove_directory(const char *path)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    for (int tries = 0; tries < 200; tries++) {
        if (rmdir(path) == 0 || errno == ENOENT) {
            BOX_STEP("leaf: directory removed");
            return 0;
        }
        if (errno != EBUSY)
            return -1;
        nanosleep(&pause, NULL);
    }
    return -1;
}

int box_leaf_remove(const struct box_host *host, struct box_leaf *leaf, struct box_error *err)
{
    char path[512];
    int failed = 0;

    if (leaf->peak_fd >= 0)
        close(box_take(&leaf->peak_fd));
    if (leaf->usage_fd >= 0)
        close(box_take(&leaf->usage_fd));
    if (leaf->cache_fd >= 0)
        close(box_take(&leaf->cache_fd));
    for (int which = 0; which < BOX_HIERARCHIES; which++)
        if (first_of_its_kind(host, which) && leaf_path(host, leaf, which, "", path, sizeof path) == 0 &&
            remove_directory(path) < 0)
            failed = box_fail(err, STAGE[which], "cannot remove %s", path);
    return failed;
}

/* Kill what is in a leaf. One process after the other where there is no cgroup.kill, which v1 has not, nor v2 before
 * Linux 5.14: what they fork meanwhile dies with process 1 of its namespace. */
static void kill_members(const char *directory)
{
    char path[512], line[32];

    snprintf(path, sizeof path, "%s/cgroup.kill", directory);
    cleanup_close int all = open(path, O_WRONLY | O_CLOEXEC);
    if (all >= 0 && write(all, "1", 1) == 1)
        return;
    snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    FILE *members = fopen(path, "re");
    if (members == NULL)
        return;
    while (fgets(line, sizeof line, members) != NULL) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1)
            kill((pid_t)pid, SIGKILL);
    }
    fclose(members);
}

/* A throttled process dies only in its next period: lift the quota first. */
static void lift_quota(const struct box_host *host, const char *name)
{
    struct box_leaf leaf = {.peak_fd = -1, .usage_fd = -1, .cache_fd = -1};
    struct box_error ignored;

    snprintf(leaf.name, sizeof leaf.name, "%s", name);
    box_leaf_set_cpu(host, &leaf, 0, &ignored);
}

int box_host_sweep(const struct box_host *host, int all, struct box_error *err)
{
    int count = 0, failed = 0, counted = -1; /* leaves have the same names everywhere: count them once */
    char path[512];

    for (int which = 0; which < BOX_HIERARCHIES; which++) {
        if (!first_of_its_kind(host, which))
            continue;
        if (counted < 0)
            counted = which;
        DIR *directory = opendir(host->dir[which]);
        if (directory == NULL)
            continue;
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                continue;
            lift_quota(host, entry->d_name);
            snprintf(path, sizeof path, "%s/%.200s", host->dir[which], entry->d_name);
            kill_members(path);
            count += which == counted;
            if (remove_directory(path) < 0)
                failed = box_fail(err, STAGE[which], "cannot remove %s", path);
        }
        closedir(directory);
        if (all && remove_directory(host->dir[which]) < 0)
            failed = box_fail(err, STAGE[which], "cannot remove %s", host->dir[which]);
    }
    return failed < 0 ? -1 : count;
}
