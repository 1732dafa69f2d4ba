"""Size, first lines and names of the source files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.style.tree import files, sources, text

LINE_LIMIT = 450
CODE = (".py", ".pyx", ".pxd", ".pxi", ".c", ".h", ".proto")


def test_no_source_file_is_longer_than_a_reader_can_hold() -> None:
    long = {str(path): lines for path in sources(*CODE) if (lines := text(path).count("\n")) > LINE_LIMIT}
    assert not long, f"over {LINE_LIMIT} lines: split by topic"


def test_every_module_says_first_what_it_does() -> None:
    # An empty __init__.py marks a folder as a package, in tests only.
    marks = [path for path in sources(".py") if path.parts[0] == "tests" and not text(path)]
    silent = [
        str(path) for path in sources(".py") if path not in marks and not ast.get_docstring(ast.parse(text(path)))
    ]
    assert not silent


def test_every_native_and_proto_file_says_first_what_it_does() -> None:
    opening = {
        ".c": ("/*", "//"),
        ".h": ("/*", "//"),
        ".proto": ("//",),
        ".pyx": ("#", '"""'),
        ".pxd": ("#", '"""'),
        ".pxi": ("#",),
    }
    silent = [
        str(path)
        for path in sources(*opening)
        # Cython's own directives have to be in the first lines.
        if not re.sub(r"\A(# (cython|distutils):.*\n)*", "", text(path)).lstrip().startswith(opening[path.suffix])
    ]
    silent = [name for name in silent if text(Path(name)).strip()]  # an empty __init__.pxd marks a package for Cython
    assert not silent


def test_no_room_is_called_utils() -> None:
    vague = re.compile(r"(utils?|helpers?|common|misc)(\.\w+)?")
    assert not [str(path) for path in files() if any(vague.fullmatch(part) for part in path.parts)]


def test_no_room_is_empty() -> None:
    rooms = {path.parts[1] for path in sources(".py") if path.parts[0] == "engine" and len(path.parts) > 2}
    furnished = {
        path.parts[1]
        for path in sources(".py", ".pyi")
        if path.parts[0] == "engine" and len(path.parts) > 2 and path.name != "__init__.py"
    }
    assert rooms == furnished


FOREIGN = {
    "a path of somebody's machine": re.compile(
        r"(?<![\w.}])/(?:root|home/\w+|Users/\w+)/[\w.]|/work/(?:main|shared)\b"
    ),
    "the host of a package registry": re.compile(
        r"\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs\.org|proxy\.golang\.org)\b"
    ),
    "work that was put off": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_holds_what_belongs_elsewhere(what: str) -> None:
    # The licence is quoted whole, and this file has the patterns.
    own = [path for path in files() if path.name != "LICENSE" and path != Path("tests/style/test_sources.py")]
    found = [f"{path}: {match[0]}" for path in own if (match := FOREIGN[what].search(text(path)))]
    assert not found


def test_nothing_changes_a_global() -> None:
    changing = [
        f"{path}:{node.lineno}"
        for path in sources(".py")
        if path.parts[0] == "engine"
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Global)
    ]
    assert not changing, "hand state in through a constructor: DESIGN, no globals"


def test_tests_wait_for_events_and_not_by_the_clock() -> None:
    """A sleep in a loop polls what announces nothing, such as the kernel's own clearing up; any other is a guess."""
    sleeping = []
    for path in (path for path in sources(".py") if path.parts[0] == "tests"):
        tree = ast.parse(text(path))
        polls = {
            call
            for loop in ast.walk(tree)
            if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
            for call in ast.walk(loop)
        }
        sleeping += [
            f"{path}:{call.lineno}"
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "time.sleep" and call not in polls
        ]
    assert not sleeping
