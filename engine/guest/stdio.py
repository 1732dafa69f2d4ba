"""The standard streams of a sandbox: text on the two descriptors that are its log.

Guarantees: text that is not UTF-8 never raises; what a handler wrote is in the pipe before its result is sent; user
code that closes a stream or its descriptor is cut off for the rest of that invocation, not for the next.
"""

from __future__ import annotations

import io
import os
import sys

from . import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Stdio:
    """Streams of our own beside whatever user code puts in sys.stdout."""

    def __init__(self, out_fd: int = 1, err_fd: int = 2, flush: Callable[[], None] | None = None) -> None:
        """`flush` writes what C code has printed to standard output."""
        self._flush_c = flush
        self._out_fd = out_fd
        self._err_fd = err_fd
        self._spare_fd = -1  # the way back to the log after a close of both; not inherited by exec
        self._replaced: list[object] = []  # kept: a stream that is freed would flush what it holds into the log
        self._out = _stream(out_fd, "<stdout>")
        self._err = _stream(err_fd, "<stderr>")

    def take(self) -> None:
        """The descriptors are the log's now."""
        self._spare_fd = os.dup(self._out_fd)

    def install(self) -> None:
        """Put the streams into sys. The interpreter's own, inherited ones are never written to again."""
        if sys.stdout is not self._out:
            self._replaced += [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
        if sys.stdin is None:
            sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        sys.stdout = sys.__stdout__ = self._out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self._err  # type: ignore[misc]

    def write(self, text: str) -> None:
        """Write to the log past whatever sys.stdout is. Errors are ignored: there is nowhere to report them."""
        try:
            self._out.write(text)
        except (OSError, ValueError):
            pass

    def mark(self) -> None:
        """Say in the log where the init phase ends."""
        try:
            os.write(self._spare_fd, wire.INIT_END)
        except OSError:  # user code has closed it
            pass

    def settle(self) -> None:
        """Repair what user code has closed, then flush all streams."""
        for fd in (self._out_fd, self._err_fd):
            try:
                os.fstat(fd)
            except OSError:
                self._reopen(fd)
        if _is_closed(self._out):
            self._out = sys.__stdout__ = _stream(self._out_fd, "<stdout>")  # type: ignore[misc]
        if _is_closed(self._err):
            self._err = sys.__stderr__ = _stream(self._err_fd, "<stderr>")  # type: ignore[misc]
        if self._flush_c is not None:
            self._flush_c()
        _settle("stdout", self._out)
        _settle("stderr", self._err)

    def _reopen(self, fd: int) -> None:
        try:
            os.dup2(self._spare_fd, fd)
        except OSError:  # user code has closed the spare too
            pass

    def close(self) -> None:
        """Give back the spare descriptor; the streams stay as they are."""
        if self._spare_fd >= 0:
            os.close(self._spare_fd)
            self._spare_fd = -1


def make_ahead(flush: Callable[[], None] | None = None) -> Stdio:
    """Streams on descriptors 1 and 2 that take these for pipes, which they are after a fork: what its descriptor can do
    a stream asks once, when it is made."""
    out, into = os.pipe()
    kept = (os.dup(1), os.dup(2))
    try:
        os.dup2(into, 1)
        os.dup2(into, 2)
        return Stdio(flush=flush)
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for fd in (out, into, *kept):
            os.close(fd)


def _stream(fd: int, name: str) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    raw.name = name
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
    )


def _is_closed(stream: object) -> bool:
    try:
        return bool(getattr(stream, "closed", False))
    except Exception:  # detached, or user code's own object
        return True


def _settle(name: str, own: io.TextIOWrapper) -> None:
    current = getattr(sys, name, own)
    if current is not own and _is_closed(current):
        current = own
    setattr(sys, name, current)
    if current is not own:
        _flush(current)
    _flush(own)


def _flush(stream: object) -> None:
    try:
        stream.flush()  # type: ignore[attr-defined]
    except BaseException:  # a stream may be user code, which must not decide the outcome from here
        pass
