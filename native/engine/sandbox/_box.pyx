"""The box, called from Python: convert, call without the GIL, raise. What happens is in native/box.

One importer: engine.sandbox.box. Failures raise SandboxFault with the step, the kernel's errno and a sentence.
"""

cimport cython
from cpython.exc cimport PyErr_SetObject, PyErr_WriteUnraisable
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.errno cimport EAGAIN, ENOMEM, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset, strcmp, strlen
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close

from engine.errors import SandboxFault

CGROUP_KINDS = {BOX_CGROUP_NONE: "none", BOX_CGROUP_V1: "v1", BOX_CGROUP_V2: "v2"}
LIMITS = {"memory": BOX_LIMIT_MEMORY, "cpu": BOX_LIMIT_CPU, "pids": BOX_LIMIT_PIDS}


cdef object fault(box_error *err):
    return SandboxFault(
        (<bytes>err.stage).decode("utf-8", "replace"), err.errnum, (<bytes>err.text).decode("utf-8", "replace")
    )


cdef class Host:
    """The engine's cgroup directories on this host."""

    cdef box_host host

    def __init__(self, str slice_name, limits=("memory", "cpu", "pids")):
        cdef box_error err
        cdef bytes name = slice_name.encode()
        if box_host_probe(&self.host, name, sum(LIMITS[limit] for limit in limits), &err) < 0:
            raise fault(&err)

    @property
    def limits(self):
        return tuple(name for name, bit in LIMITS.items() if self.host.kind != BOX_CGROUP_NONE and self.host.limited & bit)

    @property
    def kind(self):
        return CGROUP_KINDS[self.host.kind]

    @property
    def directories(self):
        return {
            name: (<bytes>self.host.dir[which]).decode()
            for which, name in (
                (BOX_MEMORY, "memory"), (BOX_CPU, "cpu"), (BOX_CPUACCT, "cpuacct"), (BOX_PIDS, "pids"),
                (BOX_UNIFIED, "unified"),
            )
        }

    def open(self):
        cdef box_error err
        cdef int status
        with nogil:
            status = box_host_open(&self.host, &err)
        if status < 0:
            raise fault(&err)

    def sweep(self, bint everything=False):
        cdef box_error err
        cdef int count
        with nogil:
            count = box_host_sweep(&self.host, everything, &err)
        if count < 0:
            raise fault(&err)
        return count

    def leaf(self, str name, *, memory_bytes, cpu_quota_us, cpu_shares, pids):
        cdef box_error err
        cdef box_limits limits
        cdef bytes encoded = name.encode()
        cdef const char *text = encoded
        cdef Leaf leaf = Leaf.__new__(Leaf)
        cdef int status
        if len(encoded) >= sizeof(leaf.leaf.name):
            raise ValueError(f"the name of a leaf has at most {sizeof(leaf.leaf.name) - 1} bytes")
        limits.memory_bytes = memory_bytes
        limits.cpu_quota_us = cpu_quota_us
        limits.cpu_shares = cpu_shares
        limits.pids = pids
        leaf.owner = self
        with nogil:
            status = box_leaf_create(&self.host, &leaf.leaf, text, &limits, &err)
        if status < 0:
            raise fault(&err)
        return leaf


cdef class Leaf:
    """One sandbox's cgroup."""

    cdef Host owner
    cdef box_leaf leaf
    cdef int into_fd
    cdef int join_fds[BOX_HIERARCHIES]
    cdef int n_join  # -1 while those two are not open

    def __cinit__(self):
        self.leaf.peak_fd = self.leaf.usage_fd = self.leaf.cache_fd = self.into_fd = self.n_join = -1

    def __dealloc__(self):
        if self.leaf.peak_fd >= 0:
            close(self.leaf.peak_fd)
        if self.leaf.usage_fd >= 0:
            close(self.leaf.usage_fd)
        if self.leaf.cache_fd >= 0:
            close(self.leaf.cache_fd)
        self.let_go()

    cdef int open_join(self, box_error *err) noexcept nogil:
        if self.n_join < 0:
            self.n_join = box_leaf_join_fds(&self.owner.host, &self.leaf, &self.into_fd, self.join_fds, err)
        return self.n_join

    cdef void let_go(self) noexcept nogil:
        if self.into_fd >= 0:
            close(self.into_fd)
            self.into_fd = -1
        while self.n_join > 0:
            self.n_join -= 1
            close(self.join_fds[self.n_join])
        self.n_join = -1

    def hold(self):
        """Open what the next fork into it needs, ahead of that."""
        cdef box_error err
        cdef int status
        with nogil:
            status = self.open_join(&err)
        if status < 0:
            raise fault(&err)

    @property
    def name(self):
        return (<bytes>self.leaf.name).decode()

    def relimit(self, *, memory_bytes, cpu_quota_us, cpu_shares, pids):
        cdef box_error err
        cdef box_limits limits
        cdef int status
        limits.memory_bytes = memory_bytes
        limits.cpu_quota_us = cpu_quota_us
        limits.cpu_shares = cpu_shares
        limits.pids = pids
        with nogil:
            status = box_leaf_relimit(&self.owner.host, &self.leaf, &limits, &err)
        if status < 0:
            raise fault(&err)

    def set_cpu(self, quota_us):
        cdef box_error err
        cdef int status
        cdef uint32_t quota = quota_us
        with nogil:
            status = box_leaf_set_cpu(&self.owner.host, &self.leaf, quota, &err)
        if status < 0:
            raise fault(&err)

    def kill(self):
        cdef int killed
        with nogil:
            killed = box_leaf_kill(&self.owner.host, &self.leaf)
        return bool(killed)

    def usage(self):
        cdef box_error err
        cdef box_usage usage
        if box_leaf_usage(&self.owner.host, &self.leaf, &usage, &err) < 0:
            raise fault(&err)
        return usage.peak_bytes, usage.cpu_us

    def reclaimable(self):
        cdef box_error err
        cdef uint64_t count
        if box_leaf_reclaimable(&self.owner.host, &self.leaf, &count, &err) < 0:
            raise fault(&err)
        return count

    def kernel(self):
        cdef box_error err
        cdef uint64_t count
        if box_leaf_kernel(&self.owner.host, &self.leaf, &count, &err) < 0:
            raise fault(&err)
        return count

    def oom_kills(self):
        cdef box_error err
        cdef uint64_t count
        if box_leaf_oom_kills(&self.owner.host, &self.leaf, &count, &err) < 0:
            raise fault(&err)
        return count

    def remove(self):
        cdef box_error err
        cdef int status
        # Others may be reading it: before the GIL is let go of, it has no descriptor that is about to be another's.
        cdef box_leaf gone = self.leaf
        self.leaf.peak_fd = self.leaf.usage_fd = self.leaf.cache_fd = -1
        self.let_go()
        with nogil:
            status = box_leaf_remove(&self.owner.host, &gone, &err)
        if status < 0:
            raise fault(&err)


include "_turns.pxi"


def fork(Turns turns, Leaf leaf, *, uid, pids, nofile, int answers, int events, int log, int report, int tmp, int code,
         int net, int timeout_ms, memory_bytes=0, nice=0, outer=None, int opt=-1):
    """Ask the zygote of `turns` for a sandbox in `leaf`; returns (pidfd, pid). `net` is a network namespace, -1 for one that the clone makes; without `code`, -1, the sandbox parks; `opt` is what
    the function's layers are merged into; `outer` is the user and group of a zygote that is in a user namespace."""
    cdef box_error err
    cdef box_fork_request request
    cdef box_fork_fds fds
    cdef int which, pid = 0, pidfd = -1

    memset(&request, 0, sizeof(request))
    request.version = BOX_WIRE_VERSION
    request.uid = uid
    request.pids = pids
    request.nofile = nofile
    request.net = net >= 0
    request.code = code >= 0
    request.opt = opt >= 0
    request.memory_bytes = memory_bytes
    request.nice = nice
    if outer is not None:
        request.own_user = 1
        request.outer_uid, request.outer_gid = outer
    fds.answers, fds.events, fds.log, fds.report = answers, events, log, report
    fds.tmp, fds.code, fds.opt, fds.net = tmp, code, opt, net
    with nogil:
        if leaf.open_join(&err) >= 0:
            for which in range(leaf.n_join):
                fds.join[which] = leaf.join_fds[which]
            fds.into = leaf.into_fd
            request.n_join = leaf.n_join
            request.into = fds.into >= 0
            pidfd = turns.ask(&request, &fds, timeout_ms, &pid, &err)
            leaf.let_go()
    if pidfd < 0:
        raise fault(&err)
    return pidfd, pid


def mount_into(int pidfd, int mount_fd, bytes path, int opt=-1):
    """Attach a detached mount in a parked sandbox, and `opt` at /opt. On a thread that is there for this alone."""
    cdef box_error err
    cdef const char *text = path
    cdef int status
    with nogil:
        status = box_mount_into(pidfd, mount_fd, text, opt, &err)
    if status < 0:
        raise fault(&err)


def kill(int pidfd):
    """SIGKILL to process 1 of a sandbox: all of it dies."""
    cdef box_error err
    if box_kill(pidfd, &err) < 0:
        raise fault(&err)


def reap(int pidfd):
    """The wait status if it has ended, else None."""
    ended = reap_used(pidfd)
    return None if ended is None else ended[0]


def reap_used(int pidfd):
    """If it has ended: (wait status, most memory of one of its processes in bytes, CPU time in microseconds)."""
    cdef box_error err
    cdef box_usage usage
    cdef int status, ended
    ended = box_reap(pidfd, &status, &usage, &err)
    if ended < 0:
        raise fault(&err)
    return (status, usage.peak_bytes, usage.cpu_us) if ended else None


def code_mount(bytes path, bytes nothing=None):
    """A folder, read-only, as the descriptor of a detached mount: itself, or with an empty folder `nothing` as an
    overlay, whose place on the host cannot be seen."""
    cdef box_error err
    cdef const char *empty = NULL
    if nothing is not None:
        empty = nothing
    cdef int fd = box_code_mount(path, empty, &err)
    if fd < 0:
        raise fault(&err)
    return fd


def merged_mount(paths, bytes nothing):
    """At most five folders as one, read-only, an overlay as of code_mount: what is in an earlier one hides what is in
    later ones."""
    cdef box_error err
    cdef const char *names[BOX_MAX_LAYERS]
    cdef const char *empty = nothing
    cdef size_t count = 0
    if len(paths) > BOX_MAX_LAYERS:
        raise ValueError(f"{len(paths)} folders are too many")
    for path in paths:
        names[count] = path
        count += 1
    cdef int fd = box_merged_mount(names, count, empty, &err)
    if fd < 0:
        raise fault(&err)
    return fd


def mount_clone(int mount):
    """A detached mount once more."""
    cdef box_error err
    cdef int fd = box_mount_clone(mount, &err)
    if fd < 0:
        raise fault(&err)
    return fd


def landlock_version():
    return box_landlock_version()


def read_report(bytes data):
    """What a sandbox said on its report pipe: (wait status of the guest or None, SandboxFault or None)."""
    cdef box_report report
    if len(data) < <Py_ssize_t>sizeof(report):
        return None, None
    memcpy(&report, <const char *>data, sizeof(report))
    if report.kind == BOX_REPORT_EXITED:
        return report.status, None
    report.error.stage[31] = 0
    report.error.text[191] = 0
    return None, fault(&report.error)


STRANDED = (<bytes>BOX_STRANDED).decode()
BOOT_MARKS = tuple((<bytes>box_boot_mark(which)).decode() for which in range(BOX_BOOT_MARKS))
REPORT_BYTES = sizeof(box_report)
RESOLVERS = ((<bytes>BOX_RESOLVER).decode(), (<bytes>BOX_RESOLVER_ELSE).decode())


include "_scratch.pxi"
include "_network.pxi"
include "_lane.pxi"
include "_carry.pxi"
include "_loop.pxi"
include "_door.pxi"
include "_callers.pxi"
