"""Plain HTTP requests past the HTTP server: on one engine with two fronts, one with the express lane and one without,
what they are answered is the same to the byte but for ids and dates."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from collections.abc import AsyncIterator
from types import FrameType

import pytest
import pytest_asyncio

from tests.fronts import PLAIN, Client, Fronts, invoke, two_fronts

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fronts(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fronts]:
    async with two_fronts(tmp_path_factory.mktemp("engine")) as made:
        yield made


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
