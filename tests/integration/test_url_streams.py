"""Long answers through function URLs, which go past the event loop: whole, or cut off, whatever either side does."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.doors import zip_of
from tests.engines import Engine, engine

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module"), pytest.mark.time_limit(120)]

LIMIT_MB = 16
LARGE_FIRST = 83  # a seed whose first chunks are large
CODE = """
    import os
    import random

    ended = 0

    def chunks(seed, count):
        chance = random.Random(seed)
        for _ in range(count):
            yield chance.randbytes(chance.choice((1, 100, 65_536, 300_000)))

    def stream(event, context):
        global ended
        query = event.get("queryStringParameters", {})
        how = query["how"]
        if how == "ended":
            yield str(ended)
            return
        yield from chunks(int(query["seed"]), int(query["count"]))
        if how == "fails":
            raise ValueError("half")
        if how == "exits":
            os._exit(3)
        ended += 1

    async def later(event, context):
        for chunk in stream(event, context):
            yield chunk
"""


def made(seed: int, count: int) -> bytes:
    """What the function yields."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(chance.choice((1, 100, 65_536, 300_000))) for _ in range(count))


class Urls:
    """Those of the functions."""

    def __init__(self, running: Engine, urls: dict[str, str]) -> None:
        self.running = running
        self._urls = urls

    def request(self, name: str, **query: Any) -> bytes:
        """One for the function of this name."""
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        return f"GET /?{asked} HTTP/1.1\r\nHost: {urlsplit(self._urls[name]).netloc}\r\n\r\n".encode()

    def connect(self, *, narrow: bool = False) -> socket.socket:
        """A connection to them; a narrow one takes little that is not read."""
        connection = socket.socket()
        connection.settimeout(60)
        if narrow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", self.running.service.http_port))
        return connection


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Urls]:
    async with engine(tmp_path_factory.mktemp("urls"), stream_limit_mb=LIMIT_MB) as running:
        door: Any = running.door("http")
        found = {}
        for name in ("stream", "later"):
            await door.create(name, zip_of(CODE), handler=f"app.{name}")
            settings = {"FunctionName": name, "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
            url = await asyncio.to_thread(door.client.create_function_url_config, **settings)
            found[name] = url["FunctionUrl"]
        yield Urls(running, found)


def read(connection: socket.socket, pause: Callable[[], object] = lambda: None) -> tuple[int, bytes, bool]:
    """The next answer of a connection: status, body, and whether it came to its end."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = bytearray()
    try:
        while piece := response.read1(200_000):
            body += piece
            pause()
    except http.client.IncompleteRead as error:
        return response.status, bytes(body) + error.partial, False
    return response.status, bytes(body), response.isclosed()


@pytest.mark.parametrize("name", ["stream", "later"])
async def test_a_long_answer_comes_whole_and_so_does_the_next_one_on_its_connection(urls: Urls, name: str) -> None:
    def both() -> list[tuple[int, bytes, bool]]:
        with urls.connect() as connection:
            answers = []
            for seed in (1, 2):
                connection.sendall(urls.request(name, how="returns", seed=seed, count=80))
                answers.append(read(connection))
            return answers

    for seed, (status, body, whole) in enumerate(await asyncio.to_thread(both), start=1):
        assert (status, whole) == (200, True)
        assert hashlib.sha256(body).digest() == hashlib.sha256(made(seed, 80)).digest()


async def test_a_client_that_does_other_things_between_reads_gets_all_of_it(urls: Urls) -> None:
    def slowly() -> tuple[int, bytes, bool]:
        with urls.connect(narrow=True) as connection, urls.connect() as other:

            def call() -> None:
                other.sendall(urls.request("later", how="returns", seed=5, count=2))
                assert read(other)[2]

            connection.sendall(urls.request("stream", how="returns", seed=LARGE_FIRST, count=20))
            calls = iter(range(10))
            return read(connection, lambda: call() if next(calls, None) is not None else None)

    status, body, whole = await asyncio.to_thread(slowly)
    assert (status, whole) == (200, True)
    assert hashlib.sha256(body).digest() == hashlib.sha256(made(LARGE_FIRST, 20)).digest()


@pytest.mark.parametrize("how", ["fails", "exits"])
async def test_an_answer_whose_function_ends_in_its_middle_is_cut_off_there(urls: Urls, how: str) -> None:
    def half() -> tuple[int, bytes, bool]:
        with urls.connect() as connection:
            connection.sendall(urls.request("stream", how=how, seed=4, count=60))
            return read(connection)

    status, body, whole = await asyncio.to_thread(half)
    assert (status, whole) == (200, False)
    assert made(4, 60).startswith(body)
    assert how == "exits" or len(body) == len(made(4, 60))


async def test_an_answer_over_its_limit_is_cut_off_at_it(urls: Urls) -> None:
    def much() -> tuple[int, bytes, bool]:
        with urls.connect() as connection:
            connection.sendall(urls.request("stream", how="returns", seed=6, count=250))
            return read(connection)

    status, body, whole = await asyncio.to_thread(much)
    assert (status, whole) == (200, False)
    assert (LIMIT_MB - 1) << 20 < len(body) <= LIMIT_MB << 20
    assert made(6, 250).startswith(body)


async def test_an_answer_that_the_engines_end_cuts_off_has_nothing_in_it_that_the_function_did_not_make(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path, drain_s=0.01) as running:
        door: Any = running.door("http")
        await door.create("stream", zip_of(CODE), handler="app.stream")
        settings = {"FunctionName": "stream", "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
        url = await asyncio.to_thread(door.client.create_function_url_config, **settings)
        own = Urls(running, {"stream": url["FunctionUrl"]})
        connection = own.connect(narrow=True)
        connection.sendall(own.request("stream", how="returns", seed=LARGE_FIRST, count=400))
        await asyncio.to_thread(connection.recv, 1, socket.MSG_PEEK)
    with connection:
        status, body, whole = await asyncio.to_thread(read, connection)
    assert (status, whole) == (200, False)
    assert made(LARGE_FIRST, 400).startswith(body)


async def test_a_function_whose_client_has_left_runs_to_its_end(urls: Urls) -> None:
    door: Any = urls.running.door("http")
    await door.create("left", zip_of(CODE), handler="app.stream")
    settings = {"FunctionName": "left", "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
    url = (await asyncio.to_thread(door.client.create_function_url_config, **settings))["FunctionUrl"]
    await asyncio.to_thread(door.client.put_function_concurrency, FunctionName="left", ReservedConcurrentExecutions=1)
    own = Urls(urls.running, {"left": url})

    def leave() -> None:
        with own.connect() as connection:
            connection.sendall(own.request("left", how="returns", seed=7, count=120))
            got = 0
            while got < 1 << 20:
                got += len(connection.recv(65_536))

    def ended() -> bytes | None:
        with own.connect() as connection:
            connection.sendall(own.request("left", how="ended"))
            status, body, _ = read(connection)
            return body if status == 200 else None

    await asyncio.to_thread(leave)
    found = None
    while found is None:  # throttled while the first one runs
        found = await asyncio.to_thread(ended)
    assert found == b"1"
