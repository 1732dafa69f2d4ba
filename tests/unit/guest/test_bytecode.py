"""What the guest's own compiler makes of a folder of code, under each Python."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest

LIMIT_BYTES = 64 << 20
UNCHECKED = b"\1\0\0\0"
CHECKED = b"\3\0\0\0"


def compiled(guest: Guest, event: object = None) -> dict[str, bytes]:
    """The bytecode of each module, by its path."""
    guest.specify(wire.COMPILER)
    guest.event(event, stream_limit_bytes=LIMIT_BYTES)
    assert guest.frame() == (wire.READY, b""), guest.log
    answer = b""
    while True:
        kind, body = guest.frame()
        if kind != wire.CHUNK:
            break
        answer += body
    assert (kind, body) == (wire.RESULT, b"")
    return dict(records(answer))


def records(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data:
        place, size = wire.RECORD.unpack_from(data)
        data = data[wire.RECORD.size :]
        yield data[:place].decode(errors="surrogateescape"), data[place : place + size]
        data = data[place + size :]


def test_every_module_that_compiles_is_there_and_none_is_run(any_guest: Guest) -> None:
    any_guest.code("while True:\n    pass\n", "app.py")
    any_guest.code("", "pkg/__init__.py")
    any_guest.code("raise SystemExit\n", "pkg/deep/er/mod.py")
    any_guest.code("# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"), "latin.py")
    any_guest.code("def of another Python\n", "broken.py")
    any_guest.code(b"\0", "nothing.py")
    any_guest.code("x = 1", "text.txt")
    any_guest.code("né = 1\n", "names.py")
    any_guest.code("raise SystemExit\n", "unicodedata.py")  # which the compiler imports by itself for that
    assert sorted(compiled(any_guest)) == [
        "app.py",
        "latin.py",
        "names.py",
        "pkg/__init__.py",
        "pkg/deep/er/mod.py",
        "unicodedata.py",
    ]


LOAD = """
import importlib.util, json, marshal, sys
data = open(sys.argv[1], "rb").read()
code = marshal.loads(data[16:])
print(json.dumps([data[:4] == importlib.util.MAGIC_NUMBER, code.co_filename, eval(code.co_consts[0].__repr__())]))
"""


def test_it_is_what_that_python_reads_whatever_the_source_is(any_guest: Guest) -> None:
    any_guest.code("x = 'constant'\n", "pkg/mod.py")
    data = compiled(any_guest)["pkg/mod.py"]
    assert data[4:8] == UNCHECKED
    cached = any_guest.task_root / "mod.pyc"
    cached.write_bytes(data)
    done = subprocess.run([any_guest.python, "-c", LOAD, str(cached)], capture_output=True, check=True)
    assert json.loads(done.stdout) == [True, str(any_guest.task_root / "pkg" / "mod.py"), "constant"]


@pytest.mark.parametrize("mode", ["TIMESTAMP", "CHECKED_HASH", "UNCHECKED_HASH"])
def test_bytecode_that_is_good_is_left_and_what_is_stale_is_not(any_guest: Guest, mode: str) -> None:
    for name in ("good.py", "stale.py"):
        any_guest.code("x = 1\n", name)
        program = f"import py_compile, sys; m = py_compile.PycInvalidationMode.{mode}; "
        program += "py_compile.compile(sys.argv[1], doraise=True, invalidation_mode=m)"
        subprocess.run([any_guest.python, "-c", program, str(any_guest.task_root / name)], check=True)
    any_guest.code("x = 'other'\n", "stale.py")
    assert sorted(compiled(any_guest)) == ([] if mode == "UNCHECKED_HASH" else ["stale.py"])


LAYER = {"layer": True}
IMPORT = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import mod
print(json.dumps(mod.x))
"""


@pytest.mark.parametrize("mode", ["TIMESTAMP", "CHECKED_HASH", "UNCHECKED_HASH", "none"])
def test_bytecode_of_a_layer_holds_for_no_other_source(any_guest: Guest, mode: str) -> None:
    """Another layer's module may hide the source that it is of."""
    source = any_guest.task_root / "mod.py"
    any_guest.code("x = 'one'\n", "mod.py")
    if mode != "none":
        program = f"import py_compile, sys; m = py_compile.PycInvalidationMode.{mode}; "
        program += "py_compile.compile(sys.argv[1], doraise=True, invalidation_mode=m)"
        subprocess.run([any_guest.python, "-c", program, str(source)], check=True)
    found = compiled(any_guest, LAYER)
    assert sorted(found) == (["mod.py"] if mode in ("UNCHECKED_HASH", "none") else [])
    if not found:
        return
    assert found["mod.py"][4:8] == CHECKED
    program = "import importlib.util, sys; print(importlib.util.cache_from_source(sys.argv[1]))"
    done = subprocess.run([any_guest.python, "-c", program, str(source)], capture_output=True, check=True, text=True)
    cached = Path(done.stdout.strip())
    cached.parent.mkdir(exist_ok=True)
    for text, expected in (("x = 'one'\n", "two"), ("x = 'new'\n", "new")):
        cached.write_bytes(found["mod.py"].replace(b"one", b"two"))
        source.unlink()
        source.write_text(text)
        command = [any_guest.python, "-c", IMPORT, str(any_guest.task_root)]
        assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == expected


def test_much_of_it_comes_in_parts(guest: Guest) -> None:
    for number in range(40):
        guest.code(f"x = {'y' * 20_000!r}\n", f"m{number}.py")
    found = compiled(guest)
    assert len(found) == 40
    assert all(b"y" * 20_000 in data for data in found.values())
