"""Finds out, in a zygote, which pages of memory a start writes, by letting a fork of it serve a function.

A page that a fork is the first to write is copied then, which makes up half of what a start takes. A sandbox that waits
for its function has them copied before. Had it rehearsed instead, it would have written more than a start does, and
kept that for as long as it lives. Leaves to native/box/pages.c: how they are told from others. Guarantees: the zygote
is as before but for a few pages of its own; the fork has ended when this returns.
"""

from __future__ import annotations

import gc
import os
from fcntl import F_DUPFD_CLOEXEC, fcntl
from marshal import dumps

from . import loader, rehearsal, reseed, wire
from .interpreter import DEFAULT_TASK_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from .loop import Guest

_MODULE = "cleave_trial"  # no function's
_SOURCE = b"def handler(event, context):\n    return event\n"
_EXPECTED = [wire.HELLO, wire.READY, wire.RESULT, wire.RESULT]
_OUT_OF_THE_WAY = 64
_READ_BYTES = 65_536
_TRIAL_S = 5
"""A trial that hangs ends by then, and its zygote goes on without."""


def written_by_a_start(guest: Guest, fork: ModuleType, proc: int) -> bytes:
    """The pages, as `fork.touch` takes them. `guest` is what each sandbox goes on with, and `proc` a descriptor of
    /proc. Raises OSError where this host does not tell."""
    folder = fork.tmpfs(1 << 20, 8)
    try:
        _write_module(folder)
        fork.note_pages(proc)
        return _told_by_a_fork(guest, fork, proc, folder)
    finally:
        os.close(folder)


def _write_module(folder: int) -> None:
    """As a code store has it: with its bytecode."""
    code = dumps(compile(_SOURCE, f"{DEFAULT_TASK_ROOT}/{_MODULE}.py", "exec", dont_inherit=True))
    cached = loader.cache_of(_MODULE)
    os.mkdir(os.path.dirname(cached), dir_fd=folder)
    for name, content in ((f"{_MODULE}.py", _SOURCE), (cached, loader.UNCHECKED + bytes(8) + code)):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=folder)
        os.write(fd, content)
        os.close(fd)


def _told_by_a_fork(guest: Guest, fork: ModuleType, proc: int, folder: int) -> bytes:
    events, into = os.pipe()
    answers, answers_in = os.pipe()
    log, log_in = os.pipe()
    told, tell = os.pipe()
    os.write(into, rehearsal.frames((False, False), f"{_MODULE}.handler"))
    os.close(into)  # after which the guest's stream ends
    try:
        pages: bytes = fork.try_pages(told, tell)
        if not pages:
            _serve(guest, fork, (proc, folder, events, answers_in, log_in, tell))
        said = os.read(answers, _READ_BYTES)
    finally:
        for fd in (events, answers_in, told, answers, log, log_in):
            os.close(fd)
    if rehearsal.kinds(said) != _EXPECTED:
        raise OSError(f"the trial of a start answered with {said!r}")
    return pages


def _serve(guest: Guest, fork: ModuleType, fds: tuple[int, ...]) -> None:
    """As a sandbox does, from the fork on. Never returns."""
    status = 1
    try:
        fork.end_with_parent(_TRIAL_S)
        proc, folder, events, answers, log, tell = (fcntl(fd, F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for fd in fds)
        for fd, place in ((events, wire.EVENTS_FD), (answers, wire.ANSWERS_FD), (log, 1), (log, 2)):
            os.dup2(fd, place)
        fork.mount_own(folder, DEFAULT_TASK_ROOT)
        os.write(wire.ANSWERS_FD, wire.frame(wire.HELLO))
        reseed.after_fork()
        gc.enable()
        served = guest.serve()
        fork.tell_pages(proc, tell)
        status = served
    finally:
        os._exit(status)
