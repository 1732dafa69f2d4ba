# The C-visible shape of native/box/box.h, as far as the engine's side uses it.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "box.h" nogil:
    int box_fail(box_error *err, const char *stage, const char *format, ...)
    enum: BOX_HIERARCHIES
    enum: BOX_MEMORY
    enum: BOX_CPU
    enum: BOX_CPUACCT
    enum: BOX_PIDS
    enum: BOX_UNIFIED
    enum: BOX_WIRE_VERSION
    enum: BOX_MAX_LAYERS
    enum: BOX_REPORT_FAILED
    enum: BOX_REPORT_EXITED
    const char *BOX_RESOLVER
    const char *BOX_RESOLVER_ELSE
    const char *BOX_STRANDED
    enum: BOX_BOOT_MARKS
    const char *box_boot_mark(size_t which)
    enum: BOX_CGROUP_NONE
    enum: BOX_CGROUP_V1
    enum: BOX_CGROUP_V2

    struct box_error:
        char stage[32]
        int errnum
        char text[192]

    enum: BOX_LIMIT_MEMORY
    enum: BOX_LIMIT_CPU
    enum: BOX_LIMIT_PIDS

    struct box_host:
        int kind
        unsigned limited
        char dir[5][256]

    struct box_limits:
        uint64_t memory_bytes
        uint32_t cpu_quota_us
        uint32_t cpu_shares
        uint32_t pids

    struct box_leaf:
        char name[64]
        int peak_fd
        int usage_fd
        int cache_fd

    struct box_usage:
        uint64_t peak_bytes
        uint64_t cpu_us

    enum: BOX_SCRATCH_ENCRYPT
    enum: BOX_SCRATCH_RESERVE

    enum box_scratch_kind:
        BOX_SCRATCH_IMAGE
        BOX_SCRATCH_TMPFS

    struct box_scratch:
        box_scratch_kind kind
        int mount
        int root
        int image
        unsigned loop
        char name[16]
        int held
    struct box_net:
        int ns
        int counters

    struct box_net_link:
        int router_sock
        uint32_t index
        uint32_t outer
        uint32_t inner
        uint32_t mtu

    struct box_link_end:
        char name[16]
        uint32_t index

    struct box_fork_request:
        uint32_t version
        uint32_t uid
        uint32_t pids
        uint32_t nofile
        uint32_t n_join
        uint32_t opt
        uint32_t into
        uint32_t net
        uint32_t code
        uint32_t own_user
        uint32_t outer_uid
        uint32_t outer_gid
        uint32_t nice
        uint64_t memory_bytes
        char hostname[64]

    struct box_fork_fds:
        int answers
        int events
        int log
        int report
        int tmp
        int code
        int opt
        int net
        int into
        int join[5]

    struct box_report:
        uint32_t kind
        int32_t status
        box_error error

    int box_host_probe(box_host *host, const char *slice, unsigned limited, box_error *err)
    int box_host_open(const box_host *host, box_error *err)
    int box_host_sweep(const box_host *host, int all, box_error *err)
    int box_leaf_create(const box_host *host, box_leaf *leaf, const char *name, const box_limits *limits,
                        box_error *err)
    int box_leaf_join_fds(const box_host *host, const box_leaf *leaf, int *into_fd, int *join_fds, box_error *err)
    int box_leaf_relimit(const box_host *host, const box_leaf *leaf, const box_limits *limits, box_error *err)
    int box_leaf_set_cpu(const box_host *host, const box_leaf *leaf, uint32_t quota_us, box_error *err)
    int box_leaf_kill(const box_host *host, const box_leaf *leaf)
    int box_leaf_usage(const box_host *host, const box_leaf *leaf, box_usage *usage, box_error *err)
    int box_leaf_reclaimable(const box_host *host, const box_leaf *leaf, uint64_t *count, box_error *err)
    int box_leaf_kernel(const box_host *host, const box_leaf *leaf, uint64_t *bytes, box_error *err)
    int box_leaf_oom_kills(const box_host *host, const box_leaf *leaf, uint64_t *count, box_error *err)
    int box_leaf_remove(const box_host *host, box_leaf *leaf, box_error *err)
    int box_scratch_template(const char *path, box_error *err)
    int box_scratch_open(box_scratch *scratch, const char *template_path, const char *dir, unsigned flags,
                         int near, box_error *err)
    int box_scratch_tmpfs(box_scratch *scratch, uint64_t size_bytes, uint64_t files, box_error *err)
    int box_scratch_project(box_scratch *scratch, const char *dir, uint64_t size_bytes, uint64_t files, unsigned flags,
                            box_error *err)
    int box_scratch_subvolume(box_scratch *scratch, const char *dir, uint64_t size_bytes, box_error *err)
    int box_subvolume_quota(const char *dir, box_error *err)
    int box_scratch_sweep(const char *dir, box_error *err)
    int box_scratch_used(const box_scratch *scratch, uint64_t *count, box_error *err)
    int box_scratch_renew(box_scratch *scratch)
    void box_scratch_close(box_scratch *scratch)
    int box_code_mount(const char *path, const char *nothing, box_error *err)
    int box_merged_mount(const char **paths, size_t count, const char *nothing, box_error *err)
    int box_mount_clone(int mount, box_error *err)
    int box_landlock_version()
    int box_net_make(const box_net_link *link, box_net *made, box_error *err)
    int box_net_enter(int ns, box_error *err)
    int box_rtnl_open(box_error *err)
    int box_link_pair(int sock, const box_link_end *near, const box_link_end *far, int far_ns, uint32_t mtu,
                      box_error *err)
    int box_link_up(int sock, const char *name, box_error *err)
    int box_link_remove(int sock, const char *name, box_error *err)
    int box_address_add(int sock, uint32_t index, uint32_t address, uint8_t prefix, box_error *err)
    int box_route_default(int sock, uint32_t via, box_error *err)
    int box_fork_ask(int sock, int journal, const box_fork_request *request, const box_fork_fds *fds, int timeout_ms,
                     int *pid, box_error *err)
    int box_mount_into(int pidfd, int mount_fd, const char *path, int opt_fd, box_error *err)
    int box_kill(int pidfd, box_error *err)
    int box_reap(int pidfd, int *status, box_usage *usage, box_error *err)
