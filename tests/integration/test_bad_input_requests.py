"""What clients send that cannot be served, by both doors: the refusal in full, and the next call at once."""

from __future__ import annotations

import asyncio
import io
import os
import random
import socket
import time
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from engine.v1 import functions_pb2
from engine.v1 import reports_pb2 as pb
from tests.doors import ARN, Answer, Refused, detail, refusal, zip_of
from tests.engines import Engine, engine
from tests.unit.registry.zips import LINK, Member, hostile, ordinary

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

ECHO = "def handler(event, context):\n    return event\n"
SOON_S = 2.0
EVENT_LIMIT = 6_291_456


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    async with engine(tmp_path_factory.mktemp("bad") / "data") as running:
        await running.grpc.create("echo", zip_of(ECHO))
        await running.grpc.invoke("echo")
        yield running


@pytest.fixture(params=["grpc", "http"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def still_serves(running: Engine, door: str) -> Answer:
    """The next call is answered at once, from the sandbox that was there."""
    began = time.monotonic()
    answer = await running.door(door).invoke("echo", b'{"n": 1}')
    assert time.monotonic() - began < SOON_S
    assert answer.json() == {"n": 1}
    assert answer.report is None or answer.report.start_kind == pb.START_KIND_WARM
    return answer


def fix_of(refused: Refused) -> str:
    info = detail(refused.details, error_details_pb2.ErrorInfo)
    assert info is not None
    return info.metadata["fix"]


UNMODELLED = ("ValidationException", "RequestEntityTooLargeException")
"""What AWS answers any operation with: their documents have a message and no more."""


def check(refused: Refused, door: str, *, grpc: tuple[str, str], http: tuple[int, str], message: str) -> None:
    """The refusal, and all there is of AWS's document."""
    assert (refused.code, refused.kind) == (grpc if door == "grpc" else http)
    assert message in refused.message
    if door == "grpc":
        assert refused.message.endswith(f"; {fix_of(refused)}")
        return
    document = dict(refused.details)
    headers = document.pop("headers")
    assert headers["content-type"] == "application/json"
    if refused.kind in UNMODELLED:
        assert document == {}  # boto3 reads no more of it than the message
        return
    told = document.pop("message", None) or document.pop("Message", None)
    assert told == refused.message
    assert document == {"Type": "User"}


# Code


@dataclass(frozen=True)
class BadZip:
    """A zip that is refused, and the words for it."""

    data: bytes
    message: str
    storage: bool = False  # too large, rather than wrong


def bomb() -> bytes:
    """300 MB of zeros in a third of a megabyte."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    return data.getvalue()


def lying_bomb() -> bytes:
    """One that says that it holds ten bytes."""
    return hostile([Member("zeros", bytes(64 << 20), size=10)])


BAD_ZIPS = {
    "no zip": BadZip(b"this is no zip", "unzip"),
    "nothing": BadZip(b"", "unzip"),
    "half a zip": BadZip(ordinary({"app.py": ECHO * 100})[:150], "unzip"),
    "a damaged zip": BadZip(hostile([Member("app.py", ECHO.encode(), crc32=1)]), "app.py"),
    "zip-slip": BadZip(hostile([Member("../../../etc/cron.d/evil", b"x")]), "../../../etc/cron.d/evil"),
    "an absolute path": BadZip(hostile([Member("/etc/evil", b"x")]), "/etc/evil"),
    "a symlink that escapes": BadZip(hostile([Member("link", b"../../../../etc/shadow", mode=LINK)]), "link"),
    "a file through a symlink": BadZip(hostile([Member("d", b"/tmp", mode=LINK), Member("d/evil", b"x")]), "d"),
    "a bomb": BadZip(bomb(), "Unzipped size must be smaller than 262144000 bytes"),
    "a bomb that lies": BadZip(lying_bomb(), "zeros"),
}


def files_in(folder: Path) -> set[str]:
    """Without the functions' logs, which are written by a thread, in its own time."""
    found = {os.path.join(base, name) for base, folders, names in os.walk(folder) for name in (*folders, *names)}
    return {path for path in found if not path.startswith(f"{folder / 'logs'}/")}


@pytest.mark.parametrize("name", BAD_ZIPS)
async def test_a_zip_that_would_do_harm_is_refused_and_leaves_nothing(running: Engine, door: str, name: str) -> None:
    bad = BAD_ZIPS[name]
    before = files_in(running.data_dir)
    with pytest.raises(Refused) as caught:
        await running.door(door).create("bad", bad.data)
    await still_serves(running, door)
    check(
        caught.value,
        door,
        grpc=("INVALID_ARGUMENT", "INVALID_CODE"),
        http=(400, "InvalidParameterValueException"),
        message=bad.message,
    )
    assert files_in(running.data_dir) <= before
    assert not Path("/etc/cron.d/evil").exists()
    assert not Path("/tmp/evil").exists()
    assert "bad" not in await running.grpc.names()
    # The name is free, and good code is taken at once.
    await running.door(door).create(f"good-{door}-{list(BAD_ZIPS).index(name)}", zip_of(ECHO))


async def test_a_zip_over_the_limit_is_refused_as_soon_as_it_is_announced(running: Engine, door: str) -> None:
    async def announced() -> None:
        header = functions_pb2.UploadCodeHeader(size_bytes=262_144_001)
        call = running.grpc.functions.UploadCode(iter([functions_pb2.UploadCodeRequest(header=header)]))
        try:
            await call
        except grpc.aio.AioRpcError:
            raise await refusal(call) from None

    # In Base64 within JSON, as boto3 sends it, AWS takes 50 MB.
    sending = announced() if door == "grpc" else running.http.create("big", bytes(52_700_000))
    with pytest.raises(Refused) as caught:
        await sending
    await still_serves(running, door)
    check(
        caught.value,
        door,
        grpc=("RESOURCE_EXHAUSTED", "CODE_STORAGE_EXCEEDED"),
        http=(413, "RequestEntityTooLargeException"),
        message="262,144,000" if door == "grpc" else "70167211 bytes for the CreateFunction operation",
    )


# Events


@pytest.mark.parametrize(
    "payload", [b"{", b"nonsense", b"{'a': 1}", b"\xff\xfe", b'{"a": 1} {"b": 2}', b"[" * 100_000, b'"\xed\xa0\x80"']
)
async def test_an_event_that_is_not_json_never_runs(running: Engine, door: str, payload: bytes) -> None:
    with pytest.raises(Refused) as caught:
        await running.door(door).invoke("echo", payload)
    await still_serves(running, door)
    check(
        caught.value,
        door,
        grpc=("INVALID_ARGUMENT", "INVALID_PAYLOAD"),
        http=(400, "InvalidRequestContentException"),
        message="Could not parse request body into json: ",
    )


async def test_an_event_over_six_megabytes_is_refused_and_one_of_the_limit_is_not(running: Engine, door: str) -> None:
    largest = b'"' + b"x" * (EVENT_LIMIT - 2) + b'"'
    answer = await running.door(door).invoke("echo", largest)
    assert answer.payload == largest
    with pytest.raises(Refused) as caught:
        await running.door(door).invoke("echo", largest + b" ")
    await still_serves(running, door)
    check(
        caught.value,
        door,
        grpc=("INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE"),
        http=(413, "RequestTooLargeException"),
        message="6291456",
    )


async def test_an_unknown_function_is_not_found(running: Engine, door: str) -> None:
    with pytest.raises(Refused) as caught:
        await running.door(door).invoke("nosuch")
    await still_serves(running, door)
    check(
        caught.value,
        door,
        grpc=("NOT_FOUND", "NOT_FOUND"),
        http=(404, "ResourceNotFoundException"),
        message="nosuch" if door == "grpc" else f"Function not found: {ARN}nosuch:$LATEST",
    )


# Settings

OUT_OF_RANGE: dict[str, tuple[dict[str, Any], str, str]] = {
    "memory below": ({"memory_mb": 127}, "config.memory_mb", "memorySize"),
    "memory above": ({"memory_mb": 10_241}, "config.memory_mb", "MemorySize"),
    "timeout above": ({"timeout_ms": 901_000}, "config.timeout_ms", "timeout"),
    "timeout below": ({"timeout_ms": 999}, "config.timeout_ms", "timeout"),
    "tmp below": ({"tmp_mb": 511}, "config.tmp_mb", "ephemeralStorage.size"),
    "tmp above": ({"tmp_mb": 10_241}, "config.tmp_mb", "ephemeralStorage.size"),
    "handler": ({"handler": "x" * 129}, "config.handler", "handler"),
    "environment": ({"environment": {"AA": "x" * 4_096}}, "config.environment", "environment variables"),
    "a reserved name": ({"environment": {"AWS_REGION": "x"}}, "config.environment['AWS_REGION']", "environment"),
}


IN_CODE = ("memory above", "timeout above", "tmp above", "environment", "a reserved name")
"""What AWS's service model allows and its code refuses."""


@pytest.mark.parametrize("name", OUT_OF_RANGE)
async def test_a_setting_out_of_range_is_refused_by_its_name(running: Engine, door: str, name: str) -> None:
    config, field, member = OUT_OF_RANGE[name]
    with pytest.raises(Refused) as caught:
        await running.door(door).create("ranged", zip_of(ECHO), **config)
    await still_serves(running, door)
    check(
        caught.value,
        door,
        grpc=("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        http=(400, "InvalidParameterValueException" if name in IN_CODE else "ValidationException"),
        message=field if door == "grpc" else member,
    )
    if door == "grpc":
        bad = detail(caught.value.details, error_details_pb2.BadRequest)
        assert bad is not None
        assert [violation.field for violation in bad.field_violations] == [field]
    assert "ranged" not in await running.grpc.names()


# Garbage

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLIENT_HELLO = bytes.fromhex("160301003f0100003b0303") + bytes(range(60))


def send_and_leave(port: int, data: bytes, *, wait: bool) -> None:
    """As a scanner does."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        try:
            sock.sendall(data)
            if wait:
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(5)
                while sock.recv(65_536):
                    pass
        except OSError:
            pass


def garbage(chance: random.Random) -> bytes:
    """Noise, or a good beginning and then noise."""
    noise = chance.randbytes(chance.choice([0, 1, 9, 100, 5_000]))
    beginning = chance.choice(
        [
            b"",
            HTTP2_PREFACE,
            HTTP2_PREFACE + bytes.fromhex("000000040000000000"),  # an empty SETTINGS frame
            HTTP2_PREFACE + bytes.fromhex("ffffff000000000001"),  # a DATA frame of 16 MB
            CLIENT_HELLO,
            b"POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n",
            b"POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: "
            b"chunked\r\n\r\nfffffffff\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2_000,
            b"\0" * 64,
        ]
    )
    return beginning + noise


@pytest.mark.time_limit(300)
async def test_garbage_on_both_ports_disturbs_nobody(running: Engine, counts: Mapping[str, int]) -> None:
    chance = random.Random(2)
    ports = (running.service.grpc_port, running.service.http_port)
    sent = [(chance.choice(ports), garbage(chance), chance.random() < 0.3) for _ in range(counts["frames"])]

    def send() -> None:
        for port, data, wait in sent:
            send_and_leave(port, data, wait=wait)

    sending = asyncio.ensure_future(asyncio.to_thread(send))
    calls = 0
    while not sending.done():
        for door in ("grpc", "http"):
            await still_serves(running, door)
            calls += 1
    await sending
    assert calls >= 2
    for door in ("grpc", "http"):
        await still_serves(running, door)


async def test_each_door_tells_a_client_of_the_other_that_it_is_at_the_wrong_one(running: Engine) -> None:
    def talk(port: int, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(data)
            sock.settimeout(5)
            received = b""
            while piece := sock.recv(65_536):
                received += piece
        return received

    http_at_grpc = await asyncio.to_thread(talk, running.service.grpc_port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP/1.1" in http_at_grpc or http_at_grpc[3:4] in (b"\x04", b"\x07")  # SETTINGS or GOAWAY
    grpc_at_http = await asyncio.to_thread(talk, running.service.http_port, HTTP2_PREFACE)
    assert grpc_at_http.startswith(b"HTTP/1.1 4")
    await still_serves(running, "grpc")
    await still_serves(running, "http")
