/* Resource limits, as AWS Lambda's environments have them where a cgroup does not say it better. */
#include "internal.h"

#include <sys/resource.h>

int box_rlimits_set(const struct box_fork_request *request, struct box_error *err)
{
    const struct {
        int resource;
        rlim_t value;
        const char *name;
    } limits[] = {
        {RLIMIT_NOFILE, request->nofile, "RLIMIT_NOFILE"},
        {RLIMIT_NPROC, request->pids, "RLIMIT_NPROC"},
        {RLIMIT_CORE, 0, "RLIMIT_CORE"}, /* a core dump would carry the function's data to the host's core handler */
        {RLIMIT_MEMLOCK, 65536, "RLIMIT_MEMLOCK"},
        {RLIMIT_MSGQUEUE, 0, "RLIMIT_MSGQUEUE"}, /* kernel memory that outlives a process */
        {RLIMIT_RTPRIO, 0, "RLIMIT_RTPRIO"},
        {RLIMIT_NICE, 0, "RLIMIT_NICE"},
    };

    for (size_t which = 0; which < sizeof limits / sizeof *limits; which++) {
        struct rlimit limit = {limits[which].value, limits[which].value};
        if (setrlimit((__rlimit_resource_t)limits[which].resource, &limit) < 0)
            return box_fail(err, "rlimits", "cannot set %s", limits[which].name);
    }
    return 0;
}
