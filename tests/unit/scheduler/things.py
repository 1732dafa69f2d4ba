"""What the scheduler's tests are made of: specs, events, a sink that writes down, and a settled loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from engine.model.outcome import StartKind
from engine.sandbox.api import Ending, Event, Pool, SandboxSpec
from engine.scheduler.api import Work
from engine.scheduler.dispatch import LocalScheduler

_ids = itertools.count(1)


class Notes:
    """A RunSink that remembers."""

    def __init__(self) -> None:
        self.kinds: list[StartKind] = []
        self.inits: list[Ending | None] = []
        self.written = b""
        self.chunks: list[bytes] = []

    def started(self, kind: StartKind) -> None:
        self.kinds.append(kind)

    def initialized(self, failure: Ending | None) -> None:
        self.inits.append(failure)

    def output(self, data: bytes) -> None:
        self.written += data

    def chunk(self, data: bytes) -> None:
        self.chunks.append(data)


def spec(name: str = "f", etag: str = "1") -> SandboxSpec:
    return SandboxSpec((name, "$LATEST", etag), "python3.11", "app.handler", "/nowhere", 128, 512, {})


def work(name: str = "f", etag: str = "1", *, payload: bytes = b"{}", timeout_ms: int = 60_000) -> Work:
    return Work(spec(name, etag), Event(f"r{next(_ids)}", payload, timeout_ms, f"arn:{name}"))


def scheduler(
    pool: Pool,
    *,
    max_concurrency: int = 10,
    max_sandboxes: int = 10,
    keep_alive_s: float = 600.0,
    shutdown_grace_ms: int = 0,
    requests_per_concurrency: int = 0,
    burst: int = 0,
    clock: Callable[[], int] = time.monotonic_ns,
) -> LocalScheduler:
    return LocalScheduler(
        pool,
        max_concurrency=max_concurrency,
        max_sandboxes=max_sandboxes,
        keep_alive_s=keep_alive_s,
        shutdown_grace_ms=shutdown_grace_ms,
        requests_per_concurrency=requests_per_concurrency,
        burst=burst,
        monotonic_ns=clock,
    )


async def settled(rounds: int = 10) -> None:
    """Let what is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)
