"""Bytecode beside the code: what comes out of a sandbox decides nothing but what Python finds for that code."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import InvalidCode, NotFound
from engine.guest.wire import RECORD
from engine.registry.code import LocalCodeStore
from tests.unit.registry.test_code import left_in
from tests.unit.registry.zips import LINK, Member, hostile, ordinary, pieces

ZIP = ordinary({"app.py": "x = 1\n", "pkg/mod.py": "y = 2\n", "pkg/data.txt": "z"})
PYTHON = "3.11.7"


def record(place: str, data: bytes = b"code") -> bytes:
    name = place.encode(errors="surrogateescape")
    return RECORD.pack(len(name), len(data)) + name + data


async def stream(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def listed(folder: str) -> dict[str, int]:
    """What is in a folder at any depth, with its mode."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in Path(folder).rglob("*")}


async def test_it_is_where_python_looks_for_it_and_nobody_may_write_to_it(code: LocalCodeStore, tmp_path: Path) -> None:
    blob = await code.add(pieces(ZIP))
    assert code.lacks_bytecode(blob.sha256, PYTHON)
    before = listed(blob.path)
    data = record("app.py", b"one") + record("pkg/mod.py", b"two" * 100)
    assert await code.add_bytecode(blob.sha256, PYTHON, stream(data)) == 2
    assert listed(blob.path) == before | {
        "__pycache__": 0o555,
        "__pycache__/app.cpython-311.pyc": 0o444,
        "pkg/__pycache__": 0o555,
        "pkg/__pycache__/mod.cpython-311.pyc": 0o444,
    }
    assert stat.S_IMODE(os.stat(blob.path).st_mode) == 0o555
    assert Path(blob.path, "pkg/__pycache__/mod.cpython-311.pyc").read_bytes() == b"two" * 100
    assert not code.lacks_bytecode(blob.sha256, PYTHON)
    assert code.lacks_bytecode(blob.sha256, "3.12.1")
    assert left_in(tmp_path) == (1, 0)


async def test_what_is_good_for_a_layer_is_good_for_code_and_not_the_reverse(code: LocalCodeStore) -> None:
    blob = await code.add(pieces(ZIP))
    await code.add_bytecode(blob.sha256, PYTHON, stream(record("app.py", b"unchecked")))
    assert not code.lacks_bytecode(blob.sha256, PYTHON)
    assert code.lacks_bytecode(blob.sha256, PYTHON, layer=True)
    await code.add_bytecode(blob.sha256, PYTHON, stream(record("app.py", b"checked")), layer=True)
    assert Path(blob.path, "__pycache__/app.cpython-311.pyc").read_bytes() == b"checked"
    other = await code.add(pieces(ordinary({"app.py": "other"})))
    await code.add_bytecode(other.sha256, PYTHON, stream(record("app.py")), layer=True)
    for sha256 in (blob.sha256, other.sha256):
        assert not code.lacks_bytecode(sha256, PYTHON)
        assert not code.lacks_bytecode(sha256, PYTHON, layer=True)


async def test_the_code_is_the_same_code_afterwards(code: LocalCodeStore, tmp_path: Path) -> None:
    blob = await code.add(pieces(ZIP))
    await code.add_bytecode(blob.sha256, PYTHON, stream(record("app.py")))
    assert b"".join([piece async for piece in code.read_zip(blob.sha256)]) == ZIP
    again = await LocalCodeStore.open(tmp_path / "code")
    assert again.get(blob.sha256) == blob
    assert not again.lacks_bytecode(blob.sha256, PYTHON)
    assert await again.sweep([], 0) == [blob.sha256]
    assert left_in(tmp_path) == (0, 0)
    await again.close()


async def test_code_without_a_module_is_gone_through_once(code: LocalCodeStore) -> None:
    blob = await code.add(pieces(ordinary({"data.txt": "x"})))
    assert await code.add_bytecode(blob.sha256, PYTHON, stream(b"")) == 0
    assert not code.lacks_bytecode(blob.sha256, PYTHON)


async def test_bytecode_that_the_code_came_with_is_replaced_by_what_fits(code: LocalCodeStore) -> None:
    name = "__pycache__/app.cpython-311.pyc"
    blob = await code.add(pieces(ordinary({"app.py": "x = 1\n", name: "stale", "__pycache__/other.pyc": "kept"})))
    await code.add_bytecode(blob.sha256, PYTHON, stream(record("app.py", b"fits")))
    assert Path(blob.path, name).read_bytes() == b"fits"
    assert Path(blob.path, "__pycache__/other.pyc").read_bytes() == b"kept"
    assert listed(blob.path)["__pycache__"] == 0o555


HARMFUL = {
    "a path that leads out": record("../app.py"),
    "an absolute path": record("/etc/app.py"),
    "no module": record("pkg/data.txt"),
    "a module that is not there": record("pkg/other.py"),
    "a folder": record("pkg"),
    "bytecode of bytecode": record("__pycache__/app.py"),
    "the same twice": record("app.py") + record("app.py"),
    "the same by another name": record("app.py") + record("./app.py"),
    "no name": record(""),
    "half a header": record("app.py") + b"\0\0\0",
    "half a record": record("app.py")[:-1],
    "a name that is too long": RECORD.pack(2**32 - 1, 0) + b"x",
    "more than there is": RECORD.pack(6, 2**32 - 1) + b"app.py",
}


@pytest.mark.parametrize("what", HARMFUL)
async def test_of_records_that_are_none_nothing_is_kept(code: LocalCodeStore, tmp_path: Path, what: str) -> None:
    blob = await code.add(pieces(ZIP))
    before = listed(str(tmp_path))
    with pytest.raises(InvalidCode):
        await code.add_bytecode(blob.sha256, PYTHON, stream(record("pkg/mod.py") + HARMFUL[what]))
    assert listed(str(tmp_path)) == before
    assert code.lacks_bytecode(blob.sha256, PYTHON)


async def test_a_compiler_that_fails_half_way_leaves_nothing(code: LocalCodeStore, tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield record("app.py")
        raise InvalidCode("it crashed")

    blob = await code.add(pieces(ZIP))
    before = listed(str(tmp_path))
    with pytest.raises(InvalidCode, match="it crashed"):
        await code.add_bytecode(blob.sha256, PYTHON, failing())
    assert listed(str(tmp_path)) == before


async def test_no_link_is_followed(code: LocalCodeStore) -> None:
    members = [
        Member("app.py", b"x = 1\n"),
        Member("elsewhere/kept.txt", b"kept"),
        Member("elsewhere/mod.py", b"y = 1\n"),
        Member("__pycache__", b"elsewhere", mode=LINK),
        Member("linked", b"elsewhere", mode=LINK),
        Member("elsewhere/__pycache__/mod.cpython-311.pyc", b"../kept.txt", mode=LINK),
    ]
    blob = await code.add(pieces(hostile(members)))
    with pytest.raises(InvalidCode):
        await code.add_bytecode(blob.sha256, PYTHON, stream(record("linked/mod.py")))
    before = listed(blob.path)
    data = record("app.py", b"app") + record("elsewhere/mod.py", b"mod")
    await code.add_bytecode(blob.sha256, PYTHON, stream(data))
    cached = Path(blob.path, "elsewhere/__pycache__/mod.cpython-311.pyc")
    assert not cached.is_symlink()
    assert cached.read_bytes() == b"mod"
    assert Path(blob.path, "elsewhere/kept.txt").read_bytes() == b"kept"
    assert listed(blob.path).keys() == before.keys()


@pytest.mark.parametrize("target", [b"nowhere", b".", b"app.py"])
async def test_where_no_folder_for_bytecode_can_be_the_rest_has_it(code: LocalCodeStore, target: bytes) -> None:
    members = [
        Member("app.py", b"x = 1\n"),
        Member("__pycache__", target, mode=LINK),
        Member("pkg/mod.py", b"y = 1\n"),
        Member("other/mod.py", b"y = 1\n"),
        Member("other/__pycache__", b"a file"),
    ]
    blob = await code.add(pieces(hostile(members)))
    data = record("app.py") + record("other/mod.py") + record("pkg/mod.py")
    await code.add_bytecode(blob.sha256, PYTHON, stream(data))
    found = [name for name in listed(blob.path) if name.endswith(".pyc")]
    assert found == ["pkg/__pycache__/mod.cpython-311.pyc"]
    assert Path(blob.path, "other/__pycache__").read_bytes() == b"a file"


async def test_a_folder_in_the_place_of_bytecode_stays(code: LocalCodeStore) -> None:
    name = "__pycache__/app.cpython-311.pyc/file"
    blob = await code.add(pieces(ordinary({"app.py": "x = 1\n", name: "kept"})))
    await code.add_bytecode(blob.sha256, PYTHON, stream(record("app.py")))
    assert Path(blob.path, name).read_text() == "kept"


async def test_of_code_that_is_gone_there_is_none(code: LocalCodeStore, tmp_path: Path) -> None:
    blob = await code.add(pieces(ZIP))

    async def swept_meanwhile() -> AsyncIterator[bytes]:
        yield record("app.py")
        await code.sweep([], 0)

    with pytest.raises(NotFound):
        await code.add_bytecode(blob.sha256, PYTHON, swept_meanwhile())
    assert left_in(tmp_path) == (0, 0)
    assert not code.lacks_bytecode(blob.sha256, PYTHON)
    with pytest.raises(NotFound):
        await code.add_bytecode("0" * 64, PYTHON, stream(b""))
