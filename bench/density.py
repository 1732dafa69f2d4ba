"""How many sandboxes a host holds, and how fast they come and go: memory of an idle one, a churn, a crowd.

Theory of operation: each measurement is a process of its own (`python -m bench.density NAME AMOUNT`, a row in JSON on
standard output), so that no other one's memory and threads are in the way. It has a pool with the settings of an engine
as they are by default, and gRPC is left out: what is asked is what sandboxes cost, not calls.

    idle    a sandbox that has served 11 calls: memory that is its guest's alone (proc_pid_smaps(5)), and what the
            kernel counts for its processes; parked starts and forks apart
    churn   a few callers, each of which starts a sandbox, has one event answered and closes it until nothing of it is
            left, again and again; nothing is kept warm
    crowd   so many starts at once on an idle pool, until each sandbox has answered an event; all are there at the end.
            What the machine has less of then, divided by them, is all that one takes, the engine's part included

Needs root, as real limits do.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import py_compile
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.apart import measured_apart
from engine.cli.benching.bed import HANDLER
from engine.cli.benching.comparison import percentile
from engine.cli.benching.scenarios import EVENT
from engine.config import Settings
from engine.fabric.datadir import new_instance_id
from engine.model.outcome import Outcome, StartKind
from engine.runtimes.interpreters import find_interpreters
from engine.sandbox import uids
from engine.sandbox.api import Event, SandboxSpec
from engine.sandbox.demand import ParkSettings
from engine.sandbox.host_memory import available_mb
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.network import NetworkSettings
from engine.sandbox.pool import LinuxPool
from engine.sandbox.process_usage import memory_of

CALLS = 11
CALLERS = 4
"""Of the churn: as many as there are CPUs to keep busy."""
SETTLE_S = 1.0
"""How long the pools get to be full."""
WITHIN_S = 300


class _Silent:
    """A sink for what nobody reads."""

    def started(self, kind: StartKind) -> None:
        """See RunSink."""

    def initialized(self, failure: object) -> None:
        """See RunSink."""

    def output(self, data: bytes) -> None:
        """See RunSink."""

    def chunk(self, data: bytes) -> None:
        """See RunSink."""


class Pool:
    """A pool as an engine's is by default, and one function."""

    def __init__(self, pool: LinuxPool, spec: SandboxSpec) -> None:
        self._pool = pool
        self._spec = spec

    async def one(self, calls: int = 1) -> LinuxSandbox:
        """A sandbox that has served so many calls. Raises RuntimeError where one did not return its event."""
        sandbox = await self._pool.start(self._spec)
        for _ in range(calls):
            event = Event("00000000-0000-0000-0000-000000000000", EVENT, 60_000, "arn:aws:lambda:::function:bench")
            ending = await sandbox.run(event, _Silent())
            if ending.outcome is not Outcome.OK or ending.payload != EVENT:
                raise RuntimeError(f"a call ended in {ending}")
        return sandbox


def _code(folder: Path) -> Path:
    folder.chmod(0o755)
    code = folder / "code"
    code.mkdir()
    (code / "app.py").write_text(HANDLER)
    # As a code store does when code arrives.
    py_compile.compile(str(code / "app.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return code


@contextlib.asynccontextmanager
async def _pool(*, parks: bool = True) -> AsyncIterator[Pool]:
    settings = Settings(data_dir="/")
    with tempfile.TemporaryDirectory(prefix="cleave-bench-") as folder:
        code = _code(Path(folder))
        instance_id = new_instance_id()
        own = next(iter(find_interpreters([], "").values()))
        park = ParkSettings(
            settings.parked_floor, settings.parked_ceiling, settings.parked_memory_mb, rate_per_s=settings.parked_rate
        )
        pool = LinuxPool(
            instance_id=instance_id,
            scratch_dir=Path(folder) / "scratch",
            interpreters={own.runtime: own},
            uid_base=uids.base_of(instance_id, settings.uid_count),
            uid_count=settings.uid_count,
            tmp_pool_size=settings.tmp_pool_size,
            leaf_pool_size=settings.leaf_pool_size,
            janitors=settings.janitors,
            network=NetworkSettings(pool_size=settings.network_pool_size),
            park=park if parks else None,
            own_process=True,
        )
        await pool.open(own.runtime)
        try:
            await asyncio.sleep(SETTLE_S)
            gc.collect()
            gc.freeze()  # as an engine does once it serves
            gc.set_threshold(50_000)
            spec = SandboxSpec(
                key=("bench", "$LATEST", "1"),
                runtime=own.runtime,
                handler="app.handler",
                code_path=str(code),
                memory_mb=128,
                tmp_mb=512,
                environment={"LAMBDA_TASK_ROOT": "/var/task", "PATH": "/usr/local/bin:/usr/bin:/bin", "TZ": ":UTC"},
            )
            yield Pool(pool, spec)
        finally:
            await pool.close()


async def idle(kind: StartKind, sandboxes: int) -> dict[str, Any]:
    """Memory of sandboxes of this kind of start, one after another, in MB (2^20 bytes)."""
    private_mb: list[float] = []
    kernel_mb: list[float] = []
    async with _pool(parks=kind is StartKind.PARKED) as pool:
        while len(private_mb) < sandboxes:
            sandbox = await pool.one(CALLS)
            if sandbox.kind is kind:
                private_mb.append(memory_of(sandbox.pid)[0] / 2**20)
                kernel_mb.append(sandbox._parts.leaf.kernel() / 2**20)
            await sandbox.close()
    return {
        "name": f"idle-{kind.value}",
        "sandboxes": sandboxes,
        "calls": CALLS,
        "private_mb": _summary(private_mb),
        "kernel_mb": _summary(kernel_mb),
        "idle_mb": _summary([private + kernel for private, kernel in zip(private_mb, kernel_mb, strict=True)]),
    }


def _summary(values: Sequence[float]) -> dict[str, float]:
    """Median and most, to a thousandth."""
    return {"p50": round(percentile(values, 50), 3), "max": round(max(values), 3)}


async def churn(seconds: int) -> dict[str, Any]:
    """Sandboxes made and taken away for so long; the first second is not counted."""
    kinds: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    async with _pool() as pool:
        begin = loop.time() + 1
        end = begin + seconds

        async def caller() -> None:
            while loop.time() < end:
                sandbox = await pool.one()
                await sandbox.close()
                if begin <= loop.time() < end:
                    kinds[sandbox.kind.value] += 1

        cpu_s = time.process_time()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        cpu_s = time.process_time() - cpu_s
    return {
        "name": "churn",
        "seconds": seconds,
        "callers": CALLERS,
        "kinds": dict(kinds),
        "per_s": kinds.total() / seconds,
        "engine_cpus": cpu_s / (seconds + 1),
    }


async def crowd(sandboxes: int) -> dict[str, Any]:
    """So many at once."""
    async with _pool() as pool:
        left_mb = available_mb() or 0
        begun = time.perf_counter()
        cpu_s = time.process_time()
        there = await asyncio.gather(*(pool.one() for _ in range(sandboxes)))
        answering_s = time.perf_counter() - begun
        cpu_s = time.process_time() - cpu_s
        taken_mb = left_mb - (available_mb() or 0)
        if any(sandbox.dead for sandbox in there):
            raise RuntimeError("a sandbox of the crowd has ended")
        begun = time.perf_counter()
        await asyncio.gather(*(sandbox.close() for sandbox in there))
        return {
            "name": f"crowd-{sandboxes}",
            "sandboxes": sandboxes,
            "kinds": dict(Counter(sandbox.kind.value for sandbox in there)),
            "answering_s": answering_s,
            "closing_s": time.perf_counter() - begun,
            "engine_cpu_s": cpu_s,
            "machine_mb": taken_mb / sandboxes,
        }


MEASUREMENTS: Mapping[str, Callable[[int], Awaitable[dict[str, Any]]]] = {
    "idle-parked": lambda amount: idle(StartKind.PARKED, amount),
    "idle-fork": lambda amount: idle(StartKind.FORK, amount),
    "churn": churn,
    "crowd": crowd,
}


def measure(name: str, amount: int) -> dict[str, Any]:
    """The row of one of MEASUREMENTS, in a process of its own. Raises RuntimeError with what it printed."""
    return measured_apart("bench.density", name, amount, WITHIN_S)


HEAD = ("SANDBOXES", "HOW MANY", "FIGURE", "AND")


def table(rows: Iterable[Mapping[str, Any]]) -> list[Sequence[str]]:
    """One line for each row of this module."""
    found: list[Sequence[str]] = []
    for row in rows:
        if "idle_mb" in row:
            parts = f"{row['private_mb']['p50']:.2f} of its own, {row['kernel_mb']['p50']:.2f} of the kernel"
            found.append((row["name"], str(row["sandboxes"]), f"{row['idle_mb']['p50']:.2f} MB", parts))
        elif "per_s" in row:
            busy = f"the engine on {row['engine_cpus']:.2f} CPUs; {_kinds(row)}"
            found.append((row["name"], f"{row['seconds']} s", f"{row['per_s']:.0f} /s", busy))
        elif "answering_s" in row:
            rest = f"{row['machine_mb']:.2f} MB each of the machine, gone in {row['closing_s']:.2f} s; {_kinds(row)}"
            found.append((row["name"], str(row["sandboxes"]), f"{row['answering_s']:.2f} s", rest))
    return found


def _kinds(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(row["kinds"].items()))


def main(argv: Sequence[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    row = asyncio.run(_measured(argv[1], int(argv[2])))
    sys.stdout.buffer.write(msgspec.json.encode(row))


async def _measured(name: str, amount: int) -> dict[str, Any]:
    return await MEASUREMENTS[name](amount)


if __name__ == "__main__":
    main(sys.argv)
