"""In a run of .ci/sanitize or .ci/sanitize-threads, what should be sanitized is."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from engine.sandbox import box
from engine.scheduler import core
from engine.zygote.host import fork_module_path
from tests.sandboxes import RUNTIME, real_pool

LIBRARY = os.environ.get("CLEAVE_SANITIZED", "")
RACES = os.environ.get("CLEAVE_RACES", "")
ORDINARY = "the extensions are not those that this is about; .ci/sanitize builds others"


@pytest.mark.skipif(not RACES, reason=ORDINARY)
def test_the_engine_runs_code_in_which_races_are_looked_for() -> None:
    front = importlib.import_module("engine.rpc._front")  # which not every build has
    for module in (box, core, front):
        assert str(Path(module.__file__ or "").resolve()).startswith(RACES)
    assert "libtsan" in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not LIBRARY, reason=ORDINARY)
async def test_the_engine_and_its_zygotes_run_the_sanitized_code(tmp_path: Path) -> None:
    assert str(Path(box.Leaf.__module__ and box.__file__).resolve()).startswith(LIBRARY)
    async with real_pool(tmp_path) as pool:
        for process in ("self", str(pool.zygote_pids[RUNTIME])):
            mapped = Path(f"/proc/{process}/maps").read_text()
            assert "libasan" in mapped or "libubsan" in mapped
            # A zygote has a copy in memory, which tells no path.
            assert LIBRARY in mapped or process != "self"
    assert str(fork_module_path().resolve()).startswith(LIBRARY)
