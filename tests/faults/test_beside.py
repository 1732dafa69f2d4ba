"""What a bad function does, and what the host has not got any more, is that call's outcome and nobody else's: another
function is called all the while, in one sandbox, and misses none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.model.outcome import Outcome
from engine.sandbox.linux import LinuxSandbox
from engine.sandbox.pool import LinuxPool
from engine.v1 import reports_pb2 as pb
from tests.doors import Answer, zip_of
from tests.engines import Engine, engine
from tests.faults.test_steps_descriptors import only
from tests.remains import nothing_left, until
from tests.sandboxes import real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

COUNTS = """
    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        return calls
"""


@dataclass(frozen=True)
class Bad:
    """A function that goes wrong, and what has to come of a call of it."""

    outcome: pb.Outcome.ValueType
    body: str = "pass"  # of the handler
    module: str = "pass"
    says: str = ""  # in the error document
    memory_mb: int = 1_769

    @property
    def timeout_ms(self) -> int:
        """Little, where the call waits for its end."""
        return 1_000 if self.outcome == pb.OUTCOME_TIMEOUT else 60_000


FUNCTIONS = {
    "init-hangs": Bad(pb.OUTCOME_TIMEOUT, module="time.sleep(60)"),
    "init-crashes": Bad(pb.OUTCOME_EXITED, module="os.abort()", says="signal: aborted"),
    "init-closes-its-pipes": Bad(pb.OUTCOME_EXITED, module="os.closerange(3, 5); time.sleep(60)"),
    # Somebody has the pipe still, but what says that the init phase is over goes elsewhere.
    "init-never-reports": Bad(pb.OUTCOME_TIMEOUT, module="os.dup(3); os.dup2(2, 3)"),
    "garbage": Bad(pb.OUTCOME_EXITED, "os.write(3, os.urandom(4_096)); time.sleep(60)"),
    "half-a-frame": Bad(pb.OUTCOME_TIMEOUT, "os.write(3, bytes([9, 0, 0, 0, 18, 0, 0, 0]) + b'half'); time.sleep(60)"),
    # What it exits with is not said: the engine kills what breaks a frame off, and either may come first.
    "half-a-frame-and-gone": Bad(pb.OUTCOME_EXITED, "os.write(3, bytes([9, 0, 0, 0, 18, 0, 0, 0, 34])); os._exit(7)"),
    "half-a-header-and-gone": Bad(pb.OUTCOME_EXITED, "os.write(3, b'123'); os._exit(7)"),
    "closes-3": Bad(pb.OUTCOME_EXITED, "os.close(3); time.sleep(60)"),
    "closes-4-and-hangs": Bad(pb.OUTCOME_TIMEOUT, "os.close(4); time.sleep(60)"),
    "closes-both": Bad(pb.OUTCOME_EXITED, "os.closerange(3, 5); time.sleep(60)"),
    "processes-run-out": Bad(
        pb.OUTCOME_HANDLER_ERROR, "while os.fork() or time.sleep(60): pass", says="BlockingIOError"
    ),
    "descriptors-run-out": Bad(pb.OUTCOME_HANDLER_ERROR, "while True: os.dup(1)", says="Too many open files"),
    "memory-runs-out": Bad(
        pb.OUTCOME_OUT_OF_MEMORY, "kept = [bytearray(b'x' * 2**20) for _ in range(4_096)]", memory_mb=256
    ),
}


def source(bad: Bad) -> str:
    return f"import os, time\n{bad.module}\ndef handler(event, context):\n    {bad.body}\n"


@contextlib.asynccontextmanager
async def undisturbed(running: Engine) -> AsyncIterator[None]:
    """Call another function all the while; its one sandbox has all of its calls."""
    await running.grpc.create("beside", zip_of(COUNTS), memory_mb=1_769, timeout_ms=60_000)
    answers: list[Answer] = [await running.grpc.invoke("beside")]
    over = asyncio.Event()

    async def call() -> None:
        while not over.is_set():
            answers.append(await running.grpc.invoke("beside"))

    calling = asyncio.ensure_future(call())
    yield
    over.set()
    await calling
    assert [answer.json() for answer in answers] == list(range(1, len(answers) + 1))
    assert len(answers) > 2


async def test_each_bad_function_has_its_outcome_and_another_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, init_timeout_ms=500) as running:
        for name, bad in FUNCTIONS.items():
            await running.grpc.create(name, zip_of(source(bad)), memory_mb=bad.memory_mb, timeout_ms=bad.timeout_ms)
        async with undisturbed(running):
            answers = dict(zip(FUNCTIONS, await asyncio.gather(*map(running.grpc.invoke, FUNCTIONS)), strict=True))
        found = {name: pb.Outcome.Name(answer.report.outcome) for name, answer in answers.items() if answer.report}
        assert found == {name: pb.Outcome.Name(bad.outcome) for name, bad in FUNCTIONS.items()}
        for name, bad in FUNCTIONS.items():
            assert bad.says in answers[name].payload.decode(), name
        assert (await running.grpc.counts()).concurrency == 0
    await nothing_left(data)


async def test_a_host_without_processes_fails_what_starts_and_not_what_runs(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", COUNTS)
    async with real_pool(tmp_path / "pool") as pool:
        limit = Path(pool.cgroup_directories["pids"], "pids.max")
        warm = await pool.start(spec(code))
        assert (await run(warm))[0].payload == b"1"
        limit.write_text("2")  # those of the one that is there
        for _ in range(3):
            with pytest.raises(SandboxFault, match="Resource temporarily unavailable"):
                await (await started(pool, code)).close()
        assert (await run(warm))[0].payload == b"2"
        limit.write_text("max")
        again = await started(pool, code)
        assert (await run(warm))[0].payload == b"3"
        await asyncio.gather(warm.close(), again.close())
        await until(lambda: pool.alive == 0)


async def test_an_engine_without_descriptors_fails_what_starts_and_not_what_runs(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", COUNTS)
    async with real_pool(tmp_path / "pool") as pool:
        warm = await pool.start(spec(code))
        assert (await run(warm))[0].payload == b"1"
        with only(0):
            for number in range(2, 5):
                with pytest.raises(SandboxFault):
                    await (await started(pool, code)).close()
                assert (await run(warm))[0].payload == b"%d" % number
        again = await started(pool, code)
        assert (await run(warm))[0].payload == b"5"
        await asyncio.gather(warm.close(), again.close())
        await until(lambda: pool.alive == 0)


def limit_all(pool: LinuxPool, more_bytes: int | None) -> None:
    """All sandboxes together may have so much more memory than they have, swap included; None: as much as there is."""
    folder = Path(pool.cgroup_directories["memory"])
    if (folder / "memory.max").exists():
        used = int((folder / "memory.current").read_text())
        (folder / "memory.max").write_text("max" if more_bytes is None else str(used + more_bytes))
        return
    both = [folder / "memory.limit_in_bytes", folder / "memory.memsw.limit_in_bytes"]  # the latter never below
    used = int((folder / "memory.usage_in_bytes").read_text())
    for file in both if more_bytes is not None else reversed(both):
        if file.exists():
            file.write_text("-1" if more_bytes is None else str(used + more_bytes))


async def test_a_host_without_memory_kills_who_takes_it_and_nobody_beside(tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", COUNTS)
    takes = write_code(tmp_path / "takes", "def handler(event, context):\n    return len(bytearray(512 << 20))\n")
    async with real_pool(tmp_path / "pool") as pool:
        warm = await pool.start(spec(code))
        assert (await run(warm))[0].payload == b"1"
        limit_all(pool, 64 << 20)  # each is far below its tier
        for number in range(2, 5):
            taking = await pool.start(spec(takes))
            assert (await run(taking))[0].outcome is Outcome.OUT_OF_MEMORY
            await taking.close()
            assert (await run(warm))[0].payload == b"%d" % number
        limit_all(pool, None)
        ending, _ = await run(taking := await pool.start(spec(takes)))
        assert (ending.outcome, ending.payload) == (Outcome.OK, b"536870912")
        await asyncio.gather(warm.close(), taking.close())
        await until(lambda: pool.alive == 0)


async def started(pool: LinuxPool, code: Path) -> LinuxSandbox:
    """One that has answered."""
    sandbox = await pool.start(spec(code))
    try:
        ending, _ = await run(sandbox)
        assert (ending.outcome, ending.payload) == (Outcome.OK, b"1")
    except BaseException:
        await sandbox.close()
        raise
    return sandbox
