"""Layers as a weapon: hostile archives, names that overlays know, links that layers lay across each other."""

from __future__ import annotations

import asyncio
import json
import stat
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from engine.errors import InvalidCode
from engine.registry.code import LocalCodeStore
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code
from tests.security.probes import handler
from tests.unit.registry.zips import FILE, LINK, Member, hostile, pieces

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]

SECRET = uuid.uuid4().hex


@pytest_asyncio.fixture(loop_scope="package")
async def store(tmp_path: Path) -> AsyncIterator[LocalCodeStore]:
    store = await LocalCodeStore.open(tmp_path / "code")
    yield store
    await store.close()


async def unpacked(store: LocalCodeStore, *members: Member) -> str:
    """Where a layer of these lies. Raises InvalidCode."""
    return (await store.add(pieces(hostile(members)))).path


async def inside(pool: LinuxPool, folder: Path, body: str, *layers: str) -> object:
    """What the body of a handler says in a sandbox with these layers."""
    await asyncio.to_thread(folder.chmod, 0o755)
    code = write_code(folder / "function", handler(body))
    sandbox = await pool.start(replace(spec(code), layer_paths=layers))
    ending, _ = await run(sandbox)
    await sandbox.close()
    return json.loads(ending.payload)


HARMFUL = {
    "a path out of it": Member("../../python/x.py"),
    "an absolute path": Member("/opt/python/x.py"),
    "a link to the host": Member("python", b"/etc", LINK),
    "a link out of it": Member("python/x", b"../../../etc/passwd", LINK),
    "a whiteout of an overlay": Member("python/json", b"", stat.S_IFCHR),
    "a device": Member("disk", b"", stat.S_IFBLK | 0o666),
    "a pipe": Member("python/x.py", b"", stat.S_IFIFO | 0o666),
    "a socket": Member("python/x.py", b"", stat.S_IFSOCK | 0o666),
}


@pytest.mark.parametrize("what", HARMFUL)
async def test_a_harmful_archive_is_no_layer_and_leaves_nothing(
    store: LocalCodeStore, tmp_path: Path, what: str
) -> None:
    with pytest.raises(InvalidCode):
        await unpacked(store, Member("python/good.py", b"x = 1"), HARMFUL[what])
    assert list((tmp_path / "code" / "blobs").iterdir()) == []
    assert list((tmp_path / "code" / "tmp").iterdir()) == []


async def test_what_other_file_systems_take_for_whiteouts_hides_nothing(
    pool: LinuxPool, store: LocalCodeStore, tmp_path: Path
) -> None:
    base = await unpacked(store, Member("data/kept", b"x"), Member("python/json.py", b"x = 1"))
    later = await unpacked(store, Member("data/.wh.kept"), Member("data/.wh..wh..opq"), Member(".wh.python"))
    body = "return [sorted(os.listdir('/opt/data')), os.path.exists('/opt/python/json.py')]"
    found = await inside(pool, tmp_path, body, base, later)
    assert found == [[".wh..wh..opq", ".wh.kept", "kept"], True]


async def test_links_that_layers_lay_across_each_other_lead_to_no_file_of_the_host(
    pool: LinuxPool, store: LocalCodeStore, tmp_path: Path
) -> None:
    """Each is within its own archive; merged, `way` climbs above /opt, and finds the sandbox's own root there."""
    (tmp_path / "secret").write_text(SECRET)
    base = await unpacked(
        store, Member("a/b/c/d", b""), Member("found", b"inside"), Member("way", b"a/b/../../found", LINK)
    )
    across = await unpacked(store, Member("a", b".", LINK), Member("b", b".", LINK))
    body = f"""
        below = [os.path.join(folder, name) for folder, _, names in os.walk("/opt") for name in names]
        read = [tried(lambda path=path: open(path).read()) for path in ["/opt/way", *below]]
        above = sorted(set(os.listdir("/opt/a/b/../..")) & set(os.listdir("/")))
        return [{SECRET!r} in str(read), above == sorted(os.listdir("/"))]
    """
    assert await inside(pool, tmp_path, body, base) == [False, False]
    assert await inside(pool, tmp_path, body, base, across) == [False, True]


async def test_no_file_of_a_layer_runs_as_another_user(pool: LinuxPool, store: LocalCodeStore, tmp_path: Path) -> None:
    layer = await unpacked(store, Member("bin/tool", b"#!/bin/sh\n", FILE | stat.S_ISUID | stat.S_ISGID | 0o111))
    body = """
        mode = os.stat("/opt/bin/tool").st_mode
        flags = os.statvfs("/opt").f_flag
        return [mode & 0o7777, [bool(flags & flag) for flag in (os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV)]]
    """
    assert await inside(pool, tmp_path, body, layer) == [0o555, [True, True, True]]


async def test_no_file_of_a_layer_can_be_changed_or_linked_for_those_who_share_it(
    pool: LinuxPool, store: LocalCodeStore, tmp_path: Path
) -> None:
    layer = await unpacked(store, Member("data/file", b"shared"))
    body = """
        path = "/opt/data/file"
        return [
            tried(lambda: open(path, "r+").close()),
            tried(lambda: os.truncate(path, 0)),
            tried(lambda: os.rename(path, path + ".old")),
            tried(lambda: os.link(path, "/tmp/link")),
            tried(lambda: os.setxattr(path, "user.overlay.opaque", b"y")),
            tried(lambda: os.setxattr("/opt/data", "trusted.overlay.opaque", b"y")),
            tried(lambda: open("/opt/data/new", "w").close()),
        ]
    """
    found = await inside(pool, tmp_path, body, layer)
    assert isinstance(found, list)
    assert set(found) <= {"EROFS", "EACCES", "EPERM", "EXDEV", "EOPNOTSUPP", "ENOTSUP"}
    assert [path.name for path in (Path(layer) / "data").iterdir()] == ["file"]
    assert (Path(layer) / "data" / "file").read_bytes() == b"shared"
