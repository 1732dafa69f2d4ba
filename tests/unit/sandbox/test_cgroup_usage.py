"""What cgroups say is read in the form of either version; what they do not say is 0."""

from __future__ import annotations

from pathlib import Path

from engine.model.metrics import Usage
from engine.sandbox.cgroup_usage import memory_of_each, usage_of_all


def write(folder: Path, **files: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return str(folder)


def test_version_2_has_both_in_one_hierarchy(tmp_path: Path) -> None:
    top = write(tmp_path, memory__current="5000\n", cpu__stat="usage_usec 123\nuser_usec 100\nsystem_usec 23\n")
    write(tmp_path / "7", memory__current="3000\n")
    directories = {"memory": "", "cpuacct": "", "unified": top}
    assert usage_of_all(directories) == Usage(5_000, 123)
    assert memory_of_each(directories, ["7", "8"]) == {"7": 3_000}


def test_version_1_has_each_in_its_own(tmp_path: Path) -> None:
    memory = write(tmp_path / "memory", memory__usage_in_bytes="5000\n")
    write(tmp_path / "memory" / "7", memory__usage_in_bytes="3000\n")
    cpuacct = write(tmp_path / "cpuacct", cpuacct__usage="123999\n")
    # A host with both versions has its limits in the first.
    directories = {"memory": memory, "cpuacct": cpuacct, "unified": write(tmp_path / "unified", cpu__stat="\n")}
    assert usage_of_all(directories) == Usage(5_000, 123)
    assert memory_of_each(directories, ["7", "8"]) == {"7": 3_000}


def test_a_host_without_cgroups_says_nothing() -> None:
    assert usage_of_all({"memory": "", "cpuacct": "", "unified": ""}) == usage_of_all({}) == Usage(0, 0)
    assert memory_of_each({}, ["7"]) == {}
