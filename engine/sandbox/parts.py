"""What a sandbox is made of on Linux, put together in one go in a thread, and taken apart again.

Order matters: whatever fails on the way, all that was made before it is given back. Nothing here knows of events.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Self

from engine.errors import EngineError, SandboxFault
from engine.sandbox import box
from engine.sandbox.api import SandboxSpec
from engine.sandbox.code_mounts import CodeMounts
from engine.sandbox.cpu import CpuRules, cpu_shares
from engine.sandbox.janitor import Janitor, Step
from engine.sandbox.leaves import LeafPool
from engine.sandbox.link import Ends
from engine.sandbox.means import LIMITS, Means, niceness
from engine.sandbox.network import Network, SandboxNetwork
from engine.sandbox.scratch import ScratchPool, Tmp
from engine.sandbox.scratch_backends import Tmpfs
from engine.zygote.host import Zygote

PIDS = 1_024
"""Processes and threads together, as on AWS Lambda."""
OPEN_FILES = 1_024
_FORK_WITHIN_MS = 5_000
_DEAD_WITHIN_MS = 5_000


def relimit(leaf: box.Leaf, spec: SandboxSpec, cpu: CpuRules, tmp_in_memory: bool) -> None:
    """Write the limits that the function bought; where what is in /tmp is counted with the leaf's memory, there is room
    for that beside the tier."""
    leaf.relimit(
        memory_bytes=spec.memory_mb + (spec.tmp_mb if tmp_in_memory else 0) << 20,
        cpu_quota_us=cpu.starting_us(spec.memory_mb),
        cpu_shares=cpu_shares(spec.memory_mb),
        pids=PIDS,
    )


@dataclass(slots=True)
class Parts:
    """The descriptors and the leaf of one sandbox. Whoever holds it hands `removal` to a janitor once the process is
    reaped, or `burial` where it is not."""

    pid: int
    pidfd: int
    leaf: box.Leaf
    control: Ends
    log: int
    report: int
    tmp: Tmp
    network: SandboxNetwork
    remove_leaf: Step
    limits: tuple[str, ...] = tuple(LIMITS)  # what the leaf limits and counts
    tmp_in_memory: bool = False  # what is in /tmp is counted with the leaf's memory

    def removal(self) -> list[Step]:
        """How to give everything back, in order; milliseconds, for the unmount."""
        return [
            self._close,
            self.network.release,
            self.tmp.close,
            self.remove_leaf,
        ]

    def burial(self) -> list[Step]:
        """The same for one that may be alive."""
        return [self._end, *self.removal()]

    def _close(self) -> None:
        fds = (self.pidfd, self.log, self.report)
        self.pidfd = self.log = self.report = -1
        close_all(fds)
        self.control.close()

    def _end(self) -> None:
        box.kill(self.pidfd)
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        poller.poll(_DEAD_WITHIN_MS)
        if box.reap(self.pidfd) is None:
            raise SandboxFault("kill", 0, f"process {self.pid} does not die")


def limited_leaf(host: box.Host, name: str, memory_mb: int, cpu: CpuRules) -> box.Leaf:
    """A leaf with the limits of a memory tier, as they are while a function initializes; 0.5 ms."""
    leaf = host.leaf(
        name,
        memory_bytes=memory_mb << 20,
        cpu_quota_us=cpu.starting_us(memory_mb),
        cpu_shares=cpu_shares(memory_mb),
        pids=PIDS,
    )
    try:
        leaf.hold()
    except SandboxFault:
        leaf.remove()
        raise
    return leaf


def close_all(fds: Iterable[int]) -> None:
    """Close each. The kernel frees a descriptor also where close(2) fails: a second try could hit somebody else's."""
    for fd in fds:
        try:
            if fd >= 0:
                os.close(fd)
        except OSError:
            pass


class _Making:
    """What was made so far of a sandbox, to be taken back if the rest fails."""

    def __init__(self, janitor: Janitor) -> None:
        self._janitor = janitor
        self._undo: list[Step] = []
        self._theirs: list[int] = []

    def made(self, undo: Step) -> None:
        """One more thing."""
        self._undo.append(undo)

    def pair(self, ours: int, theirs: int) -> None:
        """Two ends: `theirs` goes to the sandbox and is closed here in any case."""
        self._theirs.append(theirs)
        self._undo.append(partial(close_all, (ours,)))

    def send(self, fd: int) -> int:
        """A descriptor that goes to the sandbox."""
        self._theirs.append(fd)
        return fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        close_all(self._theirs)
        if kind is None:
            return
        failed = []
        for step in reversed(self._undo):
            try:
                step()
            except (OSError, EngineError):
                failed.append(step)
        # A leaf whose process is not gone yet must not hide why the start failed.
        if failed:
            self._janitor.take_away(failed, lambda: None)


def build(
    spec: SandboxSpec,
    uid: int,
    *,
    means: Means,
    code: CodeMounts,
    leaves: LeafPool,
    zygote: Zygote,
    scratch: ScratchPool,
    network: Network,
    janitor: Janitor,
    cpu: CpuRules,
    mark: Callable[[str], object] = lambda _: None,
) -> Parts:
    """Start a sandbox; one without a code path parks (engine/sandbox/parking.py). `mark` is told what has been done,
    step by step. Raises SandboxFault with the step,
    HostUnfit for a limit that the host cannot enforce."""
    try:
        with _Making(janitor) as making:
            return _build(making, spec, uid, means, code, leaves, zygote, scratch, network, cpu, mark)
    except OSError as error:
        fix = "raise the engine's limit of open files" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
        raise SandboxFault("descriptors", error.errno or 0, f"cannot make them: {error.strerror}", fix=fix) from error


def _build(
    making: _Making,
    spec: SandboxSpec,
    uid: int,
    means: Means,
    codes: CodeMounts,
    leaves: LeafPool,
    zygote: Zygote,
    scratch: ScratchPool,
    network: Network,
    cpu: CpuRules,
    mark: Callable[[str], object],
) -> Parts:
    mark("builder")
    limits = means.host.limits
    tmp_in_memory = "memory" in limits and isinstance(scratch.backend, Tmpfs)
    leaf = leaves.take(spec.memory_mb)
    remove_leaf = partial(leaves.remove, leaf, spec.memory_mb)
    making.made(remove_leaf)
    if tmp_in_memory:
        relimit(leaf, spec, cpu, tmp_in_memory)
    mark("leaf")
    tmp = scratch.take(spec.tmp_mb)
    making.made(tmp.discard)
    mark("tmp")
    own_network = network.take(spec.egress)
    making.made(own_network.release)
    mark("network")
    code = making.send(codes.take(spec.code_path)) if spec.code_path else -1
    opt = making.send(codes.take_layers(spec.layer_paths)) if spec.layer_paths else -1
    answers, answers_write = os.pipe2(os.O_CLOEXEC)
    making.pair(answers, answers_write)
    events_read, events = os.pipe2(os.O_CLOEXEC)
    making.pair(events, events_read)
    log, log_write = os.pipe2(os.O_CLOEXEC)
    making.pair(log, log_write)
    report, report_write = os.pipe2(os.O_CLOEXEC)
    making.pair(report, report_write)
    os.set_blocking(log, False)
    os.set_blocking(report, False)
    mark("descriptors")
    pidfd, pid = zygote.ask(
        lambda turns: box.fork(
            turns,
            leaf,
            uid=uid,
            pids=PIDS,
            nofile=OPEN_FILES,
            answers=answers_write,
            events=events_read,
            log=log_write,
            report=report_write,
            tmp=tmp.fileno(),
            code=code,
            net=own_network.ns,
            timeout_ms=_FORK_WITHIN_MS,
            memory_bytes=0 if "memory" in limits else spec.memory_mb << 20,
            nice=0 if "cpu" in limits else niceness(spec.memory_mb),
            outer=means.outer,
            opt=opt,
        )
    )
    mark("forked")
    control = Ends(answers, events)
    return Parts(pid, pidfd, leaf, control, log, report, tmp, own_network, remove_leaf, limits, tmp_in_memory)


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
