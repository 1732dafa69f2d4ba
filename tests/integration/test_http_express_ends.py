"""Plain requests past the HTTP server while something else happens: the function changes, the client sends more, reads
nothing, idles or leaves, the front stops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio

from engine.model.invocation import InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import StartKind
from engine.rest import messages
from engine.rest.listening import HttpServer
from tests.doors import zip_of
from tests.fronts import PLAIN, Client, Fronts, invoke, make_url, two_fronts

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fronts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronts]:
    async with two_fronts(tmp_path_factory.mktemp("engine")) as made:
        yield made


async def test_what_comes_while_a_call_is_under_way_is_answered_behind_it(fronts: Fronts) -> None:
    await fronts.rest()
    client = await Client.of(fronts.port)
    taken = fronts.express.taken
    client.writer.write(invoke(b'{"do": "sleep", "s": 0.2}'))
    while fronts.express.taken == taken:
        await asyncio.sleep(0.01)
    client.writer.write(invoke(b"[1]")[:30])
    await asyncio.sleep(0.02)
    client.writer.write(invoke(b"[1]")[30:] + invoke(b"[2]"))
    answers = [(await client.answer()).rpartition(b"\r\n\r\n")[2] for _ in range(3)]
    assert answers == [b'{"do": "sleep", "s": 0.2}', b"[1]", b"[2]"]
    # The connection is as good as any other after that.
    taken = fronts.express.taken
    assert (await client.ask(invoke(b"[3]"))).endswith(b"[3]")
    assert fronts.express.taken == taken + 1
    await client.close()


async def test_what_is_changed_is_changed_for_the_next_request(fronts: Fronts) -> None:
    running = fronts.running
    client: Any = running.http.client
    await running.http.create("changing", zip_of("def handler(event, context):\n    return 0\n"), handler="app.handler")
    url = (await make_url(running, "changing"))["FunctionUrl"].split("/")[2]
    plain = f"GET / HTTP/1.1\r\nHost: {url}\r\n\r\n".encode()
    front = await Client.of(fronts.port)

    async def body(request: bytes) -> bytes:
        return (await front.ask(request)).rpartition(b"\r\n\r\n")[2]

    taken = fronts.express.taken
    for version in range(1, 5):
        code = zip_of(f"def handler(event, context):\n    return {version}\n")
        await asyncio.to_thread(client.update_function_code, FunctionName="changing", ZipFile=code)
        assert await body(plain) == b"%d" % version
        assert await body(invoke(PLAIN, "changing")) == b"%d" % version
        assert await body(plain) == b"%d" % version
    assert fronts.express.taken > taken
    change = client.update_function_url_config
    await asyncio.to_thread(change, FunctionName="changing", AuthType="AWS_IAM")
    assert (await front.ask(plain)).startswith(b"HTTP/1.1 403 ")
    await asyncio.to_thread(
        change, FunctionName="changing", AuthType="NONE", Cors={"AllowOrigins": ["http://a.example"]}
    )
    answer = await front.ask(plain.replace(b"\r\n\r\n", b"\r\nOrigin: http://a.example\r\n\r\n"))
    assert b"access-control-allow-origin: http://a.example" in answer
    await asyncio.to_thread(client.delete_function_url_config, FunctionName="changing")
    assert (await front.ask(plain)).startswith(b"HTTP/1.1 403 ")
    await asyncio.to_thread(client.delete_function, FunctionName="changing")
    assert (await front.ask(invoke(PLAIN, "changing"))).startswith(b"HTTP/1.1 404 ")
    await front.close()


@pytest.mark.parametrize("stops", [False, True])
async def test_a_client_that_leaves_stops_its_function_where_the_operator_said_so(fronts: Fronts, stops: bool) -> None:
    await fronts.rest()
    front, port = await fronts.front(stop_on_disconnect=stops)
    pipeline = fronts.running.service.parts.pipeline
    assert front.express is not None
    client = await Client.of(port)
    client.writer.write(invoke(b'{"do": "sleep", "s": 0.5}'))
    async with asyncio.timeout(30):
        while not front.express.taken:
            await asyncio.sleep(0.01)
        await client.close()
        while pipeline._scheduler.counts().concurrency:
            await asyncio.sleep(0.01)
    done = await pipeline.invoke(InvokeRequest(FunctionRef("echo"), b"{}", log_tail=True))
    assert (done.report.start_kind is StartKind.WARM) == (not stops)
    assert (front.express.taken, front.express.handed) == (1, 0)
    assert front.express.told == int(not stops)
    await front.stop(1)


async def test_one_that_stays_there_waits_for_nothing_but_its_function(
    fronts: Fronts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "DISCARD_LIMIT_S", 1_000.0)
    await fronts.rest()
    front, port = await fronts.front(stop_on_disconnect=True)
    client = await Client.of(port)
    async with asyncio.timeout(50):
        for do in ("fail", "nothing", "fail", "nothing"):
            answer = await client.ask(invoke(b'{"do": "%s"}' % do.encode()))
            assert answer.startswith(b"HTTP/1.1 200 ")
            # Not plain, so the HTTP server's.
            assert (await client.ask(invoke(PLAIN, "echo", "X-Amz-Log-Type: Tail"))).startswith(b"HTTP/1.1 200 ")
    await client.close()
    await front.stop(1)


@pytest.mark.parametrize("grace_s", [20, 0.2])
async def test_a_front_that_stops_lets_what_is_under_way_end_for_a_while(fronts: Fronts, grace_s: float) -> None:
    await fronts.rest()
    front, port = await fronts.front()
    assert front.express is not None
    waiting, idle = await Client.of(port), await Client.of(port)
    await idle.ask(invoke())
    waiting.writer.write(invoke(b'{"do": "sleep", "s": %d}' % (1 if grace_s > 1 else 30)))
    while front.express.taken < 2:
        await asyncio.sleep(0.01)
    stopping = asyncio.create_task(front.stop(grace_s))
    answer = await waiting.answer()
    assert answer.startswith(b"HTTP/1.1 200 " if grace_s > 1 else b"HTTP/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in answer
    async with asyncio.timeout(30):
        assert await waiting.reader.read() == await idle.reader.read() == b""
        await stopping
    assert fronts.running.service.parts.pipeline._scheduler.counts().concurrency == 0
    await waiting.close()
    await idle.close()


async def test_a_front_that_stops_answers_once_what_the_http_server_had_taken_over(fronts: Fronts) -> None:
    await fronts.rest()
    front, port = await fronts.front()
    assert front.express is not None
    client = await Client.of(port)
    client.writer.write(invoke(b'{"do": "sleep", "s": 1}'))
    while not front.express.taken:
        await asyncio.sleep(0.01)
    client.writer.write(invoke(b"[1]")[:30])
    await asyncio.sleep(0.1)
    stopping = asyncio.create_task(front.stop(20))
    assert (await client.answer()).endswith(b'{"do": "sleep", "s": 1}')
    async with asyncio.timeout(30):
        assert await client.reader.read() == b""
        await stopping
    assert front.express.told + front.express.handed == 1
    await client.close()


async def test_a_client_that_reads_nothing_is_left_to_the_http_server_which_waits(fronts: Fronts) -> None:
    front, port = await fronts.front()
    assert front.express is not None
    assert isinstance(front._server, HttpServer)
    state = front._server.server_state
    socket_ = socket.socket()
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    socket_.setblocking(False)
    await asyncio.get_running_loop().sock_connect(socket_, ("127.0.0.1", port))
    client = Client(*await asyncio.open_connection(sock=socket_, limit=8_192))
    request = invoke(b'{"do": "much", "bytes": 50000}')
    sent = 0
    async with asyncio.timeout(50):
        while not state.connections:
            await asyncio.sleep(0.01)
        (connection,) = cast("set[Any]", state.connections)
        while not connection.flow.write_paused:
            answered = state.total_requests
            client.writer.write(request)
            sent += 1
            while state.total_requests == answered:
                await asyncio.sleep(0)
        taken = front.express.taken
        client.writer.write(request)
        while not state.tasks:
            await asyncio.sleep(0)
    assert (connection.resting, front.express.taken) == (False, taken)
    assert sent > 1
    for _ in range(sent + 1):
        assert (await client.answer()).endswith(b'xxx"')
    assert (await client.ask(invoke())).endswith(PLAIN)
    assert front.express.taken == taken + 1
    await client.close()
    await front.stop(1)


async def test_a_connection_is_closed_once_it_idles_and_not_before(fronts: Fronts) -> None:
    await fronts.rest()
    front, _ = await fronts.front()
    assert isinstance(front._server, HttpServer)
    front._server.config.timeout_keep_alive = cast(int, 1.0)
    client = await Client.of(front._server.servers[0].sockets[0].getsockname()[1])
    assert (await client.ask(invoke())).endswith(PLAIN)
    # Longer than it may idle.
    assert (await client.ask(invoke(b'{"do": "sleep", "s": 1.3}'))).startswith(b"HTTP/1.1 200 ")
    async with asyncio.timeout(30):
        assert await client.reader.read() == b""
    await client.close()
    await front.stop(1)
