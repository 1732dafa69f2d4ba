/* THE ordered list of what turns a fresh clone into a sandbox. Every step runs in the new process, as root of nothing
 * yet given up, with no user code in sight; the list is the order, and each line says why it stands where it does. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

enum { GUEST_ANSWERS_FD = 3, GUEST_EVENTS_FD = 4, GUEST_REPORT_FD = 5 };

static int make_network(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    if (!box_net_made_inside(request, fds) || unshare(CLONE_NEWNET) == 0)
        return 0;
    return box_fail(err, "network namespace", "cannot make one");
}

static int join_cgroups(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    for (uint32_t which = 0; which < request->n_join; which++)
        if (write(fds->join[which], "0", 1) != 1)
            return box_fail(err, "cgroup join", "cannot enter the leaf");
    return 0;
}

static int be_somebody(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    (void)fds;
    return request->own_user ? box_user_become(request->uid, request->outer_uid, request->outer_gid, err) : 0;
}

static int hide_cgroups(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    (void)request, (void)fds;
    if (unshare(CLONE_NEWCGROUP) < 0)
        return box_fail(err, "cgroup namespace", "cannot make one");
    return 0;
}

static int join_network(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    (void)request;
    return fds->net >= 0 ? box_net_enter(fds->net, err) : box_net_loopback_up(err);
}

static int enter_mounts(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    (void)request;
    return box_mounts_enter(fds->tmp, fds->code, fds->opt, err);
}

static int leave_terminal(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    (void)request, (void)fds;
    umask(022); /* whatever the engine's is */
    if (setsid() < 0)
        return box_fail(err, "session", "cannot leave the zygote's");
    return 0;
}

/* Where a zygote has nothing between its log and its socket, the first two arrive where they are to be. */
static int in_place(const struct box_fork_fds *fds)
{
    return fds->answers == GUEST_ANSWERS_FD && fds->events == GUEST_EVENTS_FD && fds->log > GUEST_EVENTS_FD &&
           fds->report > GUEST_EVENTS_FD;
}

static int place(int fd, int wanted)
{
    return fd == wanted ? fd : dup3(fd, wanted, O_CLOEXEC);
}

static int place_descriptors(const struct box_fork_request *request, const struct box_fork_fds *fds,
                             struct box_error *err)
{
    (void)request;
    struct box_fork_fds from = *fds;
    if (!in_place(fds)) { /* out of the way of the places they are to have */
        from.answers = fcntl(fds->answers, F_DUPFD_CLOEXEC, 64);
        from.events = fcntl(fds->events, F_DUPFD_CLOEXEC, 64);
        from.log = fcntl(fds->log, F_DUPFD_CLOEXEC, 64);
        from.report = fcntl(fds->report, F_DUPFD_CLOEXEC, 64);
    }
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    /* 0 to 2 are for every program the function starts; the others end at an exec. The log may be in the report's
     * place, and is let go of last. */
    if (from.answers < 0 || from.events < 0 || from.log < 0 || from.report < 0 || null < 0 || dup2(null, 0) < 0 ||
        dup2(from.log, 1) < 0 || dup2(from.log, 2) < 0 || place(from.answers, GUEST_ANSWERS_FD) < 0 ||
        place(from.events, GUEST_EVENTS_FD) < 0 || place(from.report, GUEST_REPORT_FD) < 0)
        return box_fail(err, "descriptors", "cannot place them");
    if (syscall(SYS_close_range, GUEST_REPORT_FD + 1, ~0u, 0) < 0)
        return box_fail(err, "descriptors", "cannot close the rest");
    return 0;
}

static int limit_resources(const struct box_fork_request *request, const struct box_fork_fds *fds,
                           struct box_error *err)
{
    (void)fds;
    return box_rlimits_set(request, err);
}

static int drop_privileges(const struct box_fork_request *request, const struct box_fork_fds *fds,
                           struct box_error *err)
{
    (void)fds;
    return box_privs_drop(request->uid, request->own_user != 0, err);
}

static int forbid_changes(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    (void)request, (void)fds;
    return box_landlock_enter(err);
}

static int load_filter(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err)
{
    (void)request, (void)fds;
    return box_seccomp_load(err);
}

struct step {
    int (*run)(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_error *err);
    const char *mark; /* what has been done when it returns */
};

static const struct step STEPS[] = {
    {make_network, "network_made"},   /* before the leaf is joined, which is not charged for it */
    {join_cgroups, "cgroups"},        /* what follows is charged to the leaf */
    {be_somebody, "user"},            /* before anything that asks for the user; what it needs of the host's /proc is
                                       * covered later */
    {hide_cgroups, "cgroups_hidden"}, /* after joining, so that the leaf is the root of what is seen */
    {join_network, "network"},        /* needs root over the network namespace */
    {enter_mounts, "mounts"},    /* /proc shows the new PID namespace; the mounts stay behind when their descriptors
                                  * close */
    {leave_terminal, "session"}, /* */
    {place_descriptors, "descriptors"}, /* the last step that uses those of the request */
    {limit_resources, "rlimits"},       /* after the descriptors, which may be numbered above the new limit */
    {drop_privileges, "privileges"},    /* after all that needs root */
    {forbid_changes, "landlock"},       /* after the mounts it is about, and after no_new_privs, which it wants */
    {load_filter, "seccomp"},           /* last: it refuses what the steps before it need */
};

enum { N_STEPS = sizeof STEPS / sizeof *STEPS };

_Static_assert(N_STEPS + 3 == BOX_BOOT_MARKS, "the clone, the steps, the split, the language");

const char *box_boot_mark(size_t which)
{
    if (which == 0)
        return "cloned";
    if (which <= N_STEPS)
        return STEPS[which - 1].mark;
    return which == N_STEPS + 1 ? "process_1" : "interpreter";
}

uint64_t box_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int box_spawn_setup(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_boot *boot,
                    struct box_error *err)
{
    struct box_report report = {.kind = BOX_REPORT_FAILED};
    int report_fd = fds->report;

    for (size_t which = 0; which < N_STEPS; which++) {
        if (STEPS[which].run(request, fds, err) < 0) {
            report.error = *err;
            box_report_write(report_fd, &report);
            return -1;
        }
        boot->ns[which + 1] = box_now_ns();
        BOX_STEP("sandbox: set-up step done");
        if (STEPS[which].run == place_descriptors)
            report_fd = GUEST_REPORT_FD;
    }
    if (box_init_split(GUEST_REPORT_FD, err) < 0) {
        report.error = *err;
        box_report_write(GUEST_REPORT_FD, &report);
        return -1;
    }
    boot->ns[N_STEPS + 1] = box_now_ns();
    return 0;
}

#ifdef BOX_BARE
int box_spawn_bare(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_boot *boot,
                   struct box_error *err)
{
    (void)boot;
    return place_descriptors(request, fds, err);
}
#endif
