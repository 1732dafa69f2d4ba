"""HTTP spoken by processes beside the engine's own: the same answers, and no process too many or too few."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from engine.errors import EngineError
from engine.model.invocation import Completion, InvokeRequest, Sink
from engine.model.outcome import StartKind
from engine.rest.forwarded import Forwarding
from engine.rest.link import WINDOW_BYTES, Body, Link, Opened, Piece
from engine.rest.listening import listen
from engine.rest.worker import NOBODY
from tests.compat.stub_rooms import Front, Rooms, completed
from tests.remains import until

INVOKE = "/2015-03-31/functions/f/invocations"
STREAM = "/2021-11-15/functions/f/response-streaming-invocations"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with Front(Rooms(), workers=2) as front:
        yield front


@pytest.fixture
def rooms(front: Front) -> Rooms:
    front.rooms.reset()
    front.call(front.rooms.add_function("f"))
    return front.rooms


@contextlib.contextmanager
def connection(front: Front) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    try:
        yield made
    finally:
        made.close()


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes of a front's owner that speak HTTP."""
    children = psutil.Process(pid).children()
    return [child for child in children if "engine.rest.worker" in " ".join(_command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_events_and_answers_of_any_size_go_through(front: Front, rooms: Rooms) -> None:
    with connection(front) as client:
        for size in (1, 65_000, 70_000, WINDOW_BYTES * 3, 6_000_000):
            event = b'"' + b"x" * size + b'"'
            client.request("POST", INVOKE, event)
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, event)


def test_a_body_in_chunks_goes_through(front: Front, rooms: Rooms) -> None:
    with connection(front) as client:
        client.request("POST", INVOKE, iter([b'"', b"x" * 100_000, b'"']), encode_chunked=True)
        assert client.getresponse().read() == b'"' + b"x" * 100_000 + b'"'


def test_what_is_refused_is_refused_in_the_same_words(front: Front, rooms: Rooms) -> None:
    with Front(Rooms()) as plain:
        found = []
        for one in (front, plain):
            with connection(one) as client:
                client.request("POST", INVOKE.replace("/f/", "/none/"), b"1", {"x-any": "1"})
                answer = client.getresponse()
                kept = sorted((k, v) for k, v in answer.getheaders() if k not in ("date", "x-amzn-requestid"))
                found.append((answer.status, answer.read(), kept))
    assert found[0][0] == 404
    assert found[0] == found[1]


def test_who_waits_to_be_told_to_go_on_is_told_only_if_the_body_is_wanted(front: Front, rooms: Rooms) -> None:
    head = "POST {} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n"
    for path, said in ((INVOKE, b"HTTP/1.1 100 "), ("/2015-03-31/nothing", b"HTTP/1.1 403 ")):
        with socket.create_connection(("127.0.0.1", front.port), timeout=20) as client:
            client.sendall(head.format(path).encode())
            assert client.recv(len(said), socket.MSG_WAITALL) == said


def test_a_slow_reader_holds_the_function_up(front: Front, rooms: Rooms) -> None:
    made = 0
    held = threading.Event()

    async def much(request: InvokeRequest, sink: Sink) -> Completion:
        nonlocal made
        sink.started(request.request_id, "$LATEST", StartKind.WARM)
        for _ in range(400):
            waits = sink.chunk(b"x" * 262_144)
            made += 1
            if waits is not None:
                if not waits.done():
                    held.set()
                await waits
        return completed(request, b"")

    rooms.invoker.stream = much
    with connection(front) as client:
        client.request("POST", STREAM, b"1")
        answer = client.getresponse()
        assert answer.read(10)
        assert held.wait(20)
        assert made < 400
        assert len(answer.read()) > 400 * 262_144
    assert made == 400


def test_a_client_that_leaves_takes_nothing_with_it(front: Front, rooms: Rooms) -> None:
    entered, go_on, ended = threading.Event(), asyncio.Event(), threading.Event()

    async def wait(request: InvokeRequest) -> Completion:
        entered.set()
        await go_on.wait()
        ended.set()
        return completed(request, b"1")

    rooms.invoker.run = wait
    with connection(front) as client:
        client.request("POST", INVOKE, b"1")
        assert entered.wait(20)
    with connection(front) as client:
        client.request("GET", "/health")
        assert client.getresponse().status == 200

    async def let_go() -> None:
        go_on.set()

    front.call(let_go())
    assert ended.wait(20)
    assert not rooms.invoker.cancelled.is_set()


def test_a_client_that_leaves_stops_its_function_where_that_is_asked_for() -> None:
    rooms = Rooms()
    entered = threading.Event()

    async def wait(request: InvokeRequest) -> Completion:
        entered.set()
        await asyncio.Event().wait()
        return completed(request, b"1")

    rooms.invoker.run = wait
    with Front(rooms, stop_on_disconnect=True, workers=1) as front:
        front.call(rooms.add_function("f"))
        with connection(front) as client:
            client.request("POST", INVOKE, b"1")
            assert entered.wait(20)
        assert rooms.invoker.cancelled.wait(20)


def test_a_worker_has_no_rights(front: Front) -> None:
    assert len(front.worker_pids) == 2
    for pid in front.worker_pids:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert {*status["Uid"].split(), *status["Gid"].split()} == {str(NOBODY)}
            assert (status["Groups"].strip(), int(status["CapEff"], 16), int(status["CapPrm"], 16)) == ("", 0, 0)


def test_signals_to_the_whole_group_are_left_to_the_engine(front: Front, rooms: Rooms) -> None:
    pids = front.worker_pids
    for pid in pids:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    for _ in range(8):
        with connection(front) as client:
            client.request("GET", "/health")
            assert client.getresponse().status == 200
    assert front.worker_pids == pids


async def test_a_worker_that_is_killed_is_replaced_and_who_connected_meanwhile_is_served() -> None:
    rooms = Rooms()
    server = rooms.front(workers=1)
    port = await server.start("127.0.0.1", 0)
    (pid,) = server.worker_pids
    os.kill(pid, signal.SIGKILL)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith((b"HTTP/1.1 200", b""))
    writer.close()
    (other,) = await until(lambda: [one for one in server.worker_pids if one != pid])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    await server.stop(1)
    assert not psutil.pid_exists(other)
    assert [event for event, _ in rooms.faults.events] == ["http_worker_ended"]


async def test_a_worker_is_replaced_also_where_that_failed_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = Rooms()
    server = rooms.front(workers=1)
    port = await server.start("127.0.0.1", 0)
    (pid,) = server.worker_pids
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: [said for _, said in rooms.faults.events if "/nowhere" in str(said.get("status"))])
    await until(lambda: [one for one in server.worker_pids if one != pid])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    await server.stop(1)


async def test_requests_of_a_worker_that_is_killed_are_clients_that_left() -> None:
    rooms = Rooms()
    await rooms.add_function("f")
    entered = asyncio.Event()

    async def wait(request: InvokeRequest) -> Completion:
        entered.set()
        await asyncio.Event().wait()
        return completed(request, b"1")

    rooms.invoker.run = wait
    server = rooms.front(workers=1, stop_on_disconnect=True)
    _, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
    writer.write(f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1".encode())
    async with asyncio.timeout(20):
        await entered.wait()
        os.kill(server.worker_pids[0], signal.SIGKILL)
        await until(rooms.invoker.cancelled.is_set)
    writer.close()
    await server.stop(1)


async def test_a_request_under_way_is_answered_before_the_stop_and_one_that_lasts_is_told() -> None:
    rooms = Rooms()
    await rooms.add_function("f")
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: InvokeRequest) -> Completion:
        entered.set()
        await (go_on if request.payload == b"1" else asyncio.Event()).wait()
        return completed(request, b"1")

    rooms.invoker.run = wait
    server = rooms.front(workers=1)
    port = await server.start("127.0.0.1", 0)
    clients = []
    for body in (b"1", b"2"):
        entered.clear()
        clients.append(await asyncio.open_connection("127.0.0.1", port))
        clients[-1][1].write(f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n".encode() + body)
        async with asyncio.timeout(20):
            await entered.wait()
    (pid,) = server.worker_pids
    stopping = asyncio.create_task(server.stop(1))
    go_on.set()
    async with asyncio.timeout(20):
        heads = [await reader.readline() for reader, _ in clients]
        await stopping
    assert [head.split()[1] for head in heads] == [b"200", b"503"]
    for _, writer in clients:
        writer.close()
    assert not psutil.pid_exists(pid)


async def test_a_port_that_others_share_out_is_refused() -> None:
    rooms = Rooms()
    other = listen("127.0.0.1", 0, shared=True)
    with other, pytest.raises(EngineError, match="in use"):
        await rooms.front(workers=2).start("127.0.0.1", other.getsockname()[1])


async def test_a_start_that_fails_is_said_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    rooms = Rooms()
    with pytest.raises(EngineError, match="did not start") as caught:
        await rooms.front(workers=2).start("127.0.0.1", 0)
    assert "http_workers" in caught.value.fix


def test_no_worker_outlives_a_killed_engine() -> None:
    program = (
        "import asyncio, os\n"
        "from tests.compat.stub_rooms import Rooms\n"
        "async def main():\n"
        "    await Rooms().front(workers=2).start('127.0.0.1', 0)\n"
        "    print('there', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"there\n"
        found = workers_of(owner.pid)
        owner.kill()
    assert len(found) == 2
    assert psutil.wait_procs(found, timeout=20)[1] == []


@pytest.mark.parametrize("sent", [b"\xff" * 64, b"\x01\x00\x00\x00\xc0", b"\x02\x00\x00\x00\x91\x63"])
def test_what_is_no_frame_is_not_taken_for_one(sent: bytes) -> None:
    with pytest.raises(ValueError, match=r"(?i)frame|invalid|expected|msgpack"):
        Link(lambda _: None, lambda: None).data_received(sent)


async def test_a_worker_that_sends_more_of_a_body_than_it_may_is_left() -> None:
    async def nothing(*_: object) -> None:
        await asyncio.Event().wait()

    ours, theirs = socket.socketpair()
    lost = asyncio.Event()
    forwarding = Forwarding(nothing, lambda: None, lost.set)
    ours.setblocking(False)
    await forwarding.connect(ours)
    with theirs:
        packed = [Opened(1, "PUT", b"/", b"", [], None, b"", True), *[Body(1, bytes(1 << 20), True)] * 20]
        with contextlib.suppress(OSError):
            for frame in packed:
                data = msgspec.msgpack.encode(frame)
                await asyncio.to_thread(theirs.sendall, struct.pack("<I", len(data)) + data)
        async with asyncio.timeout(20):
            await lost.wait()
    await forwarding.stop()


async def test_frames_come_whole_however_they_are_cut() -> None:
    taken: list[object] = []
    link, other = Link(taken.append, lambda: None), Link(taken.append, lambda: None)
    sent = bytearray()

    class Wire(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            sent.extend(data)

        def is_closing(self) -> bool:
            return False

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

    other.connection_made(Wire())
    frames: list[Opened | Piece] = [
        Opened(1, "GET", b"/", b"", [(b"a", b"b")], ("127.0.0.1", 1), b"x" * 9),
        Piece(1, b"y" * 300, True),
    ]
    for frame in frames:
        other.send(frame)
    for step in (1, 7, len(sent)):
        taken.clear()
        for at in range(0, len(sent), step):
            link.data_received(bytes(sent[at : at + step]))
        assert taken == frames
