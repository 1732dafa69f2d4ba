"""Taking all there is of something: processes, threads, descriptors, signals, timers, mappings, file sizes, the log."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import Collected, event, run, spec, write_code
from tests.security.probes import ending_of, handler, inside, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]

FORKS = """
    children = []
    refused = None
    while len(children) < event and refused is None:
        try:
            child = os.fork()
        except OSError as error:
            refused = errno.errorcode[error.errno]
            break
        if child == 0:
            signal.pause()
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [len(children), refused]
"""


async def test_a_fork_bomb_stops_at_the_limit(pool: LinuxPool, tmp_path: Path) -> None:
    count, refused = await inside(pool, tmp_path, FORKS, 1_100, timeout_ms=50_000)
    assert refused == "EAGAIN"
    assert 1_000 <= count < 1_024
    assert outside(FORKS, 1_100) == [1_100, None]


async def test_threads_count_as_processes(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        threading.stack_size(65_536)
        enough = threading.Event()
        threads = []
        try:
            while len(threads) < event:
                threads.append(threading.Thread(target=enough.wait))
                threads[-1].start()
        except RuntimeError:
            threads.pop()
        enough.set()
        for thread in threads:
            thread.join()
        return len(threads)
    """
    assert 1_000 <= await inside(pool, tmp_path, body, 1_100, timeout_ms=50_000) < 1_024
    assert outside(body, 1_100) == 1_100


async def test_a_bomb_in_one_sandbox_leaves_others_their_processes(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        made = []
        for _ in range(event):
            child = tried(os.fork)
            if child == 0:
                signal.pause()
            made.append(child)
        return made.count("EAGAIN")
    """
    code = write_code(tmp_path / "code", handler(body))
    bomber, other = await pool.start(spec(code)), await pool.start(spec(code))
    assert int((await run(bomber, 1_100))[0].payload) > 0
    assert int((await run(other, 500))[0].payload) == 0
    await asyncio.gather(bomber.close(), other.close())


async def test_zombies_that_nobody_waits_for_go_with_the_sandbox(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        for _ in range(500):
            if os.fork() == 0:
                os._exit(0)
        return len([p for p in os.listdir("/proc") if p.isdigit()])
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", handler(body))))
    assert int((await run(sandbox))[0].payload) >= 500
    members = Path(pool.cgroup_directories["pids"]) / sandbox.id
    await sandbox.close()
    assert not members.exists()


async def test_orphaned_zombies_do_not_fill_the_limit(pool: LinuxPool, tmp_path: Path) -> None:
    """1,100 daemons, more than the limit, one after another, each of which leaves its parent: process 1 reaps them."""
    body = """
        nobody_waits = event < 1_000
        libc.prctl(36, 1, 0, 0, 0) if nobody_waits else None  # the daemons become its own
        for _ in range(event):
            child = os.fork()
            if child == 0:
                os.fork() or os._exit(0)
                os._exit(0)
            os.waitpid(child, 0)
        for _ in range(200):
            if nobody_waits:
                return len(open("/proc/thread-self/children").read().split())
            left = [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 2]
            if not left:
                return "clean"
            time.sleep(0.01)
        return left
    """
    assert outside(body, 100) == 100
    assert await inside(pool, tmp_path, body, 1_100, timeout_ms=50_000) == "clean"


async def test_open_files_stop_at_the_limit(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        count = 0
        while count < event and isinstance(tried(os.open, "/dev/null", os.O_RDONLY), int):
            count += 1
        return [count, tried(os.open, "/dev/null", os.O_RDONLY) == "EMFILE"]
    """
    assert await inside(pool, tmp_path, body, 3_000) == [1_018, True]
    assert outside("resource.setrlimit(7, (4096, 4096))\n" + _flat(body), 3_000) == [3_000, False]


def _flat(body: str) -> str:
    import textwrap

    return textwrap.dedent(body)


async def test_descriptors_in_flight_stop_at_the_limit(pool: LinuxPool, tmp_path: Path) -> None:
    """Sent and not received they are in nobody's table."""
    body = """
        sent = 0
        kept = []
        for _ in range(event):
            one, other = socket.socketpair()
            kept += [one, other]
            for _ in range(20):
                if isinstance(tried(socket.send_fds, one, [b"x"], [0] * 200), str):
                    return sent
                sent += 200
        return sent
    """
    assert await inside(pool, tmp_path, body, 10) <= 1_024 + 200
    assert outside(body, 10) == 40_000


async def test_queued_signals_and_timers_stop_at_the_limit(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        count, timer = 0, ctypes.c_void_p()
        while count < event and libc.timer_create(1, None, ctypes.byref(timer)) == 0:
            count += 1
        return count
    """
    assert await inside(pool, tmp_path, body, 3_000) == 1_024
    assert outside(body, 3_000) == 3_000


async def test_no_file_is_longer_than_the_largest_tmp(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        path = f"/tmp/sparse{os.getpid()}"
        with open(path, "wb") as file:
            refused = tried(file.truncate, event << 30)
        os.unlink(path)
        return refused
    """
    assert outside(body, 11) == 11 << 30
    assert await inside(pool, tmp_path, body, 11) == "EFBIG"
    assert await inside(pool, tmp_path, body, 10) == 10 << 30


async def test_a_flood_of_output_keeps_nobody_else_from_being_served(pool: LinuxPool, tmp_path: Path) -> None:
    """Another sandbox answers many times while it lasts."""
    flood = handler("while True:\n    os.write(1, bytes(65_536))")
    flooding = await pool.start(spec(write_code(tmp_path / "flood", flood)))
    other = await pool.start(spec(write_code(tmp_path / "quiet", handler("return 1"))))
    started = asyncio.Event()
    sink = Told(started)
    task = asyncio.ensure_future(flooding.run(event(timeout_ms=30_000), sink))
    await asyncio.wait_for(started.wait(), 20)
    for _ in range(50):
        assert (await run(other))[0].outcome is Outcome.OK
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(flooding.close(), other.close())


class Told(Collected):
    """Tells of the first megabyte, and keeps none of it."""

    def __init__(self, started: asyncio.Event) -> None:
        super().__init__()
        self._started = started
        self._bytes = 0

    def output(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > 1 << 20:
            self._started.set()


async def test_a_burned_share_of_cpu_is_its_own(pool: LinuxPool, tmp_path: Path) -> None:
    """Thirty processes that spin have together what one would have."""
    body = """
        for _ in range(event):
            if os.fork() == 0:
                while True:
                    pass
        time.sleep(1)
        os.kill(-1, signal.SIGKILL)
        return 1
    """
    ending, _ = await ending_of(pool, tmp_path, body, 30, memory_mb=512, timeout_ms=30_000)
    assert ending.outcome is Outcome.OK
    assert json.loads(ending.payload) == 1
    assert ending.cpu_us < 1.5 * ending.handler_us * 512 / 1_769 + 300_000
