"""One real sandbox: what a handler can do to itself, and what the engine makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import InvalidArgument, SandboxFault
from engine.model.outcome import Outcome, StartKind
from engine.sandbox import box
from engine.sandbox.api import Ending
from engine.sandbox.pool import LinuxPool
from tests.descriptors import left_open, opened
from tests.sandboxes import ALL_CPU, RUNTIME, event, real_pool, run, run_once, spec, write_code

pytestmark = pytest.mark.privileged

HELLO = """
    calls = 0
    def handler(event, context):
        global calls
        calls += 1
        print("call", calls)
        return {"calls": calls, "event": event}
"""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[LinuxPool]:
    async with real_pool(tmp_path) as pool:
        yield pool


async def test_a_first_call_is_a_fork_and_a_second_one_is_warm_with_its_state_kept(
    pool: LinuxPool, tmp_path: Path
) -> None:
    sandbox = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
    first, first_seen = await run(sandbox, {"a": 1})
    second, second_seen = await run(sandbox)
    await sandbox.close()
    assert json.loads(first.payload) == {"calls": 1, "event": {"a": 1}}
    assert json.loads(second.payload) == {"calls": 2, "event": {}}
    assert (first_seen.kind, second_seen.kind) == (StartKind.FORK, StartKind.WARM)
    assert (bytes(first_seen.written), bytes(second_seen.written)) == (b"call 1\n", b"call 2\n")
    assert first.start_us > 0
    assert first.init_us > 0
    assert (second.start_us, second.init_us) == (0, 0)
    assert first.handler_us > 0
    assert first.cpu_us > 0
    assert first.peak_memory_bytes > 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("import sys; sys.exit()", ""),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import sys; sys.exit('words')", "exit status 1"),
        ("import os; os._exit(7)", "exit status 7"),
        ("import os; os.abort()", "signal: aborted"),
        ("import os; os.kill(os.getpid(), 9)", "signal: killed"),
        ("import os; os.kill(os.getpid(), 15)", "signal: terminated"),
        ("import ctypes; ctypes.string_at(0)", "signal: segmentation fault"),
    ],
)
async def test_an_end_of_its_own_making_says_how(pool: LinuxPool, tmp_path: Path, body: str, status: str) -> None:
    ending, _ = await run_once(pool, tmp_path, f"def handler(event, context):\n    {body}\n")
    assert (ending.outcome, ending.exit_status, ending.reusable) == (Outcome.EXITED, status, False)


async def test_a_module_that_exits_while_it_is_imported_has_exited(pool: LinuxPool, tmp_path: Path) -> None:
    ending, _ = await run_once(pool, tmp_path, "import os; os._exit(9)")
    assert (ending.outcome, ending.exit_status) == (Outcome.EXITED, "exit status 9")
    assert ending.handler_us == 0


async def test_memory_over_the_tier_is_told_from_every_other_death(tmp_path: Path) -> None:
    source = "def handler(event, context):\n    x = [bytearray(1 << 20) for _ in range(1000)]\n"
    async with real_pool(tmp_path, cpu=ALL_CPU) as pool:
        ending, _ = await run_once(pool, tmp_path, source, memory_mb=256)
    assert (ending.outcome, ending.exit_status) == (Outcome.OUT_OF_MEMORY, "signal: killed")
    assert 250 << 20 < ending.peak_memory_bytes <= 256 << 20


@pytest.mark.parametrize(
    "stubborn",
    [
        "while True: pass",
        "import signal; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 3, 15)]\n    while True: pass",
        "import os, time\n    os.fork() or (os.setsid(), os.fork())\n    while True: time.sleep(1)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    ],
    ids=["loop", "ignores signals", "daemons", "stopped"],
)
@pytest.mark.parametrize("memory_mb", [128, 1_769])
async def test_a_timeout_kills_the_whole_tree(pool: LinuxPool, tmp_path: Path, stubborn: str, memory_mb: int) -> None:
    code = write_code(tmp_path / "code", f"def handler(event, context):\n    {stubborn}\n")
    sandbox = await pool.start(spec(code, memory_mb=memory_mb))
    members = Path(pool.cgroup_directories["pids"]) / sandbox.id / "cgroup.procs"
    ending, _ = await run(sandbox, timeout_ms=300)
    assert (ending.outcome, ending.reusable) == (Outcome.TIMEOUT, False)
    assert members.read_text() == "", "a process outlived the timeout"
    assert ending.handler_us >= 300_000
    await sandbox.close()
    assert not members.exists()


async def test_an_init_phase_has_a_clock_of_its_own(pool: LinuxPool, tmp_path: Path) -> None:
    source = "while True: pass"
    ending, _ = await run_once(pool, tmp_path, source, timeout_ms=60_000, init_timeout_ms=300)
    assert ending.outcome is Outcome.TIMEOUT
    assert ending.init_us >= 300_000
    assert ending.handler_us == 0


async def test_a_slow_init_phase_does_not_use_up_the_handlers_time(pool: LinuxPool, tmp_path: Path) -> None:
    source = """
        import time
        time.sleep(0.5)
        def handler(event, context):
            return context.get_remaining_time_in_millis()
    """
    ending, _ = await run_once(pool, tmp_path, source, timeout_ms=400)
    assert ending.outcome is Outcome.OK
    assert 300 < json.loads(ending.payload) <= 400


async def test_a_cancelled_run_kills_the_sandbox(pool: LinuxPool, tmp_path: Path) -> None:
    source = "def handler(event, context):\n    print('in', flush=True)\n    while True: pass\n"
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
    started = asyncio.Event()

    class Sink:
        def started(self, kind: StartKind) -> None: ...
        def initialized(self, failure: Ending | None) -> None: ...
        def chunk(self, data: bytes) -> None: ...
        def output(self, data: bytes) -> None:
            started.set()

    task = asyncio.ensure_future(sandbox.run(event(), Sink()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sandbox.dead
    await sandbox.close()
    assert pool.alive == 0


@pytest.mark.parametrize(
    "body",
    [
        "os.write(3, b'x' * 100)",
        "os.write(3, b'\\xff' * 8)",
        "os.write(3, (2**31).to_bytes(4, 'little') + bytes([18, 0, 0, 0]))",
        "os.write(3, bytes(4) + bytes([16, 0, 0, 0]))",
        "os.write(3, (2).to_bytes(4, 'little') + bytes([19, 0, 0, 0]) + b'{}')",
    ],
    ids=["letters", "all ones", "two gigabytes", "ready twice", "error without a type"],
)
async def test_nonsense_on_the_control_socket_ends_that_sandbox_alone(
    pool: LinuxPool, tmp_path: Path, body: str
) -> None:
    source = f"import os, time\ndef handler(event, context):\n    {body}\n    time.sleep(60)\n"
    ending, _ = await run_once(pool, tmp_path / "bad", source)
    assert (ending.outcome, ending.reusable) == (Outcome.EXITED, False)
    good, _ = await run_once(pool, tmp_path / "good", HELLO)
    assert good.outcome is Outcome.OK


async def test_a_guest_that_leaves_its_socket_ends_without_waiting_for_its_timeout(
    pool: LinuxPool, tmp_path: Path
) -> None:
    source = "import os, time\ndef handler(event, context):\n    os.close(3)\n    time.sleep(60)\n"
    ending, _ = await run_once(pool, tmp_path, source, timeout_ms=50_000)
    assert ending.outcome is Outcome.EXITED
    assert ending.handler_us < 20_000_000


async def test_a_sandbox_that_dies_idle_is_dead_and_runs_nothing(pool: LinuxPool, tmp_path: Path) -> None:
    source = """
        import os, threading, time
        def handler(event, context):
            threading.Timer(0.05, os._exit, [1]).start()
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
    ending, _ = await run(sandbox)
    assert ending.reusable
    await asyncio.wait_for(sandbox.gone.wait(), 10)
    assert sandbox.dead
    with pytest.raises(SandboxFault, match="has ended"):
        await run(sandbox)
    await sandbox.close()


async def test_orphans_are_reaped(pool: LinuxPool, tmp_path: Path) -> None:
    source = """
        import os, time
        def handler(event, context):
            for _ in range(20):
                if os.fork() == 0:
                    os.fork() and os._exit(0)  # its child becomes an orphan
                    os._exit(0)
            while True:
                try:
                    os.wait()
                except ChildProcessError:
                    break
            for _ in range(100):
                others = [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 2]
                if not others:
                    break
                time.sleep(0.01)
            return others
    """
    ending, _ = await run_once(pool, tmp_path, source)
    assert json.loads(ending.payload) == []


async def test_a_zygote_that_died_is_replaced_and_no_start_is_lost(pool: LinuxPool, tmp_path: Path) -> None:
    running = await pool.start(spec(write_code(tmp_path / "code", HELLO)))
    os.kill(pool.zygote_pids[RUNTIME], signal.SIGKILL)
    ending, _ = await run(running)
    assert ending.outcome is Outcome.OK, "a sandbox died with its zygote"
    await running.close()
    again, _ = await run_once(pool, tmp_path, HELLO)
    assert again.outcome is Outcome.OK


async def test_an_unknown_runtime_is_refused_with_those_there_are(pool: LinuxPool, tmp_path: Path) -> None:
    wanted = spec(write_code(tmp_path / "code", HELLO))
    missing = type(wanted)(**{name: getattr(wanted, name) for name in wanted.__slots__} | {"runtime": "python2.7"})
    with pytest.raises(InvalidArgument, match=r"no python2.7") as caught:
        await pool.start(missing)
    assert RUNTIME in caught.value.fix
    assert pool.alive == 0


async def test_a_start_that_fails_gives_everything_back(pool: LinuxPool, tmp_path: Path) -> None:
    open_before = opened()
    with pytest.raises(SandboxFault) as caught:
        await pool.start(spec(tmp_path / "nowhere"))
    assert caught.value.stage == "code mount"
    assert pool.alive == 0
    assert left_open(open_before) == []
    assert not (Path(pool.cgroup_directories["memory"]) / "1").exists()


async def test_a_step_that_fails_inside_says_which_and_why(
    pool: LinuxPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = box.fork

    def with_a_tmp_that_is_no_mount(*args: object, **settings: object) -> tuple[int, int]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            return real(*args, **(settings | {"tmp": ours.fileno()}))  # type: ignore[arg-type]

    monkeypatch.setattr(box, "fork", with_a_tmp_that_is_no_mount)
    with pytest.raises(SandboxFault) as caught:
        await run_once(pool, tmp_path, HELLO)
    assert (caught.value.stage, caught.value.errno) == ("mount /tmp", 22)


async def test_user_ids_run_out_with_an_error_and_come_back(tmp_path: Path) -> None:
    async with real_pool(tmp_path, uid_count=1) as pool:
        code = write_code(tmp_path / "code", "import os\ndef handler(event, context):\n    return os.getuid()\n")
        first = await pool.start(spec(code))
        with pytest.raises(SandboxFault, match="all 1 are in use"):
            await pool.start(spec(code))
        ending, _ = await run(first)
        await first.close()
        second = await pool.start(spec(code))
        assert (await run(second))[0].payload == ending.payload
        await second.close()
