"""Writes to a registry and a code store until it is killed: the victim of test_store_kill.

    python -m tests.faults.store_writer <data_dir> <run> <step>

Says on stdout what it is about to do and what is done, a line each. With a step above 0 it kills itself, by SIGKILL,
just before that operation on the file system, counted from the opening of the store.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import zipfile
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

from engine.fabric.datadir import DataDir
from engine.fabric.sqlite import Sqlite
from engine.registry.api import AliasChange, ConfigChange, LayerContent
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE

STEPS = (
    "open",
    "os.rename",
    "os.mkdir",
    "os.chmod",
    "os.symlink",
    "os.utime",
    "os.remove",
    "os.rmdir",
    "shutil.rmtree",
)


def zipped(text: str) -> bytes:
    """Code with a few files, a folder and a link in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", f"# {text}\n")
        archive.writestr("lib/data.bin", text.encode() * 20_000)
        link = zipfile.ZipInfo("lib/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "data.bin")
    return buffer.getvalue()


async def whole(data: bytes) -> AsyncIterator[bytes]:
    """As one chunk."""
    yield data


def say(what: str, name: str, sha256: str) -> None:
    """One line, at once."""
    os.write(1, (json.dumps([what, name, sha256]) + "\n").encode())


def arm(step: int) -> None:
    """Count operations, on any thread, and die before the one that is due."""
    steps = count(1)

    def watch(event: str, _: tuple[object, ...]) -> None:
        if event in STEPS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


async def write_until_killed(path: Path, run: str, step: int) -> None:
    """Create, change and delete functions and layers."""
    data = DataDir.open(path)
    store = await Sqlite.open(data.path / STORE_FILE, MIGRATIONS)
    code = await LocalCodeStore.open(data.path / "code")
    registry = await FunctionRegistry.open(store, code, runtimes=["python3.11"], default_runtime="python3.11")
    say("open", "", "")
    if step:
        arm(step)
    for n in count():
        name = f"{run}-{n}"
        layer = f"{name} layer"
        sha256 = (await code.add(whole(zipped(layer)))).sha256
        say("try", layer, sha256)
        ref = (await registry.layers.publish(name, LayerContent(sha256))).ref
        say("done", layer, sha256)
        sha256 = (await code.add(whole(zipped(name)))).sha256
        say("try", name, sha256)
        await registry.create(name, ConfigChange(layers=(ref,)), sha256)
        say("done", name, sha256)
        if n % 2:
            sha256 = (await code.add(whole(zipped(f"{name} changed")))).sha256
            say("try", name, sha256)
            await registry.update(name, ConfigChange(memory_mb=256), code_sha256=sha256)
            say("done", name, sha256)
            await publish(registry, name, sha256)
        if n % 3 == 2:
            say("try", layer, "")
            await registry.layers.delete(ref)
            say("done", layer, "")
            for gone in (f"{name}:1", f"{name}:live", f"{name} reserved", name):
                say("try", gone, "")
            await registry.delete(name)
            for gone in (f"{name}:1", f"{name}:live", f"{name} reserved", name):
                say("done", gone, "")
            await code.sweep(registry.referenced_code(), 0)


async def publish(registry: FunctionRegistry, name: str, sha256: str) -> None:
    """A version, an alias that points at it, and a reservation."""
    say("try", f"{name}:1", sha256)
    await registry.versions.publish(name)
    say("done", f"{name}:1", sha256)
    say("try", f"{name}:live", "1")
    await registry.aliases.create(name, "live", AliasChange("1"))
    say("done", f"{name}:live", "1")
    say("try", f"{name} reserved", "0")
    await registry.concurrency.reserve(name, 0)
    say("done", f"{name} reserved", "0")


if __name__ == "__main__":
    asyncio.run(write_until_killed(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
