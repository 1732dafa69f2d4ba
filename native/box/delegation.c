/* Where on a v2 tree an engine's directory goes, and what has to be done for it to have limits there.
 *
 * A tree has one writer. systemd leaves alone what others make at the root, and a unit's subtree only where Delegate=
 * gave it away, which it marks on the directory (systemd: docs/CGROUP_DELEGATION). So the home of an engine is the
 * cgroup that it was given, if it was, and otherwise the root.
 *
 * Two rules of the kernel (Documentation/admin-guide/cgroup-v2.rst): a controller reaches a leaf only if every
 * directory above hands it down, and one that hands down has no processes of its own, unless it is the root. The engine
 * therefore leaves its home for a leaf in it. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static const char STAGE[] = "cgroup delegation";
/* Not `cleave-…`, which is what an engine's own directory is called, and what is swept. */
static const char ENGINE_LEAF[] = "cleave.engine";
static const struct {
    const char *name;
    unsigned limited;
} CONTROLLERS[] = {{"memory", BOX_LIMIT_MEMORY}, {"cpu", BOX_LIMIT_CPU}, {"pids", BOX_LIMIT_PIDS}};

enum { N_CONTROLLERS = sizeof CONTROLLERS / sizeof *CONTROLLERS };

static int file_in(const char *directory, const char *file, char *path, size_t size)
{
    int used = snprintf(path, size, "%s/%s", directory, file);
    return used > 0 && (size_t)used < size ? 0 : -1;
}

static int may_write(const char *directory, const char *file)
{
    char path[300];
    return file_in(directory, file, path, sizeof path) == 0 && access(path, W_OK) == 0;
}

/* The root of the whole tree, not that of a container's view of it: only the former has no events. */
static int is_tree_root(const char *directory)
{
    char path[300];
    return file_in(directory, "cgroup.events", path, sizeof path) == 0 && access(path, F_OK) < 0;
}

/* Whether systemd marked it; the one for users is there from systemd 251 on. */
static int is_marked(const char *directory)
{
    static const char *const MARKS[] = {"user.delegate", "trusted.delegate"};
    char value = '0';

    for (size_t which = 0; which < sizeof MARKS / sizeof *MARKS; which++)
        if (getxattr(directory, MARKS[which], &value, 1) == 1 && value == '1')
            return 1;
    return 0;
}

static int is_given(const struct box_host *host, const char *directory)
{
    if (strcmp(directory, host->tree) == 0)
        /* A container sees its own cgroup as the root: there is nobody else in it. */
        return !is_tree_root(directory);
    if (is_marked(directory))
        return 1;
    /* To somebody who is not root, what may be written was given. */
    return geteuid() != 0 && access(directory, W_OK) == 0 && may_write(directory, "cgroup.procs") &&
           may_write(directory, "cgroup.subtree_control");
}

/* The directory of this process's cgroup; the mount's own where it is not below that. */
static int own_directory(const struct box_host *host, char *directory, size_t size, struct box_error *err)
{
    char line[512];

    FILE *cgroups = fopen("/proc/self/cgroup", "re");
    if (cgroups == NULL)
        return box_fail(err, STAGE, "cannot read /proc/self/cgroup");
    snprintf(directory, size, "%s", host->tree);
    while (fgets(line, sizeof line, cgroups) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::/", 4) != 0 || line[4] == '\0' || strncmp(line + 4, "..", 2) == 0)
            continue;
        int used = snprintf(directory, size, "%s%s", host->tree, line + 3);
        if (used < 0 || (size_t)used >= size || access(directory, F_OK) < 0)
            snprintf(directory, size, "%s", host->tree);
    }
    fclose(cgroups);
    return 0;
}

int box_home_find(struct box_host *host, const char *slice, struct box_error *err)
{
    char at[sizeof host->home];

    if (own_directory(host, at, sizeof at, err) < 0)
        return -1;
    snprintf(host->home, sizeof host->home, "%s", host->tree);
    /* An engine in the leaf that it made for itself was given what is above: to one that is not root its own leaf would
     * look as if it was given, too. */
    char *name = strrchr(at, '/');
    if (name != NULL && strcmp(name + 1, ENGINE_LEAF) == 0)
        *name = '\0';
    /* Its own, or the one above: an engine that is in its leaf already, or that systemd put in one (DelegateSubgroup=).
     * Not further up: what is given to a user's or a container's manager is not the engine's. */
    for (int level = 0; level < 2; level++) {
        if (is_given(host, at)) {
            snprintf(host->home, sizeof host->home, "%s", at);
            break;
        }
        if (strcmp(at, host->tree) == 0)
            break;
        *strrchr(at, '/') = '\0';
    }
    for (int which = 0; which < BOX_HIERARCHIES; which++) {
        int used = snprintf(host->dir[which], sizeof host->dir[0], "%s/%s", host->home, slice);
        if (used < 0 || (size_t)used >= sizeof host->dir[0]) {
            errno = ENAMETOOLONG;
            return box_fail(err, STAGE, "the engine's cgroup is too deep");
        }
    }
    return 0;
}

/* The calling process, with all its threads. */
static int leave_home(const struct box_host *host, struct box_error *err)
{
    char leaf[280], path[300];

    if (file_in(host->home, ENGINE_LEAF, leaf, sizeof leaf) < 0 || (mkdir(leaf, 0755) < 0 && errno != EEXIST))
        return box_fail(err, STAGE, "cannot make %s in %s", ENGINE_LEAF, host->home);
    if (file_in(leaf, "cgroup.procs", path, sizeof path) < 0)
        return box_fail(err, STAGE, "cannot enter %s", leaf);
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) < 0)
        return box_fail(err, STAGE, "cannot enter %s", leaf);
    return 0;
}

int box_home_open(const struct box_host *host, struct box_error *err)
{
    char own[sizeof host->home];

    if (own_directory(host, own, sizeof own, err) < 0)
        return -1;
    if (strcmp(own, host->home) == 0 && !is_tree_root(own) && leave_home(host, err) < 0)
        return -1;
    return box_controllers_enable(host->home, host->limited, err);
}

/* Whether a list of words has this one. */
static int listed(const char *list, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = list; (at = strstr(at, word)) != NULL; at += length)
        if ((at == list || at[-1] == ' ') && strchr(" \n", at[length]) != NULL) /* "" ends every string */
            return 1;
    return 0;
}

static int read_list(const char *directory, const char *file, char *list, size_t size)
{
    char path[300];

    if (file_in(directory, file, path, sizeof path) < 0)
        return -1;
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, list, size - 1);
    list[got < 0 ? 0 : got] = '\0';
    return got < 0 ? -1 : 0;
}

int box_controllers_enable(const char *directory, unsigned limited, struct box_error *err)
{
    char have[256], handed[256], path[300], wanted[32];

    if (read_list(directory, "cgroup.controllers", have, sizeof have) < 0 ||
        read_list(directory, "cgroup.subtree_control", handed, sizeof handed) < 0 ||
        file_in(directory, "cgroup.subtree_control", path, sizeof path) < 0)
        return box_fail(err, "cgroup controllers", "cannot read those of %s", directory);
    for (int which = 0; which < N_CONTROLLERS; which++) {
        const char *name = CONTROLLERS[which].name;
        if (!(limited & CONTROLLERS[which].limited) || listed(handed, name))
            continue;
        if (!listed(have, name)) {
            errno = 0;
            return box_fail(err, "cgroup controllers", "%s has no %s controller", directory, name);
        }
        snprintf(wanted, sizeof wanted, "+%s", name);
        cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && write(fd, wanted, strlen(wanted)) >= 0)
            continue;
        if (errno == EBUSY)
            return box_fail(err, "cgroup controllers", "%s has processes beside the engine: give it a unit of its own",
                            directory);
        return box_fail(err, "cgroup controllers", "cannot hand %s down in %s", name, directory);
    }
    return 0;
}
