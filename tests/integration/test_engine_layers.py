"""Layers of whole engines: published over HTTP by an unmodified boto3, used, deleted, and there after a restart."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.doors import HttpDoor, zip_of
from tests.engines import engine
from tests.remains import nothing_left

pytestmark = pytest.mark.privileged

APP = """
    import both
    def handler(event, context):
        return [both.x, sorted(open("/opt/names").read())]
"""


async def ask(door: HttpDoor, call: str, **parameters: Any) -> Any:
    return await asyncio.to_thread(partial(getattr(door.client, call), **parameters))


async def publish(door: HttpDoor, name: str, text: str) -> str:
    """A layer with a module and a file; its ARN."""
    code = zip_of({"python/both.py": f"x = {text!r}\n", "names": text})
    made = await ask(door, "publish_layer_version", LayerName=name, Content={"ZipFile": code})
    location = made["Content"]["Location"]

    def read() -> bytes:
        with urllib.request.urlopen(location) as answer:
            data: bytes = answer.read()
            return data

    assert await asyncio.to_thread(read) == code
    arn: str = made["LayerVersionArn"]
    return arn


async def invoke(door: HttpDoor, qualifier: str = "$LATEST") -> Any:
    answer = await ask(door, "invoke", FunctionName="f", Qualifier=qualifier)
    return json.loads(answer["Payload"].read())


async def test_functions_and_versions_keep_deleted_layers_also_after_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data) as running:
        base, more = await publish(running.http, "base", "ab"), await publish(running.http, "more", "cd")
        await running.http.create("f", zip_of(APP))
        configure = partial(ask, running.http, "update_function_configuration", FunctionName="f")
        await configure(Layers=[base, more])
        assert await invoke(running.http) == ["cd", ["c", "d"]]
        await ask(running.http, "publish_version", FunctionName="f")
        await configure(Layers=[base])
        assert await invoke(running.http) == ["ab", ["a", "b"]]
        for name in ("base", "more"):
            await ask(running.http, "delete_layer_version", LayerName=name, VersionNumber=1)
        await configure(MemorySize=256)
        assert await invoke(running.http) == ["ab", ["a", "b"]]
        assert await invoke(running.http, "1") == ["cd", ["c", "d"]]
    await nothing_left(data)
    async with engine(data, parked_floor=1, parked_ceiling=2) as running:
        store, registry = running.service.parts.code, running.service.parts.registry
        assert await store.sweep(registry.referenced_code(), 0) == []
        assert await invoke(running.http) == ["ab", ["a", "b"]]
        assert await invoke(running.http, "1") == ["cd", ["c", "d"]]
        await ask(running.http, "delete_function", FunctionName="f")
        assert len(await store.sweep(registry.referenced_code(), 0)) == 3
        assert list((data / "code" / "blobs").iterdir()) == []
    await nothing_left(data)
