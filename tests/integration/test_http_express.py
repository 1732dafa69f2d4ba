"""Plain HTTP requests past the HTTP server: on one engine with two fronts, one with the express lane and one without,
what they are answered is the same to the byte but for ids and dates."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import pytest_asyncio

from engine.model.invocation import InvokeRequest
from engine.model.names import FunctionRef
from engine.model.outcome import StartKind
from engine.rest.express import Express
from engine.rest.server import RestServer
from tests.doors import REGION, zip_of
from tests.engines import Engine, engine

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

CODE = """
    import json, os, time

    def echo(event, context):
        do = event.get("do") if isinstance(event, dict) else None
        if do == "print":
            print("words")
        elif do == "fail":
            raise ValueError("no")
        elif do == "exit":
            os._exit(3)
        elif do == "sleep":
            time.sleep(event["s"])
        elif do == "much":
            return "x" * event["bytes"]
        return event

    def web(event, context):
        asked = event.get("queryStringParameters", {}).get("r")
        if asked == "event":
            return event
        if asked == "fail":
            raise ValueError("no")
        return RESULTS.get(asked, {"statusCode": 200, "body": "hello"})

    RESULTS = {
        "own": {"statusCode": 201, "headers": {"X-Own": "1", "Content-Type": "text/plain"}, "body": 'a "b" \\u00e9'},
        "cookies": {"statusCode": 200, "cookies": ["a=1", "b=2"], "body": "c"},
        "none": None,
        "text": "words",
        "list": [1, 2.5, {"a": None}],
        "empty": {"statusCode": 204, "body": "gone"},
        "same": {"statusCode": 304, "body": "gone"},
        "base64": {"statusCode": "200", "isBase64Encoded": True, "body": "AP8="},
        "framing": {"statusCode": 200, "headers": {"Connection": "close", "Content-Length": "1"}, "body": "abc"},
        "bad": {"statusCode": 99},
        "header": {"statusCode": 200, "headers": {"a b": "c"}},
        "injected": {"statusCode": 200, "headers": {"a": "b\\r\\nc: d"}},
    }
"""
PLAIN = b'{"a": 1}'
_CHANGING = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|"
    rb"(?<=date: )[^\r]*|(?<=\"time\":\")[^\"]*|(?<=\"timeEpoch\":)\d+"
)


def invoke(payload: bytes = PLAIN, name: str = "echo", *lines: str) -> bytes:
    head = [f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1", "Host: 127.0.0.1:9000", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(payload)}", "", ""]).encode() + payload


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def answer(self) -> bytes:
        """The next one, without what is another each time."""
        async with asyncio.timeout(30):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await self.reader.readexactly(int(length[1])) if length and b" 304 " not in head[:14] else b""
        return _CHANGING.sub(b"", head + body)

    async def ask(self, request: bytes) -> bytes:
        self.writer.write(request)
        return await self.answer()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Fronts:
    """An engine with both."""

    def __init__(self, running: Engine, lane: RestServer, port: int, slow_port: int) -> None:
        assert lane.express is not None
        self.running = running
        self.express: Express = lane.express
        self.port = port
        self.slow_port = slow_port
        self.url_id = ""

    def url(self, result: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
        head = [f"{method} /lambda-url/{self.url_id}/a?r={result} HTTP/1.1", "Host: localhost:9000", *lines]
        if body:
            head.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*head, "", ""]).encode() + body

    async def front(self, *, lane: bool = True, **options: Any) -> tuple[RestServer, int]:
        """One more front on the same engine."""
        parts = self.running.service.parts
        rooms = (parts.registry, parts.code, parts.invoker, parts.attached, parts.events)
        door = parts.pipeline.door if lane else None
        made = RestServer(*rooms, region=REGION, account="000000000000", door=door, **options)
        return made, await made.start("127.0.0.1", 0)

    async def rest(self) -> None:
        """Wait until a sandbox of each function is at rest, and native calls may have it."""
        client = await Client.of(self.port)
        for request in (invoke(), self.url("")):
            async with asyncio.timeout(30):
                told = self.express.told
                while self.express.told == told:
                    await client.ask(request)
        await client.close()

    async def both(self, *requests: bytes) -> tuple[list[bytes], list[bytes], int]:
        """What each way answers on one connection; and how many of the requests the lane took."""
        answers = []
        taken = self.express.taken
        for port in (self.port, self.slow_port):
            await self.rest()
            if port == self.port:
                taken = self.express.taken
            client = await Client.of(port)
            answers.append([await client.ask(request) for request in requests])
            await client.close()
            if port == self.port:
                taken = self.express.taken - taken
        return answers[0], answers[1], taken


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fronts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronts]:
    data_dir: Path = tmp_path_factory.mktemp("engine")
    async with engine(data_dir, max_concurrency=8) as running:
        assert running.service._fronts is not None
        lane = running.service._fronts[1]
        made = Fronts(running, lane, running.service.http_port, 0)
        slow, made.slow_port = await made.front(lane=False)
        for name in ("echo", "web"):
            await running.http.create(name, zip_of(CODE), handler=f"app.{name}", memory_mb=256)
        made.url_id = (await make_url(running, "web"))["FunctionUrl"].split("/")[2].partition(".")[0]
        try:
            yield made
        finally:
            await slow.stop(1)


async def make_url(running: Engine, name: str, **settings: Any) -> Mapping[str, Any]:
    client: Any = running.http.client
    options = {"FunctionName": name, "AuthType": "NONE", **settings}
    made: Mapping[str, Any] = await asyncio.to_thread(client.create_function_url_config, **options)
    return made


@pytest.mark.parametrize("payload", [PLAIN, b"[]", b'"words"', b" 1 ", b""])
async def test_a_plain_invoke_is_answered_as_by_the_http_server(fronts: Fronts, payload: bytes) -> None:
    fast, slow, taken = await fronts.both(invoke(payload), invoke(payload, "echo", "Connection: keep-alive"))
    assert (fast, taken) == (slow, 2)
    assert fast[0].startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("do", ["print", "fail", "exit"])
async def test_what_the_loop_hands_over_is_answered_as_by_the_http_server(fronts: Fronts, do: str) -> None:
    handed = fronts.express.handed
    fast, slow, taken = await fronts.both(invoke(json.dumps({"do": do}).encode()))
    assert (fast, taken) == (slow, 1)
    assert fronts.express.handed > handed


@pytest.mark.parametrize(
    "request_",
    [
        invoke(b"nope"),
        invoke("é".join('""').encode()),
        invoke(b'{"do": "much", "bytes": 200000}'),
        invoke(json.dumps("x" * 70_000).encode()),
        invoke(PLAIN, "nobody"),
        invoke(PLAIN, "echo", "X-Amz-Invocation-Type: DryRun"),
        invoke(PLAIN, "echo", "X-Amz-Invocation-Type: Nothing"),
        invoke(PLAIN, "echo", "X-Amz-Tenant-Id: a"),
        invoke(PLAIN, "echo", "Origin: http://evil.example"),
        invoke(PLAIN, "echo", "Content-Encoding: gzip"),
        invoke(PLAIN, "echo", "Host: evil.example"),
        invoke().replace(b"127.0.0.1:9000", b"evil.example"),
        invoke().replace(b"POST", b"PUT"),
        invoke().replace(b"functions/echo", b"functions/ech%6f"),
        invoke().replace(b"invocations ", b"invocations?Qualifier=%24LATEST "),
        invoke().replace(b"Host:", b"host :"),
        invoke().replace(b"Content-Length: 8", b"Content-Length: x"),
        invoke()
        .replace(b"Content-Length: 8", b"Transfer-Encoding: chunked")
        .replace(PLAIN, b"8\r\n" + PLAIN + b"\r\n0\r\n\r\n"),
    ],
)
async def test_whatever_is_not_plain_is_answered_by_the_http_server(fronts: Fronts, request_: bytes) -> None:
    fast, slow, _ = await fronts.both(request_)
    assert fast == slow


@pytest.mark.parametrize("result", ["", "event", "own", "cookies", "none", "text", "list", "empty", "same", "base64"])
async def test_a_call_of_a_url_is_answered_as_by_the_http_server(fronts: Fronts, result: str) -> None:
    request = fronts.url(
        result, "Cookie: a=1; b=2", "User-Agent: x", "Origin: http://a.example", method="POST", body=b'"'
    )
    fast, slow, taken = await fronts.both(request, fronts.url(result))
    assert (fast, taken) == (slow, 2)


@pytest.mark.parametrize("result", ["fail", "framing", "bad", "header", "injected"])
async def test_nothing_that_a_function_gives_breaks_an_answer(fronts: Fronts, result: str) -> None:
    fast, slow, taken = await fronts.both(fronts.url(result))
    assert (fast, taken) == (slow, 1)


async def test_however_a_stream_is_cut_it_is_answered_alike(fronts: Fronts) -> None:
    requests = [
        invoke(),
        fronts.url("own", method="PUT", body=b"abc"),
        invoke(PLAIN, "echo", "X-Amz-Log-Type: None").replace(b"Host", b"X-Unknown: 1\r\nhOsT"),
        invoke()
        .replace(b"Content-Length: 8", b"Transfer-Encoding: chunked")
        .replace(PLAIN, b"8\r\n" + PLAIN + b"\r\n0\r\n\r\n"),
        fronts.url("text"),
        b"\r\n" + invoke(b"[1]"),
        invoke(b"nope"),
        invoke(b"[2]"),
    ]
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
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        assert [await client.answer() for _ in requests] == expected
        await client.close()


async def test_what_looks_like_a_request_within_another_is_none(fronts: Fronts) -> None:
    within = invoke(b"[1]")
    expecting = invoke(within, "echo", "Expect: 100-continue").removesuffix(within)
    begun = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Own: "
    found = []
    for port in (fronts.port, fronts.slow_port):
        await fronts.rest()
        taken = fronts.express.taken
        client = await Client.of(port)
        client.writer.write(expecting)
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        answers = [await client.ask(within)]
        # The beginning of a second request is with the server when the first has its answer.
        answers.append(await client.ask(invoke(b"[2]") + begun))
        answers.append(await client.ask(within.removesuffix(b"[1]").replace(b"Content-Length: 3", b"Accept: a")))
        await client.close()
        found.append(answers)
        assert fronts.express.taken == taken
    assert found[0] == found[1]
    assert [answer[:12] for answer in found[0]] == [b"HTTP/1.1 400", b"HTTP/1.1 200", b"HTTP/1.1 403"]


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


async def test_a_plain_request_runs_no_code_of_the_http_servers(fronts: Fronts) -> None:
    await fronts.rest()
    client = await Client.of(fronts.port)
    await client.ask(invoke())
    seen: list[str] = []

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            seen.append(frame.f_code.co_filename)

    told = fronts.express.told
    sys.setprofile(note)
    try:
        await client.ask(invoke())
        await client.ask(fronts.url("own"))
    finally:
        sys.setprofile(None)
    await client.close()
    assert fronts.express.told == told + 2
    assert [name for name in seen if "/engine/rest/" in name or "uvicorn" in name] == []


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
