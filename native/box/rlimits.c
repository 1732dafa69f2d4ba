/* Resource limits, as AWS Lambda's environments have them where a cgroup does not say it better. Every one is set, so
 * that none depends on who started the engine. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>

static const rlim_t LARGEST_FILE = 10240ULL << 20; /* what the largest /tmp can hold: no sparse file is longer */

/* Address space of the calling process, which it has from its zygote. */
static int address_space(rlim_t *bytes)
{
    char text[64];
    unsigned long long pages = 0;

    cleanup_close int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[got < 0 ? 0 : got] = '\0';
    if (sscanf(text, "%llu", &pages) != 1)
        return -1;
    *bytes = pages * (rlim_t)sysconf(_SC_PAGESIZE);
    return 0;
}

/* Where no cgroup limits memory. RLIMIT_DATA holds what is private and writable, exactly; that of address space what is
 * shared. For each process, which is why it is the weaker form. */
static int limit_memory(uint64_t bytes, rlim_t *data, rlim_t *space, struct box_error *err)
{
    *data = *space = RLIM_INFINITY;
    if (bytes == 0)
        return 0;
    if (address_space(space) < 0)
        return box_fail(err, "rlimits", "cannot read how much address space there is");
    *data = bytes;
    *space += bytes;
    return 0;
}

/* Beside how nice the engine is, since nobody may become less so. */
static int be_nice(int more, struct box_error *err)
{
    int nice = getpriority(PRIO_PROCESS, 0) + more;

    if (more > 0 && setpriority(PRIO_PROCESS, 0, nice > 19 ? 19 : nice) < 0)
        return box_fail(err, "rlimits", "cannot be nice");
    return 0;
}

int box_rlimits_set(const struct box_fork_request *request, struct box_error *err)
{
    rlim_t data, space;

    if (limit_memory(request->memory_bytes, &data, &space, err) < 0)
        return -1;
    if (be_nice((int)request->nice, err) < 0)
        return -1;
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
        /* The leaf limits memory and CPU, where it can; a limit of address space breaks what reserves more than it
         * uses. */
        {RLIMIT_AS, space, space, "RLIMIT_AS"},
        {RLIMIT_DATA, data, data, "RLIMIT_DATA"},
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
