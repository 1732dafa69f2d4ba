/* The box: sandboxes out of Linux namespaces, cgroups, capabilities and seccomp.
 *
 * Pure C without Python. The one public header; a file for each kernel topic:
 *
 *   error        the error every function fills
 *   cgroup       leaves: limits written, read back, measured, removed (cgroup_v1, cgroup_v2)
 *   delegation   where on a v2 tree the engine's directory goes
 *   scratch      /tmp on ext4 images, as detached mounts: made, emptied and used again (scratch_crypt, scratch_empty),
 *                and its other forms (scratch_tmpfs; scratch_folder, scratch_project, scratch_subvolume)
 *   mounts       the minimal root of a zygote; detached code mounts; what a sandbox mounts itself
 *   net          network namespaces: made ahead of need, joined (net_links: pairs between them; netlink)
 *   rlimits      resource limits
 *   privs        user, groups, capabilities; what a zygote sheds of its engine
 *   user         user namespaces, for engines that are not root
 *   seccomp      the system call filter, as a commented table
 *   spawn        THE ordered list of a sandbox's set-up
 *   init         process 1 of a sandbox
 *   forkserver   a zygote's side: one request in, one sandbox out
 *   wire         requests and replies between engine and zygote, with descriptors
 *   assign       a parked sandbox becomes one function's
 *   reap         kill and wait by pidfd
 *   steps        places where a test of the debug build stops the world
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

/* What leaves limit, as bits. */
enum box_limited { BOX_LIMIT_MEMORY = 1, BOX_LIMIT_CPU = 2, BOX_LIMIT_PIDS = 4, BOX_LIMIT_ALL = 7 };

struct box_host {
    enum box_cgroup_kind kind;
    unsigned limited; /* of box_limited: what this engine's leaves limit. The others are somebody else's business */
    char dir[BOX_HIERARCHIES][256];
    char tree[256]; /* v2: where the tree is mounted */
    char home[256]; /* v2: the cgroup that the engine's directory is made in: the root, or one that it was given */
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
    int peak_fd;      /* most memory used */
    int peak_sampled; /* the kernel keeps no peak: peak_fd is the use of the moment */
    int usage_fd;     /* CPU time */
    int cache_fd;     /* page cache, among what else memory is used for */
};

struct box_usage {
    uint64_t peak_bytes; /* most memory used, reclaimable page cache counted; what was seen of it where peak_sampled */
    uint64_t cpu_us;     /* CPU time of all its processes */
};

/* Find where the limits `limited` can be written for an engine called `slice`. kind stays BOX_CGROUP_NONE where they
 * cannot, and where none is asked for: leaves are then names with nothing behind them. */
int box_host_probe(struct box_host *host, const char *slice, unsigned limited, struct box_error *err);
/* Make the engine's own directories. Call once, before the first leaf and before any child process: where a v2 cgroup
 * was given to the engine, the calling process is moved into a leaf of its own below it. */
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
/* Change all limits, each written and read back, of a leaf in which no user code has run yet. */
int box_leaf_relimit(const struct box_host *host, const struct box_leaf *leaf, const struct box_limits *limits,
                     struct box_error *err);
/* Change the CPU quota, of each 100 ms; 0 lifts it, for a leaf that is to be killed. */
int box_leaf_set_cpu(const struct box_host *host, const struct box_leaf *leaf, uint32_t quota_us,
                     struct box_error *err);
/* SIGKILL to every process in it at once, where the kernel can (a v2 tree, Linux 5.14). Returns 1 if it did. */
int box_leaf_kill(const struct box_host *host, const struct box_leaf *leaf);
int box_leaf_usage(const struct box_host *host, const struct box_leaf *leaf, struct box_usage *usage,
                   struct box_error *err);
/* Page cache that the kernel could give back, in bytes. */
int box_leaf_reclaimable(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes,
                         struct box_error *err);
/* What the kernel keeps for its processes: page tables, stacks, descriptors; 0 where it does not tell. In bytes. */
int box_leaf_kernel(const struct box_host *host, const struct box_leaf *leaf, uint64_t *bytes, struct box_error *err);
/* How many processes the kernel killed at the memory limit. */
int box_leaf_oom_kills(const struct box_host *host, const struct box_leaf *leaf, uint64_t *count,
                       struct box_error *err);
/* Remove an empty leaf and close its descriptors. Safe to call again. */
int box_leaf_remove(const struct box_host *host, struct box_leaf *leaf, struct box_error *err);

/* ---- scratch: /tmp, as detached mounts ---- */

enum {
    BOX_SCRATCH_ENCRYPT = 1, /* with a random key, which dies with the file system */
    BOX_SCRATCH_RESERVE = 2, /* take the whole quota of the disk from the start: a full disk fails no write in it */
    BOX_KEY_ID = 16,
};
/* The folder of an image that a sandbox sees as its /tmp. A tmpfs has none: its root is /tmp. */
#define BOX_SCRATCH_FOLDER "tmp"

/* What a /tmp is made of. */
enum box_scratch_kind { BOX_SCRATCH_IMAGE, BOX_SCRATCH_TMPFS, BOX_SCRATCH_PROJECT, BOX_SCRATCH_SUBVOLUME };

/* One /tmp. Only `mount` is for a sandbox, and only once. */
struct box_scratch {
    enum box_scratch_kind kind;
    int mount; /* of the whole image, of a tmpfs, or of the folder itself */
    int root;  /* of the image, for the engine; or what the folder is in; -1 for a tmpfs */
    int image; /* the file; -1 where there is none */
    unsigned loop;
    char name[16];      /* of the folder, in root */
    uint32_t project;   /* its number */
    uint64_t subvolume; /* its number */
    unsigned flags;
    unsigned renewals;
    int held; /* empty and without its key, and the kernel still has something of what was in it */
    uint8_t key_id[BOX_KEY_ID];
    uint64_t base_bytes, base_files, base_disk; /* what an empty one takes, in itself and of the disk */
};

/* Make a formatted ext4 image what all copies of it begin with: the folder that becomes /tmp, and nothing else. */
int box_scratch_template(const char *path, struct box_error *err);
/* A fresh copy of the ext4 image at `template_path`, in a nameless file in `dir`, on a loop device, mounted nowhere.
 * `near` is the number of a device that may be free, or -1. Closing it takes everything away; so does the end of the
 * process. */
int box_scratch_open(struct box_scratch *scratch, const char *template_path, const char *dir, unsigned flags, int near,
                     struct box_error *err);
/* A tmpfs of so many bytes and files, as the descriptor of a detached mount. Its pages count as the memory of whoever
 * writes them: the weaker form. Works in a user namespace, for who may mount there. */
int box_tmpfs_mount(uint64_t size_bytes, uint64_t files, struct box_error *err);
/* The same as a /tmp. */
int box_scratch_tmpfs(struct box_scratch *scratch, uint64_t size_bytes, uint64_t files, struct box_error *err);
/* A folder in `dir` that is a project of its own, with hard limits (ext4 or XFS, mounted with prjquota; Linux 5.14). */
int box_scratch_project(struct box_scratch *scratch, const char *dir, uint64_t size_bytes, uint64_t files,
                        unsigned flags, struct box_error *err);
/* A subvolume in `dir`, with a limit on its quota group (btrfs, with quotas on; Linux 5.9). */
int box_scratch_subvolume(struct box_scratch *scratch, const char *dir, uint64_t size_bytes, struct box_error *err);
/* Turn the quotas of a btrfs on, for all that use it; nothing where they are. */
int box_subvolume_quota(const char *dir, struct box_error *err);
/* Remove what a killed engine left in `dir` of the two above. Returns how many, -1 if some could not be removed. */
int box_scratch_sweep(const char *dir, struct box_error *err);
/* Bytes stored in it. */
int box_scratch_used(const struct box_scratch *scratch, uint64_t *bytes, struct box_error *err);
/* Once the sandbox that had it is gone: make it empty, with another key and a new `mount`. Returns 1 if it is as good
 * as new, 0 if it can only be closed; or, where it is `held` then, be asked for again later. */
int box_scratch_renew(struct box_scratch *scratch);
/* Safe to call again. */
void box_scratch_close(struct box_scratch *scratch);

/* ---- mounts: detached mounts, returned as descriptors ---- */

/* The folder `path`, read-only, nosuid, nodev, mounted nowhere. With `nothing`, an empty folder that is not inside of
 * the other, as an overlay that tells nobody where on the host the folder lies; what is changed there afterwards may be
 * seen in it or not. With NULL the folder itself. */
int box_code_mount(const char *path, const char *nothing, struct box_error *err);
enum { BOX_MAX_LAYERS = 5 };
/* As with `nothing`, of up to BOX_MAX_LAYERS folders in one: what is in an earlier one hides what is in later ones. */
int box_merged_mount(const char *const *paths, size_t count, const char *nothing, struct box_error *err);
/* The same detached mount once more (Linux 6.15; EINVAL before). */
int box_mount_clone(int mount, struct box_error *err);

/* Attach a detached mount at `path`, for the calling process alone. */
int box_mount_own(int mount, const char *path, struct box_error *err);

/* Shed what a zygote inherits of its engine and its sandboxes must not: keys, protection from the out-of-memory killer,
 * and find its command line, which they do not show. Call in a zygote, once, while /proc is there. */
int box_zygote_shed(int own_user, struct box_error *err);

/* Leave the host's file system for a minimal read-only root: the host's /usr, each of `prefixes`, a small /dev, a small
 * /etc with `uid_count` users from `uid_base`, and mount points. Call in a zygote, once, single-threaded. In a user
 * namespace (box_user_enter) the devices are the host's own, and its /proc stays, which the kernel wants to see before
 * it lets a sandbox have one; each sandbox covers it. `name` is what the root is called in everybody's mountinfo. */
int box_root_enter(const char *const *prefixes, size_t n_prefixes, uint32_t uid_base, uint32_t uid_count, int own_user,
                   const char *name, struct box_error *err);

/* ---- user: user namespaces ---- */

/* Leave the host's user namespace and mount namespace for own ones, with every capability there and the ids unchanged:
 * its own alone, or with `mapped` none, until somebody who may has mapped them. For a single-threaded process that is
 * not root. */
int box_user_enter(int mapped, struct box_error *err);
/* Whether a sandbox of a user namespace can be had here, by making the namespaces and mounts of one in a child. Call
 * after box_user_enter. */
int box_user_try(struct box_error *err);

/* ---- landlock ---- */

/* Which version of Landlock this kernel has; 0 for none. See landlock.c for what each adds. */
int box_landlock_version(void);

/* ---- net ---- */

/* The name servers that every sandbox is told of (the first is where AWS has its own). They are no machines: the router
 * namespace passes what is sent there on to the engine's resolvers. */
#define BOX_RESOLVER "169.254.169.253"
#define BOX_RESOLVER_ELSE "169.254.169.252"

/* The namespace of a sandbox, held by its descriptor: the kernel frees it when nobody holds it and nobody is in it. */
struct box_net {
    int ns;
    int counters; /* its /proc/net/dev, to read again and again; -1 without a link. Holds the namespace too */
};

/* What ties a sandbox to the engine's router namespace. Addresses are IPv4, in the host's order of bytes. */
struct box_net_link {
    int router_sock; /* rtnetlink of the router namespace; one caller at a time */
    uint32_t index;  /* of the interface there, its own among those alive */
    uint32_t outer;  /* address of the router's end; the sandbox's gateway */
    uint32_t inner;  /* address of the sandbox's end: the other one of a /31 */
    uint32_t mtu;
};

struct box_link_end {
    char name[16];
    uint32_t index; /* 0: the kernel chooses */
};

/* A namespace with loopback up, and with `link` (or NULL) an interface eth0 and a default route. 0.3 to 0.5 ms without
 * a link: ahead of need. If the calling thread cannot go back to its own namespace, the error says so: end it. */
int box_net_make(const struct box_net_link *link, struct box_net *made, struct box_error *err);
/* The calling thread joins a namespace. */
int box_net_enter(int ns, struct box_error *err);
/* A socket that speaks rtnetlink for the namespace of the calling thread, wherever it is used from. */
int box_rtnl_open(struct box_error *err);
/* A pair of virtual Ethernet devices: `near` where `sock` is, up, and `far` in `far_ns`, down (the kernel can bring it
 * up only once the pair is whole). */
int box_link_pair(int sock, const struct box_link_end *near, const struct box_link_end *far, int far_ns, uint32_t mtu,
                  struct box_error *err);
int box_link_up(int sock, const char *name, struct box_error *err);
/* Returns 1 if it was there, 0 if it was not. Takes its other end along. */
int box_link_remove(int sock, const char *name, struct box_error *err);
int box_address_add(int sock, uint32_t index, uint32_t address, uint8_t prefix, struct box_error *err);
int box_route_default(int sock, uint32_t via, struct box_error *err);

/* ---- spawn ---- */

/* What a zygote is asked to fork. The descriptors travel beside it. */
struct box_fork_request {
    uint32_t version;  /* BOX_WIRE_VERSION */
    uint32_t uid;      /* user and group of the sandbox */
    uint32_t pids;     /* RLIMIT_NPROC, as a second line behind the leaf */
    uint32_t nofile;   /* RLIMIT_NOFILE */
    uint32_t n_join;   /* files to write "0" to */
    uint32_t opt;      /* whether the function's layers come along, merged */
    uint32_t into;     /* whether a v2 directory comes along */
    uint32_t net;      /* whether a network namespace comes along; else the clone makes one, with loopback alone */
    uint32_t code;     /* whether the function's code comes along; else the sandbox parks, and has it put in later */
    uint32_t own_user; /* a user namespace of its own, in which `uid` is outer_uid: where the zygote is in one */
    uint32_t outer_uid, outer_gid;
    uint32_t nice; /* beside the engine's own, where no cgroup weighs it */
    /* RLIMIT_DATA, and of address space beyond what a fork has: where no cgroup limits it. 0: none */
    uint64_t memory_bytes;
};

enum { BOX_WIRE_VERSION = 6 };
#ifdef BOX_BARE
/* The version of a request for a clone without any isolation: see forkserver.c. */
enum { BOX_WIRE_BARE = 0x65726162 };
struct box_bare_request {
    uint32_t version; /* BOX_WIRE_BARE */
    uint32_t parks;   /* whether it waits for its function */
};
#endif

/* The descriptors of a request, in the order they travel; -1 where absent. */
struct box_fork_fds {
    int answers; /* a pipe of the guest's: what it writes */
    int events;  /* and what it reads */
    int log;     /* its stdout and stderr */
    int report;  /* where set-up failures and the exit status are told */
    int tmp;     /* detached mount for /tmp */
    int code;    /* detached mount for /var/task; -1 where it parks */
    int opt;     /* detached mount for /opt */
    int net;     /* network namespace */
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

/* Ask for a sandbox: returns its pidfd and sets *pid; closes nothing. Blocks at most timeout_ms. One caller at a time a
 * socket. Failures of the stage "zygote" leave open what it did: it has to be ended, and what `journal` names with it.
 */
int box_fork_ask(int sock, int journal, const struct box_fork_request *request, const struct box_fork_fds *fds,
                 int timeout_ms, pid_t *pid, struct box_error *err);

/* In a zygote, once it has its root: it talks to nobody, neither do the modules that it imports ahead, and what is
 * cloned from it is never in the host's network, not even before its first step. And what is cloned from it has the
 * hostname that it has, in a namespace of its own. */
int box_zygote_leave_host(struct box_error *err);

/* What a fork needs of the language it happens in. */
struct box_fork_hooks {
    void (*before)(void);
    void (*parent)(void);
    void (*child)(void);
};

/* What a clone went through until it was a guest: the moments (CLOCK_MONOTONIC, in nanoseconds) at which it began, at
 * which each step of its set-up was done, at which it was split from process 1, and at which its language went on. */
enum { BOX_BOOT_MARKS = 15 };

struct box_boot {
    uint64_t ns[BOX_BOOT_MARKS];
};

/* What had been done at each of these moments. */
const char *box_boot_mark(size_t which);

/* Pages of memory, one after the other. */
struct box_pages {
    uint64_t start, length; /* address and bytes */
};
enum { BOX_PAGES_READ = 1 }; /* in the address: pages of a file, to be read alone */

/* In a zygote: serve requests until the engine is gone. Returns 1 in each sandbox's guest, 2 where it parks
 * (descriptors 0 to 3 are as engine/guest/wire.py says), 0 in the zygote when the socket closed, -1 with *err if it
 * broke. In a sandbox `boot` has its moments. `journal` is a memory file that the engine holds too: the kernel notes
 * the process of the last clone in it, 0 before, so that one whose zygote died before it could answer is known all the
 * same. */
int box_forkserver(int sock, int journal, const struct box_fork_hooks *hooks, struct box_boot *boot,
                   struct box_error *err);

/* ---- pages ---- */

/* Note what there is to write to, in a process that is about to fork; `proc` is a descriptor of /proc. */
int box_pages_note(int proc, struct box_error *err);
/* Fork. In the fork it returns 0, and box_pages_tell has to follow; in the other process how many runs that has told on
 * the pipe, when it has ended. -1 also where there is no room for them. Closes `tell`. */
ssize_t box_pages_trial(int told, int tell, const struct box_fork_hooks *hooks, struct box_pages *runs, size_t room,
                        struct box_error *err);
/* In the fork: write the pages of that which it shares with nobody, those that it has written, to `fd`, as runs; and
 * those of files that it has found. */
int box_pages_tell(int proc, int fd, struct box_error *err);
/* Make them the calling process's own, as a write to each would (Linux 5.14). */
int box_pages_touch(const struct box_pages *runs, size_t count, struct box_error *err);
/* Move the calling process's memory into large pages, where the kernel has some. For one thread, none else. */
int box_pages_pack(int proc, struct box_error *err);

/* ---- assign ---- */

/* The stage of the error after which the calling thread has to end: it is in a sandbox's mount namespace. */
#define BOX_STRANDED "stranded"
/* Attach a detached mount at `path` of the sandbox whose process 1 `pidfd` is, and one at /opt unless opt_fd is -1. The
 * calling thread loses what it shared of folder and root with others (unshare(2), CLONE_FS), and keeps both. */
int box_mount_into(int pidfd, int mount_fd, const char *path, int opt_fd, struct box_error *err);

/* ---- reap ---- */

int box_kill(int pidfd, struct box_error *err);
/* Returns 1 and the wait status if it has ended, 0 if it has not; with what it and those it waited for have used: of
 * memory the most that one of them had. */
int box_reap(int pidfd, int *status, struct box_usage *usage, struct box_error *err);

#endif
