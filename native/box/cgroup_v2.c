/* cgroup v2: Documentation/admin-guide/cgroup-v2.rst of the kernel. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* Write, read back, and do without where this kernel has no such file. */
static int set_if_there(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                        const char *file, const char *value, struct box_error *err)
{
    struct box_error problem;

    if (box_knob_set(host, leaf, hierarchy, file, value, &problem) == 0 || problem.errnum == ENOENT)
        return 0;
    *err = problem;
    return -1;
}

static int set_cpu(const struct box_host *host, const struct box_leaf *leaf, uint32_t quota_us, struct box_error *err)
{
    char value[48], burst[24];

    snprintf(burst, sizeof burst, "%u", quota_us);
    if (quota_us == 0)
        snprintf(value, sizeof value, "max %d", BOX_CPU_PERIOD_US);
    else
        snprintf(value, sizeof value, "%u %d", quota_us, BOX_CPU_PERIOD_US);
    /* The burst may never exceed the quota: lower it before, raise it after. Absent before Linux 5.14. */
    if (set_if_there(host, leaf, BOX_CPU, "cpu.max.burst", "0", err) < 0 ||
        box_knob_set(host, leaf, BOX_CPU, "cpu.max", value, err) < 0)
        return -1;
    if (quota_us != 0)
        return set_if_there(host, leaf, BOX_CPU, "cpu.max.burst", burst, err);
    /* Who is to die must run for that: before all neighbours, on a machine that is full. */
    box_knob_write(host, leaf, BOX_CPU, "cpu.weight", "10000", &(struct box_error){0});
    return 0;
}

/* v1's shares (1024 is one vCPU's) on v2's scale, 1 to 10000. Weights count among siblings alone, and a leaf's are all
 * leaves: 1000 for one vCPU leaves small tiers their proportions, which the usual 100 would round away. */
static unsigned weight_of(uint32_t shares)
{
    uint64_t weight = ((uint64_t)shares * 1000 + 512) / 1024;
    return weight < 1 ? 1 : weight > 10000 ? 10000 : (unsigned)weight;
}

static int write_limits(const struct box_host *host, const struct box_leaf *leaf, const struct box_limits *limits,
                        struct box_error *err)
{
    char bytes[24], pids[24], weight[24];

    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)limits->memory_bytes);
    snprintf(pids, sizeof pids, "%u", limits->pids);
    snprintf(weight, sizeof weight, "%u", weight_of(limits->cpu_shares));
    /* memory.swap.max is absent where the kernel does not account swap. memory.oom.group stays off, as v1 has none: the
     * guest and process 1 share their memory, so that the kernel kills both or neither, and a child may die alone. */
    if (host->limited & BOX_LIMIT_MEMORY && (box_knob_set(host, leaf, BOX_MEMORY, "memory.max", bytes, err) < 0 ||
                                             set_if_there(host, leaf, BOX_MEMORY, "memory.swap.max", "0", err) < 0))
        return -1;
    if (host->limited & BOX_LIMIT_PIDS && box_knob_set(host, leaf, BOX_PIDS, "pids.max", pids, err) < 0)
        return -1;
    if (!(host->limited & BOX_LIMIT_CPU))
        return 0;
    if (box_knob_set(host, leaf, BOX_CPU, "cpu.weight", weight, err) < 0)
        return -1;
    return limits->cpu_quota_us == 0 ? 0 : set_cpu(host, leaf, limits->cpu_quota_us, err);
}

/* Linux keeps the peak from 5.19 on. Before, what is used at the moment of asking has to do. */
static int open_peak(const struct box_host *host, struct box_leaf *leaf, struct box_error *err)
{
    leaf->peak_fd = box_knob_open(host, leaf, BOX_MEMORY, "memory.peak", O_RDONLY, err);
    if (leaf->peak_fd < 0 && err->errnum == ENOENT) {
        leaf->peak_fd = box_knob_open(host, leaf, BOX_MEMORY, "memory.current", O_RDONLY, err);
        leaf->peak_sampled = 1;
    }
    return leaf->peak_fd < 0 ? -1 : 0;
}

static int read_peak(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err)
{
    char text[256], limit[32];

    if (box_number(leaf->peak_fd, bytes) < 0)
        return box_fail(err, "cgroup memory", "cannot read the peak of %s", leaf->name);
    if (!leaf->peak_sampled)
        return 0;
    /* One that was at its limit has its limit as its peak, also when what used it is gone. */
    if (box_knob_read(host, leaf, BOX_MEMORY, "memory.events", text, sizeof text, err) < 0)
        return -1;
    if (box_keyed(text, "max") == 0)
        return 0;
    if (box_knob_read(host, leaf, BOX_MEMORY, "memory.max", limit, sizeof limit, err) < 0)
        return -1;
    *bytes = strtoull(limit, NULL, 10);
    return 0;
}

static int open_usage(const struct box_host *host, const struct box_leaf *leaf, struct box_error *err)
{
    return box_knob_open(host, leaf, BOX_CPU, "cpu.stat", O_RDONLY, err);
}

static int cpu_us(int usage_fd, uint64_t *us, struct box_error *err)
{
    char text[512];
    ssize_t got = pread(usage_fd, text, sizeof text - 1, 0);

    if (got < 0)
        return box_fail(err, "cgroup cpu", "cannot read the CPU time used");
    text[got] = '\0';
    *us = box_keyed(text, "usage_usec");
    return 0;
}

/* The sum is there from Linux 5.18 on. */
static int kernel(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err)
{
    char text[4096];

    if (box_knob_read(host, leaf, BOX_MEMORY, "memory.stat", text, sizeof text, err) < 0)
        return -1;
    *bytes = box_keyed(text, "kernel");
    return 0;
}

static int oom_kills(const struct box_host *host, const struct box_leaf *leaf, uint64_t *count, struct box_error *err)
{
    char text[256];

    if (box_knob_read(host, leaf, BOX_MEMORY, "memory.events", text, sizeof text, err) < 0)
        return -1;
    *count = box_keyed(text, "oom_kill");
    return 0;
}

const struct box_cgroup_ops box_cgroup_v2 = {
    .open_peak = open_peak,
    .read_peak = read_peak,
    .write_limits = write_limits,
    .set_cpu = set_cpu,
    .open_usage = open_usage,
    .cpu_us = cpu_us,
    .kernel = kernel,
    .oom_kills = oom_kills,
};
