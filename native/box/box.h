/* The box: sandboxes out of Linux namespaces, cgroups, capabilities and seccomp.
 *
 * Pure C without Python. The one public header; a file for each kernel topic:
 *
 *   error        the error every function fills
 *   cgroup       leaves: limits written, read back, measured, removed (cgroup_v1, cgroup_v2)
 *   scratch      /tmp on pooled ext4 images, as detached mounts
 *   mounts       the minimal root of a zygote; detached code mounts; what a sandbox mounts itself
 *   net          loopback
 *   rlimits      resource limits
 *   privs        user, groups, capabilities
 *   seccomp      the system call filter, as a commented table
 *   spawn        THE ordered list of a sandbox's set-up
 *   init         process 1 of a sandbox
 *   forkserver   a zygote's side: one request in, one sandbox out
 *   wire         requests and replies between engine and zygote, with descriptors
 *   reap         kill and wait by pidfd
 *
 * Contract: functions return 0 (or a descriptor, where said) and -1 with *err filled; none exits, prints or keeps
 * state between calls. Descriptors are close-on-exec.
 */
#ifndef BOX_H
#define BOX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- error ---- */

enum { BOX_STAGE = 32, BOX_TEXT = 192 };

struct box_error {
    char stage[BOX_STAGE]; /* the step, such as "cgroup memory" */
    int errnum;            /* the kernel's answer; 0 where it gave none */
    char text[BOX_TEXT];   /* a sentence for a person */
};

/* Fill *err from errno and a printf-style text; returns -1, so that callers can `return box_fail(…)`. */
int box_fail(struct box_error *err, const char *stage, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- cgroup ---- */

enum box_cgroup_kind {
    BOX_CGROUP_NONE = 0,
    BOX_CGROUP_V1 = 1, /* limit controllers on v1; a v2 tree beside it where hybrid */
    BOX_CGROUP_V2 = 2, /* everything on one v2 tree */
};

/* The directories of an engine, one for each hierarchy; "" where the host has none. */
enum box_hierarchy { BOX_MEMORY, BOX_CPU, BOX_CPUACCT, BOX_PIDS, BOX_UNIFIED, BOX_HIERARCHIES };

struct box_host {
    enum box_cgroup_kind kind;
    char dir[BOX_HIERARCHIES][256];
};

struct box_limits {
    uint64_t memory_bytes; /* the tier; swap is off */
    uint32_t cpu_quota_us; /* of each 100 ms; 0: no limit */
    uint32_t cpu_shares;   /* weight against neighbours, in v1's unit: 1024 is one vCPU's */
    uint32_t pids;         /* processes and threads */
};

/* A sandbox's leaf: its name is the same in each hierarchy. */
struct box_leaf {
    char name[64];
    int peak_fd;  /* most memory used */
    int usage_fd; /* CPU time */
};

struct box_usage {
    uint64_t peak_bytes; /* most memory used, reclaimable page cache counted */
    uint64_t cpu_us;     /* CPU time of all its processes */
};

/* Find where limits can be written for an engine called `slice`. kind stays BOX_CGROUP_NONE where they cannot. */
int box_host_probe(struct box_host *host, const char *slice, struct box_error *err);
/* Make the engine's own directories. Call once, before the first leaf. */
int box_host_open(const struct box_host *host, struct box_error *err);
/* Kill and remove every leaf under the engine's directories, and with `all` those too. Returns how many leaves were
 * there, -1 if some could not be removed. */
int box_host_sweep(const struct box_host *host, int all, struct box_error *err);

/* Make a leaf with its limits written and read back. */
int box_leaf_create(const struct box_host *host, struct box_leaf *leaf, const char *name,
                    const struct box_limits *limits, struct box_error *err);
/* Open what a new process needs to join: the v2 directory for CLONE_INTO_CGROUP (-1 where there is none), and files to
 * write "0" to. Returns how many of those, at most BOX_HIERARCHIES. */
int box_leaf_join_fds(const struct box_host *host, const struct box_leaf *leaf, int *into_fd, int *join_fds,
                      struct box_error *err);
/* Change the CPU quota, of each 100 ms; 0 lifts it. */
int box_leaf_set_cpu(const struct box_host *host, const struct box_leaf *leaf, uint32_t quota_us,
                     struct box_error *err);
int box_leaf_usage(const struct box_host *host, const struct box_leaf *leaf, struct box_usage *usage,
                   struct box_error *err);
/* Page cache that the kernel could give back, in bytes. */
int box_leaf_reclaimable(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes,
                         struct box_error *err);
/* How many processes the kernel killed at the memory limit. */
int box_leaf_oom_kills(const struct box_host *host, const struct box_leaf *leaf, uint64_t *count,
                       struct box_error *err);
/* Remove an empty leaf and close its descriptors. Safe to call again. */
int box_leaf_remove(const struct box_host *host, struct box_leaf *leaf, struct box_error *err);

/* ---- scratch and mounts: detached mounts, returned as descriptors ---- */

/* A fresh copy of the ext4 image at `template_path`, in a nameless file in `dir`, on a loop device, mounted nowhere.
 * Closing the last descriptor (or the last mount) of it takes everything away, also after a kill. */
int box_scratch_mount(const char *template_path, const char *dir, struct box_error *err);
/* A tmpfs of so many bytes, mounted nowhere. Its pages count as the sandbox's memory: the weaker form. */
int box_scratch_tmpfs(uint64_t size_bytes, struct box_error *err);
/* Bytes stored in a mount. */
int box_mount_used(int mount_fd, uint64_t *bytes, struct box_error *err);
/* The folder `path`, read-only, nosuid, nodev, mounted nowhere. */
int box_code_mount(const char *path, struct box_error *err);

/* Leave the host's file system for a minimal read-only root: the host's /usr, each of `prefixes`, a small /dev, a small
 * /etc with `uid_count` users from `uid_base`, and mount points. Call in a zygote, once, single-threaded. */
int box_root_enter(const char *const *prefixes, size_t n_prefixes, uint32_t uid_base, uint32_t uid_count,
                   struct box_error *err);

/* ---- spawn ---- */

/* What a zygote is asked to fork. The descriptors travel beside it. */
struct box_fork_request {
    uint32_t version; /* BOX_WIRE_VERSION */
    uint32_t uid;     /* user and group of the sandbox */
    uint32_t pids;    /* RLIMIT_NPROC, as a second line behind the leaf */
    uint32_t nofile;  /* RLIMIT_NOFILE */
    uint32_t n_join;  /* files to write "0" to */
    uint32_t n_opt;   /* layer mounts, lowest first */
    uint32_t into;    /* whether a v2 directory comes along */
    char hostname[64];
};

enum { BOX_WIRE_VERSION = 1, BOX_MAX_LAYERS = 5 };

/* The descriptors of a request, in the order they travel; -1 where absent. */
struct box_fork_fds {
    int control; /* the guest's socket */
    int log;     /* its stdout and stderr */
    int report;  /* where set-up failures and the exit status are told */
    int tmp;     /* detached mount for /tmp */
    int code;    /* detached mount for /var/task */
    int into;    /* v2 cgroup directory */
    int join[BOX_HIERARCHIES];
};

/* What a zygote answers, with a pidfd beside it where pid > 0. */
struct box_fork_reply {
    int32_t pid; /* -1: error says why */
    struct box_error error;
};

/* What a sandbox says on its report pipe: why its set-up failed, or how its guest ended. */
enum box_report_kind { BOX_REPORT_FAILED = 1, BOX_REPORT_EXITED = 2 };

struct box_report {
    uint32_t kind;
    int32_t status; /* wait status of the guest */
    struct box_error error;
};

/* Send a request; closes nothing. */
int box_fork_send(int sock, const struct box_fork_request *request, const struct box_fork_fds *fds,
                  struct box_error *err);
/* Receive the answer to the oldest request: returns the pidfd and sets *pid. Blocks at most timeout_ms. */
int box_fork_receive(int sock, int timeout_ms, pid_t *pid, struct box_error *err);

/* What a fork needs of the language it happens in. */
struct box_fork_hooks {
    void (*before)(void);
    void (*parent)(void);
    void (*child)(void);
};

/* In a zygote: serve requests until the engine is gone. Returns 1 in each sandbox's guest (descriptors 0 to 3 are as
 * engine/guest/wire.py says), 0 in the zygote when the socket closed, -1 with *err if it broke. */
int box_forkserver(int sock, const struct box_fork_hooks *hooks, struct box_error *err);

/* ---- reap ---- */

int box_kill(int pidfd, struct box_error *err);
/* Returns 1 and the wait status if it has ended, 0 if it has not. */
int box_reap(int pidfd, int *status, struct box_error *err);

#endif
