"""Limits of v1 beside a v2 tree without controllers: a sandbox is born in its leaf of that tree, which is killed as a
whole, and enters those that limit it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from engine.sandbox import box
from tests.hosts.guest.cgroups import Make
from tests.sandboxes import real_pool, run, spec, write_code

TREE = Path("/sys/fs/cgroup")


def test_the_limits_are_v1s_and_the_v2_tree_has_no_controllers(host: box.Host, leaf: Make) -> None:
    assert not {"memory", "cpu", "pids"} & set((TREE / "unified/cgroup.controllers").read_text().split())
    assert host.kind == "v1"
    one = leaf()
    assert (Path(host.directories["memory"]) / "one/memory.limit_in_bytes").read_text() == f"{128 << 20}\n"
    assert Path(host.directories["unified"]).parent == TREE / "unified"
    one.remove()


def test_a_leaf_is_killed_as_a_whole_by_its_directory_in_the_v2_tree(host: box.Host, leaf: Make) -> None:
    one = leaf()
    with subprocess.Popen(["sleep", "600"]) as sleeping:
        (Path(host.directories["unified"]) / one.name / "cgroup.procs").write_text(str(sleeping.pid))
        try:
            assert one.kill()
            assert sleeping.wait(60) == -9
        finally:
            sleeping.kill()
    one.remove()


async def test_a_sandbox_is_in_each_of_its_leaves_from_birth_to_end(tmp_path: Path) -> None:
    async with real_pool(tmp_path) as pool:
        sandbox = await pool.start(spec(write_code(tmp_path / "code", "def handler(event, context): pass\n")))
        ending, _ = await run(sandbox)
        assert ending.reusable
        leaves = {Path(folder) / sandbox.id for folder in pool.cgroup_directories.values()}
        assert len(leaves) == 4
        assert {len((leaf / "cgroup.procs").read_text().split()) for leaf in leaves} == {2}
        await sandbox.close()
        assert not [leaf for leaf in leaves if leaf.exists()]
