"""Whole engines for tests: `engine()` runs one in this process, on this event loop; `served()` runs one as
`cleave serve` does, in a process of its own that a test may kill. Both have a data directory of their own and free
ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.config import Settings
from engine.sandbox import box
from engine.service import Service
from tests.doors import GrpcDoor, HttpDoor
from tests.remains import instance_of, until


@dataclass
class Engine:
    """One in this process."""

    service: Service
    data_dir: Path
    grpc: GrpcDoor
    http: HttpDoor

    @property
    def instance(self) -> str:
        """The id that all it makes carries."""
        return instance_of(self.data_dir)

    def door(self, name: str) -> GrpcDoor | HttpDoor:
        """One of the two."""
        return self.grpc if name == "grpc" else self.http


def settings(data_dir: Path, **changes: Any) -> Settings:
    """Those of a test's engine."""
    values: dict[str, Any] = {
        "data_dir": str(data_dir),
        "grpc_address": "127.0.0.1:0",
        "http_address": "127.0.0.1:0",
        "drain_s": 5.0,
        "parked_ceiling": 0,  # so that each sandbox there is has a reason that its test gave
        "compile_ahead": False,  # as above
        "leaf_pool_size": 0,  # a leaf that is there belongs to a sandbox
        "requests_per_concurrency": 0,  # a small engine gets as many calls as a large one
        "burst_sandboxes": 0,
    }
    return msgspec.convert(values | changes, Settings)


@contextlib.asynccontextmanager
async def engine(data_dir: Path, **changes: Any) -> AsyncIterator[Engine]:
    """One in this process."""
    service = Service(settings(data_dir, **changes))
    await service.start()
    try:
        grpc_door, http_door = GrpcDoor(service.grpc_port), HttpDoor(service.http_port)
        try:
            yield Engine(service, data_dir, grpc_door, http_door)
        finally:
            await grpc_door.close()
            await http_door.close()
    finally:
        await service.stop()


@dataclass
class Served:
    """One in a process of its own. Starting, killing and looking do not wait on the event loop."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    log: Path
    grpc_port: int = 0
    http_port: int = 0
    _grpc: GrpcDoor | None = None
    _http: HttpDoor | None = None

    @property
    def grpc(self) -> GrpcDoor:
        """A gRPC client, the same one each time."""
        if self._grpc is None:
            self._grpc = GrpcDoor(self.grpc_port)
        return self._grpc

    @property
    def http(self) -> HttpDoor:
        """A boto3 client, the same one each time."""
        if self._http is None:
            self._http = HttpDoor(self.http_port)
        return self._http

    @property
    def instance(self) -> str:
        """The id that all it makes carries."""
        return instance_of(self.data_dir)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, within_s: float = 20.0) -> int:
        """Wait for its end; returns its exit status."""
        return await asyncio.to_thread(self.process.wait, within_s)

    async def stopped(self) -> None:
        """Stop it as a service manager does, and hold it to a clean end."""
        await self.close_doors()
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0, self.said()

    async def close_doors(self) -> None:
        """Let its clients go."""
        for door in (self._grpc, self._http):
            if door is not None:
                await door.close()
        self._grpc = self._http = None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4_000:]


@contextlib.asynccontextmanager
async def served(data_dir: Path, *, flags: dict[str, Any] | None = None) -> AsyncIterator[Served]:
    """One as `cleave serve` runs it. A test that did not end it has it killed."""
    started = spawn(data_dir, flags)
    try:
        await ready(started)
        yield started
    except BaseException:
        end(started)
        clear(data_dir)
        raise
    finally:
        await started.close_doors()
        end(started)


def end(started: Served) -> None:
    """Kill one that a test has not ended."""
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()
        clear(started.data_dir)


def clear(data_dir: Path) -> None:
    """Remove what a killed engine leaves to its successor, where a test has failed before it had one."""
    with contextlib.suppress(OSError):
        box.Host(f"cleave-{instance_of(data_dir)}").sweep(True)


def spawn(data_dir: Path, flags: dict[str, Any] | None = None) -> Served:
    """Start the process and do not wait."""
    values = {
        "grpc-address": "127.0.0.1:0",
        "http-address": "127.0.0.1:0",
        "drain-s": 5,
        "parked-ceiling": 0,
        "leaf-pool-size": 0,  # as above
        "requests-per-concurrency": 0,  # as above
        "burst-sandboxes": 0,
        "log-format": "json",
    } | {name.replace("_", "-"): value for name, value in (flags or {}).items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLEAVE_")}
    environment["CLEAVE_CONFIG"] = os.devnull
    environment["CLEAVE_COMPILE_AHEAD"] = "false"  # as above
    log = data_dir.with_name(data_dir.name + ".log")
    command = [sys.executable, "-m", "engine.cli.main", "serve", f"--data-dir={data_dir}"]
    command += [f"--{name}={value}" for name, value in values.items()]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=Path(__file__).resolve().parent.parent,
        )
    return Served(data_dir, process, log)


async def ready(started: Served) -> None:
    """Wait until it serves."""
    path = started.data_dir / "ports.json"

    def ports() -> dict[str, int] | None:
        assert started.process.poll() is None, f"the engine ended:\n{started.said()}"
        try:
            found: dict[str, int] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        # A predecessor that was killed left its own file.
        return found if found["pid"] == started.process.pid else None

    found = await until(ports, within_s=30, what="ports.json")
    started.grpc_port, started.http_port = found["grpc_port"], found["http_port"]
