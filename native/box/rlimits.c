/* Resource limits, as AWS Lambda's environments have them where a cgroup does not say it better. Every one is set, so
 * that none depends on who started the engine. */
#include "internal.h"

#include <sys/resource.h>

static const rlim_t LARGEST_FILE = 10240ULL << 20; /* what the largest /tmp can hold: no sparse file is longer */

int box_rlimits_set(const struct box_fork_request *request, struct box_error *err)
{
    const struct {
        int resource;
        rlim_t soft, hard;
        const char *name;
    } limits[] = {
        {RLIMIT_NOFILE, request->nofile, request->nofile, "RLIMIT_NOFILE"},
        {RLIMIT_NPROC, request->pids, request->pids, "RLIMIT_NPROC"},
        {RLIMIT_FSIZE, LARGEST_FILE, LARGEST_FILE, "RLIMIT_FSIZE"},
        /* A core dump would carry the function's data to the host. 0 stops those that are files; where core_pattern is
         * a pipe the kernel starts the handler whatever the limit is, as root and outside, but for a limit of 1
         * (fs/coredump.c). The filter keeps it from being lowered. */
        {RLIMIT_CORE, 1, 1, "RLIMIT_CORE"},
        {RLIMIT_MEMLOCK, 65536, 65536, "RLIMIT_MEMLOCK"},
        {RLIMIT_MSGQUEUE, 0, 0, "RLIMIT_MSGQUEUE"},           /* kernel memory that outlives a process */
        {RLIMIT_SIGPENDING, 1024, 1024, "RLIMIT_SIGPENDING"}, /* queued signals and timers: kernel memory */
        {RLIMIT_RTPRIO, 0, 0, "RLIMIT_RTPRIO"},
        {RLIMIT_NICE, 0, 0, "RLIMIT_NICE"},
        {RLIMIT_STACK, 8 << 20, RLIM_INFINITY, "RLIMIT_STACK"},
        /* The leaf limits memory and CPU; a limit of address space breaks what reserves more than it uses. */
        {RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY, "RLIMIT_AS"},
        {RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY, "RLIMIT_DATA"},
        {RLIMIT_RSS, RLIM_INFINITY, RLIM_INFINITY, "RLIMIT_RSS"},
        {RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY, "RLIMIT_CPU"},
        {RLIMIT_RTTIME, RLIM_INFINITY, RLIM_INFINITY, "RLIMIT_RTTIME"},
        {RLIMIT_LOCKS, RLIM_INFINITY, RLIM_INFINITY, "RLIMIT_LOCKS"},
    };

    for (size_t which = 0; which < sizeof limits / sizeof *limits; which++) {
        __rlimit_resource_t resource = (__rlimit_resource_t)limits[which].resource;
        struct rlimit limit = {limits[which].soft, limits[which].hard}, now;
        /* Without privilege nothing can be raised: what the engine itself may not have, its sandboxes have not. */
        if (setrlimit(resource, &limit) < 0 && getrlimit(resource, &now) == 0) {
            limit.rlim_max = limit.rlim_max < now.rlim_max ? limit.rlim_max : now.rlim_max;
            limit.rlim_cur = limit.rlim_cur < limit.rlim_max ? limit.rlim_cur : limit.rlim_max;
            if (setrlimit(resource, &limit) < 0)
                return box_fail(err, "rlimits", "cannot set %s", limits[which].name);
        }
    }
    return 0;
}
