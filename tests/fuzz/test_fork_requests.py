"""What could be sent to a zygote, and what a zygote could answer: both sides refuse, go on, and keep no descriptor."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.fabric.datadir import new_instance_id
from engine.guest import wire
from engine.sandbox import box
from engine.sandbox.counts import Counts
from engine.sandbox.uids import base_of
from engine.zygote.host import Zygote
from tests.descriptors import left_open, opened
from tests.sandboxes import RUNTIME, interpreters

pytestmark = pytest.mark.privileged

SEED = 20_260_803
UID_BASE = base_of(new_instance_id(), 4)
FDS_MAX = 40  # more than the zygote has room for
_REPLY_PID = struct.Struct("<i")
EMPTY_REPLY = 4 + 32 + 4 + 192


class Requests:
    """Genuine requests, as the engine's own code makes them, to be broken."""

    def __init__(self, name: str = "1") -> None:
        self.host = box.Host(f"cleave-fuzz-{os.getpid()}-{name}")
        self.host.open()
        self.leaf = self.host.leaf("1", memory_bytes=128 << 20, cpu_quota_us=100_000, cpu_shares=1_024, pids=64)
        self.tmp = box.scratch_tmpfs(1 << 20, 64)
        self.code = box.code_mount(b"/usr")
        self.control, self.guest = socket.socketpair()
        self.report, self.report_write = os.pipe()
        os.set_blocking(self.report, False)
        self.null = os.open(os.devnull, os.O_RDWR)
        body, self.fds = self._capture()
        self.body = bytes(body)

    def _capture(self) -> tuple[bytes, list[int]]:
        engine, zygote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with engine, zygote, open(os.memfd_create("journal"), "r+b") as journal:
            with pytest.raises(SandboxFault, match="does not answer"):
                fork(box.Turns(engine.fileno(), journal.fileno()), self, timeout_ms=0)
            body, fds, _, _ = socket.recv_fds(zygote, 4_096, FDS_MAX)
        return body, fds

    def close(self) -> None:
        """Give everything back."""
        self.control.close()
        self.guest.close()
        self.tmp.close()
        for fd in (*self.fds, self.code, self.report, self.report_write, self.null):
            os.close(fd)
        self.leaf.remove()
        self.host.sweep(True)

    def broken(self, chance: random.Random) -> tuple[bytes, list[int]]:
        """One with its body, its descriptors or both not as they should be, or as it is."""
        body, fds = bytearray(self.body), list(self.fds)
        for _ in range(chance.choice((0, 1, 1, 2, 4))):
            match chance.randrange(7):
                case 0:
                    at = chance.randrange(len(body)) if body else 0
                    body[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    at = 4 * chance.randrange(8)
                    body[at : at + 4] = struct.pack("<I", chance.choice((0, 1, 2, 5, 6, 16, 17, 255, 2**31, 2**32 - 1)))
                case 2:
                    body = body[: chance.randrange(len(body))] if body else body
                case 3:
                    body += chance.randbytes(chance.choice((1, 4, 100, 4_000)))
                case 4 if fds:
                    fds.pop(chance.randrange(len(fds)))
                case 5:
                    fds.insert(chance.randrange(len(fds) + 1), self.null)
                case _:
                    fds = fds * 4 if chance.random() < 0.2 else [chance.choice((fd, self.null)) for fd in fds]
        return bytes(body) or b"\0", fds[:FDS_MAX]


@pytest.fixture
def requests() -> Iterator[Requests]:
    made = Requests()
    yield made
    made.close()


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    zygote = Zygote(interpreters(tmp_path)[RUNTIME], uid_base=UID_BASE, uid_count=4, counts=Counts())
    zygote.spawn()
    zygote.wait_ready()
    yield zygote
    zygote.close()


def fds_of(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def answer(sock: socket.socket) -> int:
    """The process that the zygote says it made, killed and waited for; -1 where it refused."""
    sock.settimeout(10)
    body, fds, flags, _ = socket.recv_fds(sock, 4_096, 4)
    assert flags & socket.MSG_CTRUNC == 0
    (pid,) = _REPLY_PID.unpack_from(body)
    assert len(body) == EMPTY_REPLY
    assert len(fds) == (pid > 0)
    if pid > 0:
        signal.pidfd_send_signal(fds[0], signal.SIGKILL)
        assert os.waitpid(pid, 0)[0] == pid
        os.close(fds[0])
    return int(pid)


@pytest.mark.time_limit(240)
def test_a_zygote_answers_every_request_and_keeps_nothing_of_it(
    zygote: Zygote, requests: Requests, counts: Mapping[str, int]
) -> None:
    chance = random.Random(SEED)
    sock = socket.socket(fileno=os.dup(zygote.fileno()))
    sock.send(b"\0")
    assert answer(sock) == -1  # it serves: what it needed for its own start it has closed
    before, ours = fds_of(zygote.pid), opened()
    made = refused = 0
    for number in range(counts["frames"]):
        body, fds = requests.broken(chance)
        socket.send_fds(sock, [body], fds)
        pid = answer(sock)
        made, refused = made + (pid > 0), refused + (pid < 0)
        # It closes its own of the pidfd after it has answered, and before it answers again.
        sock.send(b"\0")
        assert answer(sock) == -1
        assert fds_of(zygote.pid) == before, f"{number}: a descriptor stayed in the zygote"
        assert left_open(ours) == [], number
        if len(body) != len(requests.body) or body[:4] != requests.body[:4]:
            assert pid == -1, f"{number}: a request of another size or version was taken"
    assert min(made, refused) > counts["frames"] // 10

    # And as it should be, the same zygote makes a sandbox whose guest says that it is there.
    fresh = Requests("fresh")
    try:
        socket.send_fds(sock, [fresh.body], fresh.fds)
        body, (pidfd,), _, _ = socket.recv_fds(sock, 4_096, 4)
        (pid,) = _REPLY_PID.unpack_from(body)
        fresh.control.settimeout(10)
        assert wire.HEADER.unpack(fresh.control.recv(wire.HEADER.size))[1] == wire.HELLO
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
    finally:
        fresh.close()
        sock.close()


def test_an_empty_message_ends_a_zygote_as_the_end_of_the_stream_does(zygote: Zygote) -> None:
    with socket.socket(fileno=os.dup(zygote.fileno())) as sock:
        sock.send(b"")
    assert os.waitid(os.P_PID, zygote.pid, os.WEXITED | os.WNOWAIT) is not None


def replies(chance: random.Random, null: int) -> tuple[bytes, list[int]]:
    """What a broken zygote could answer."""
    pid = chance.choice((-1, 0, 1, 2, -(2**31), 2**31 - 1, os.getpid(), os.getppid()))
    body = _REPLY_PID.pack(pid) + chance.randbytes(EMPTY_REPLY - 4)
    if chance.random() < 0.4:
        body = body[: chance.randrange(1, len(body))] if chance.random() < 0.5 else body + bytes(100)
    return body, [null] * chance.choice((0, 0, 1, 1, 2, 30))


def test_an_engine_takes_no_nonsense_of_a_zygote_and_keeps_nothing_of_it(
    requests: Requests, counts: Mapping[str, int]
) -> None:
    chance = random.Random(SEED)
    engine, broken = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with engine, broken, open(os.memfd_create("journal"), "r+b") as journal:
        before = opened()
        for number in range(counts["frames"]):
            body, fds = replies(chance, requests.null)
            socket.send_fds(broken, [body], fds)
            try:
                os.close(fork(box.Turns(engine.fileno(), journal.fileno()), requests)[0])
                taken = True
            except SandboxFault:
                taken = False
            (pid,) = _REPLY_PID.unpack_from(body.ljust(4, b"\0"))
            assert taken == (len(body) == EMPTY_REPLY and pid > 0 and bool(fds)), number
            broken.recv(4_096)  # the request; its descriptors are closed with it
            assert left_open(before) == [], number


def fork(turns: box.Turns, requests: Requests, *, timeout_ms: int = 5_000) -> tuple[int, int]:
    """As the engine asks; (pidfd, pid)."""
    return box.fork(
        turns,
        requests.leaf,
        uid=UID_BASE,
        pids=64,
        nofile=64,
        answers=requests.guest.fileno(),
        events=requests.guest.fileno(),
        log=requests.null,
        report=requests.report_write,
        tmp=requests.tmp.fileno(),
        code=requests.code,
        net=-1,
        timeout_ms=timeout_ms,
    )


def test_after_a_request_that_was_not_answered_nobody_has_another_turn(requests: Requests) -> None:
    engine, zygote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with engine, zygote, open(os.memfd_create("journal"), "r+b") as journal:
        turns = box.Turns(engine.fileno(), journal.fileno())
        with pytest.raises(SandboxFault, match="does not answer"):
            fork(turns, requests, timeout_ms=0)
        _, fds, _, _ = socket.recv_fds(zygote, 4_096, FDS_MAX)
        for fd in fds:
            os.close(fd)
        os.pwrite(journal.fileno(), b"7777", 0)  # what it may have cloned for that one
        with pytest.raises(SandboxFault, match="it is gone") as caught:
            fork(turns, requests)
        zygote.setblocking(False)
        with pytest.raises(BlockingIOError):
            zygote.recv(1)
        assert (caught.value.stage, turns.unanswered) == ("zygote", True)
        assert os.pread(journal.fileno(), 5, 0) == b"7777"


def test_once_closed_nobody_has_a_turn(requests: Requests) -> None:
    engine, zygote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with engine, zygote, open(os.memfd_create("journal"), "r+b") as journal:
        turns = box.Turns(engine.fileno(), journal.fileno())
        turns.close()
        with pytest.raises(SandboxFault, match="it is gone"):
            fork(turns, requests)
        assert not turns.unanswered


def test_an_engine_without_a_free_descriptor_for_the_answer_leaves_no_process(
    zygote: Zygote, requests: Requests
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The request opens its own descriptors and closes them after the answer: leave room for those and no more.
    opened = [os.dup(requests.null) for _ in range(8)]
    for fd in opened:
        os.close(fd)
    left_over = len(requests.fds) - 6
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened[left_over - 1] + 1, hard))
    try:
        with pytest.raises(SandboxFault, match="no descriptor is free") as caught:
            zygote.ask(lambda turns: fork(turns, requests))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    assert not [child for child in children() if child != zygote.pid]


def children() -> list[int]:
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
