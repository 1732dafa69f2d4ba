"""What a sandbox wrote: the engine's end of the one pipe that is the guest's standard output and error.

What is read goes to the sink of the run, as it came; engine.invoke.logtail makes lines of it. Guarantees: the end of
the init phase is told once, at its place in what was written; a turn of the loop reads no more than its share.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from collections.abc import Callable

from engine.guest import wire
from engine.sandbox.api import RunSink

_READ_BYTES = 65_536  # a pipe holds no more
_READS_A_TURN = 16


class LogPipe:
    """Of one sandbox, on the event loop's thread. `fd` is its owner's to close, after `close`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_fault: Callable[[Exception], None],
        before: Callable[[], None],
    ) -> None:
        """`on_fault` is told what the sink raised, or a read. `before` is called where something is to be read that
        nobody asked for: whose it is, is said by `begin` then."""
        self._loop = loop
        self._fd = fd
        self._on_fault = on_fault
        self._before = before
        self._waiting = array.array("i", [0])
        self._init_told = False
        self._wrote = False
        self._sink: RunSink | None = None
        self._output: Callable[[bytes], None] | None = None  # of the last run too: a thread of it may write yet
        loop.add_reader(fd, self._on_readable)

    def begin(self, sink: RunSink) -> None:
        """The next run."""
        self._sink, self._output, self._wrote = sink, sink.output, False

    def end(self) -> bool:
        """The run is over. Whether it wrote anything."""
        self._sink = None
        return self._wrote

    def initialized(self) -> None:
        """Tell the run's sink, if it was not told."""
        if not self._init_told and self._sink is not None:
            self._init_told = True
            self._sink.initialized(None)

    def drain(self) -> None:
        """What was written before an answer is in the pipe when the answer is here: at most a pipe full of it."""
        waiting = self._waiting
        fcntl.ioctl(self._fd, termios.FIONREAD, waiting)  # cheaper than a read of an empty pipe, which raises
        if waiting[0]:
            self._read()

    def drain_to_end(self) -> None:
        """What is left in the pipe of a process that has ended."""
        while self._read():
            pass

    def close(self) -> None:
        """Read no more. Safe to call again."""
        self._loop.remove_reader(self._fd)
        self._sink = self._output = None

    def _on_readable(self) -> None:
        try:
            self._before()
            for _ in range(_READS_A_TURN):
                if not self._read():
                    return
        except Exception as error:
            self._on_fault(error)

    def _read(self) -> bool:
        """One read; False when there is nothing more now."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        size = len(data)
        if self._output is not None:
            if not self._init_told and self._sink is not None:
                before, mark, rest = data.partition(wire.INIT_END)  # written, and so read, in one piece
                if mark:
                    self._output(before)
                    self.initialized()
                    data = rest
            self._wrote = self._wrote or bool(data)
            self._output(data)
        return size == _READ_BYTES
