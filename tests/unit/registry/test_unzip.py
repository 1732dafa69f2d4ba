"""Unpacking: what an ordinary zip becomes, and what no zip can do."""

from __future__ import annotations

import io
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidCode
from engine.fabric.files import remove_tree
from engine.registry.unzip import Limits, unpack
from tests.unit.registry.zips import FILE, FOLDER, LINK, Member, hostile, ordinary


def unpacked(tmp_path: Path, data: bytes, limits: Limits | None = None) -> Path:
    archive, folder = tmp_path / "code.zip", tmp_path / "task"
    archive.write_bytes(data)
    folder.mkdir()
    unpack(archive, folder, limits or Limits())
    return folder


def refused(tmp_path: Path, data: bytes, *words: str, limits: Limits | None = None) -> None:
    with pytest.raises(InvalidCode) as caught:
        unpacked(tmp_path, data, limits)
    assert caught.value.fix
    assert all(word in caught.value.message for word in words), caught.value.message


def test_files_have_their_content_and_folders_are_made_where_only_implied(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, ordinary({"app.py": "x = 1\n", "a/b/c.txt": b"\0" * 70_000, "./d.txt": "d"}))
    assert (folder / "app.py").read_text() == "x = 1\n"
    assert (folder / "a/b/c.txt").read_bytes() == b"\0" * 70_000
    assert (folder / "d.txt").read_text() == "d"


def test_unpacking_tells_the_bytes_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "code.zip").write_bytes(ordinary({"a": b"12345", "b/c": b"678"}))
    (tmp_path / "task").mkdir()
    assert unpack(tmp_path / "code.zip", tmp_path / "task", Limits()) == 8


def test_everything_is_readable_by_all_writable_by_none_and_keeps_the_executable_bit(tmp_path: Path) -> None:
    data = hostile(
        [
            Member("bootstrap", b"#!/bin/sh\n", mode=stat.S_IFREG | 0o4750),
            Member("secret.py", b"", mode=stat.S_IFREG | 0o600),
            Member("open/", mode=stat.S_IFDIR | 0o1777),
            Member("from-windows.txt", b"x", mode=0),
        ]
    )
    folder = unpacked(tmp_path, data)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {"task": 0o555, "bootstrap": 0o555, "secret.py": 0o444, "open": 0o555, "from-windows.txt": 0o444}


def test_stored_entries_zip64_comments_and_a_prefix_are_understood(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"made by hand"
        with archive.open("big.txt", "w", force_zip64=True) as file:
            file.write(b"zip64")
        archive.writestr("plain.txt", b"stored", zipfile.ZIP_STORED)
    folder = unpacked(tmp_path, buffer.getvalue())
    assert (folder / "big.txt").read_bytes() == b"zip64"
    assert (folder / "plain.txt").read_bytes() == b"stored"


def test_a_zip64_end_record_is_understood(tmp_path: Path) -> None:
    plain = hostile([Member("a.txt", b"hello")])
    body, end = plain[:-22], plain[-22:]
    size, offset = struct.unpack("<2L", end[12:20])
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    narrow = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    folder = unpacked(tmp_path, body + wide + locator + narrow)
    assert (folder / "a.txt").read_bytes() == b"hello"


def test_zipfile_and_this_reader_agree_on_streamed_entries(tmp_path: Path) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise OSError

    buffer = Unseekable()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("streamed.txt", b"sizes follow" * 100)  # with a data descriptor
    assert (unpacked(tmp_path, buffer.getvalue()) / "streamed.txt").read_bytes() == b"sizes follow" * 100


@pytest.mark.parametrize(
    ("name", "flags", "found"),
    [("naïve.txt", 0x800, "naïve.txt"), ("naïve.txt", 0, "naïve.txt"), (b"\x8b.txt", 0, "ï.txt")],
    ids=["flagged", "unflagged", "code-page-437"],
)
def test_names_are_read_as_utf8_and_else_as_the_first_zips_wrote_them(
    tmp_path: Path, name: str | bytes, flags: int, found: str
) -> None:
    assert os.listdir(unpacked(tmp_path, hostile([Member(name, b"x", flags=flags)]))) == [found]


def test_a_file_keeps_its_time_exactly_where_the_zip_has_it(tmp_path: Path) -> None:
    exact = struct.pack("<2HBl", 0x5455, 5, 1, 1_700_000_001)
    folder = unpacked(tmp_path, hostile([Member("exact.py", b"", extra=exact), Member("coarse.py", b"")]))
    assert (folder / "exact.py").stat().st_mtime == 1_700_000_001
    assert (folder / "coarse.py").stat().st_mtime == 315_532_800  # 1980-01-01, UTC


def test_a_relative_link_inside_is_kept(tmp_path: Path) -> None:
    data = hostile(
        [
            Member("lib/libz.so.1.3", b"elf"),
            Member("lib/libz.so", b"libz.so.1.3", mode=LINK),
            Member("bin/z", b"../lib/libz.so", mode=LINK),
            Member("dangling", b"not/there", mode=LINK),
        ]
    )
    folder = unpacked(tmp_path, data)
    assert os.readlink(folder / "bin/z") == "../lib/libz.so"
    assert (folder / "bin/z").read_bytes() == b"elf"


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "..", "/etc/evil", "//evil", "a\\..\\evil", "..\\evil", "a\0b", "", "a/.."]
)
def test_a_path_that_could_lead_out_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, hostile([Member("app.py", b"x"), Member(name, b"evil")]), "the zip has a")
    assert sorted(os.listdir(tmp_path)) == ["code.zip", "task"]


@pytest.mark.parametrize(
    "target", [b"/etc/passwd", b"..", b"../../etc", b"a/../../x", b"", b"a\0b", b"x" * 2_000], ids=repr
)
def test_a_link_that_leads_out_is_refused(tmp_path: Path, target: bytes) -> None:
    refused(tmp_path, hostile([Member("a/b", b"x"), Member("link", target, mode=LINK)]), "link")


def test_a_link_that_leads_out_only_through_another_is_refused(tmp_path: Path) -> None:
    # Taken by its letters, out → p/q; followed, x is the top and out is above it.
    members = [
        Member("p/q/r/f", b""),
        Member("p/q/r/x", b"../../..", mode=LINK),
        Member("out", b"p/q/r/x/../..", mode=LINK),
    ]
    refused(tmp_path, hostile(members), "leads outside")


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, hostile([Member("a", b"b", mode=LINK), Member("b", b"a", mode=LINK)]), "circle")


def test_links_that_multiply_are_refused_before_they_cost_time(tmp_path: Path) -> None:
    detour = "d/../" * 200
    members = [Member("d/f", b""), Member("l0", f"{detour}d/f".encode(), mode=LINK)]
    members += [Member(f"l{n}", f"{detour}l{n - 1}".encode(), mode=LINK) for n in range(1, 39)]
    members += [Member(f"m{n}", f"{detour}l38".encode(), mode=LINK) for n in range(100)]
    refused(tmp_path, hostile(members), "too many links")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    refused(tmp_path, hostile([Member("a", b".", mode=LINK), Member("a/b", b"x")]), "needs a folder")


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_devices_pipes_and_sockets_are_refused(tmp_path: Path, kind: int) -> None:
    refused(tmp_path, hostile([Member("special", b"", mode=kind | 0o666)]), "neither")


@pytest.mark.parametrize(
    "members",
    [
        [Member("a", b"1"), Member("a", b"2")],
        [Member("a", b"1"), Member("./a", b"2")],
        [Member("a", b"1"), Member("a/b", b"2")],
        [Member("a/b", b"1"), Member("a", b"2")],
        [Member("a", b"1"), Member("a/", mode=FOLDER)],
        [Member("a", b"x", mode=LINK), Member("a", b"1")],
    ],
    ids=["twice", "twice-by-another-name", "under-a-file", "over-a-folder", "folder-over-file", "file-over-link"],
)
def test_two_entries_for_one_path_are_refused(tmp_path: Path, members: list[Member]) -> None:
    refused(tmp_path, hostile(members))


def test_a_folder_may_be_named_twice(tmp_path: Path) -> None:
    data = hostile([Member("a/", mode=FOLDER), Member("a/", mode=FOLDER), Member("a/b", b"")])
    assert os.listdir(unpacked(tmp_path, data)) == ["a"]


def test_a_bomb_is_refused_by_what_it_says(tmp_path: Path) -> None:
    data = hostile([Member(f"{n}", b"\0" * 60_000) for n in range(20)])
    refused(tmp_path, data, "Unzipped size must be smaller than 1000000 bytes", limits=Limits(bytes=1_000_000))


def test_a_bomb_that_lies_is_stopped_while_it_inflates(tmp_path: Path) -> None:
    content = b"\0" * 50_000_000
    for size in (10, 0xFFFFFFF0):
        folder = tmp_path / str(size)
        folder.mkdir()
        refused(folder, hostile([Member("bomb", content, size=size)]), limits=Limits(bytes=1_000_000))
        left = sum(path.stat().st_size for path in (folder / "task").iterdir())
        assert left <= 1_000_000


def test_too_many_entries_are_refused_whatever_number_is_announced(tmp_path: Path) -> None:
    members = [Member(f"{n}", b"") for n in range(101)]
    for count in (None, 3):
        folder = tmp_path / str(count)
        folder.mkdir()
        refused(folder, hostile(members, count=count), "more than 100 entries", limits=Limits(nodes=100))
        assert os.listdir(folder / "task") == []


def test_folders_that_are_only_implied_count_too(tmp_path: Path) -> None:
    deep = [Member(f"{n}/" + "d/" * 30 + "f", b"") for n in range(10)]
    refused(tmp_path, hostile(deep), "files and folders", limits=Limits(nodes=100))


@pytest.mark.parametrize("name", ["n" * 256, "/".join("x" * 200 for _ in range(6)), "d/" * 64 + "f"])
def test_a_path_that_is_too_long_is_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, hostile([Member(name, b"")]), "too long")


@pytest.mark.parametrize(
    ("member", "word"),
    [
        (Member("a", b"hello", crc32=1), "checksum"),
        (Member("a", b"hello", size=4), "checksum"),
        (Member("a", b"hello", size=6), "checksum"),
        (Member("a", b"hello", packed=b"\xff\xff\xff"), "inflated"),
        (Member("a", b"hello", packed=b""), "cut short"),
        (Member("a", b"hello", flags=1), "encrypted"),
        (Member("a", b"hello", method=12), "method 12"),
        (Member("a", b"hello", local_name=b"b"), "not where"),
        (Member(b"\xff\xfe", b"hello", flags=0x800), "UTF-8"),
        (Member("a/", b"hello"), "named as a folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_or_unreadable_entry_is_refused(tmp_path: Path, member: Member, word: str) -> None:
    refused(tmp_path, hostile([member]), word)


def test_deflate_with_bytes_after_its_end_is_refused(tmp_path: Path) -> None:
    packed = zlib.compress(b"hello", wbits=-15) + b"tail"
    refused(tmp_path, hostile([Member("a", b"hello", packed=packed)]), "cut short")


def test_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    data = bytearray(hostile([Member("a", b"hello", method=0), Member("a", b"hello", method=0)]))
    second = data.rfind(b"PK\1\2")
    data[second + 42 : second + 46] = bytes(4)  # both at offset 0
    refused(tmp_path, bytes(data), "overlap")


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all" * 10, b"PK\5\6", b"PK\5\6" + b"\xff" * 18])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data)


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, hostile([]), "non-empty")


def test_a_zip_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    data = ordinary({"app.py": "def handler(event, context):\n    return event\n", "b": "b"})
    for length in range(len(data)):
        folder = tmp_path / str(length)
        folder.mkdir()
        refused(folder, data[:length])


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "\\", "a\0", "ü"]), min_size=1, max_size=4).map("/".join)
MEMBERS = st.builds(
    Member,
    name=NAMES,
    content=st.one_of(NAMES.map(str.encode), st.binary(max_size=8)),
    mode=st.sampled_from([FILE, LINK, LINK, FOLDER, 0, stat.S_IFIFO]),
    method=st.sampled_from([0, 8]),
)


@given(st.lists(MEMBERS, max_size=6))
def test_no_archive_writes_or_points_outside_its_folder(members: list[Member]) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        (top / "code.zip").write_bytes(hostile(members))
        task = top / "x" / "task"
        task.mkdir(parents=True)
        try:
            unpack(top / "code.zip", task, Limits())
        except InvalidCode:
            pass
        assert sorted(os.listdir(top)) == ["code.zip", "x"]
        assert os.listdir(top / "x") == ["task"]
        for folder, folders, files in os.walk(task):
            for found in (Path(folder, entry) for entry in folders + files):
                assert found.is_symlink() or found.is_dir() or stat.S_ISREG(found.stat().st_mode)
                assert Path(os.path.realpath(found)).is_relative_to(task.resolve())
        remove_tree(task)


@given(st.data())
def test_a_zip_with_any_byte_changed_unpacks_or_is_refused_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(ordinary({"app.py": "x = 1\n" * 10, "a/b": b"y"}))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as name:
        archive, task = Path(name, "code.zip"), Path(name, "task")
        archive.write_bytes(whole)
        task.mkdir()
        try:
            unpack(archive, task, Limits())
        except InvalidCode:
            pass
        remove_tree(task)
