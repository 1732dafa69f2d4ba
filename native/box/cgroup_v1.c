/* cgroup v1: Documentation/admin-guide/cgroup-v1/memory.rst, pids.rst and scheduler/sched-bwc.rst of the kernel. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int set_cpu(const struct box_host *host, const struct box_leaf *leaf, uint32_t quota_us, struct box_error *err)
{
    struct box_error ignored;
    char value[24];

    if (quota_us == 0) {
        /* No limit; a burst above it would be refused, so the burst goes first. Kernels before 5.14 have none. */
        box_knob_write(host, leaf, BOX_CPU, "cpu.cfs_burst_us", "0", &ignored);
        /* Who is to die must run for that: before all neighbours, on a machine that is full. */
        box_knob_write(host, leaf, BOX_CPU, "cpu.shares", "262144", &ignored);
        return box_knob_set(host, leaf, BOX_CPU, "cpu.cfs_quota_us", "-1", err);
    }
    snprintf(value, sizeof value, "%u", quota_us);
    /* The burst may never exceed the quota: where it is lowered it goes first, and where it is raised last, since it is
     * refused before. No write more than that: for each the kernel looks at all groups of the host. */
    int burst = box_knob_write(host, leaf, BOX_CPU, "cpu.cfs_burst_us", value, &ignored);
    if (box_knob_set(host, leaf, BOX_CPU, "cpu.cfs_quota_us", value, err) < 0)
        return -1;
    if (burst < 0)
        box_knob_write(host, leaf, BOX_CPU, "cpu.cfs_burst_us", value, &ignored);
    return 0;
}

static int limit_memory(const struct box_host *host, const struct box_leaf *leaf, uint64_t memory_bytes,
                        struct box_error *err)
{
    struct box_error ignored;
    char bytes[24];

    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)memory_bytes);
    /* A limit may not pass that of memory and swap, which one that is raised would: that one is lifted before. */
    if (box_knob_set(host, leaf, BOX_MEMORY, "memory.limit_in_bytes", bytes, err) < 0 &&
        (err->errnum != EINVAL ||
         box_knob_write(host, leaf, BOX_MEMORY, "memory.memsw.limit_in_bytes", "-1", err) < 0 ||
         box_knob_set(host, leaf, BOX_MEMORY, "memory.limit_in_bytes", bytes, err) < 0))
        return -1;
    /* Swap off: memory and swap together may be no more than memory. Absent where swap is not accounted. */
    if (box_knob_set(host, leaf, BOX_MEMORY, "memory.memsw.limit_in_bytes", bytes, &ignored) < 0 &&
        ignored.errnum != ENOENT) {
        *err = ignored;
        return -1;
    }
    /* What waits in TCP and UDP sockets is not counted as memory, and not at all unless it has a limit: the share that
     * the kernel itself gives them of a machine of that size (tcp_mem of net/ipv4/tcp.c). */
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)(memory_bytes / 32 * 3 / 4096 * 4096));
    if (box_knob_set(host, leaf, BOX_MEMORY, "memory.kmem.tcp.limit_in_bytes", bytes, &ignored) < 0 &&
        ignored.errnum != ENOENT) {
        *err = ignored;
        return -1;
    }
    return box_knob_set(host, leaf, BOX_MEMORY, "memory.swappiness", "0", err);
}

static int write_limits(const struct box_host *host, const struct box_leaf *leaf, const struct box_limits *limits,
                        struct box_error *err)
{
    char pids[24], shares[24];

    snprintf(pids, sizeof pids, "%u", limits->pids);
    snprintf(shares, sizeof shares, "%u", limits->cpu_shares < 2 ? 2 : limits->cpu_shares);
    if (host->limited & BOX_LIMIT_MEMORY && limit_memory(host, leaf, limits->memory_bytes, err) < 0)
        return -1;
    if (host->limited & BOX_LIMIT_PIDS && box_knob_set(host, leaf, BOX_PIDS, "pids.max", pids, err) < 0)
        return -1;
    if (!(host->limited & BOX_LIMIT_CPU))
        return 0;
    if (box_knob_set(host, leaf, BOX_CPU, "cpu.shares", shares, err) < 0)
        return -1;
    return limits->cpu_quota_us == 0 ? 0 : set_cpu(host, leaf, limits->cpu_quota_us, err);
}

static int open_peak(const struct box_host *host, struct box_leaf *leaf, struct box_error *err)
{
    leaf->peak_fd = box_knob_open(host, leaf, BOX_MEMORY, "memory.max_usage_in_bytes", O_RDONLY, err);
    return leaf->peak_fd < 0 ? -1 : 0;
}

static int read_peak(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err)
{
    (void)host;
    if (box_number(leaf->peak_fd, bytes) < 0)
        return box_fail(err, "cgroup memory", "cannot read the peak of %s", leaf->name);
    return 0;
}

static int open_usage(const struct box_host *host, const struct box_leaf *leaf, struct box_error *err)
{
    return box_knob_open(host, leaf, BOX_CPUACCT, "cpuacct.usage", O_RDONLY, err);
}

static int cpu_us(int usage_fd, uint64_t *us, struct box_error *err)
{
    uint64_t ns;

    if (box_number(usage_fd, &ns) < 0)
        return box_fail(err, "cgroup cpuacct", "cannot read the CPU time used");
    *us = ns / 1000;
    return 0;
}

static int kernel(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err)
{
    char text[32];

    if (box_knob_read(host, leaf, BOX_MEMORY, "memory.kmem.usage_in_bytes", text, sizeof text, err) < 0)
        return -1;
    *bytes = strtoull(text, NULL, 10);
    return 0;
}

static int oom_kills(const struct box_host *host, const struct box_leaf *leaf, uint64_t *count, struct box_error *err)
{
    char text[256];

    if (box_knob_read(host, leaf, BOX_MEMORY, "memory.oom_control", text, sizeof text, err) < 0)
        return -1;
    *count = box_keyed(text, "oom_kill");
    return 0;
}

const struct box_cgroup_ops box_cgroup_v1 = {
    .open_peak = open_peak,
    .read_peak = read_peak,
    .write_limits = write_limits,
    .set_cpu = set_cpu,
    .open_usage = open_usage,
    .cpu_us = cpu_us,
    .kernel = kernel,
    .oom_kills = oom_kills,
};
