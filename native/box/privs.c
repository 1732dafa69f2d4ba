/* Giving up root for good: groups, ids, capabilities, and every way back. And before that, in a zygote, what it has of
 * its engine. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const char STAGE[] = "privileges";

/* A login's session keyring would stay in reach of every sandbox: a new one has nothing in it. Kernels without keys
 * have nothing to shed. */
static int shed_keys(struct box_error *err)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS && errno != EPERM)
        return box_fail(err, "zygote", "cannot leave the session keyring");
    return 0;
}

/* A service manager may protect the engine. Sandboxes go before everything else on a host that is out of memory, and
 * one at its own limit must be killable at all. */
static int shed_protection(struct box_error *err)
{
    cleanup_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "1000", 4) != 4)
        return box_fail(err, "zygote", "cannot set oom_score_adj");
    return 0;
}

/* Where the kernel shows the command line from: what follows the program's name are paths of the engine. Found once, in
 * the zygote, which keeps its own for whoever looks for it. */
static struct {
    char *start;
    size_t length;
} arguments;

static int find_arguments(struct box_error *err)
{
    char text[1024];
    unsigned long start = 0, end = 0;

    cleanup_close int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (got <= 0)
        return box_fail(err, "zygote", "cannot read /proc/self/stat");
    text[got] = '\0';
    char *field = strrchr(text, ')'); /* the second of the fields; the program's name may have blanks in it */
    for (int number = 2; field != NULL && number < 48; number++)
        field = strchr(field + 1, ' ');
    if (field != NULL && sscanf(field, " %lu %lu", &start, &end) == 2 && end > start) {
        arguments.start = (char *)start; /* NOLINT(performance-no-int-to-ptr): the kernel says it as a number */
        arguments.length = end - start;
    }
    return 0;
}

static void forget_arguments(void)
{
    size_t name = strnlen(arguments.start, arguments.length);

    if (arguments.length > name)
        memset(arguments.start + name, 0, arguments.length - name);
}

/* Nothing that a sandbox runs can have a capability by its file. */
static int shed_bounds(const char *stage, struct box_error *err)
{
    for (int capability = 0; capability < 64; capability++)
        if (prctl(PR_CAPBSET_DROP, capability) < 0) {
            if (errno == EINVAL)
                break; /* past the last one this kernel knows */
            return box_fail(err, stage, "cannot drop capability %d from the bounding set", capability);
        }
    return 0;
}

/* The engine's groups. Asking whether there are any left costs less than giving up none. */
static int shed_groups(const char *stage, struct box_error *err)
{
    if (getgroups(0, NULL) == 0 || (setgroups(0, NULL) == 0 && getgroups(0, NULL) == 0))
        return 0;
    return box_fail(err, stage, "cannot leave the engine's groups");
}

int box_zygote_shed(int own_user, struct box_error *err)
{
    /* The bounding set for all sandboxes at once: 40 system calls less in each. A zygote execs nothing itself, and what
     * it has in force stays. */
    if (shed_bounds("zygote", err) < 0 || shed_keys(err) < 0 || shed_protection(err) < 0 || find_arguments(err) < 0)
        return -1;
    return own_user ? 0 : shed_groups("zygote", err);
}

int box_privs_drop(uint32_t uid, int own_user, struct box_error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    if (uid == 0) {
        errno = EINVAL;
        return box_fail(err, STAGE, "a sandbox never runs as root");
    }
    forget_arguments();
    /* The bounding set first: dropping from it needs a capability that the next steps give up. What a zygote has
     * dropped its forks do not have, but for those in a user namespace of their own, which comes with all of it. */
    if (own_user && shed_bounds(STAGE, err) < 0)
        return -1;
    if ((!own_user && shed_groups(STAGE, err) < 0) || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        return box_fail(err, STAGE, "cannot become user %u", uid);
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return box_fail(err, STAGE, "cannot give up every capability");
    /* setresuid made the process undumpable, which hides its own /proc/self from it, and cleared the death signal. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return box_fail(err, STAGE, "cannot set the parent-death signal");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return box_fail(err, STAGE, "cannot set no_new_privs");
    return 0;
}
