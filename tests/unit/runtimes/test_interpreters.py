"""The Pythons of a host are found wherever they are commonly put, asked by being run, and served under AWS's names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from engine.errors import InvalidArgument, StoreUnusable
from engine.runtimes.interpreters import examine, find_interpreters, own_path, packages_of
from engine.runtimes.live import ADDED_FILE, Added, Runtimes
from engine.runtimes.places import python_folders
from engine.zygote.host import fork_module_path
from tests.pythons import each_python, pythons

OWN = f"python3.{sys.version_info.minor}"


def fake(path: Path, version: tuple[int, int, int] = (3, 9, 99), *, answer: str = "") -> Path:
    """A program that answers as the Python of a version, at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = answer or repr(("cpython", version, "", ["/usr", "/usr"], ""))
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    path.chmod(0o755)
    return path


def runtimes(data_dir: Path, environ: Mapping[str, str], *named: str) -> Runtimes:
    return Runtimes(Added(data_dir), named, {"HOME": "/nowhere", "PATH": "", **environ})


def test_under_ci_there_are_two_pythons_to_test_on() -> None:
    if os.environ.get("CI", "").lower() == "true":
        assert len(pythons()) >= 2, "install a second Python from 3.9 to 3.14: the tests run on all there are"
    assert OWN in pythons()


@each_python()
def test_what_zygotes_load_is_one_file_that_every_python_loads(runtime: str) -> None:
    one = pythons()[runtime]
    assert fork_module_path().name == "_fork.abi3.so"
    assert examine(one.path, fork_module_path()) == one
    assert f"python{one.version.rpartition('.')[0]}" == runtime


def test_what_does_not_load_it_is_refused_with_the_loaders_reason(tmp_path: Path) -> None:
    broken = tmp_path / "_fork.abi3.so"
    broken.write_bytes(b"no library")
    with pytest.raises(InvalidArgument, match=r"cannot load what zygotes load: .*_fork\.abi3\.so"):
        examine(own_path(), broken)


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("PYENV_ROOT", "versions/3.9.99/bin"),
        ("UV_PYTHON_INSTALL_DIR", "cpython-3.9.99-linux-x86_64-gnu/bin"),
        ("MISE_DATA_DIR", "installs/python/3.9.99/bin"),
        ("ASDF_DATA_DIR", "installs/python/3.9.99/bin"),
    ],
)
def test_what_version_managers_installed_is_found(tmp_path: Path, variable: str, folder: str) -> None:
    python = fake(tmp_path / folder / "python3.9")
    found = find_interpreters([], "", folders=python_folders({variable: str(tmp_path)}, "/nowhere"))
    assert (found["python3.9"].path, found["python3.9"].version) == (str(python), "3.9.99")


@pytest.mark.parametrize("folder", [".pyenv/versions/3.9.99/bin", ".local/share/uv/python/cpython-3.9.99/bin"])
def test_they_are_found_below_the_home_directory_too(tmp_path: Path, folder: str) -> None:
    python = fake(tmp_path / folder / "python3.9")
    found = find_interpreters([], "", folders=python_folders({}, str(tmp_path)))
    assert found["python3.9"].path == str(python)


def test_of_two_patch_releases_the_newer_is_served(tmp_path: Path) -> None:
    for patch in (9, 18, 2):
        fake(tmp_path / f"versions/3.9.{patch}/bin/python3.9", (3, 9, patch))
    found = find_interpreters([], "", folders=python_folders({"PYENV_ROOT": str(tmp_path)}, "/nowhere"))
    assert found["python3.9"].version == "3.9.18"


def test_path_comes_before_what_is_found_elsewhere_and_shims_are_passed_over(tmp_path: Path) -> None:
    elsewhere = fake(tmp_path / "versions/3.9.99/bin/python3.9")
    on_path = fake(tmp_path / "bin/python3.9", (3, 9, 1))
    shim = fake(tmp_path / "shims/python3.9", answer="pyenv: python3.9: command not found")
    folders = python_folders({"PYENV_ROOT": str(tmp_path)}, "/nowhere")
    both = find_interpreters([], f"{shim.parent}:{on_path.parent}", folders=folders)
    assert both["python3.9"].path == str(on_path)
    assert find_interpreters([], str(shim.parent), folders=folders)["python3.9"].path == str(elsewhere)


@pytest.mark.parametrize("of_whom", ["another's", "all"])
def test_what_others_may_change_is_not_run_unless_it_was_named(tmp_path: Path, of_whom: str) -> None:
    python = fake(tmp_path / "versions/3.9.99/bin/python3.9")
    if of_whom == "another's":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file to another user")
        os.chown(python, 65534, 65534)
    else:
        python.chmod(0o757)
    folders = python_folders({"PYENV_ROOT": str(tmp_path)}, "/nowhere")
    found = find_interpreters([], "", folders=folders).get("python3.9")
    assert found is None or found.path != str(python)
    assert find_interpreters([str(python)], "", folders=folders)["python3.9"].path == str(python)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (repr(("pypy", (3, 10, 1), "", ["/", "/"], "")), "it is pypy"),
        (repr(("cpython", (3, 13, 1), "t", ["/", "/"], "")), "it is free-threaded"),
        (repr(("cpython", (3, 8, 18), "", ["/", "/"], "")), r"it is Python 3\.8"),
        (repr(("cpython", (3, 15, 0), "", ["/", "/"], "")), r"it is Python 3\.15"),
        ("hello", "does not answer as a Python does"),
    ],
)
def test_what_the_engine_cannot_fork_from_is_refused_with_the_reason(tmp_path: Path, answer: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        examine(str(fake(tmp_path / "bin/python3.9", answer=answer)))


def test_what_is_no_program_or_fails_is_refused_with_what_it_said(tmp_path: Path) -> None:
    for path in ("python3", str(tmp_path), str(tmp_path / "nothing")):
        with pytest.raises(InvalidArgument, match="no such executable file"):
            examine(path)
    failing = tmp_path / "python3.9"
    failing.write_text("#!/bin/sh\necho 'libpython3.9.so: not found' >&2\nexit 127\n")
    failing.chmod(0o755)
    with pytest.raises(InvalidArgument, match=r"status 127: libpython3\.9\.so: not found"):
        examine(str(failing))


def test_a_virtual_environment_is_its_python_with_its_packages(tmp_path: Path) -> None:
    subprocess.run([own_path(), "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    inside = examine(str(tmp_path / "venv" / "bin" / "python"))
    plain = examine(own_path())
    assert (inside.path, inside.runtime) == (plain.path, plain.runtime)
    assert set(inside.prefixes) == {*plain.prefixes, str(tmp_path / "venv")}
    assert packages_of(inside) == (str(tmp_path / "venv" / "lib" / OWN / "site-packages"),)
    assert str(tmp_path) not in "".join(packages_of(plain))


def test_packages_that_others_may_change_are_left_out(tmp_path: Path) -> None:
    subprocess.run([own_path(), "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    inside = examine(str(tmp_path / "venv" / "bin" / "python"))
    (tmp_path / "venv" / "lib" / OWN / "site-packages").chmod(0o777)
    assert packages_of(inside) == ()


def test_the_first_one_is_the_engines_own_version_whoever_provides_it(tmp_path: Path) -> None:
    mine = fake(tmp_path / "mine" / OWN, (3, sys.version_info.minor, 0))
    assert next(iter(find_interpreters([], ""))) == OWN
    found = find_interpreters([str(mine), str(fake(tmp_path / "mine" / "python3.9"))], "")
    assert next(iter(found)) == OWN
    assert found[OWN].path == str(mine)


def test_an_added_one_is_preferred_remembered_and_taken_back(tmp_path: Path) -> None:
    named, first, second = (fake(tmp_path / name / "bin/python3.9") for name in ("named", "first", "second"))
    data = tmp_path / "data"
    live = runtimes(data, {}, str(named))
    live.refresh()
    assert live["python3.9"].path == str(named)
    for path in (first, second, first):
        Added(data).add(str(path))
    assert Added(data).paths() == [str(first), str(second)]
    live.refresh_if_stale()
    assert live["python3.9"].path == str(first)
    Added(data).remove(str(first))
    live.refresh_if_stale()
    assert live["python3.9"].path == str(second)
    again = runtimes(data, {})
    again.refresh()
    assert again["python3.9"].path == str(second)
    with pytest.raises(InvalidArgument, match="was not added"):
        Added(data).remove(str(first))


def test_what_was_named_and_cannot_be_one_is_said_and_hinders_no_other(tmp_path: Path) -> None:
    named = fake(tmp_path / "python3.9")
    live = runtimes(tmp_path / "data", {}, str(tmp_path / "gone"), str(named))
    live.refresh()
    assert live["python3.9"].path == str(named)
    assert live.refused == {str(tmp_path / "gone"): "there is no such executable file"}


def test_what_no_sandbox_would_see_is_not_added(tmp_path: Path) -> None:
    hidden = fake(tmp_path / "python3.9", answer=repr(("cpython", (3, 9, 1), "", ["/tmp/python", "/tmp/python"], "")))
    with pytest.raises(InvalidArgument, match="/tmp/python is where each sandbox has a folder of its own"):
        Added(tmp_path).add(str(hidden))


def test_what_cannot_be_a_runtime_is_not_added(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        Added(tmp_path).add(str(tmp_path / "nothing"))
    assert Added(tmp_path).paths() == []


def test_only_the_engines_user_can_write_what_was_added(tmp_path: Path) -> None:
    Added(tmp_path / "data").add(str(fake(tmp_path / "python3.9")))
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / ADDED_FILE).stat().st_mode & 0o777 == 0o600


def test_a_damaged_list_is_named(tmp_path: Path) -> None:
    (tmp_path / ADDED_FILE).write_text("{}")
    with pytest.raises(StoreUnusable, match=ADDED_FILE):
        Added(tmp_path).paths()


def test_one_that_is_changed_or_removed_is_told_of_once(tmp_path: Path) -> None:
    python = fake(tmp_path / "versions/3.9.99/bin/python3.9")
    told: list[frozenset[str]] = []
    live = runtimes(tmp_path / "data", {"PYENV_ROOT": str(tmp_path)})
    live.on_change = told.append
    live.refresh()
    live.refresh_if_stale()
    assert told == []
    fake(python, (3, 9, 100))
    live.refresh_if_stale()
    assert live.versions["python3.9"] == "3.9.100"
    python.unlink()
    live.refresh_if_stale()
    live.refresh_if_stale()
    assert told == [{"python3.9"}, {"python3.9"}]
    assert live.get("python3.9") is None or live["python3.9"].path != str(python)
