"""What a sandbox is made of on Linux, put together in one go in a thread, and taken apart again.

Order matters: whatever fails on the way, all that was made before it is given back. Nothing here knows of events.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import SandboxFault
from engine.model.function import MEMORY_MB_PER_VCPU
from engine.sandbox import box
from engine.sandbox.api import SandboxSpec
from engine.sandbox.scratch import ScratchPool
from engine.zygote.host import Zygote

CPU_PERIOD_US = 100_000
PIDS = 1_024
"""Processes and threads together, as on AWS Lambda."""
OPEN_FILES = 1_024
_FORK_WITHIN_MS = 5_000


def cpu_quota_us(memory_mb: int) -> int:
    """CPU time in each 100 ms that a tier buys: 1,769 MB is one vCPU."""
    return max(1_000, memory_mb * CPU_PERIOD_US // MEMORY_MB_PER_VCPU)


def cpu_shares(memory_mb: int) -> int:
    """Weight against neighbours when the CPUs are full, in cgroup v1's unit."""
    return max(2, memory_mb * 1_024 // MEMORY_MB_PER_VCPU)


@dataclass(slots=True)
class Parts:
    """The descriptors and the leaf of one sandbox. Whoever holds it calls `release` once the process is reaped."""

    pid: int
    pidfd: int
    leaf: box.Leaf
    control: socket.socket
    log: int
    report: int
    tmp: int

    def release(self) -> None:
        """Give everything back; milliseconds, for the unmount. Raises SandboxFault if the leaf cannot be removed."""
        for fd in (self.pidfd, self.log, self.report, self.tmp):
            os.close(fd)
        self.control.close()
        self.leaf.remove()


@contextlib.contextmanager
def _closing_fds() -> Iterator[list[int]]:
    """Descriptors that are closed at the end, whatever happens."""
    fds: list[int] = []
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def build(
    spec: SandboxSpec, name: str, uid: int, *, host: box.Host, zygote: Zygote, scratch: ScratchPool, init_full_cpu: bool
) -> Parts:
    """Start a sandbox. Raises SandboxFault with the step, HostUnfit for a limit that the host cannot enforce."""
    quota = cpu_quota_us(spec.memory_mb)
    leaf = host.leaf(
        name,
        memory_bytes=spec.memory_mb << 20,
        cpu_quota_us=max(quota, CPU_PERIOD_US) if init_full_cpu else quota,
        cpu_shares=cpu_shares(spec.memory_mb),
        pids=PIDS,
    )
    # Two groups: what goes to the sandbox is closed here in any case, what stays is closed if anything fails.
    with _closing_fds() as theirs, contextlib.ExitStack() as undo:
        undo.callback(leaf.remove)
        tmp = scratch.take(spec.tmp_mb)
        undo.callback(os.close, tmp)
        code = box.code_mount(os.fsencode(spec.code_path))
        theirs.append(code)
        control, guest = socket.socketpair()
        theirs.append(guest.detach())
        undo.callback(control.close)
        log_read, log_write = os.pipe2(os.O_CLOEXEC)
        theirs.append(log_write)
        undo.callback(os.close, log_read)
        report_read, report_write = os.pipe2(os.O_CLOEXEC)
        theirs.append(report_write)
        undo.callback(os.close, report_read)
        with zygote.lock:
            pidfd, pid = box.fork(
                zygote.fileno(),
                leaf,
                uid=uid,
                pids=PIDS,
                nofile=OPEN_FILES,
                hostname="sandbox",
                control=theirs[1],
                log=log_write,
                report=report_write,
                tmp=tmp,
                code=code,
                timeout_ms=_FORK_WITHIN_MS,
            )
        undo.pop_all()
    os.set_blocking(log_read, False)
    os.set_blocking(report_read, False)
    return Parts(pid, pidfd, leaf, control, log_read, report_read, tmp)


def exit_status(status: int) -> str:
    """A wait status in AWS's words: "exit status 1", "signal: killed"; "" for an exit with 0."""
    if os.WIFSIGNALED(status):
        return f"signal: {_SIGNALS.get(os.WTERMSIG(status), str(os.WTERMSIG(status)))}"
    code = os.WEXITSTATUS(status)
    return f"exit status {code}" if code else ""


# Go's names of the signals, which AWS's messages use: pkg.go.dev/syscall#Signal.
_SIGNALS = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    10: "user defined signal 1",
    11: "segmentation fault",
    12: "user defined signal 2",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
    24: "CPU time limit exceeded",
    25: "file size limit exceeded",
    31: "bad system call",
}


def read_report(fd: int) -> tuple[int | None, SandboxFault | None]:
    """What the sandbox said about its end: (wait status of the guest, failure of its set-up), None where nothing."""
    try:
        return box.read_report(os.read(fd, box.REPORT_BYTES))
    except BlockingIOError:
        return None, None
