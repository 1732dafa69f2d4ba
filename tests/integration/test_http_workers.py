"""Plain HTTP requests by processes beside the engine's own: what they are answered is what the engine itself answers,
to the byte but for ids and dates."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from engine.rest.link import Ready
from engine.rest.relay import Near
from engine.rest.server import RestServer
from tests.doors import zip_of
from tests.engines import engine
from tests.fronts import CODE, PLAIN, Client, Fronts, invoke, make_url

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


class Worked(Fronts):
    """An engine whose requests a worker reads, and a front without."""

    front_: RestServer

    @property
    def near(self) -> Near:
        (near,) = self.front_.relays
        return near

    async def rest(self) -> None:
        """As it says there."""
        client = await Client.of(self.port)
        for request in (invoke(), self.url("")):
            async with asyncio.timeout(30):
                told = self.near.told
                while self.near.told == told:
                    await client.ask(request)
        await client.close()

    async def alike(self, *requests: bytes) -> tuple[list[bytes], int]:
        """The answers of both, which have to be the same; and how many of them came over the relay."""
        answers = []
        relayed = 0
        for port in (self.port, self.slow_port):
            await self.rest()
            told = self.near.told + self.near.left
            client = await Client.of(port)
            answers.append([await client.ask(request) for request in requests])
            await client.close()
            if port == self.port:
                relayed = self.near.told + self.near.left - told
        assert answers[0] == answers[1]
        return answers[0], relayed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fronts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worked]:
    async with engine(tmp_path_factory.mktemp("engine"), max_concurrency=8, http_workers=1) as running:
        made = Worked.__new__(Worked)
        assert running.service._fronts is not None
        made.running, made.front_, made.port = running, running.service._fronts[1], running.service.http_port
        slow, made.slow_port = await made.front(lane=False)
        for name in ("echo", "web"):
            await running.http.create(name, zip_of(CODE), handler=f"app.{name}", memory_mb=256)
        made.url_id = (await make_url(running, "web"))["FunctionUrl"].split("/")[2].partition(".")[0]
        try:
            yield made
        finally:
            await slow.stop(1)


async def test_plain_requests_are_relayed_and_answered_alike(fronts: Worked) -> None:
    posted = fronts.url("event", "Cookie: a=1; b=2", method="POST", body=b'"')
    _, relayed = await fronts.alike(invoke(), posted, invoke(b""), fronts.url("own"), fronts.url("base64"))
    assert relayed == 5


@pytest.mark.parametrize("do", ["print", "fail", "exit"])
async def test_what_goes_on_in_python_is_answered_alike(fronts: Worked, do: str) -> None:
    _, relayed = await fronts.alike(invoke(json.dumps({"do": do}).encode()))
    assert relayed == 1
    assert fronts.near.standing == {}


@pytest.mark.parametrize(
    "request_",
    [
        invoke(b"nope"),
        invoke(b'{"do": "much", "bytes": 200000}'),
        invoke(json.dumps("x" * 70_000).encode()),
        invoke(PLAIN, "nobody"),
        invoke(PLAIN, "echo", "X-Amz-Invocation-Type: DryRun"),
        invoke(PLAIN, "echo", "Origin: http://evil.example"),
        invoke().replace(b"127.0.0.1:9000", b"evil.example"),
        invoke().replace(b"Content-Length: 8", b"Content-Length: x"),
    ],
)
async def test_whatever_is_not_plain_is_answered_alike(fronts: Worked, request_: bytes) -> None:
    await fronts.alike(request_)


async def test_however_a_stream_is_cut_it_is_answered_alike(fronts: Worked) -> None:
    requests = [invoke(), fronts.url("own", method="PUT", body=b"abc"), invoke(b"nope"), fronts.url("text"), invoke()]
    slow = await Client.of(fronts.slow_port)
    expected = [await slow.ask(request) for request in requests]
    await slow.close()
    chance = random.Random(5)
    for _ in range(6):
        await fronts.rest()
        client = await Client.of(fronts.port)
        stream = b"".join(requests)
        cuts = sorted({0, len(stream), *(chance.randrange(len(stream)) for _ in range(chance.randrange(40)))})
        for start, end in itertools.pairwise(cuts):
            client.writer.write(stream[start:end])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert [await client.answer() for _ in requests] == expected
        await client.close()


async def test_what_is_changed_is_changed_for_the_next_request(fronts: Worked) -> None:
    running = fronts.running
    client: Any = running.http.client
    await running.http.create("changing", zip_of("def handler(event, context):\n    return 0\n"), handler="app.handler")
    url = (await make_url(running, "changing"))["FunctionUrl"].split("/")[2]
    plain = f"GET / HTTP/1.1\r\nHost: {url}\r\n\r\n".encode()
    front = await Client.of(fronts.port)
    told = fronts.near.told
    for version in range(1, 5):
        code = zip_of(f"def handler(event, context):\n    return {version}\n")
        await asyncio.to_thread(client.update_function_code, FunctionName="changing", ZipFile=code)
        for request in (plain, invoke(PLAIN, "changing"), plain):
            assert (await front.ask(request)).endswith(b"\r\n\r\n%d" % version)
    assert fronts.near.told > told
    change = client.update_function_url_config
    await asyncio.to_thread(change, FunctionName="changing", AuthType="AWS_IAM")
    assert (await front.ask(plain)).startswith(b"HTTP/1.1 403 ")
    cors = {"AllowOrigins": ["http://a.example"]}
    await asyncio.to_thread(change, FunctionName="changing", AuthType="NONE", Cors=cors)
    answer = await front.ask(plain.replace(b"\r\n\r\n", b"\r\nOrigin: http://a.example\r\n\r\n"))
    assert b"access-control-allow-origin: http://a.example" in answer
    await asyncio.to_thread(client.delete_function_url_config, FunctionName="changing")
    assert (await front.ask(plain)).startswith(b"HTTP/1.1 403 ")
    await asyncio.to_thread(client.delete_function, FunctionName="changing")
    assert (await front.ask(invoke(PLAIN, "changing"))).startswith(b"HTTP/1.1 404 ")
    await front.close()


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("event", [b'{"do": "sleep", "s": 0.5}', b'{"do": "print"}'])
async def test_a_client_that_leaves_leaves_nothing_behind(fronts: Worked, stops: bool, event: bytes) -> None:
    await fronts.rest()
    front, port = await fronts.front(stop_on_disconnect=stops, workers=1)
    (near,) = front.relays
    pipeline = fronts.running.service.parts.pipeline
    client = await Client.of(port)
    client.writer.write(invoke(event))
    async with asyncio.timeout(30):
        while not (near.under_way or near.told or near.left):
            await asyncio.sleep(0.001)
        await client.close()
        while pipeline._scheduler.counts().concurrency or near.under_way or near.standing:
            await asyncio.sleep(0.01)
    if b"sleep" in event and not stops:
        assert near.told + near.left == 1
    await front.stop(1)


@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.parametrize("words", ["", "words"])
async def test_a_client_that_asks_for_more_and_leaves_leaves_nothing_behind(
    fronts: Worked, stops: bool, words: str
) -> None:
    await fronts.rest()
    front, port = await fronts.front(stop_on_disconnect=stops, workers=1)
    (near,) = front.relays
    pipeline = fronts.running.service.parts.pipeline
    client = await Client.of(port)
    client.writer.write(invoke(json.dumps({"do": "sleep", "s": 0.5, "words": words}).encode()))
    async with asyncio.timeout(60):
        while not near.under_way:
            await asyncio.sleep(0.001)
        client.writer.write(b"P")
        await client.writer.drain()
        await asyncio.sleep(0.1)
        await client.close()
        while pipeline._scheduler.counts().concurrency or near.under_way:
            await asyncio.sleep(0.01)
        while near.standing:
            await asyncio.sleep(0.01)
        # Nor in the worker: it would wait for that.
        await front.stop(120)


@pytest.mark.parametrize("which", ["link", "plain"])
async def test_a_worker_that_says_what_none_says_is_replaced(
    fronts: Worked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    ready = msgspec.msgpack.encode(Ready())
    told = tmp_path / "told"
    odd = tmp_path / "worker"
    odd.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        "link, plain = (int(number) for number in sys.argv[5:7])\n"
        f"os.write(link, {struct.pack('<I', len(ready)) + ready!r})\n"
        f"while not os.path.exists({str(told)!r}):\n"
        "    time.sleep(0.01)\n"
        f"os.write({which}, bytes([255]) * 64)\n"
        "time.sleep(600)\n"
    )
    odd.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(odd))
        front, port = await fronts.front(workers=1)
    (pid,) = front.worker_pids
    told.touch()
    async with asyncio.timeout(60):
        while front.worker_pids == [pid]:
            await asyncio.sleep(0.01)
        client = await Client.of(port)
        assert (await client.ask(invoke())).startswith(b"HTTP/1.1 200 ")
    await client.close()
    await front.stop(1)


@pytest.mark.parametrize("grace_s", [20, 0.2])
async def test_a_front_that_stops_lets_what_is_under_way_end_for_a_while(fronts: Worked, grace_s: float) -> None:
    await fronts.rest()
    front, port = await fronts.front(workers=1)
    (near,) = front.relays
    waiting, idle = await Client.of(port), await Client.of(port)
    await idle.ask(invoke())
    waiting.writer.write(invoke(b'{"do": "sleep", "s": %d}' % (1 if grace_s > 1 else 30)))
    async with asyncio.timeout(30):
        while not near.under_way:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(front.stop(grace_s))
        answer = await waiting.answer()
        assert answer.startswith(b"HTTP/1.1 200 " if grace_s > 1 else b"HTTP/1.1 503 ")
        assert await waiting.reader.read() == await idle.reader.read() == b""
        await stopping
        while fronts.running.service.parts.pipeline._scheduler.counts().concurrency:
            await asyncio.sleep(0.01)
    await waiting.close()
    await idle.close()


async def test_a_worker_that_is_killed_takes_no_token_with_it(fronts: Worked) -> None:
    await fronts.rest()
    front, port = await fronts.front(workers=1, stop_on_disconnect=True)
    client = await Client.of(port)
    client.writer.write(invoke(b'{"do": "sleep", "s": 60}'))
    (near,) = front.relays
    async with asyncio.timeout(30):
        while not near.under_way:
            await asyncio.sleep(0.01)
        os.kill(front.worker_pids[0], signal.SIGKILL)
        while fronts.running.service.parts.pipeline._scheduler.counts().concurrency:
            await asyncio.sleep(0.01)
        while not any(one is not near for one in front.relays):
            await asyncio.sleep(0.01)
    again = await Client.of(port)
    assert (await again.ask(invoke())).startswith(b"HTTP/1.1 200 ")
    for one in (client, again):
        await one.close()
    await front.stop(1)
