"""Mounts of functions' code: what is in them, what they tell, and how many are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engine.errors import SandboxFault
from engine.sandbox import box, code_mounts
from engine.sandbox.code_mounts import CodeMounts

pytestmark = pytest.mark.privileged

# In a mount namespace of its own: attach the mount, and say what is in it and what mountinfo says of it.
LOOK = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
fd, at = int(sys.argv[1]), sys.argv[2]
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x44000, None) == 0
assert libc.syscall(429, fd, b"", -100, at.encode(), 4) == 0, os.strerror(ctypes.get_errno())
(line,) = [line for line in open("/proc/self/mountinfo") if line.split()[4] == at]
try:
    open(at + "/new", "w")
    written = True
except OSError:
    written = False
found = {name: open(os.path.join(at, name)).read() for name in sorted(os.listdir(at))}
print(json.dumps({"found": found, "line": line, "written": written}))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "somewhere-on-the-host"
    folder.mkdir()
    (folder / "app.py").write_text("first")
    return folder


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[CodeMounts]:
    mounts = CodeMounts(tmp_path / "scratch" / "code")
    yield mounts
    mounts.close()


def seen(mount: int, tmp_path: Path) -> tuple[dict[str, str], str]:
    """What a sandbox would find in this mount, which is closed: its files, and its line of mountinfo."""
    at = tmp_path / "at"
    at.mkdir(exist_ok=True)
    try:
        command = [sys.executable, "-c", LOOK, str(mount), str(at)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, pass_fds=[mount], timeout=30)
    finally:
        os.close(mount)
    answer = json.loads(done.stdout)
    assert not answer["written"]
    return answer["found"], answer["line"]


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_code_can_be_read_and_its_place_cannot(mounts: CodeMounts, code: Path, tmp_path: Path) -> None:
    assert mounts.open(box.code_mount).mechanism.startswith("an overlay")
    for _ in range(2):  # the first, and one that is cloned from it
        files, line = seen(mounts.take(str(code)), tmp_path)
        assert files == {"app.py": "first"}
        assert code.name not in line
        assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))
    _, line = seen(box.code_mount(os.fsencode(code)), tmp_path)
    assert code.name in line, "a bind mount tells it"


def test_one_overlay_serves_all_sandboxes_of_a_code(mounts: CodeMounts, code: Path) -> None:
    made = []

    def make(path: bytes, nothing: bytes | None) -> int:
        made.append(path)
        return box.code_mount(path, nothing)

    mounts.open(make)
    made.clear()
    before = fds()
    for _ in range(10):
        os.close(mounts.take(str(code)))
    assert made == [os.fsencode(code)]
    assert fds() == before + 1
    mounts.close()
    assert fds() == before


def test_what_was_added_deep_inside_is_there_once_it_was_told(mounts: CodeMounts, code: Path, tmp_path: Path) -> None:
    mounts.open(box.code_mount)
    (code / "package").mkdir()
    os.close(mounts.take(str(code)))
    (code / "package" / "new.py").write_text("new")
    mounts.forget(str(code))
    mount = mounts.take(str(code))
    assert os.listdir(f"/proc/self/fd/{mount}/package") == ["new.py"]
    os.close(mount)


def test_a_folder_that_was_replaced_is_seen_anew(mounts: CodeMounts, code: Path, tmp_path: Path) -> None:
    mounts.open(box.code_mount)
    assert seen(mounts.take(str(code)), tmp_path)[0] == {"app.py": "first"}
    code.rename(tmp_path / "old")
    code.mkdir()
    (code / "app.py").write_text("second")
    assert seen(mounts.take(str(code)), tmp_path)[0] == {"app.py": "second"}
    (code / "app.py").unlink()
    (code / "other.py").write_text("third")
    assert seen(mounts.take(str(code)), tmp_path)[0] == {"other.py": "third"}


def test_the_mounts_of_so_many_codes_are_kept(
    mounts: CodeMounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_mounts, "KEPT", 3)
    mounts.open(box.code_mount)
    before = fds()
    for which in range(8):
        folder = tmp_path / str(which)
        folder.mkdir()
        os.close(mounts.take(str(folder)))
    assert fds() == before + 3


def test_a_kernel_that_clones_none_has_one_made_for_each(
    mounts: CodeMounts, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(mount: int) -> int:
        raise SandboxFault("code mount", 22, "cannot take it again: Invalid argument")

    monkeypatch.setattr(box, "mount_clone", refuse)
    mounts.open(box.code_mount)
    before = fds()
    for _ in range(3):
        files, line = seen(mounts.take(str(code)), tmp_path)
        assert files == {"app.py": "first"}
        assert code.name not in line
    assert fds() == before


def test_without_overlays_code_is_shown_all_the_same_and_the_check_says_what_is_weaker(
    mounts: CodeMounts, code: Path, tmp_path: Path
) -> None:
    def make(path: bytes, nothing: bytes | None) -> int:
        if nothing is not None:
            raise SandboxFault("code mount", 19, "cannot lay an overlay: No such device")
        return box.code_mount(path)

    check = mounts.open(make)
    assert (check.enforced, check.mechanism) == (True, "a bind mount, read-only")
    assert "No such device" in check.detail
    assert "CONFIG_OVERLAY_FS" in check.fix
    assert seen(mounts.take(str(code)), tmp_path)[0] == {"app.py": "first"}


def test_code_that_is_gone_is_a_fault_with_its_reason(mounts: CodeMounts, tmp_path: Path) -> None:
    mounts.open(box.code_mount)
    with pytest.raises(SandboxFault, match="No such file") as raised:
        mounts.take(str(tmp_path / "gone"))
    assert raised.value.stage == "code mount"


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    """Three folders, each with a file of its own and one that all have."""
    paths = []
    for name in ("first", "second", "third"):
        folder = tmp_path / f"layer-{name}"
        folder.mkdir()
        for file in ("all", name):
            (folder / file).write_text(name)
        paths.append(str(folder))
    return paths


def test_layers_are_one_mount_with_the_last_on_top(mounts: CodeMounts, layers: list[str], tmp_path: Path) -> None:
    mounts.open(box.code_mount)
    for _ in range(2):  # the first, and one that is cloned from it
        files, line = seen(mounts.take_layers(layers), tmp_path)
        assert files == {"all": "third", "first": "first", "second": "second", "third": "third"}
        assert "layer-" not in line
        assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))
    assert seen(mounts.take_layers(layers[::-1]), tmp_path)[0]["all"] == "first"
    assert seen(mounts.take_layers(layers[:1]), tmp_path)[0] == {"all": "first", "first": "first"}


def test_one_overlay_serves_all_sandboxes_with_the_same_layers(mounts: CodeMounts, layers: list[str]) -> None:
    made = []

    def merge(paths: Sequence[bytes], nothing: bytes) -> int:
        made.append(paths)
        return box.merged_mount(paths, nothing)

    mounts.open(box.code_mount, merge)
    before = fds()
    for _ in range(10):
        os.close(mounts.take_layers(layers))
        os.close(mounts.take_layers(layers[:2]))
    assert len(made) == 2
    assert fds() == before + 2
    mounts.forget(layers[2])
    assert fds() == before + 1
    mounts.forget(layers[0])
    assert fds() == before


def test_a_layer_that_was_replaced_is_seen_anew(mounts: CodeMounts, layers: list[str], tmp_path: Path) -> None:
    mounts.open(box.code_mount)
    os.close(mounts.take_layers(layers))
    (Path(layers[0]) / "late").write_text("late")
    assert seen(mounts.take_layers(layers), tmp_path)[0]["late"] == "late"


def test_without_overlays_one_layer_is_shown_and_several_are_refused(
    mounts: CodeMounts, layers: list[str], tmp_path: Path
) -> None:
    def make(path: bytes, nothing: bytes | None) -> int:
        if nothing is not None:
            raise SandboxFault("code mount", 19, "cannot lay an overlay: No such device")
        return box.code_mount(path)

    mounts.open(make)
    assert seen(mounts.take_layers(layers[:1]), tmp_path)[0] == {"all": "first", "first": "first"}
    with pytest.raises(SandboxFault, match="cannot be merged without overlays") as refused:
        mounts.take_layers(layers)
    assert refused.value.fix


def test_more_layers_than_a_function_may_have_are_refused(layers: list[str], tmp_path: Path) -> None:
    paths = [os.fsencode(path) for path in layers]
    before = fds()
    with pytest.raises(ValueError, match="too many"):
        box.merged_mount(paths * 2, os.fsencode(tmp_path))
    with pytest.raises(SandboxFault):
        box.merged_mount([], os.fsencode(tmp_path))
    with pytest.raises(SandboxFault, match="gone"):
        box.merged_mount([*paths, b"/gone"], os.fsencode(tmp_path))
    assert fds() == before
