"""The data directory: one holder, one identity, closed to others."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import StoreUnusable
from engine.fabric.datadir import INSTANCE_ID, DataDir


def test_a_folder_is_made_closed_to_others_and_keeps_its_instance_id(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    with DataDir.open(path) as first:
        assert INSTANCE_ID.fullmatch(first.instance_id)
        assert first.path == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in path.iterdir())
    with DataDir.open(path) as second:
        assert second.instance_id == first.instance_id


def test_two_folders_have_two_instance_ids_and_are_held_side_by_side(tmp_path: Path) -> None:
    with DataDir.open(tmp_path / "a") as a, DataDir.open(tmp_path / "b") as b:
        assert a.instance_id != b.instance_id


def test_a_second_engine_is_told_which_process_holds_the_folder(tmp_path: Path) -> None:
    with DataDir.open(tmp_path), pytest.raises(StoreUnusable, match=f"process {os.getpid()}") as caught:
        DataDir.open(tmp_path)
    assert "--data-dir" in caught.value.fix


def test_a_killed_engine_frees_its_folder_and_its_lock_names_it(tmp_path: Path) -> None:
    script = "import sys; from engine.fabric.datadir import DataDir; d = DataDir.open(sys.argv[1]);"
    script += " print(d.instance_id, flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        instance_id = child.stdout.readline().strip()
        with pytest.raises(StoreUnusable, match=f"process {child.pid}$"):
            DataDir.open(tmp_path)
        assert (tmp_path / "lock").read_text() == f"{instance_id}\n{child.pid}\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    with DataDir.open(tmp_path) as mine:
        assert mine.instance_id == instance_id


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    data.close()
    data.close()


def test_an_empty_folder_that_was_open_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    DataDir.open(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_folder_with_other_files_that_others_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "somebody's").touch()
    with pytest.raises(StoreUnusable, match="other users may write") as caught:
        DataDir.open(tmp_path)
    assert "chmod 700" in caught.value.fix
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
    assert os.listdir(tmp_path) == ["somebody's"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StoreUnusable, match="cannot be used"):
        DataDir.open(tmp_path / "data")


def test_a_damaged_instance_id_is_refused_and_the_lock_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("neither hex nor sixteen digits")
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="instance id"):
            DataDir.open(tmp_path)
