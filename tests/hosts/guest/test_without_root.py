"""An engine that is not root, in a cgroup that was given to its user: what of the limits is theirs holds in full, and
only the rest is weaker.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.guest.cgroups import TREE, make, remove, run_in

UID = 1_000
PROGRAM = """
    import asyncio, json, os, pathlib
    EVENTS = {"tmp_mb": 0, "memory_mb": 10}, {"tmp_mb": 150, "memory_mb": 60}, {"tmp_mb": 0, "memory_mb": 800}
    from engine.errors import HostUnfit
    from tests.sandboxes import RUNTIME, real_pool, run_once
    folder = pathlib.Path(os.environ["FOLDER"])
    HANDLER = '''
    def handler(event, context):
        with open("/tmp/kept", "wb") as file:
            for _ in range(event["tmp_mb"]):
                file.write(bytes(1 << 20))
        return len([b"x" * (1 << 20) for _ in range(event["memory_mb"])])
    '''

    async def main():
        try:
            async with real_pool(folder) as pool:
                said = {"directories": dict(pool.cgroup_directories), "endings": []}
                leaves = pathlib.Path(pool.cgroup_directories["memory"] or "/nowhere")
                for event in EVENTS:
                    ending, _ = await run_once(pool, folder, HANDLER, event, memory_mb=128, timeout_ms=60_000)
                    said["endings"].append([ending.outcome.value, ending.peak_memory_bytes, ending.cpu_us])
                said["left"] = [path.name for path in leaves.iterdir() if path.is_dir()]
        except HostUnfit as unfit:
            said = {"unfit": unfit.message, "fix": unfit.fix}
        print(json.dumps(said))
    asyncio.run(main())
"""


@pytest.fixture
def given() -> Iterator[Path]:
    """A cgroup of the user's, with memory and pids but not cpu: what systemd hands down to users."""
    above = make(TREE / "above", "memory", "cpu", "pids")
    path = make(above / "given", "memory", "pids")
    for each in (path, *(path / name for name in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"))):
        os.chown(each, UID, UID)
    yield path
    remove(above)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the user's."""
    path = Path(tempfile.mkdtemp())
    os.chown(path, UID, UID)
    yield path
    shutil.rmtree(path)


@pytest.mark.time_limit(300)
def test_what_was_given_holds_in_full_and_what_was_not_is_accepted_by_name(given: Path, folder: Path) -> None:
    env = {"FOLDER": str(folder), "CLEAVE_TEST_ACCEPT": "cpu=none tmp=tmpfs"}
    done = run_in(given, PROGRAM, uid=UID, env=env)
    assert done.stdout, done.stderr
    said = json.loads(done.stdout)
    assert said["directories"]["memory"].startswith(f"{given}/cleave-"), said
    light, stores, heavy = said["endings"]
    assert (light[0], stores[0], heavy[0]) == ("ok", "ok", "out_of_memory"), said
    # What is in /tmp is on top of the tier, and not shown as the function's memory.
    assert 60 << 20 < stores[1] < 128 << 20
    assert heavy[1] > 512 << 20
    assert light[2] > 0
    assert said["left"] == []


@pytest.mark.time_limit(300)
def test_what_was_not_given_is_refused_alone(given: Path, folder: Path) -> None:
    done = run_in(given, PROGRAM, uid=UID, env={"FOLDER": str(folder), "CLEAVE_TEST_ACCEPT": "tmp=tmpfs"})
    assert done.stdout, done.stderr
    said = json.loads(done.stdout)
    assert said["unfit"].startswith("this host cannot enforce cpu: "), said
    assert "no cpu controller" in said["unfit"]
    assert "memory:" not in said["unfit"]
    assert 'accept_weaker = ["tmp=tmpfs", "cpu=' in said["fix"]
