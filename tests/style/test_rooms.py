"""Who imports whom, where import-linter does not see it: the guest, and the native extensions."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.style.tree import ROOT, sources, text

GUEST = [path for path in sources(".py") if path.parts[:2] == ("engine", "guest")]
# The fork server's module is loaded by zygotes from its file, and imported nowhere.
EXTENSIONS = [path for path in sources(".pyx") if path.parts[:2] == ("native", "engine")]


def imported(path: Path) -> Iterator[str]:
    """The absolute names of the modules that a file imports, wherever in it."""
    package = path.with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", GUEST, ids=str)
def test_the_guest_imports_the_standard_library_and_itself(path: Path) -> None:
    # In a sandbox the package is called cleave_guest; its extension lies beside it.
    own = ("engine.guest", "cleave_guest", "__future__")
    foreign = {
        name
        for name in imported(path)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith(own) and name != "_fork"
    }
    assert not foreign


@pytest.mark.parametrize("path", GUEST, ids=str)
def test_the_guest_is_python_3_9(path: Path) -> None:
    ast.parse(text(path), feature_version=(3, 9))


def test_the_engine_imports_of_the_guest_only_its_frames() -> None:
    outside = [path for path in sources(".py") if path.parts[0] == "engine" and path not in GUEST]
    used = {name for path in outside for name in imported(path) if name.startswith("engine.guest.")}
    assert all(name.startswith("engine.guest.wire") for name in used), used


@pytest.mark.parametrize("path", EXTENSIONS, ids=str)
def test_each_extension_has_a_stub_at_its_own_path_and_one_importer(path: Path) -> None:
    module = path.relative_to("native").with_suffix("")
    assert (ROOT / module).with_suffix(".pyi").exists(), "types are how Python code reads an extension"
    name = ".".join(module.parts)
    importers = [str(file) for file in sources(".py") if file.parts[0] == "engine" and name in imported(file)]
    assert len(importers) == 1, "one importer for each extension: the others go through it"
