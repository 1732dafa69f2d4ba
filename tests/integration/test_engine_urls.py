"""Function URLs of a real engine: a request in, the function's answer out, whole and streamed."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.doors import zip_of
from tests.engines import engine

pytestmark = pytest.mark.privileged

CODE = """
    import json

    def answer(event, context):
        if event["rawPath"] == "/fail":
            raise ValueError("no")
        about = {"path": event["rawPath"], "body": event.get("body")}
        return {"statusCode": 201, "headers": {"x-own": "1"}, "cookies": ["a=1"], "body": json.dumps(about)}

    def flood(event, context):
        head = {"statusCode": 203, "headers": {"content-type": "application/x-flood"}, "cookies": ["b=2"]}
        yield json.dumps(head).encode() + bytes(8)
        for _ in range(int(event["queryStringParameters"]["mb"]) * 16):
            yield b"x" * 65_536
        if event["rawPath"] == "/fail":
            raise ValueError("half")
"""


def ask(port: int, url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, bytes | None]:
    """Status, headers and body; None for a body that was cut off."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=50)
    try:
        connection.request(method, path, body, {"Host": urlsplit(url).netloc})
        response = connection.getresponse()
        try:
            content: bytes | None = response.read()
        except http.client.IncompleteRead:
            content = None
        return response.status, response.headers, content
    finally:
        connection.close()


async def test_a_functions_url_answers_whole_and_in_parts(tmp_path: Path, counts: Mapping[str, int]) -> None:
    async with engine(tmp_path) as running:
        door: Any = running.door("http")
        code = zip_of(CODE)
        urls = {}
        for name, mode in (("answer", "BUFFERED"), ("flood", "RESPONSE_STREAM")):
            await door.create(name, code, handler=f"app.{name}")
            made = await asyncio.to_thread(
                door.client.create_function_url_config, FunctionName=name, AuthType="NONE", InvokeMode=mode
            )
            urls[name] = made["FunctionUrl"]

        def call(name: str, *request: Any) -> Any:
            return asyncio.to_thread(ask, running.service.http_port, urls[name], *request)

        status, headers, content = await call("answer", "POST", "/a?b=c", b"hello")
        assert (status, headers["x-own"], headers["set-cookie"]) == (201, "1", "a=1")
        assert json.loads(content) == {"path": "/a", "body": "hello"}
        status, _, content = await call("answer", "GET", "/fail")
        assert (status, content) == (502, b"Internal Server Error")

        size = counts["stream_mb"] // 8
        status, headers, content = await call("flood", "GET", f"/?mb={size}")
        assert (status, headers["content-type"], headers["set-cookie"]) == (203, "application/x-flood", "b=2")
        assert hashlib.sha256(content).digest() == hashlib.sha256(b"x" * (size << 20)).digest()
        status, _, content = await call("flood", "GET", "/fail?mb=1")
        assert (status, content) == (203, None)
