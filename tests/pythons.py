"""The Pythons of this host that the engine runs, for tests that hold on each of them; under CI there have to be two."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from engine.runtimes.interpreters import Interpreter, find_interpreters
from engine.runtimes.places import python_folders
from engine.zygote.host import fork_module_path


@cache
def pythons() -> Mapping[str, Interpreter]:
    """By runtime name, the oldest first."""
    folders = python_folders(os.environ, str(Path.home()))
    found = find_interpreters([], os.environ.get("PATH", ""), folders=folders, fork_module=fork_module_path())
    return dict(sorted(found.items(), key=lambda item: int(item[0].rpartition(".")[2])))


def each_python() -> pytest.MarkDecorator:
    """Run a test on each, by the argument `runtime`."""
    return pytest.mark.parametrize("runtime", list(pythons()))
