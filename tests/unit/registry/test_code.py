"""The code store: what goes in comes out, and nothing half-made stays."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from engine.errors import CodeStorageExceeded, InvalidCode, NotFound, Unavailable
from engine.registry.code import LocalCodeStore
from engine.registry.unzip import Limits
from tests.unit.registry.zips import Member, hostile, ordinary, pieces

ZIP = ordinary({"app.py": "x = 1\n", "lib/data.bin": os.urandom(3_000)})
SHA256 = hashlib.sha256(ZIP).hexdigest()


def left_in(tmp_path: Path) -> tuple[int, int]:
    """How many blobs there are, and how much is on its way."""
    return len(os.listdir(tmp_path / "code" / "blobs")), len(os.listdir(tmp_path / "code" / "tmp"))


async def test_a_zip_comes_back_as_it_was_and_unpacked(code: LocalCodeStore) -> None:
    blob = await code.add(pieces(ZIP, 100), sha256=SHA256.upper(), size_bytes=len(ZIP))
    assert (blob.sha256, blob.size_bytes, blob.unpacked_bytes) == (SHA256, len(ZIP), 3_006)
    assert code.get(SHA256) == blob
    assert b"".join([piece async for piece in code.read_zip(SHA256)]) == ZIP
    assert Path(blob.path, "app.py").read_text() == "x = 1\n"


async def test_the_code_folder_can_be_read_by_every_user_and_all_around_it_by_none(
    code: LocalCodeStore, tmp_path: Path
) -> None:
    blob = await code.add(pieces(ZIP))
    mode = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "code").rglob("*")}
    inside = {path for path in mode if path.is_relative_to(blob.path)}
    assert {mode[path] for path in inside if path.is_dir()} == {0o555}
    assert {mode[path] for path in inside if path.is_file()} == {0o444}
    assert {mode[path] for path in mode.keys() - inside if path.is_dir()} == {0o700}
    assert {mode[path] for path in mode.keys() - inside if path.is_file()} == {0o600}


async def test_the_same_bytes_are_stored_once_also_when_they_come_at_a_time(
    code: LocalCodeStore, tmp_path: Path
) -> None:
    blobs = await asyncio.gather(*(code.add(pieces(ZIP)) for _ in range(5)))
    assert len(set(blobs)) == 1
    assert left_in(tmp_path) == (1, 0)


async def test_a_reopened_store_has_what_was_stored_and_removes_what_was_half_made(
    code: LocalCodeStore, tmp_path: Path
) -> None:
    blob = await code.add(pieces(ZIP))
    await code.close()
    half = tmp_path / "code" / "tmp" / "dead" / "task"
    half.mkdir(parents=True)
    (half / "file").touch(0o444)
    half.chmod(0o555)
    again = await LocalCodeStore.open(tmp_path / "code")
    assert again.get(SHA256) == blob
    assert left_in(tmp_path) == (1, 0)
    await again.close()


async def test_code_that_is_not_there_is_not_found(code: LocalCodeStore) -> None:
    for sha256 in ("0" * 64, "", "../blobs", "x\ud800"):
        with pytest.raises(NotFound) as caught:
            code.get(sha256)
        assert "upload" in caught.value.fix
        with pytest.raises(NotFound):
            await anext(code.read_zip(sha256))


@pytest.mark.parametrize(
    ("sha256", "size_bytes", "field"),
    [("0" * 64, None, "sha256"), ("nonsense", None, "sha256"), (None, 3, "size_bytes")],
)
async def test_bytes_that_are_not_those_announced_are_refused(
    code: LocalCodeStore, tmp_path: Path, sha256: str | None, size_bytes: int | None, field: str
) -> None:
    with pytest.raises(InvalidCode) as caught:
        await code.add(pieces(ZIP), sha256=sha256, size_bytes=size_bytes)
    assert list(caught.value.fields) == [field]
    assert left_in(tmp_path) == (0, 0)


@pytest.mark.parametrize("data", [b"", b"no zip", ZIP[:-1], hostile([Member("../evil", b"x")])])
async def test_a_zip_that_is_refused_leaves_nothing_and_the_store_goes_on(
    code: LocalCodeStore, tmp_path: Path, data: bytes
) -> None:
    with pytest.raises(InvalidCode):
        await code.add(pieces(data))
    assert left_in(tmp_path) == (0, 0)
    assert (await code.add(pieces(ZIP))).sha256 == SHA256


async def test_a_zip_over_the_limit_is_refused_when_announced_and_else_when_it_comes(tmp_path: Path) -> None:
    code = await LocalCodeStore.open(tmp_path / "code", zip_limit_bytes=len(ZIP) - 1)
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"x" * 1_000

    with pytest.raises(CodeStorageExceeded, match="at most"):
        await code.add(endless(), size_bytes=len(ZIP))
    assert asked == 0
    with pytest.raises(CodeStorageExceeded):
        await code.add(endless())
    assert asked <= 5
    assert left_in(tmp_path) == (0, 0)
    await code.close()


async def test_limits_of_what_is_unpacked_are_the_stores(tmp_path: Path) -> None:
    code = await LocalCodeStore.open(tmp_path / "code", limits=Limits(bytes=100))
    with pytest.raises(InvalidCode, match="smaller than 100 bytes"):
        await code.add(pieces(ZIP))
    assert left_in(tmp_path) == (0, 0)
    await code.close()


async def test_an_upload_that_fails_or_is_given_up_leaves_nothing(code: LocalCodeStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield ZIP[:50] * 30_000
        raise ConnectionResetError("the client left")

    with pytest.raises(ConnectionResetError):
        await code.add(broken())
    assert left_in(tmp_path) == (0, 0)

    reached = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield ZIP[:50] * 30_000
        reached.set()
        await asyncio.Event().wait()
        yield b"never"

    upload = asyncio.create_task(code.add(slow()))
    await reached.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert left_in(tmp_path) == (0, 0)


async def test_a_caller_that_leaves_while_it_is_unpacked_leaves_a_whole_blob_or_none(
    code: LocalCodeStore, tmp_path: Path
) -> None:
    for yields in range(12):
        data = ordinary({"app.py": f"x = {yields}\n"})
        upload = asyncio.create_task(code.add(pieces(data)))
        for _ in range(yields * 3):
            await asyncio.sleep(0.0002)
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
    await code.close()
    again = await LocalCodeStore.open(tmp_path / "code")
    blobs, _ = left_in(tmp_path)
    assert len(again._index) == blobs
    for blob in again._index.values():
        assert Path(blob.path, "app.py").is_file()
    await again.close()


async def test_damaged_code_counts_as_missing_and_an_upload_repairs_it(code: LocalCodeStore, tmp_path: Path) -> None:
    await code.add(pieces(ZIP))
    await code.close()
    (tmp_path / "code" / "blobs" / SHA256 / "blob.json").write_text("{")
    again = await LocalCodeStore.open(tmp_path / "code")
    with pytest.raises(NotFound):
        again.get(SHA256)
    blob = await again.add(pieces(ZIP))
    assert Path(blob.path, "app.py").is_file()
    assert left_in(tmp_path) == (1, 0)
    await again.close()


async def test_a_sweep_removes_what_nobody_needs_and_nothing_that_was_used_lately(tmp_path: Path) -> None:
    time_s = 0.0
    code = await LocalCodeStore.open(tmp_path / "code", clock=lambda: time_s)
    needed, idle, used, late = [await code.add(pieces(ordinary({"n": str(n)}))) for n in range(4)]
    time_s = 100.0
    code.get(used.sha256)
    await code.add(pieces(ordinary({"n": "3"})))  # the same bytes again
    assert await code.sweep({needed.sha256, "gone"}, 100.0) == [idle.sha256]
    with pytest.raises(NotFound):
        code.get(idle.sha256)
    assert left_in(tmp_path) == (3, 0)
    time_s = 150.0
    assert await code.sweep(set(), 100.0) == []  # needed until a moment ago
    time_s = 300.0
    assert set(await code.sweep(set(), 100.0)) == {needed.sha256, used.sha256, late.sha256}
    assert left_in(tmp_path) == (0, 0)
    assert (await code.add(pieces(ordinary({"n": "1"})))).sha256 == idle.sha256
    await code.close()


async def test_code_that_comes_again_while_it_is_swept_stays(tmp_path: Path) -> None:
    moving, go_on = threading.Event(), threading.Event()

    class Slow(LocalCodeStore):
        def _move_out(self, names: Collection[str]) -> list[Path]:
            if not moving.is_set():
                moving.set()
                go_on.wait(5)
            return super()._move_out(names)

    code = await LocalCodeStore.open(tmp_path / "code")
    await code.add(pieces(ZIP))
    await code.close()
    slow = await Slow.open(tmp_path / "code")
    sweep = asyncio.create_task(slow.sweep(set(), 0))
    await asyncio.to_thread(moving.wait, 5)
    upload = asyncio.create_task(slow.add(pieces(ZIP)))
    await asyncio.wait({upload}, timeout=0.1)  # it gets as far as it can
    go_on.set()
    blob, _ = await asyncio.gather(upload, sweep)
    assert Path(blob.path, "app.py").is_file()
    assert left_in(tmp_path) == (1, 0)
    await slow.close()


async def test_a_closed_store_says_so(code: LocalCodeStore) -> None:
    await code.close()
    await code.close()
    with pytest.raises(Unavailable):
        await code.add(pieces(ZIP))
