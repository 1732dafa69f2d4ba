"""What isolation costs a cold start: the same function on the same zygote, started with the box and without, in turns.

Theory of operation: a round is one start of each kind; which goes first alternates. Both are the same fork, the same
guest, pipes and frames, handled by the same pool and LinuxSandbox; what is timed is from the decision to start until
the answer to the first event. Starts are forks, or are parked: both kinds were forked before, and wait for their
function. One has all that a sandbox of an engine has. The other is a clone of the zygote and nothing else:
no namespaces, cgroups, limits, mounts, /tmp, process 1, user of its own, or filter (bench/bare_build.py). It finds the
code because the zygote was told to show its folder, as it shows an interpreter's. Pools are as an engine has them; a
sandbox is wholly gone, and what it leaves to refill is refilled, before the next one starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from bench import bare_build
from engine.cli.benching.bed import HANDLER
from engine.cli.benching.comparison import above, summary
from engine.cli.benching.scenarios import EVENT
from engine.cli.benching.show import ms
from engine.fabric.datadir import new_instance_id
from engine.model.outcome import Outcome, StartKind
from engine.runtimes.interpreters import Interpreter, find_interpreters
from engine.sandbox import box
from engine.sandbox.api import Ending, Event, SandboxSpec
from engine.sandbox.demand import ParkSettings
from engine.sandbox.link import Ends
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.parking import Parked, Shape, wait_parked
from engine.sandbox.parts import Parts, close_all
from engine.sandbox.pool import LinuxPool
from engine.sandbox.timeline import Timeline
from engine.zygote.host import Zygote, ZygoteKey

UID_BASE = 1_880_000_000
SETTLE_S = 0.010
"""How long the pools get to be full again."""
BARE_REQUEST = struct.pack("=II", 0x65726162, 0)
"""box_bare_request of native/box/box.h."""
_BARE_THAT_PARKS = struct.pack("=II", 0x65726162, 1)
_BARE = ("bare", "", "")
"""The key of a start without a sandbox."""
_REPLY_PID = struct.Struct("=i")
_REPLY_BYTES = 4_096
_PARKED_WITHIN = 1_000  # looks, SETTLE_S apart


class _Nothing:
    """Stands where a sandbox has its leaf, its /tmp or its network, for one that has none of them."""

    name = "bare"
    scratch = None
    metered = False

    def usage(self) -> tuple[int, int]:
        """No memory and no CPU time was measured."""
        return 0, 0

    def reclaimable(self) -> int:
        """As above."""
        return 0

    def oom_kills(self) -> int:
        """Nobody limits it."""
        return 0

    def set_cpu(self, quota_us: int) -> None:
        """As above."""

    def kill(self) -> bool:
        """Only its process can be killed."""
        return False

    def traffic(self) -> tuple[int, int]:
        """It has no link."""
        return 0, 0

    def used(self) -> int:
        """Nothing is stored in it."""
        return 0

    def disk_full(self) -> bool:
        """It has no disk."""
        return False

    def close(self) -> None:
        """There is nothing to give back."""

    release = remove = close


class BarePool(LinuxPool):
    """Starts sandboxes as an engine does, and beside them guests without a sandbox, from the same zygote."""

    _bare: Parked | None = None

    async def start_bare(self, spec: SandboxSpec) -> LinuxSandbox:
        """A clone of the zygote and nothing else. `spec.code_path` has to be one of the interpreter's prefixes."""
        environment = {**spec.environment, "LAMBDA_TASK_ROOT": spec.code_path}
        return await self.start(replace(spec, key=_BARE, environment=environment))

    async def park_both(self, spec: SandboxSpec) -> None:
        """Have one of each kind wait. Raises RuntimeError where the pool parks none."""
        shape = Shape(spec.runtime, spec.tmp_mb)
        if self._bare is None:
            self._bare = await self._park_bare(shape, spec)
        for _ in range(_PARKED_WITHIN):
            if self._parked is not None and self._parked.waiting(shape):
                return
            await asyncio.sleep(SETTLE_S)
        raise RuntimeError("no sandbox was parked")

    async def _park_bare(self, shape: Shape, spec: SandboxSpec) -> Parked:
        slot, made = await self._fork(replace(spec, key=_BARE, code_path=""))
        await asyncio.get_running_loop().run_in_executor(self._builders, wait_parked, made)
        return Parked(slot, shape, spec.memory_mb, made)

    async def close(self) -> None:
        """As any pool; and what is parked without a sandbox."""
        if self._bare is not None:
            self._bury(self._bare.slot, self._bare.parts)
        await super().close()

    def _take(self, spec: SandboxSpec) -> Parked | None:
        if spec.key != _BARE:
            return super()._take(spec)
        parked, self._bare = self._bare, None
        return parked

    def _assign_here(self, parked: Parked, spec: SandboxSpec, timeline: Timeline) -> Any:
        return self._assigned(parked, 0) if spec.key == _BARE else super()._assign_here(parked, spec, timeline)

    async def _build(self, spec: SandboxSpec, uid: int, builders: ThreadPoolExecutor, timeline: Timeline) -> Parts:
        if spec.key != _BARE:
            return await super()._build(spec, uid, builders, timeline)
        zygote = await self._zygotes.get(ZygoteKey(spec.runtime))
        request = BARE_REQUEST if spec.code_path else _BARE_THAT_PARKS
        return await asyncio.get_running_loop().run_in_executor(builders, self._fork_bare, zygote, request)

    def _fork_bare(self, zygote: Zygote, request: bytes) -> Parts:
        answers, answers_write = os.pipe2(os.O_CLOEXEC)
        events_read, events = os.pipe2(os.O_CLOEXEC)
        log, log_write = os.pipe2(os.O_CLOEXEC)
        report, report_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(log, False)
        os.set_blocking(report, False)
        theirs = [answers_write, events_read, log_write, report_write]

        def fork(turns: box.Turns) -> tuple[int, int]:
            with socket.socket(fileno=os.dup(turns.fileno())) as zygote_socket:
                socket.send_fds(zygote_socket, [request], theirs)
                reply, fds, _, _ = socket.recv_fds(zygote_socket, _REPLY_BYTES, 1)
            if not fds:
                raise RuntimeError(f"the zygote started nothing: {reply!r}")
            return fds[0], _REPLY_PID.unpack_from(reply)[0]

        pidfd, pid = zygote.ask(fork)
        close_all(theirs)
        nothing = cast(Any, _Nothing())
        return Parts(pid, pidfd, nothing, Ends(answers, events), log, report, nothing, nothing, nothing.close)


class _Silent:
    """A sink for what nobody reads."""

    def started(self, kind: StartKind) -> None:
        """See RunSink."""

    def initialized(self, failure: Ending | None) -> None:
        """See RunSink."""

    def output(self, data: bytes) -> None:
        """See RunSink."""

    def chunk(self, data: bytes) -> None:
        """See RunSink."""


@dataclass
class Comparison:
    """Both kinds of start, in turns."""

    runner: asyncio.Runner
    pool: BarePool
    spec: SandboxSpec
    parks: bool = False
    _took_us: dict[str, list[float]] = field(default_factory=lambda: {"boxed": [], "bare": []})
    _endings: dict[str, list[Ending]] = field(default_factory=lambda: {"boxed": [], "bare": []})

    def turn(self) -> None:
        """One start of each kind. Raises RuntimeError where one did not return its event."""
        kinds = ("boxed", "bare") if len(self._took_us["bare"]) % 2 else ("bare", "boxed")
        for kind in kinds:
            start = self.pool.start if kind == "boxed" else self.pool.start_bare
            took_us, ending = self.runner.run(self._once(start))
            if ending.outcome is not Outcome.OK or ending.payload != EVENT:
                raise RuntimeError(f"a {kind} start ended in {ending}")
            self._took_us[kind].append(took_us)
            self._endings[kind].append(ending)

    def forget(self) -> None:
        """The turns so far: they are not counted."""
        for kind in ("boxed", "bare"):
            self._took_us[kind].clear()
            self._endings[kind].clear()

    async def _once(self, start: Callable[[SandboxSpec], Awaitable[LinuxSandbox]]) -> tuple[float, Ending]:
        event = Event("00000000-0000-0000-0000-000000000000", EVENT, 10_000, "arn:aws:lambda:::function:bench")
        sink = _Silent()
        if self.parks:
            await self.pool.park_both(self.spec)
            await asyncio.sleep(SETTLE_S)
        begun = time.perf_counter_ns()
        sandbox = await start(self.spec)
        try:
            ending = await sandbox.run(event, sink)
            took_us = (time.perf_counter_ns() - begun) / 1000
        finally:
            await sandbox.close()
        await asyncio.sleep(SETTLE_S)
        return took_us, ending

    def row(self) -> dict[str, Any]:
        """The result of all turns so far, in microseconds."""
        return {
            "name": f"isolation-{'parked-' if self.parks else ''}{self.spec.memory_mb}",
            "kind": "parked" if self.parks else "fork",
            "memory_mb": self.spec.memory_mb,
            "starts": len(self._took_us["boxed"]),
            **{f"{kind}_us": summary(took_us) for kind, took_us in self._took_us.items()},
            "cost_us": above(*([[took] for took in self._took_us[kind]] for kind in ("boxed", "bare"))),
            "parts_us": {
                kind: {
                    "start": summary([ending.start_us for ending in endings]),
                    "init": summary([ending.init_us for ending in endings]),
                    "handler": summary([ending.handler_us for ending in endings]),
                }
                for kind, endings in self._endings.items()
            },
        }


HEAD = ("COLD START", "STARTS", "WITHOUT, P50", "P99", "IN A SANDBOX, P50", "P99", "ISOLATION COSTS, P50")


def table(rows: Iterable[dict[str, Any]]) -> list[Sequence[str]]:
    """One line a row; ± is the resolution of the difference."""
    return [
        (
            f"{row['kind']}, {row['memory_mb']} MB",
            str(row["starts"]),
            *(ms(row[kind][name]) for kind in ("bare_us", "boxed_us") for name in ("p50", "p99")),
            f"{ms(row['cost_us']['p50'])} ±{ms(row['cost_us']['resolution'])}",
        )
        for row in rows
    ]


@contextlib.contextmanager
def comparison(memory_mb: int, *, parks: bool = False) -> Iterator[Comparison]:
    """A pool of its own with one zygote, in a folder that goes with it. Needs root, as real limits do."""
    with tempfile.TemporaryDirectory(prefix="cleave-bench-") as folder, asyncio.Runner() as runner:
        code = Path(folder) / "code"
        code.mkdir()
        (code / "app.py").write_text(HANDLER)
        Path(folder).chmod(0o755)
        own = next(iter(find_interpreters([], "").values()))
        pool = runner.run(_open(Path(folder), replace(own, prefixes=(*own.prefixes, str(code))), parks))
        try:
            spec = SandboxSpec(
                key=("bench", "$LATEST", "1"),
                runtime=own.runtime,
                handler="app.handler",
                code_path=str(code),
                memory_mb=memory_mb,
                tmp_mb=512,
                environment={"LAMBDA_TASK_ROOT": "/var/task", "PATH": "/usr/local/bin:/usr/bin:/bin", "TZ": ":UTC"},
            )
            yield Comparison(runner, pool, spec, parks)
        finally:
            runner.run(pool.close())


async def _open(folder: Path, interpreter: Interpreter, parks: bool) -> BarePool:
    pool = BarePool(
        instance_id=new_instance_id(),
        scratch_dir=folder / "scratch",
        interpreters={interpreter.runtime: interpreter},
        uid_base=UID_BASE,
        fork_module=bare_build.build(),
        park=ParkSettings(floor=1, ceiling=1) if parks else None,
        own_process=parks,  # an engine assigns on its main thread
    )
    await pool.open(interpreter.runtime)
    await asyncio.sleep(0.3)  # until the pools are full: nothing is counted before
    return pool
