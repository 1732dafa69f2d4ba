"""A full disk: refused with what to do, nothing half-written, and the store goes on when there is room again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import CodeStorageExceeded
from engine.fabric.sqlite import Sqlite
from engine.model.function import Function
from engine.model.names import FunctionRef
from engine.registry.api import ConfigChange
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from engine.registry.schema import MIGRATIONS, STORE_FILE
from tests.unit.registry.zips import Member, hostile, ordinary, pieces

pytestmark = pytest.mark.privileged

SMALL = ordinary({"app.py": "x = 1\n"})


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of 2 MB, or with the options given, of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    options = getattr(request, "param", "size=2m")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", path], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        # Lazily: a test that failed has files open there, and nothing may stay mounted for that.
        subprocess.run(["umount", "--lazy", path], check=True)


def used_bytes(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def fill(disk: Path) -> Path:
    """Take all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            full = error.errno == errno.ENOSPC
    assert full
    return ballast


async def refused(code: LocalCodeStore, data: bytes) -> None:
    with pytest.raises(CodeStorageExceeded, match="full") as caught:
        await code.add(pieces(data))
    assert "free space" in caught.value.fix


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(hostile([Member("big", os.urandom(3_000_000), method=0)]), id="while-it-arrives"),
        pytest.param(ordinary({"big": bytes(3_000_000)}), id="while-it-is-unpacked"),
        pytest.param(hostile([Member("big", os.urandom(1_100_000), method=0)]), id="between-the-two"),
    ],
)
async def test_code_that_does_not_fit_the_disk_is_refused_and_leaves_it_as_it_was(disk: Path, data: bytes) -> None:
    code = await LocalCodeStore.open(disk / "code")
    await code.add(pieces(SMALL))
    before = used_bytes(disk)
    await refused(code, data)
    assert used_bytes(disk) == before
    assert os.listdir(disk / "code" / "tmp") == []
    blob = await code.add(pieces(ordinary({"app.py": "y = 2\n"})))
    assert Path(blob.path, "app.py").read_text() == "y = 2\n"
    await code.close()


@pytest.mark.parametrize("disk", ["size=2m,nr_inodes=40"], indirect=True)
async def test_a_disk_without_inodes_is_full_too(disk: Path) -> None:
    code = await LocalCodeStore.open(disk / "code")
    await refused(code, ordinary({str(n): "" for n in range(60)}))
    assert os.listdir(disk / "code" / "tmp") == []
    await code.add(pieces(SMALL))
    await code.close()


async def test_a_store_whose_disk_is_full_to_the_last_byte_refuses_reads_and_recovers(disk: Path) -> None:
    code = await LocalCodeStore.open(disk / "code")
    kept = await code.add(pieces(SMALL))
    ballast = fill(disk)
    await refused(code, ordinary({"app.py": "y = 2\n"}))
    assert b"".join([piece async for piece in code.read_zip(kept.sha256)]) == SMALL
    await code.close()
    code = await LocalCodeStore.open(disk / "code")
    assert code.get(kept.sha256) == kept
    ballast.unlink()
    await code.add(pieces(ordinary({"app.py": "y = 2\n"})))
    await code.close()


async def test_a_function_that_cannot_be_written_is_refused_and_all_others_stay(disk: Path) -> None:
    store = await Sqlite.open(disk / STORE_FILE, MIGRATIONS)
    code = await LocalCodeStore.open(disk / "code")
    registry = await FunctionRegistry.open(store, code, runtimes=["python3.11"], default_runtime="python3.11")
    sha256 = (await code.add(pieces(SMALL))).sha256
    first = await registry.create("first", ConfigChange(), sha256)
    ballast = fill(disk)
    made: list[Function] = []
    refusal = None
    while refusal is None and len(made) < 2_000:  # the log that SQLite writes to has some room of its own
        try:
            made.append(await registry.create(f"f{len(made)}", ConfigChange(environment={"A": "x" * 4_000}), sha256))
        except CodeStorageExceeded as error:
            refusal = error
    assert refusal is not None
    assert "free space" in refusal.fix
    assert len(registry.list(limit=10_000)[0]) == 1 + len(made)
    assert registry.get(FunctionRef("first")) == first
    ballast.unlink()
    await registry.create("later", ConfigChange(), sha256)
    everything = registry.list(limit=10_000)
    await store.close()
    store = await Sqlite.open(disk / STORE_FILE, MIGRATIONS)
    again = await FunctionRegistry.open(store, code, runtimes=["python3.11"])
    assert again.list(limit=10_000) == everything
    await store.close()
    await code.close()


async def test_an_engine_cannot_start_a_store_on_a_full_disk_and_says_so(disk: Path) -> None:
    ballast = fill(disk)
    with pytest.raises(CodeStorageExceeded, match="full"):
        await Sqlite.open(disk / STORE_FILE, MIGRATIONS)
    ballast.unlink()
    await (await Sqlite.open(disk / STORE_FILE, MIGRATIONS)).close()
