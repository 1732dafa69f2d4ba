"""Signed links: their key, and zips that are read in pieces."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engine.errors import PermissionDenied
from engine.registry.code import READ_BYTES, LocalCodeStore
from engine.registry.code_links import KEY_BYTES, CodeLinks
from tests.unit.registry.zips import ordinary, pieces

SHA256 = "ab" * 32


def test_a_link_survives_a_restart_and_no_other_engine_makes_it(tmp_path: Path) -> None:
    signed = CodeLinks.open(tmp_path / "key").sign(SHA256)
    CodeLinks.open(tmp_path / "key").check(SHA256, signed)
    with pytest.raises(PermissionDenied):
        CodeLinks.open(tmp_path / "other").check(SHA256, signed)
    for name in ("key", "other"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_key_that_is_damaged_is_replaced(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"short")
    links = CodeLinks.open(key)
    assert len(key.read_bytes()) == KEY_BYTES
    links.check(SHA256, links.sign(SHA256))


async def test_a_zip_is_read_in_pieces_also_where_it_is_removed_meanwhile(tmp_path: Path) -> None:
    code = await LocalCodeStore.open(tmp_path / "code", clock=lambda: 0.0)
    try:
        zipped = ordinary({"noise": os.urandom(3 * READ_BYTES).hex()})
        blob = await code.add(pieces(zipped))
        reading = code.read_zip(blob.sha256)
        found = [await anext(reading)]
        assert await code.sweep([], min_age_s=0) == [blob.sha256]
        found += [piece async for piece in reading]
        assert b"".join(found) == zipped
        assert max(map(len, found)) <= READ_BYTES
    finally:
        await code.close()
