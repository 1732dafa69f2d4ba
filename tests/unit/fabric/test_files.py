"""Durable files: whole or not at all, and gone when removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engine.fabric.files import SYNC_ONE_BY_ONE, remove_tree, sync_tree, write_atomic


def test_a_file_is_replaced_whole_and_leaves_no_other(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    write_atomic(file, b"one")
    write_atomic(file, b"two")
    assert file.read_bytes() == b"two"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["settings"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "taken", b"x")
    assert os.listdir(tmp_path) == ["taken"]


@pytest.mark.parametrize("files", [3, SYNC_ONE_BY_ONE + 1])
def test_a_tree_with_read_only_folders_links_and_any_number_of_files_can_be_synced(tmp_path: Path, files: int) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for number in range(files):
        (inner / str(number)).write_bytes(b"x")
        (inner / str(number)).chmod(0o444)
    (inner / "link").symlink_to("nowhere")
    inner.chmod(0o555)
    sync_tree(tmp_path)
    inner.chmod(0o755)


def test_a_read_only_tree_is_removed_and_what_its_links_point_at_is_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o555)
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(kept)
    (tree / "a" / "b" / "file").touch(0o444)
    for folder in (tree / "a" / "b", tree / "a", tree):
        folder.chmod(0o555)
    remove_tree(tree)
    remove_tree(tree)
    assert os.listdir(tmp_path) == ["kept"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o555
