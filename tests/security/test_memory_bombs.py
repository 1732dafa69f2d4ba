"""Using more memory than the tier, on every path into the kernel: each grows on the host and dies, or stops, inside.

What the kernel kills is the sandbox's alone: the outcome is out_of_memory and the peak the tier.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.model.outcome import Outcome
from engine.sandbox.api import Ending
from engine.sandbox.demand import ParkSettings
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import ALL_CPU, real_pool
from tests.security.probes import ending_of, inside, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    """As the package's, but with all the CPU there is."""
    park = ParkSettings(floor=2, ceiling=4)
    async with real_pool(tmp_path_factory.mktemp("pool"), park=park, cpu=ALL_CPU) as pool:
        yield pool


TIER_MB = 128
BOMB_MB = 160
AT_ONCE = 6

FILL = """
def fill(mapped):
    "touch every page"
    for at in range(0, len(mapped), 4096):
        mapped[at] = 1
def anonymous(flags, size=None):
    return mmap.mmap(-1, size or (event << 20), flags=flags | mmap.MAP_ANONYMOUS)
def stuff(sock):
    "send until the socket takes no more"
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    try:
        while True:
            sock.send(bytes(1 << 16))
    except OSError:
        pass
"""

BOMBS = {
    "heap, step by step": "kept = [b'x' * (1 << 20) for _ in range(event)]",
    "heap, at once": "kept = b'x' * (event << 20)",
    "private mapping": "fill(anonymous(mmap.MAP_PRIVATE))",
    "private mapping, filled by the kernel": "kept = anonymous(mmap.MAP_PRIVATE | 0x8000)",
    "private mapping of huge pages": """
        kept = anonymous(mmap.MAP_PRIVATE)
        kept.madvise(14)
        fill(kept)
    """,
    "shared mapping": "fill(anonymous(mmap.MAP_SHARED))",
    "memory file": """
        fd = os.memfd_create("bomb")
        for _ in range(event):
            os.write(fd, bytes(1 << 20))
    """,
    "memory file, at once": "os.posix_fallocate(os.memfd_create('bomb'), 0, event << 20)",
    "System V memory": """
        libc.shmat.restype = ctypes.c_void_p
        made = libc.shmget(0, event << 20, 0o1600)
        ctypes.memset(libc.shmat(made, None, 0), 1, event << 20)
        libc.shmctl(made, 0, None)
    """,
    "page tables": """
        kept = []
        for _ in range(event // 2):  # 2 MB of tables for each GB of which a page in 2 MB is read
            kept.append(anonymous(mmap.MAP_PRIVATE | 0x4000, 1 << 30))  # no room is reserved
            kept[-1].madvise(15)
            for at in range(0, 1 << 30, 2 << 20):
                kept[-1][at]
    """,
    "pipes": """
        heap = b"x" * (event // 2 << 20)  # pipes have a limit of their own, of 64 MB for a user
        kept = [os.pipe() for _ in range(event * 2)]
        for out, into in kept:
            os.set_blocking(into, False)
            tried(fcntl.fcntl, into, 1031, 1 << 20)  # F_SETPIPE_SZ
            while isinstance(tried(os.write, into, bytes(1 << 16)), int):
                pass
    """,
    "sockets": """
        kept = [socket.socketpair() for _ in range(event * 2)]
        for one, other in kept:
            stuff(one)
            stuff(other)
    """,
    "datagram sockets": """
        kept = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(event * 2)]
        for one, other in kept:
            stuff(one)
            stuff(other)
    """,
    "System V messages": """
        for _ in range(event * 64):
            queue = libc.msgget(0, 0o1600)
            for _ in range(2):
                libc.msgsnd(queue, struct.pack("q", 1) + bytes(8192), 8192, 0o4000)
    """,
    "System V semaphores": """
        for _ in range(event * 2):
            libc.semget(0, 32_000, 0o1600)
    """,
}


def body(bomb: str) -> str:
    """Explodes, and tells that it lived."""
    text = BOMBS[bomb]
    lines = text.strip("\n").splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return FILL + "\n".join(line[margin:] for line in lines) + "\nreturn 'alive'\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exploded(pool: LinuxPool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ending]:
    """How each bomb's sandbox ended. At this tier each has a fifteenth of a CPU: so they go off together."""
    few = asyncio.Semaphore(AT_ONCE)

    async def explode(bomb: str) -> Ending:
        async with few:
            folder = tmp_path_factory.mktemp("bomb")
            ending, _ = await ending_of(pool, folder, body(bomb), BOMB_MB, memory_mb=TIER_MB, timeout_ms=50_000)
            return ending

    return dict(zip(BOMBS, await asyncio.gather(*map(explode, BOMBS)), strict=True))


@pytest.mark.time_limit(120)
@pytest.mark.parametrize("bomb", BOMBS)
async def test_memory_past_the_tier_ends_the_sandbox(exploded: dict[str, Ending], bomb: str) -> None:
    if bomb not in ("sockets", "datagram sockets", "pipes"):  # what root may have of these, no user may
        assert outside("resource.setrlimit(7, (4096, 4096))\n" + body(bomb), BOMB_MB) == "alive"
    ending = exploded[bomb]
    assert (ending.outcome, ending.exit_status) == (Outcome.OUT_OF_MEMORY, "signal: killed")
    assert TIER_MB - 1 <= ending.peak_memory_bytes / (1 << 20) <= TIER_MB


async def test_children_count_together(pool: LinuxPool, tmp_path: Path) -> None:
    """Four with 100 MB each fit into 512 MB, four with 160 MB do not, though each of them would."""
    body = """
        hold, let_go = os.pipe()
        def child():
            "its number, and a pipe that says that it has all, or ends with it"
            out, into = os.pipe()
            pid = os.fork()
            if pid:
                os.close(into)
                return pid, out
            os.close(let_go)
            kept = b"x" * (event << 20)
            os.write(into, b"x")
            os.read(hold, 1)
            os._exit(0)
        children = [child() for _ in range(4)]
        for _, out in children:
            os.read(out, 1)
        os.close(let_go)
        return [os.waitpid(pid, 0)[1] for pid, _ in children]
    """
    assert await inside(pool, tmp_path / "fit", body, 100, memory_mb=512) == [0, 0, 0, 0]
    assert outside(body, 160) == [0, 0, 0, 0]
    ending, _ = await ending_of(pool, tmp_path / "over", body, 160, memory_mb=512, timeout_ms=50_000)
    if ending.outcome is Outcome.OK:  # the function outlived those of its children that the kernel killed
        assert signal.SIGKILL in json.loads(ending.payload)
    else:
        assert ending.outcome is Outcome.OUT_OF_MEMORY
    assert 511 <= ending.peak_memory_bytes / (1 << 20) <= 512


async def test_a_child_that_was_killed_for_memory_is_not_the_functions_end(pool: LinuxPool, tmp_path: Path) -> None:
    """Out of memory is told apart from every other death, also where there was one before."""
    body = """
        child = os.fork()
        if child == 0:
            kept = b"x" * (300 << 20)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.WTERMSIG(status) == signal.SIGKILL
        os._exit(3)
    """
    ending, _ = await ending_of(pool, tmp_path, body, memory_mb=256, timeout_ms=50_000)
    assert (ending.outcome, ending.exit_status) == (Outcome.EXITED, "exit status 3")


async def test_a_bomb_in_one_sandbox_harms_no_other(pool: LinuxPool, tmp_path: Path) -> None:
    quiet = await inside(pool, tmp_path / "before", "return 1", memory_mb=TIER_MB)
    ending, _ = await ending_of(pool, tmp_path / "bomb", body("heap, at once"), BOMB_MB, memory_mb=TIER_MB)
    assert ending.outcome is Outcome.OUT_OF_MEMORY
    assert await inside(pool, tmp_path / "after", "return 1", memory_mb=TIER_MB) == quiet


SOCKET_BOMB = """
    def waiting():
        "MB in the queues of its sockets: SO_MEMINFO, received and to be sent"
        sizes = [struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, 55, 36)) for sock in kept]
        return sum(size[0] + size[5] for size in sizes) >> 20
    kept = []
    for _ in range(100):
        if event == "UDP":
            out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
            into.bind(("127.0.0.1", 0))
            out.connect(into.getsockname())
        else:
            server = socket.create_server(("127.0.0.1", 0))
            out = socket.create_connection(server.getsockname())
            into = server.accept()[0]
        out.setblocking(False)
        kept += [out, into]
        for _ in range(40 if event == "UDP" else 400):
            if isinstance(tried(out.send, bytes(60_000)), str):
                break
    return waiting()
"""


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
async def test_what_waits_in_network_sockets_is_limited_too(pool: LinuxPool, tmp_path: Path, protocol: str) -> None:
    """On cgroup v1 by a limit of its own, which refuses it; on v2 as memory of the tier."""
    assert outside(SOCKET_BOMB, protocol) > 40
    ending, _ = await ending_of(pool, tmp_path, SOCKET_BOMB, protocol, memory_mb=TIER_MB, timeout_ms=50_000)
    if pool.cgroup_directories["memory"] != pool.cgroup_directories["unified"]:
        assert int(ending.payload) < 20
    elif ending.outcome is Outcome.OK:
        assert ending.peak_memory_bytes >> 20 > int(ending.payload)
    else:
        assert ending.outcome is Outcome.OUT_OF_MEMORY


async def test_shared_memory_by_name_has_no_place_to_be(pool: LinuxPool, tmp_path: Path) -> None:
    """As on AWS Lambda there is no /dev/shm."""
    name = f"/cleave-test-{os.getpid()}"
    body = f"""
        made = call("shm_open", {name.encode()!r}, os.O_CREAT | os.O_RDWR, 0o600)
        libc.shm_unlink({name.encode()!r})
        return made if isinstance(made, str) else "made"
    """
    assert outside(body) == "made"
    assert await inside(pool, tmp_path, body) in ("ENOENT", "ENOSYS", "EACCES", "EROFS")


async def test_a_message_queue_by_name_takes_no_memory(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        libc = ctypes.CDLL("librt.so.1", use_errno=True)
        made = libc.mq_open(b"/cleave-test", os.O_CREAT | os.O_RDWR, 0o600, None)
        if made >= 0:
            libc.mq_unlink(b"/cleave-test")
        return "made" if made >= 0 else errno.errorcode[ctypes.get_errno()]
    """
    assert outside(body) == "made"
    assert await inside(pool, tmp_path, body) == "EMFILE"


async def test_locked_memory_stops_at_its_limit(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        mapped = mmap.mmap(-1, 1 << 20)
        return call("mlock", ctypes.byref(ctypes.c_char.from_buffer(mapped)), 1 << 20)
    """
    assert outside(body) == 0
    assert await inside(pool, tmp_path, body) in ("ENOMEM", "EPERM")
