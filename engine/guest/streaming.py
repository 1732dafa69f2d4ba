"""What a handler returns, made into an answer: iterators that are streamed, and all that has to be awaited.

Where chunks go is answer.py's. Theory of operation: a generator is iterated here, and each chunk is written before the
next is asked for, so a slow reader holds the handler up at its `yield`. Coroutines and async generators run on one
event loop, made when it is first needed and kept as long as the sandbox. It runs only while an invocation does: tasks
that a handler leaves behind are suspended at its end, and go on with the next one. An async generator whose reader is
slow waits on the loop, so that other tasks of the handler go on meanwhile.
"""

from __future__ import annotations

import os

from . import errors, stack, wire
from .answer import Answer, Overflow, chunk_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Iterator
    from typing import Any

    from .channel import Channel

PLAIN = frozenset((dict, list, tuple, str, bytes, int, float, bool, type(None)))
"""The types of most results: neither iterators nor awaitable."""
_SIGNAL_TURNS = 3  # its number is read in one, its handler called in the next
_IS_ASYNC = 0x80 | 0x200  # inspect.CO_COROUTINE, inspect.CO_ASYNC_GENERATOR


class Runner:
    """The event loop of a sandbox, and what drives iterators."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop: asyncio.AbstractEventLoop | None = None

    def prepare(self, handler: object) -> None:
        """Make the loop in the init phase where the handler says by its own code that it needs one."""
        flags = getattr(getattr(handler, "__code__", None), "co_flags", 0)
        if isinstance(flags, int) and flags & _IS_ASYNC:
            self._get_loop()

    def finish(self, signal: int) -> None:
        """Run what the loop has to run for this signal, if it has a handler, and all tasks to their end."""
        loop = self._loop
        if loop is None or loop.is_closed() or signal not in getattr(loop, "_signal_handlers", ()):
            return
        import asyncio

        async def rest() -> None:
            for _ in range(_SIGNAL_TURNS):
                await asyncio.sleep(0)
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(tasks)

        loop.run_until_complete(rest())

    def settle(self, result: Any, answer: Answer) -> Any:
        """The plain value of what a handler returned; what it streams is written to `answer`, which is then used."""
        if hasattr(type(result), "__await__"):
            result = self._run(result)
        kind = type(result)
        if hasattr(kind, "__anext__"):
            self._run(self._write_async(result, answer))
        elif hasattr(kind, "__next__"):
            _write_each(result, answer)
        else:
            return result
        return None

    def _run(self, awaitable: Awaitable[Any]) -> Any:
        loop = self._get_loop()
        from asyncio import CancelledError

        try:
            return loop.run_until_complete(awaitable)
        except CancelledError as error:  # no Exception, and no exit either
            trace = stack.format_trace(errors.trace_of(error))
            raise errors.Fault("CancelledError", str(error) or "The handler was cancelled", trace) from None

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that module code has made its own, if it has."""
        if self._loop is None or self._loop.is_closed():
            import asyncio
            import warnings

            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that there was none yet is no fault of the function's
                    self._loop = asyncio.get_event_loop()
                if self._loop.is_closed():
                    raise RuntimeError
            except RuntimeError:
                self._loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self._loop)
        return self._loop

    async def _write_async(self, result: AsyncIterator[Any], answer: Answer) -> None:
        fd = self._channel.answers_fd
        answer.used = True
        os.set_blocking(fd, False)
        try:
            async for value in result:
                for chunk in answer.begin(chunk_of(value)):
                    if not self._channel.begin(wire.CHUNK, chunk):
                        await self._written(fd)
        except Overflow:
            pass
        finally:
            os.set_blocking(fd, True)
            close = getattr(result, "aclose", None)
            if close is not None:
                await close()

    async def _written(self, fd: int) -> None:
        """Wait until what was begun is written."""
        loop = self._get_loop()
        while not self._channel.go_on():
            room: Awaitable[None] = loop.create_future()
            loop.add_writer(fd, _wake, room)
            try:
                await room
            finally:
                loop.remove_writer(fd)


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)


def _write_each(result: Iterator[Any], answer: Answer) -> None:
    answer.used = True
    try:
        for value in result:
            answer.write(chunk_of(value))
    except Overflow:
        pass
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
