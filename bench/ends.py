"""How late the last process of a sandbox is gone after its deadline: trees that do not want to end, on a real pool.

Theory of operation: the pool runs in this process, as in an engine. A watcher in a process of its own
(ends_watcher.py) sees the processes end; the deadline is the moment at which the engine began to count, which the
ending's timeline has, and the function's timeout. Both are on the same monotonic clock. A busy machine is one with a
process for each CPU that does nothing but count.

The function's processes note the time as they spin, in a file of their /tmp that all have mapped. The newest note is
the last moment at which the function's code ran; what comes after is the kernel taking the processes apart.

Guarantees: each counted end was a timeout of a tree of the size that the row names; one that was not ends the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.cli.benching.comparison import summary
from engine.cli.priority import come_first
from engine.fabric.datadir import new_instance_id
from engine.model.outcome import Outcome, StartKind
from engine.runtimes.interpreters import Interpreter, find_interpreters
from engine.sandbox import uids
from engine.sandbox.api import Ending, Event, SandboxSpec
from engine.sandbox.network import NetworkSettings
from engine.sandbox.pool import LinuxPool

UIDS = 64
NOTES_BYTES = 16_384
GONE_WITHIN_S = 30.0
_OWN = 2  # process 1 and the guest


@dataclass(frozen=True)
class Clinger:
    """One row of the result: a handler's body, and how many processes it is to be killed with."""

    name: str
    memory_mb: int
    timeout_ms: int
    body: str
    children: int = 0
    notes: bool = False  # its body notes the time
    busy: bool = False  # beside a process on each CPU that counts
    share: float = 0.25  # of the rounds that other scenarios get


def _tree(children: int, timeout_ms: int, share: float) -> Clinger:
    body = f"""
    until = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - 0.1
    for number in range({children}):
        if os.fork() == 0:
            time.sleep(max(0, until - time.monotonic()))
            break
    else:
        number = {children}
    while True: notes[number] = time.monotonic_ns()
    """
    return Clinger(f"end-tree-{children}", 1_769, timeout_ms, body, children, notes=True, share=share)


CLINGERS = (
    _tree(100, 600, 0.25),
    replace(_tree(100, 1_000, 0.125), name="end-tree-100-busy", busy=True),
    _tree(1_000, 4_000, 0.05),
    Clinger("end-stopped", 1_769, 200, "os.kill(os.getpid(), signal.SIGSTOP)"),
    Clinger("end-throttled-128", 128, 400, "while True: pass"),
)
"""At their deadline all processes of a tree want a CPU; the last has none for most of each 100 ms."""


_HEAD = f"""
import mmap, os, signal, time

file = os.open("/tmp/notes", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, {NOTES_BYTES})
notes = memoryview(mmap.mmap(file, {NOTES_BYTES})).cast("q")
"""


class Sink:
    """Nobody listens."""

    def started(self, kind: StartKind) -> None: ...
    def initialized(self, failure: Ending | None) -> None: ...
    def output(self, data: bytes) -> None: ...
    def chunk(self, data: bytes) -> None: ...


async def measure(clinger: Clinger, rounds: int, *, busy: bool | None = None) -> dict[str, Any]:
    """The row of so many ends. Raises RuntimeError where one was not of the kind to be measured."""
    late_us: list[float] = []
    ran_us: list[float] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cleave-ends-")))
        code = _code(folder, clinger)
        if clinger.busy if busy is None else busy:
            stack.enter_context(_burners())
        async with _pool(folder) as (pool, runtime), _watcher() as watcher:
            for _ in range(rounds):
                late, ran = await _late_us(pool, watcher, clinger, _spec(clinger, code, runtime))
                late_us.append(late)
                ran_us.append(ran)
    row: dict[str, Any] = {
        "name": clinger.name,
        "memory_mb": clinger.memory_mb,
        "processes": clinger.children + _OWN,
        "ends": len(late_us),
        "late_us": summary(late_us),
        "samples_us": {"late": [round(late, 1) for late in late_us]},
    }
    if clinger.notes:
        row["ran_us"] = summary(ran_us)
        row["samples_us"]["ran"] = [round(ran, 1) for ran in ran_us]
    return row


async def _late_us(
    pool: LinuxPool, watcher: asyncio.subprocess.Process, clinger: Clinger, spec: SandboxSpec
) -> tuple[float, float]:
    """How long after its deadline the last process was gone, and the function's code ran."""
    assert watcher.stdin is not None
    assert watcher.stdout is not None
    sandbox = await pool.start(spec)
    try:
        members = Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs"
        running = asyncio.ensure_future(sandbox.run(Event("bench", b"{}", clinger.timeout_ms, "arn:bench"), Sink()))
        notes = "notes" if clinger.notes else "none"
        watcher.stdin.write(f"{members} {clinger.children + _OWN} {notes}\n".encode())
        ending = await running
        marks = dict(ending.timeline)
        if ending.outcome is not Outcome.TIMEOUT or "initialized" not in marks:
            raise RuntimeError(f"{clinger.name} ended in {ending.outcome.value}, not at its deadline: {ending.error}")
        if await asyncio.wait_for(watcher.stdout.readline(), GONE_WITHIN_S) != b"seen\n":
            raise RuntimeError(f"{clinger.name} was not seen whole before its deadline")
        gone_ns, ran_ns = map(int, (await asyncio.wait_for(watcher.stdout.readline(), GONE_WITHIN_S)).split())
    finally:
        await sandbox.close()
    due_ns = marks["initialized"] + clinger.timeout_ms * 1_000_000
    return (gone_ns - due_ns) / 1_000, (ran_ns - due_ns) / 1_000


def _code(folder: Path, clinger: Clinger) -> Path:
    code = folder / "code"
    code.mkdir()
    body = textwrap.indent(textwrap.dedent(clinger.body).strip(), "    ")
    (code / "app.py").write_text(f"{_HEAD}\n\ndef handler(event, context):\n{body}\n")
    code.chmod(0o755)
    return code


def _spec(clinger: Clinger, code: Path, runtime: str) -> SandboxSpec:
    environment = {"LAMBDA_TASK_ROOT": "/var/task", "PATH": "/usr/bin:/bin"}
    key = (clinger.name, "$LATEST", "1")
    return SandboxSpec(key, runtime, "app.handler", str(code), clinger.memory_mb, 512, environment)


@contextlib.asynccontextmanager
async def _pool(folder: Path) -> AsyncIterator[tuple[LinuxPool, str]]:
    found: dict[str, Interpreter] = dict(find_interpreters([], os.environ.get("PATH", os.defpath)))
    runtime = next(iter(found))
    instance_id = new_instance_id()
    pool = LinuxPool(
        instance_id=instance_id,
        scratch_dir=folder / "scratch",
        interpreters=found,
        uid_base=uids.base_of(instance_id, UIDS),
        uid_count=UIDS,
        network=NetworkSettings(pool_size=0),
    )
    await pool.open(runtime)
    come_first()  # as `cleave serve` does
    try:
        yield pool, runtime
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def _watcher() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("ends_watcher.py")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        # It only looks on: where all CPUs are taken it must not be what is late.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, -20)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.contextmanager
def _burners() -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
