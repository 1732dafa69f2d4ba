"""What a load is put on: a function that stays warm, or functions of which each call is a cold start.

For cold starts there are several functions with the same code and settings. One that was called is changed, which
retires its sandbox, and is ready again a little later; meanwhile others are called. So nothing that a start does not do
itself is in its time, though the machine does it at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol

import grpc

from engine.cli.benching.callers import OPTIONS
from engine.cli.client import CONTROL_TIMEOUT_S
from engine.cli.problems import Problem
from engine.v1 import functions_pb2, functions_pb2_grpc, resources_pb2

GONE_AFTER_S = 0.010
"""How long a retired sandbox gets to be gone before its function is called again."""


class Target(Protocol):
    """Functions to call."""

    async def take(self) -> str:
        """The resource name of one that is ready, once there is one."""

    def take_now(self) -> str | None:
        """The same, or None where none is."""

    def done(self, name: str) -> None:
        """It was called."""

    async def settle(self) -> None:
        """Until all are ready."""


class Warm:
    """One function, called again and again."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def take(self) -> str:
        """See Target."""
        return self._name

    def take_now(self) -> str | None:
        """See Target."""
        return self._name

    def done(self, name: str) -> None:
        """See Target."""

    async def settle(self) -> None:
        """See Target."""


class Cold:
    """Functions that are changed after each call. `renew` changes one; where that fails, so do `take` and `settle`."""

    def __init__(self, names: Iterable[str], renew: Callable[[str], Awaitable[None]]) -> None:
        self._renew = renew
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._renewing: set[asyncio.Task[None]] = set()
        self._failure: Problem | None = None
        for name in names:
            self._ready.put_nowait(name)

    async def take(self) -> str:
        """See Target."""
        name = await self._ready.get()
        self._check()
        return name

    def take_now(self) -> str | None:
        """See Target."""
        return None if self._failure is not None or self._ready.empty() else self._ready.get_nowait()

    def done(self, name: str) -> None:
        """See Target."""
        task = asyncio.get_running_loop().create_task(self._make_ready(name))
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def settle(self) -> None:
        """See Target."""
        if self._renewing:
            await asyncio.wait(self._renewing)
        self._check()

    async def _make_ready(self, name: str) -> None:
        try:
            await self._renew(name)
            await asyncio.sleep(GONE_AFTER_S)
        except grpc.aio.AioRpcError as error:
            why = f"{name} could not be changed: {error.code().name}: {error.details()}"
            self._failure = Problem("cannot measure", why, "cleave doctor")
        self._ready.put_nowait(name)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


@contextlib.asynccontextmanager
async def renewer(address: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """What changes functions of the engine that listens there, for Cold."""
    changes = itertools.count()
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        update: Any = functions_pb2_grpc.FunctionServiceStub(channel).UpdateFunction

        async def renew(name: str) -> None:
            await update(a_change(name, next(changes)), timeout=CONTROL_TIMEOUT_S)

        yield renew


def a_change(name: str, number: int) -> functions_pb2.UpdateFunctionRequest:
    """A change of a function that changes nothing that it does: no sandbox of it is warm afterwards."""
    config = resources_pb2.FunctionConfig(description=f"change {number}")
    change = functions_pb2.UpdateFunctionRequest(function=resources_pb2.Function(name=name, config=config))
    change.update_mask.paths.append("config.description")
    return change
