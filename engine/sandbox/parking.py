"""A sandbox made ahead of need, and what makes it one function's.

A parked sandbox has everything but a function: its namespaces, limits, /tmp, user id and filter are there, its guest
has the memory that a start writes and waits for a specification. Assigning it writes the limits that the function
bought, and reads them back, and puts the code and the layers in from outside; the sandbox has no privilege for any of
it. No user code has run in it before, and it is assigned once.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from engine.errors import SandboxFault
from engine.guest import wire
from engine.sandbox import box
from engine.sandbox.api import SandboxSpec
from engine.sandbox.code_mounts import CodeMounts
from engine.sandbox.cpu import CpuRules
from engine.sandbox.messages import spec_frame
from engine.sandbox.parts import Parts, relimit

TASK = b"/var/task"
_PARKED_WITHIN_MS = 10_000
_HELLO = wire.frame(wire.HELLO)


class Shape(NamedTuple):
    """What is fixed when a sandbox parks; what else a function asks for is written when it is assigned."""

    runtime: str
    tmp_mb: int
    preload: tuple[str, ...] = ()
    own_layout: bool = False


def shape_of(spec: SandboxSpec) -> Shape:
    """What one has to have that becomes this function's."""
    return Shape(spec.runtime, spec.tmp_mb, spec.preload, spec.own_layout)


@dataclass(slots=True, eq=False)
class Parked:
    """One that waits. `slot` is its user id's."""

    slot: int
    shape: Shape
    memory_mb: int
    parts: Parts
    unsent: bytes = b""  # of its specification


def unassigned(shape: Shape, memory_mb: int) -> SandboxSpec:
    """The specification of a sandbox that parks."""
    return SandboxSpec(
        key=("", "", ""),
        runtime=shape.runtime,
        handler="",
        code_path="",
        memory_mb=memory_mb,
        tmp_mb=shape.tmp_mb,
        environment={},
        preload=shape.preload,
        own_layout=shape.own_layout,
    )


def wait_parked(parts: Parts) -> None:
    """Wait until its guest is there and waits for a function. Raises SandboxFault where it ended."""
    poller = select.poll()
    poller.register(parts.control.answers, select.POLLIN)
    poller.register(parts.pidfd, select.POLLIN)
    for fd, _ in poller.poll(_PARKED_WITHIN_MS):
        # The guest writes nothing else before it has a function, and no function has been in it.
        if fd == parts.control.answers and os.read(fd, len(_HELLO)) == _HELLO:
            return
    raise SandboxFault("park", 0, "the sandbox ended before its guest was there", fix="run `cleave doctor`")


def specify(parked: Parked, spec: SandboxSpec) -> None:
    """Tell its guest what it is to be, ahead of `assign`: it sets up what needs no code meanwhile, and waits for its
    first event. What cannot be sent yet stays in `parked.unsent`."""
    frame, events = spec_frame(spec), parked.parts.control.events
    os.set_blocking(events, False)
    try:
        parked.unsent = frame[os.write(events, frame) :]
    except OSError:  # it is dead, and assigning it says so
        parked.unsent = frame


def assign(
    parked: Parked,
    spec: SandboxSpec,
    *,
    code: CodeMounts,
    cpu: CpuRules,
    mark: Callable[[str], object] = lambda _: None,
) -> int:
    """Give it the limits and the code of `spec`, on a thread that is there for this alone. Returns the microseconds of
    CPU that it has used so far. Raises SandboxFault or HostUnfit; it is to be buried then. After the stage box.STRANDED
    the calling thread has to end."""
    leaf = parked.parts.leaf
    if spec.memory_mb != parked.memory_mb:
        relimit(leaf, spec, cpu, parked.parts.tmp_in_memory)
        mark("limits")
    try:
        mount = code.take(spec.code_path)
    except OSError as error:
        raise SandboxFault("code mount", error.errno or 0, f"cannot take the code: {error.strerror}") from error
    opt = -1
    try:
        if spec.layer_paths:
            opt = code.take_layers(spec.layer_paths)
        mark("code")
        box.mount_into(parked.parts.pidfd, mount, TASK, opt)
    finally:
        os.close(mount)
        if opt >= 0:
            os.close(opt)
    mark("mounted")
    return leaf.usage()[1]


def assigners() -> ThreadPoolExecutor:
    """Threads for `assign` alone."""
    return ThreadPoolExecutor(2, thread_name_prefix="cleave-assign")
