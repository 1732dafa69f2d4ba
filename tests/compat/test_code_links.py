"""`Code.Location`: a link to the zip that was uploaded, for ten minutes and for nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from engine.model.function import CodeBlob
from engine.registry.code_links import LINK_S
from tests.compat.conftest import Create
from tests.compat.stub_rooms import Rooms, make_zip

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

EMPTY_ZIP = b"PK\x05\x06" + bytes(18)
"""As the zip format has it; its size and hash are known beside this engine."""
EMPTY_SHA256 = "8739c76e681f900923b900c9df0ef75cf421d39cabb54650c4b9ad19b6a76d85"


def location(client: LambdaClient, **names: Any) -> str:
    code = client.get_function(FunctionName="thumbs", **names)["Code"]
    assert code["RepositoryType"] == "S3"
    return code["Location"]


def status_of(url: str, method: str = "GET", path: str = "") -> int:
    """Sent as it is, without the tidying of paths that clients do."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=20)
    try:
        connection.request(method, path or f"{parts.path}?{parts.query}")
        return connection.getresponse().status
    finally:
        connection.close()


def changed(url: str, **query: str | None) -> str:
    """A link with other values in its query; None leaves one out."""
    parts = urlsplit(url)
    values: dict[str, str | None] = {**dict(parse_qsl(parts.query)), **query}
    return parts._replace(query=urlencode({name: text for name, text in values.items() if text is not None})).geturl()


def test_size_and_hash_are_those_of_the_zip_as_it_was_sent(client: LambdaClient, create: Create) -> None:
    created = create(Code={"ZipFile": EMPTY_ZIP})
    assert created["CodeSize"] == 22
    assert created["CodeSha256"] == base64.b64encode(bytes.fromhex(EMPTY_SHA256)).decode()
    with urllib.request.urlopen(location(client)) as download:
        assert hashlib.sha256(download.read()).hexdigest() == EMPTY_SHA256
        assert download.headers["content-length"] == "22"


def test_each_version_has_a_link_to_its_own_code(client: LambdaClient, create: Create) -> None:
    first, second = make_zip("handler = 1"), make_zip("handler = 2")
    create(Code={"ZipFile": first}, Publish=True)
    client.update_function_code(FunctionName="thumbs", ZipFile=second)
    for link, code in ((location(client, Qualifier="1"), first), (location(client), second)):
        with urllib.request.urlopen(link) as download:
            assert download.read() == code


def test_a_link_leads_nowhere_after_ten_minutes(client: LambdaClient, create: Create, rooms: Rooms) -> None:
    create()
    link = location(client)
    rooms.code.now_s += LINK_S - 1
    assert status_of(link) == 200
    rooms.code.now_s += 1
    assert status_of(link) == 403
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(link):
        pass
    with refused.value as answer:
        assert b"Request has expired" in answer.read()
    assert status_of(location(client)) == 200


def test_a_link_that_was_changed_leads_nowhere(client: LambdaClient, create: Create) -> None:
    create()
    other = create("other", Code={"ZipFile": make_zip("x = 1")})
    link = location(client)
    query = dict(parse_qsl(urlsplit(link).query))
    sha256 = base64.b64decode(other["CodeSha256"]).hex()
    for wrong in (
        changed(link, Expires=str(int(query["Expires"]) + 1)),
        changed(link, Expires="99999999999"),
        changed(link, Expires="never"),
        changed(link, Expires="\u0661"),
        changed(link, Signature="0" * 64),
        changed(link, Signature=query["Signature"].upper()),
        changed(link, Signature="\u00e9"),
        changed(link, Signature=""),
        changed(link, Signature=None),
        changed(link, Expires=None),
        changed(link, Other="1"),
        f"{link}&Expires={query['Expires']}",
        link.partition("?")[0],
        urlsplit(link)._replace(path=f"/code/{sha256}.zip").geturl(),
        urlsplit(link)._replace(path=f"/code/{'0' * 64}.zip").geturl(),
    ):
        assert status_of(wrong) == 403, wrong
    assert status_of(link) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/code/../code/{}.zip?{}",
        "/code/..%2f..%2flinks.key?{1}",
        "/code/%2e%2e/links.key?{1}",
        "/code/{}.zip/../../links.key?{}",
        "/code//{}.zip?{}",
        "/code/{}.zip%00?{}",
        "/code/./{}.zip?{}",
        "/code/links.key?{1}",
    ],
)
def test_no_path_leads_out_of_the_store(client: LambdaClient, create: Create, path: str) -> None:
    create()
    parts = urlsplit(location(client))
    sha256 = parts.path.removeprefix("/code/").removesuffix(".zip")
    assert status_of(parts.geturl(), path=path.format(sha256, parts.query)) in (403, 404)


def test_a_link_is_only_read(client: LambdaClient, create: Create) -> None:
    create()
    link = location(client)
    assert status_of(link, "HEAD") == 200
    assert [status_of(link, method) for method in ("POST", "PUT", "DELETE")] == [405, 405, 405]


def test_a_client_that_leaves_ends_its_download(
    client: LambdaClient, create: Create, rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    async def endless(sha256: str) -> AsyncGenerator[bytes]:
        try:
            while True:
                yield bytes(65_536)
                await asyncio.sleep(0)
        finally:
            ended.set()

    create()
    link = urlsplit(location(client))
    assert link.hostname
    monkeypatch.setattr(rooms.code, "read_zip", endless)
    monkeypatch.setattr(rooms.code, "get", lambda sha256: CodeBlob(sha256, 2**40, 2**40, "/nowhere"))
    connection = http.client.HTTPConnection(link.hostname, link.port or 80, timeout=20)
    connection.request("GET", f"{link.path}?{link.query}")
    answer = connection.getresponse()
    assert answer.headers["content-length"] == str(2**40)
    assert answer.read(100_000) == bytes(100_000)
    assert not ended.is_set()
    answer.close()
    connection.close()
    assert ended.wait(20)
