"""The examples that serve HTTP, and those that are deployed by a script or by Terraform, do here what they say."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import pytest_asyncio
from PIL import Image

from engine.registry.urls import path_of
from tests.bundles import EXAMPLES, bundle
from tests.conftest import full_counts
from tests.engines import Engine
from tests.engines import engine as an_engine
from tests.integration.test_engine_urls import ask

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


TERRAFORM = shutil.which("terraform") if full_counts() else None
"""Applying takes a minute: it is part of `make test-full`, where Terraform is installed."""


class Site:
    """A function's URL."""

    def __init__(self, running: Engine, url: str) -> None:
        self._port = running.service.http_port
        self._url = url

    @property
    def local(self) -> str:
        """The same without a name of its own: the path form."""
        url_id = urlsplit(self._url).netloc.partition(".")[0]
        return f"http://127.0.0.1:{self._port}{path_of(url_id)}"

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, bytes]:
        """Status, headers and body, which is whole."""
        status, headers, content = await asyncio.to_thread(ask, self._port, self._url, method, path, body)
        assert content is not None
        return status, headers, content

    async def json(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        """Status and body, both ways in JSON."""
        status, _, content = await self.ask(method, path, None if value is None else json.dumps(value).encode())
        return status, json.loads(content) if content else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = tmp_path_factory.mktemp("examples")
    async with an_engine(folder / "data", init_timeout_ms=60_000, stream_limit_mb=1_100) as running:
        yield running


async def site(running: Engine, example: str, folder: Path, mode: str = "BUFFERED", **settings: Any) -> Site:
    """Deploy an example, and give it a URL."""
    packed = io.BytesIO()
    bundled = bundle(example, folder / example)
    with zipfile.ZipFile(packed, "w") as archive:  # not compressed: that would take longer than the test
        for place, folders, names in os.walk(bundled, followlinks=True):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                archive.write(Path(place, name), Path(place, name).relative_to(bundled))
    client: Any = running.http.client
    await running.grpc.create(example, packed.getvalue(), timeout_ms=60_000, handler="app.handler", **settings)
    made = await asyncio.to_thread(
        client.create_function_url_config, FunctionName=example, AuthType="NONE", InvokeMode=mode
    )
    return Site(running, made["FunctionUrl"])


async def test_a_rest_api_keeps_its_items(running: Engine, tmp_path: Path) -> None:
    store = await site(running, "store", tmp_path)
    tea, coffee = {"id": 1, "name": "tea", "count": 3}, {"id": 2, "name": "coffee", "count": 0}
    assert await store.json("GET", "/items") == (200, [])
    assert await store.json("POST", "/items", {"name": "tea", "count": 3}) == (201, tea)
    assert await store.json("POST", "/items", {"name": "coffee"}) == (201, coffee)
    assert await store.json("GET", "/items/") == (200, [tea, coffee])
    assert await store.json("PATCH", "/items/2", {"count": 7}) == (200, coffee | {"count": 7})
    assert await store.json("DELETE", "/items/1") == (204, None)
    assert await store.json("GET", "/items/1") == (404, {"error": "there is no item 1"})
    assert (await store.json("POST", "/items", {"name": "coffee"}))[0] == 409
    for wrong in ({}, {"name": 1}, {"name": "a", "count": "x"}, {"name": "a", "id = 9 --": 1}, [1]):
        assert (await store.json("POST", "/items", wrong))[0] == 400, wrong
    assert (await store.json("PUT", "/items"))[0] == 405
    assert (await store.json("GET", "/items/x"))[0] == 404
    assert await store.json("GET", "/items") == (200, [coffee | {"count": 7}])


async def test_an_image_is_there_in_each_size_once_it_is_uploaded(running: Engine, tmp_path: Path) -> None:
    uploads = await site(running, "uploads", tmp_path, memory_mb=1_024)
    png = io.BytesIO()
    Image.new("RGB", (800, 400), "red").save(png, "PNG")
    status, _, made = await uploads.ask("POST", "/", png.getvalue())
    sizes = json.loads(made)
    assert status == 201
    assert {size: (one["width"], one["height"]) for size, one in sizes.items()} == {
        "small": (160, 80),
        "medium": (640, 320),
    }
    for one in sizes.values():
        status, headers, image = await uploads.ask("GET", one["path"])
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        with Image.open(io.BytesIO(image)) as found:
            assert (found.format, found.size) == ("JPEG", (one["width"], one["height"]))
    assert (await uploads.json("POST", "/", {"no": "image"}))[0] == 415
    assert (await uploads.json("GET", "/0000/small"))[0] == 404
    assert (await uploads.json("GET", "/../small"))[0] == 404


@pytest.mark.time_limit(300)
async def test_a_large_download_is_streamed_whole(running: Engine, tmp_path: Path, counts: Mapping[str, int]) -> None:
    mb = max(8, counts["stream_mb"] // 8 if counts["stream_mb"] < 1_024 else 1_024)
    download = await site(running, "download", tmp_path, "RESPONSE_STREAM", memory_mb=1_769)

    def save() -> tuple[bytes, int, bytes]:
        """The first megabyte, how many bytes there are, and the last row: never more in memory."""
        with urllib.request.urlopen(f"{download.local}?mb={mb}", timeout=250) as answer:
            assert (answer.status, answer.headers["content-type"]) == (200, "text/csv")
            assert answer.headers["content-disposition"] == 'attachment; filename="large.csv"'
            first = last = answer.read(1 << 20)
            size = len(first)
            while piece := answer.read(1 << 20):
                size, last = size + len(piece), (last + piece)[-64:]
            return first, size, last

    first, size, last = await asyncio.to_thread(save)
    assert size == mb << 20
    assert last.startswith(b"%010d," % (mb * 16_384 - 1))
    # What is invoked has no head, and the same rows.
    invoked = await running.http.invoke("download", b'{"mb": 1}')
    assert hashlib.sha256(invoked.payload).digest() == hashlib.sha256(first).digest()


async def test_a_template_in_sams_shape_is_deployed_and_deployed_again_by_thirty_lines(
    running: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = EXAMPLES / "sam" / "deploy.py"
    assert len([line for line in script.read_text().splitlines() if line.strip()]) <= 30
    for name, text in {
        "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{running.service.http_port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    client: Any = running.http.client
    for version in ("1", "2"):  # the same code written again is another version, as on AWS
        ran = await asyncio.to_thread(runpy.run_path, str(script))
        ran["client"].close()
        assert capsys.readouterr().out == f"Greet {version}\nCount {version}\n"
        alias = await asyncio.to_thread(client.get_alias, FunctionName="Greet", Name="live")
        assert alias["FunctionVersion"] == version
    (url,) = (await asyncio.to_thread(client.list_function_url_configs, FunctionName="Greet"))["FunctionUrlConfigs"]
    assert await Site(running, url["FunctionUrl"]).json("GET", "/?name=tea") == (200, {"text": "Hello, tea!"})
    assert (await running.http.invoke("Count", b'{"text": "four"}')).json() == 4
    configuration = await asyncio.to_thread(client.get_function, FunctionName="Greet")
    assert (configuration["Configuration"]["MemorySize"], configuration["Tags"]) == (256, {"team": "hello"})


@pytest.mark.time_limit(300)
async def _applied_planned_destroyed(running: Engine, tmp_path: Path) -> None:
    assert TERRAFORM is not None
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLES / "terraform", folder)
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.write(folder / "src" / "app.py", "app.py")
    environ = {**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", "TF_INPUT": "0"}
    environ["TF_VAR_endpoint"] = f"http://127.0.0.1:{running.service.http_port}"

    async def run(*words: str, code: int = 0) -> str:
        ran = await asyncio.to_thread(
            subprocess.run,
            [TERRAFORM, *words, "-no-color"],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if words[0] == "init" and ran.returncode:
            pytest.skip(f"terraform has no AWS provider here: {ran.stderr.strip()[:200]}")
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout

    await run("init")
    await run("apply", "-auto-approve")
    url = json.loads(await run("output", "-json"))["url"]["value"]
    assert await Site(running, url).json("GET", "/?name=tea") == (200, {"text": "Hello, tea!"})
    await run("plan", "-detailed-exitcode")  # 0: nothing is to be done
    environ["TF_VAR_greeting"] = "Good day"
    await run("apply", "-auto-approve")
    assert await Site(running, url).json("GET", "/?name=tea") == (200, {"text": "Good day, tea!"})
    await run("destroy", "-auto-approve")
    assert "terraform-greet" not in await running.grpc.names()


if TERRAFORM is not None:
    test_a_terraform_project_is_applied_plans_nothing_more_and_is_destroyed = _applied_planned_destroyed
