"""An engine with two HTTP fronts, one with the express lane and one without, and clients that send them bytes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from engine.rest.express import Express
from engine.rest.server import RestServer
from tests.doors import REGION, zip_of
from tests.engines import Engine, engine

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
            print(event.get("words", ""), end="")
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


@contextlib.asynccontextmanager
async def two_fronts(data_dir: Path) -> AsyncIterator[Fronts]:
    """A new engine's, with two functions."""
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
