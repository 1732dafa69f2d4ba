"""An upload on its way: what is given up stays away."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from engine.registry.arrival import Arrival


def test_what_came_is_on_the_disk_counted_and_hashed(tmp_path: Path) -> None:
    arrival = Arrival(tmp_path / "a")
    arrival.begin()
    arrival.write([b"one", b""])
    arrival.write([b"two"])
    assert arrival.zip.read_bytes() == b"onetwo"
    assert (arrival.size_bytes, arrival.sha256) == (6, hashlib.sha256(b"onetwo").hexdigest())
    arrival.discard()
    assert os.listdir(tmp_path) == []


def test_a_write_that_comes_late_makes_nothing_again(tmp_path: Path) -> None:
    arrival = Arrival(tmp_path / "a")
    arrival.discard()
    arrival.begin()
    arrival.write([b"late"])
    assert os.listdir(tmp_path) == []
