"""The processes that speak HTTP beside the engine's own: started, watched, and ended with it.

Theory of operation: the engine opens one listening socket for each and keeps it, so that who has connected while a
worker was replaced is served by the next. A worker (engine.rest.worker) gets its socket and one end of each of two
pairs; it reads and writes HTTP, as a user who may do nothing. Plain requests (engine.rest.express) are submitted to the
dispatch loop as they come over one pair (native/relay), and everything else of a request is done here, by the
application that serves without workers too: there is one scheduler, one registry and one set of rules.

Guarantees: a worker that ends is replaced, at once and then more and more slowly; its requests under way are clients
that left; none outlives the engine, however that ends; after `end` no process, task or socket of them is left.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from engine.errors import Unavailable
from engine.rest.forwarded import Api, Forwarding
from engine.rest.relay import Near

START_S = 30.0
AGAIN_FIRST_S = 0.1
AGAIN_MOST_S = 5.0
LAST_S = 2.0
"""How much longer than its requests a worker may take to end."""


class Lane(NamedTuple):
    """What plain requests need: the engine's door, what finds the function of a URL where a call of it is plain, the
    region, and whether a call ends with its client."""

    capsule: object
    function_of: Callable[[bytes], bytes | None]
    region: str
    stops: bool


class _Worker:
    """One of them, over and over."""

    def __init__(self, api: Api, listener: socket.socket, lane: Lane | None, logger: Any) -> None:
        self._api = api
        self._listener = listener
        self._lane = lane
        self._logger = logger
        self._process: asyncio.subprocess.Process | None = None
        self._forwarding: Forwarding | None = None
        self.near: Near | None = None
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()  # before it was ready
        self.pid = 0
        self._leaving = False

    async def keep(self) -> None:
        """Run it, and the next when it has ended, until cancelled."""
        again_s = 0.0
        while not self._leaving:
            since = asyncio.get_running_loop().time()
            status: int | str
            try:
                status = await self._once()
            except OSError as error:  # there is no process or no descriptor left, which may pass
                status = str(error)
            if self._leaving:
                return
            if not self.ready.is_set():
                self.ended.set()
            self._logger.error("http_worker_ended", pid=self.pid, status=status)
            served_s = asyncio.get_running_loop().time() - since
            again_s = 0.0 if served_s > AGAIN_MOST_S else min(AGAIN_MOST_S, again_s * 2 or AGAIN_FIRST_S)
            await asyncio.sleep(again_s)

    async def _once(self) -> int:
        ours, theirs = socket.socketpair()
        plain, plain_theirs = socket.socketpair()
        given = (self._listener, theirs, plain_theirs)
        process: asyncio.subprocess.Process | None = None

        def lost(*_: object) -> None:
            """It hung up, or said what no worker says: nobody would take its requests."""
            if process is not None and process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()

        forwarding = Forwarding(self._api, self.ready.set, lost)
        near = None
        try:
            for end in (ours, plain):
                end.setblocking(False)
            await forwarding.connect(ours)
            if self._lane is not None:
                loop = asyncio.get_running_loop()
                near = Near(self._lane.capsule, plain.fileno(), self._lane.function_of, lost, loop)
                forwarding.near = near
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "engine.rest.worker",
                *(str(end.fileno()) for end in given),
                "" if self._lane is None else self._lane.region,
                "stops" if self._lane is not None and self._lane.stops else "goes-on",
                pass_fds=[end.fileno() for end in given],
                stdin=asyncio.subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )
        except BaseException:
            self._leave(near, plain)
            forwarding.close()
            raise
        finally:
            theirs.close()
            plain_theirs.close()
        self._process, self._forwarding, self.pid, self.near = process, forwarding, process.pid, near
        try:
            return await process.wait()
        finally:
            # Whoever cancels this has ended it, or does not wait for it.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            self._leave(near, plain)
            forwarding.close()
            await forwarding.stop()
            self._process = self._forwarding = self.near = None

    def _leave(self, near: Near | None, plain: socket.socket) -> None:
        if near is not None:
            near.leave(self._lane is not None and self._lane.stops)
        plain.close()

    async def started(self) -> bool:
        """Whether it serves, once that is known."""
        events = [asyncio.ensure_future(event.wait()) for event in (self.ready, self.ended)]
        await asyncio.wait(events, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        for event in events:
            event.cancel()
        return self.ready.is_set()

    async def end(self, grace_s: float) -> None:
        """Have it answer what it has and leave."""
        self._leaving = True
        process, forwarding = self._process, self._forwarding
        if process is None or forwarding is None:
            return
        forwarding.leave(grace_s + LAST_S)
        for left_s in (grace_s, LAST_S):
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await process.wait()
                    return
            await forwarding.stop()


class HttpWorkers:
    """All of them."""

    def __init__(self, api: Api, listeners: list[socket.socket], *, lane: Lane | None, logger: Any) -> None:
        """Without `lane`, every request is the application's."""
        self._listeners = listeners
        self._workers = [_Worker(api, listener, lane, logger) for listener in listeners]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ways(self) -> list[Near]:
        """That of plain requests, of each that there is."""
        return [worker.near for worker in self._workers if worker.near is not None]

    @property
    def pids(self) -> list[int]:
        """Of those that there are."""
        return [worker.pid for worker in self._workers if worker.pid]

    async def begin(self) -> None:
        """Return once each accepts connections. Raises Unavailable."""
        self._tasks = [asyncio.create_task(worker.keep(), name="http-worker") for worker in self._workers]
        try:
            for worker in self._workers:
                if not await worker.started():
                    raise Unavailable(
                        "A process that is to speak HTTP did not start",
                        fix="see what it wrote to the standard error, or set http_workers to 0",
                    )
        except BaseException:
            await self._stop()
            raise

    async def end(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way end for up to `grace_s` seconds, then cancel them."""
        await asyncio.gather(*(worker.end(grace_s) for worker in self._workers))
        await self._stop()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
