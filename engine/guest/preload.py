"""Imports modules into a zygote, ahead of the functions that asked for them, and holds them to what a zygote can have.

What is imported here is the interpreter's own: its standard library and its installed packages. It runs before there is
a sandbox, and every sandbox of the zygote has what it leaves: so a module that starts a thread or a process, keeps a
file or a socket open, shares memory, sets a timer, prints or exits is refused by its name, and the zygote does not
serve. Runs as nobody where it can, and with no network; that is no wall (root is one call away), but what a mistake
does is done without rights. Leaves to the engine: how long it may take.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NOBODY = 65_534
_KB = 1_024
_SAID_BYTES = 300
_TEXT_CHARS = 500


class Refused(Exception):
    """A module that a zygote cannot have."""

    def __init__(self, module: str, why: str) -> None:
        super().__init__(module, why)
        self.module = module
        self.why = why


class Watch:
    """This process as it is now, and what has come to it since. Made where /proc is in sight, it works where it is
    not."""

    def __init__(self, flush: Callable[[], None]) -> None:
        """`flush` writes what C code has printed and not yet written."""
        self._flush = flush
        self._tasks = os.open("/proc/self/task", os.O_RDONLY | os.O_DIRECTORY)
        self._fds = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        self._maps = os.open("/proc/self/maps", os.O_RDONLY)
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._open = self._open_fds()
        self._shared = self._shared_maps()
        self._said = os.fstat(1).st_size
        self.memory_bytes = self._anonymous_bytes()

    def close(self) -> None:
        """Stop to watch."""
        for fd in (self._tasks, self._fds, self._maps, self._status):
            os.close(fd)

    def problem(self) -> str:
        """What a sandbox would have of it that it must not have; "" for nothing."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._flush()
        threads = len(os.listdir(self._tasks)) - 1
        if threads:
            return f"started {_many(threads, 'thread')}, and no fork has them"
        files = sorted(self._open_fds() - self._open)
        if files:
            return f"keeps open: {', '.join(self._what_is(fd) for fd in files)}"
        if _has_children():
            return "started a process"
        if self._shared_maps() != self._shared:
            return "has memory that all sandboxes would share"
        if _has_timer():
            return "set a timer"
        size = os.fstat(1).st_size
        if size > self._said:
            said = os.pread(1, _SAID_BYTES, self._said).decode(errors="replace").strip()
            return f"prints when it is imported: {said!r}"
        return ""

    def grown_bytes(self) -> int:
        """How much memory of its own the process has taken since."""
        return max(0, self._anonymous_bytes() - self.memory_bytes)

    def _open_fds(self) -> set[str]:
        """Without the one that the listing itself has."""
        return {fd for fd in os.listdir(self._fds) if _is_open(int(fd))}

    def _what_is(self, fd: str) -> str:
        try:
            return os.readlink(fd, dir_fd=self._fds)
        except OSError:
            return f"descriptor {fd}"

    def _shared_maps(self) -> list[str]:
        os.lseek(self._maps, 0, os.SEEK_SET)
        text = b""
        while True:
            piece = os.read(self._maps, 65_536)
            if not piece:
                break
            text += piece
        lines = [line.split(None, 2) for line in text.decode(errors="replace").splitlines()]
        return [line[0] for line in lines if len(line) > 1 and line[1][1] == "w" and line[1][3] == "s"]

    def _anonymous_bytes(self) -> int:
        os.lseek(self._status, 0, os.SEEK_SET)
        for line in os.read(self._status, 65_536).splitlines():
            if line.startswith(b"RssAnon:"):
                return int(line.split()[1]) * _KB
        return 0


def preload(modules: list[str], packages: list[str], watch: Watch, say: Callable[[str], None]) -> None:
    """Import `modules`, in order, with `packages` last on the path, where forks keep them. `say` is told of each before
    it is imported. Raises Refused at the first that cannot be had."""
    sys.path += packages
    for module in modules:
        say(module)
        _as_nobody()
        try:
            __import__(module)
        except BaseException as error:  # a module may raise anything, SystemExit too
            raise Refused(module, _text_of(error)) from None
        finally:
            _as_root()
        problem = watch.problem()
        if problem:
            raise Refused(module, problem)


def _as_nobody() -> None:
    """Do without root's rights for a while, where this is root of more than one id."""
    try:
        os.setresgid(_NOBODY, _NOBODY, 0)
        os.setresuid(_NOBODY, _NOBODY, 0)
    except OSError:  # a user namespace with one id
        pass


def _as_root() -> None:
    if os.getresuid()[0] == _NOBODY:
        os.setresuid(0, 0, 0)
    if os.getresgid()[0] == _NOBODY:
        os.setresgid(0, 0, 0)


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _has_timer() -> bool:
    import _signal  # type: ignore[import-not-found]  # the C half of signal, which brings enum along

    kinds = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)
    return any(_signal.getitimer(kind) != (0.0, 0.0) for kind in kinds)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _text_of(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"exits when it is imported: {error.code!r}"
    text = f"cannot be imported: {type(error).__name__}: {error}"
    return text if len(text) <= _TEXT_CHARS else text[:_TEXT_CHARS] + "…"
