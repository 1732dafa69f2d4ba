"""Fixtures: a guest of the interpreter that runs the tests, and one of each interpreter that this host has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest, name_of, pythons


@pytest.fixture(scope="session", autouse=True)
def bytecode() -> None:
    """Hundreds of guests start here, each of which would compile itself: they read bytecode and write none."""
    for python in pythons():
        subprocess.run([python, "-m", "compileall", "-q", str(Path(wire.__file__).parent)], check=False)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """A guest that waits for its SPEC."""
    with Guest(tmp_path) as started:
        yield started


@pytest.fixture(params=pythons(), ids=name_of)
def any_guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    """The same under each Python that pythons() names."""
    with Guest(tmp_path, python=request.param) as started:
        yield started


@pytest.fixture(params=pythons(), ids=name_of)
def python(request: pytest.FixtureRequest) -> str:
    """The path of each Python that pythons() names."""
    return str(request.param)
