"""These tests run in the machine of tests/hosts/machine.py and nowhere else: they change the root of its cgroups."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine.sandbox import box
from tests.hosts.guest.cgroups import Make

collect_ignore_glob = [] if os.environ.get("CLEAVE_HOST_PHASE") else ["test_*.py"]


@pytest.fixture
def host() -> Iterator[box.Host]:
    """An engine's directory, wherever that is in this phase."""
    host = box.Host(f"cleave-test-{os.getpid()}")
    host.open()
    yield host
    host.sweep(True)


@pytest.fixture
def leaf(host: box.Host) -> Make:
    """A leaf with the limits of a small tier, each of which can be given."""

    def make(name: str = "one", **limits: int) -> box.Leaf:
        wanted = {"memory_bytes": 128 << 20, "cpu_quota_us": 7_235, "cpu_shares": 74, "pids": 20} | limits
        return host.leaf(name, **wanted)

    return make
