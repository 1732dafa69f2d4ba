/* What the box's files share among themselves. */
#ifndef BOX_INTERNAL_H
#define BOX_INTERNAL_H

#include "box.h"
#include "steps.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void box_close_ptr(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void box_free_ptr(char **ptr)
{
    free(*ptr);
}

#define cleanup_close __attribute__((cleanup(box_close_ptr)))
#define cleanup_free __attribute__((cleanup(box_free_ptr)))

/* Hand a descriptor on, out of its cleanup. */
static inline int box_take(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* cgroup: how each kind of host names and formats things. */
struct box_cgroup_ops {
    /* Sets peak_fd, and peak_sampled where the kernel keeps no peak. */
    int (*open_peak)(const struct box_host *host, struct box_leaf *leaf, struct box_error *err);
    int (*read_peak)(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err);
    int (*write_limits)(const struct box_host *host, const struct box_leaf *leaf, const struct box_limits *limits,
                        struct box_error *err);
    int (*set_cpu)(const struct box_host *host, const struct box_leaf *leaf, uint32_t quota_us, struct box_error *err);
    int (*open_usage)(const struct box_host *host, const struct box_leaf *leaf, struct box_error *err);
    int (*cpu_us)(int usage_fd, uint64_t *us, struct box_error *err);
    int (*kernel)(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err);
    int (*oom_kills)(const struct box_host *host, const struct box_leaf *leaf, uint64_t *count, struct box_error *err);
};

extern const struct box_cgroup_ops box_cgroup_v1, box_cgroup_v2;

enum { BOX_CPU_PERIOD_US = 100000 };

int box_knob_open(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                  const char *file, int flags, struct box_error *err);
int box_knob_write(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                   const char *file, const char *value, struct box_error *err);
/* Write, read back, and fail unless the kernel took it. */
int box_knob_set(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                 const char *file, const char *value, struct box_error *err);
int box_knob_read(const struct box_host *host, const struct box_leaf *leaf, enum box_hierarchy hierarchy,
                  const char *file, char *buffer, size_t size, struct box_error *err);
/* The number that an open file holds. */
int box_number(int fd, uint64_t *number);
/* The number after `key` in the text of a flat keyed file; 0 where it is absent. */
uint64_t box_keyed(const char *text, const char *key);

/* delegation: choose host->home for an engine called `slice`, and with it every host->dir; host->tree is set. */
int box_home_find(struct box_host *host, const char *slice, struct box_error *err);
/* Get the engine's process out of its home where it has to, and hand the controllers down there. */
int box_home_open(const struct box_host *host, struct box_error *err);
/* Hand the controllers of `limited` down from a directory to those in it. */
int box_controllers_enable(const char *directory, unsigned limited, struct box_error *err);

/* A sandbox's own mounts: /proc, /tmp, /var/task, /opt. */
int box_mounts_enter(int tmp_fd, int code_fd, int opt_fd, struct box_error *err);
int box_net_loopback_up(struct box_error *err);
/* Whether a sandbox makes its network namespace itself, 0.3 ms in which its zygote can clone the next. Not one that is
 * in its leaf from birth, which would be charged for it; nor in a user namespace, where the clone makes all of them. */
int box_net_made_inside(const struct box_fork_request *request, const struct box_fork_fds *fds);
/* In the namespace `own_ns`, which has just been made: tie it to the router. */
int box_net_join_router(int own_ns, const struct box_net_link *link, struct box_error *err);
int box_rlimits_set(const struct box_fork_request *request, struct box_error *err);
/* `own_user`: in a user namespace of the sandbox's own, whose groups the kernel does not let anybody change. */
int box_privs_drop(uint32_t uid, int own_user, struct box_error *err);
/* In a process that was cloned into a user namespace: be `uid` there, which the one above calls outer_uid. */
int box_user_become(uint32_t uid, uint32_t outer_uid, uint32_t outer_gid, struct box_error *err);
/* Make /proc of this PID namespace: a detached mount. */
int box_proc_make(struct box_error *err);
/* In a zygote: make the filter that box_seccomp_load loads in each of its forks. */
void box_seccomp_prepare(void);
int box_seccomp_load(struct box_error *err);
/* Nothing where the kernel has no Landlock. */
int box_landlock_enter(struct box_error *err);

/* Set up the calling process, which has just been cloned, as a sandbox: all of it, in order. */
int box_spawn_setup(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_boot *boot,
                    struct box_error *err);
/* The moment, for struct box_boot. */
uint64_t box_now_ns(void);
#ifdef BOX_BARE
/* Set it up as a guest without a sandbox: its descriptors in their places, and nothing else. */
int box_spawn_bare(const struct box_fork_request *request, const struct box_fork_fds *fds, struct box_boot *boot,
                   struct box_error *err);
#endif

/* Become process 1 and go on as its child: returns in the guest only. `report_fd` stays with process 1. */
int box_init_split(int report_fd, struct box_error *err);
/* Where the kernel writes this thread's id. */
int *box_tid_address(void);

/* maps: what the calling process has mapped. `proc` is a descriptor of /proc. */
struct box_mapping {
    uintptr_t start, end;
    char mode[5];  /* rwxp */
    char file[32]; /* device and inode; "" for none */
    int is_stack;
};
FILE *box_maps_open(int proc, struct box_error *err);
/* Whether there is one more. */
int box_maps_next(FILE *maps, struct box_mapping *found);

void box_report_write(int fd, const struct box_report *report);

#endif
