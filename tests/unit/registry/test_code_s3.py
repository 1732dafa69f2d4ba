"""Fetching from a store that speaks S3: what a store can do wrong, and where none may be."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import psutil
import pytest

from engine.errors import InvalidCode, NotServed, PermissionDenied, Unavailable
from engine.registry import code_s3_child
from engine.registry.code import LocalCodeStore
from engine.registry.code_s3 import S3Object, S3Store, _environment
from engine.registry.code_s3_child import is_forbidden
from tests.unit.registry.zips import ordinary

ZIP = ordinary({"app.py": "x = 1\n"})
WANTED = S3Object("code", "app.zip")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def a_store(
    tmp_path: Path, answer: Answer, *, timeout_s: float = 50.0, environ: Mapping[str, str] | None = None
) -> AsyncIterator[LocalCodeStore]:
    """A code store whose objects come from a server that answers so."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    code = await LocalCodeStore.open(
        tmp_path / "code",
        zip_limit_bytes=100_000,
        s3=S3Store(
            f"http://127.0.0.1:{port}", "eu-west-3", timeout_s, {"HTTP_PROXY": "http://127.0.0.1:1", **(environ or {})}
        ),
    )
    try:
        yield code
    finally:
        await code.close()
        server.close()
        assert [process for process in psutil.Process().children() if "code_s3_child" in str(process.cmdline())] == []
        assert list((tmp_path / "code" / "tmp").iterdir()) == []


def sends(data: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        writer.close()

    return answer


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing."""
    await reader.read()
    writer.close()


async def test_an_object_is_stored_as_an_upload_is(tmp_path: Path) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD % len(ZIP) + ZIP)
        writer.close()

    async with a_store(tmp_path, answer) as code:
        blob = await code.fetch(S3Object("code", "app.zip", "v/1"))
        assert code.get(blob.sha256) == blob
        assert asked[0].startswith(b"GET /code/app.zip?versionId=v%2F1 HTTP/1.1\r\n")
        # Whoever starts an engine without credentials has none given.
        assert b"authorization" not in asked[0].lower()


async def test_who_asks_is_whom_the_engines_variables_name_and_nothing_else_of_them_is_known(tmp_path: Path) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(REFUSED), REFUSED)
        )
        writer.close()

    environ = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.2/",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "OTHER_SECRET": "other",
    }
    async with a_store(tmp_path, answer, environ=environ) as code:
        with pytest.raises(PermissionDenied) as refused:
            await code.fetch(WANTED)
    assert refused.value.message == (
        "Your access has been denied by S3, please make sure your request credentials have permission to GetObject for "
        "code/app.zip. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
    )
    head = asked[0].decode().lower()
    assert "credential=akidexample/" in head
    assert "/eu-west-3/s3/aws4_request" in head
    assert "x-amz-security-token: token" in head
    assert set(_environment(environ)) == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_EC2_METADATA_DISABLED",
        "HOME",
    }


async def test_an_object_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with a_store(tmp_path, sends(HEAD % 100_001)) as code:
        with pytest.raises(InvalidCode, match="Unzipped size must be smaller than 100000 bytes"):
            await code.fetch(WANTED)


async def test_an_object_that_breaks_off_is_not_stored(tmp_path: Path) -> None:
    async with a_store(tmp_path, sends(HEAD % len(ZIP) + ZIP[:-1])) as code:
        with pytest.raises(Unavailable, match="broke off"):
            await code.fetch(WANTED)


async def test_a_store_that_says_nothing_ends_with_its_time(tmp_path: Path) -> None:
    async with a_store(tmp_path, never, timeout_s=1.0) as code:
        with pytest.raises(Unavailable, match="within 1 s"):
            await code.fetch(WANTED)


async def test_a_caller_that_goes_away_ends_its_fetch(tmp_path: Path) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        left.set()
        writer.close()

    async with a_store(tmp_path, answer) as code:
        fetching = asyncio.ensure_future(code.fetch(WANTED))
        await asked.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await left.wait()


async def test_no_fetch_outlives_its_engine(tmp_path: Path) -> None:
    """What the process sees of an engine that was killed is the end of its standard input."""
    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", code_s3_child.__file__, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(b'{"endpoint":"http://127.0.0.1:%d","region":"us-east-1","bucket":"code","key":"k"}\n' % port)
    await child.stdin.drain()
    child.stdin.close()
    assert await child.wait() == 1
    server.close()


async def test_without_a_store_it_is_said_how_to_have_one(tmp_path: Path) -> None:
    code = await LocalCodeStore.open(tmp_path / "code")
    with pytest.raises(NotServed) as refused:
        await code.fetch(WANTED)
    assert "AWS_ENDPOINT_URL_S3" in refused.value.fix
    await code.close()


async def test_no_connection_is_made_to_where_clouds_answer(tmp_path: Path) -> None:
    code = await LocalCodeStore.open(tmp_path / "code", s3=S3Store("http://[::ffff:169.254.169.254]:80"))
    with pytest.raises(PermissionDenied, match="where no store may be"):
        await code.fetch(WANTED)
    await code.close()


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("2002:a9fe:a9fe::1", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("168.63.129.16", True),
        ("/run/socket", True),
        ("127.0.0.1", False),
        ("10.0.0.7", False),
        ("::1", False),
        ("52.216.0.1", False),
        ("2600:1f60::1", False),
    ],
)
def test_the_addresses_where_no_store_may_be(address: str, forbidden: bool) -> None:
    assert is_forbidden(address) is forbidden
