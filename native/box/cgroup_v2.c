/* cgroup v2: Documentation/admin-guide/cgroup-v2.rst of the kernel. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int set_cpu(const struct box_host *host, const struct box_leaf *leaf, uint32_t quota_us, struct box_error *err)
{
    struct box_error ignored;
    char value[48], burst[24];

    box_knob_write(host, leaf, BOX_CPU, "cpu.max.burst", "0", &ignored);
    if (quota_us == 0) {
        snprintf(value, sizeof value, "max %d", BOX_CPU_PERIOD_US);
        return box_knob_set(host, leaf, BOX_CPU, "cpu.max", value, err);
    }
    snprintf(value, sizeof value, "%u %d", quota_us, BOX_CPU_PERIOD_US);
    if (box_knob_set(host, leaf, BOX_CPU, "cpu.max", value, err) < 0)
        return -1;
    snprintf(burst, sizeof burst, "%u", quota_us);
    box_knob_write(host, leaf, BOX_CPU, "cpu.max.burst", burst, &ignored); /* absent before Linux 5.14 */
    return 0;
}

/* v1's shares (2 to 262144, 1024 by default) on v2's scale (1 to 10000, 100 by default). */
static unsigned weight_of(uint32_t shares)
{
    unsigned weight = shares * 100u / 1024u;
    return weight < 1 ? 1 : weight > 10000 ? 10000 : weight;
}

static int write_limits(const struct box_host *host, const struct box_leaf *leaf, const struct box_limits *limits,
                        struct box_error *err)
{
    char bytes[24], pids[24], weight[24];
    struct box_error ignored;

    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)limits->memory_bytes);
    snprintf(pids, sizeof pids, "%u", limits->pids);
    snprintf(weight, sizeof weight, "%u", weight_of(limits->cpu_shares));
    if (box_knob_set(host, leaf, BOX_MEMORY, "memory.max", bytes, err) < 0)
        return -1;
    if (box_knob_set(host, leaf, BOX_MEMORY, "memory.swap.max", "0", &ignored) < 0 && ignored.errnum != ENOENT) {
        *err = ignored;
        return -1;
    }
    if (box_knob_set(host, leaf, BOX_PIDS, "pids.max", pids, err) < 0 ||
        box_knob_set(host, leaf, BOX_CPU, "cpu.weight", weight, err) < 0)
        return -1;
    return limits->cpu_quota_us == 0 ? 0 : set_cpu(host, leaf, limits->cpu_quota_us, err);
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

static int oom_kills(const struct box_host *host, const struct box_leaf *leaf, uint64_t *count, struct box_error *err)
{
    char text[256];

    if (box_knob_read(host, leaf, BOX_MEMORY, "memory.events", text, sizeof text, err) < 0)
        return -1;
    *count = box_keyed(text, "oom_kill");
    return 0;
}

const struct box_cgroup_ops box_cgroup_v2 = {
    .peak_file = "memory.peak",
    .write_limits = write_limits,
    .set_cpu = set_cpu,
    .open_usage = open_usage,
    .cpu_us = cpu_us,
    .oom_kills = oom_kills,
};
