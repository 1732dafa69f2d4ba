"""Layers in sandboxes: what a function sees of them, parked or forked, and what they cost one without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from engine.errors import SandboxFault
from engine.guest.interpreter import COMMON
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.api import SandboxSpec
from engine.sandbox.pool import LinuxPool
from tests.integration.test_parked import parked, parking
from tests.sandboxes import RUNTIME, run, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

SITE = f"python/lib/{RUNTIME}/site-packages"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["parked", "fork"])
async def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    floor = 1 if request.param == "parked" else 0
    async with parking(tmp_path_factory.mktemp("pool"), floor=floor) as pool:
        yield pool


@pytest.fixture
def kind(request: pytest.FixtureRequest, pool: LinuxPool) -> StartKind:
    """How sandboxes of the pool start."""
    return StartKind.PARKED if request.node.callspec.params["pool"] == "parked" else StartKind.FORK


def layer(folder: Path, files: Mapping[str, str]) -> str:
    """A layer as the code store unpacks it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o555)
    folder.chmod(0o755)
    return str(folder)


def layered(code: Path, *layers: str) -> SandboxSpec:
    plain = spec(code)
    environment = {**plain.environment, "PATH": COMMON["PATH"], "LD_LIBRARY_PATH": COMMON["LD_LIBRARY_PATH"]}
    return replace(plain, layer_paths=layers, environment=environment)


async def answer(pool: LinuxPool, wanted: SandboxSpec, kind: StartKind, event: object = None) -> Any:
    if kind is StartKind.PARKED:
        await parked(pool, 1)
    sandbox = await pool.start(wanted)
    ending, seen = await run(sandbox, event)
    await sandbox.close()
    assert ending.outcome is Outcome.OK, ending
    assert seen.kind is kind
    return json.loads(ending.payload)


async def test_layers_are_one_tree_in_which_a_later_one_hides_what_an_earlier_has(
    pool: LinuxPool, kind: StartKind, tmp_path: Path
) -> None:
    base = layer(tmp_path / "base", {"data/a": "base", "data/b": "base", "kind": "file", "only": "base"})
    more = layer(tmp_path / "more", {"data/b": "more", "data/c": "more", "kind/inside": "folder"})
    source = """
        import os
        def handler(event, context):
            found = {}
            for folder, _, names in os.walk("/opt"):
                for name in names:
                    found[os.path.join(folder, name)] = open(os.path.join(folder, name)).read()
            return found
    """
    code = write_code(tmp_path / "code", source)
    seen = await answer(pool, layered(code, base, more), kind)
    assert seen == {
        "/opt/data/a": "base",
        "/opt/data/b": "more",
        "/opt/data/c": "more",
        "/opt/kind/inside": "folder",
        "/opt/only": "base",
    }
    assert (await answer(pool, layered(code, more, base), kind))["/opt/data/b"] == "base"
    assert await answer(pool, layered(code, more), kind) == {
        "/opt/data/b": "more", "/opt/data/c": "more", "/opt/kind/inside": "folder"
    }  # fmt: skip
    assert await answer(pool, layered(code), kind) == {}


async def test_modules_of_layers_are_imported_after_the_codes_own(
    pool: LinuxPool, kind: StartKind, tmp_path: Path
) -> None:
    files = {
        f"{SITE}/both.py": "x = 'site-packages'",
        f"{SITE}/mine.py": "x = 'layer'",
        "python/both.py": "x = 'python'",
        "python/plain.py": "x = 'python'",
        "python/package/__init__.py": "from . import inner",
        "python/package/inner.py": "x = 'inner'",
    }
    source = """
        import both, mine, plain, package, sys
        def handler(event, context):
            found = [both.x, mine.x, plain.x, package.inner.x, plain.__file__]
            return [*found, [path for path in sys.path if path.startswith(("/var/task", "/opt"))], sys.path[0]]
    """
    code = write_code(tmp_path / "code", source)
    (code / "mine.py").write_text("x = 'code'")
    assert await answer(pool, layered(code, layer(tmp_path / "layer", files)), kind) == [
        *("site-packages", "code", "python", "inner", "/opt/python/plain.py"),
        ["/var/task", f"/opt/{SITE}", "/opt/python"],
        "/var/task",
    ]


async def test_the_handler_may_be_a_layers(pool: LinuxPool, kind: StartKind, tmp_path: Path) -> None:
    wrapper = layer(
        tmp_path / "layer",
        {"python/wrapper/__init__.py": "", "python/wrapper/main.py": "import app\ndef handler(e, c): return app.f(e)"},
    )
    wanted = layered(write_code(tmp_path / "code", "def f(event): return [event]"), wrapper)
    assert await answer(pool, replace(wanted, handler="wrapper.main.handler"), kind, 7) == [7]


async def test_programs_of_layers_are_on_the_path(pool: LinuxPool, kind: StartKind, tmp_path: Path) -> None:
    tools = layer(tmp_path / "layer", {"bin/tool-of-a-layer": "#!/bin/sh\necho found\n"})
    source = """
        import subprocess
        def handler(event, context):
            return subprocess.run(["tool-of-a-layer"], capture_output=True, text=True).stdout
    """
    assert await answer(pool, layered(write_code(tmp_path / "code", source), tools), kind) == "found\n"


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
async def test_shared_libraries_of_layers_are_found_by_their_names(
    pool: LinuxPool, kind: StartKind, tmp_path: Path
) -> None:
    """By ctypes, by a library that needs another, and in programs that the function starts."""
    folder = tmp_path / "layer"
    (folder / "lib").mkdir(parents=True)

    def build(name: str, program: str, *needs: str) -> None:
        source = tmp_path / "source.c"
        source.write_text(program)
        shared = () if name.startswith("bin/") else ("-shared", "-fPIC")
        flags = [f"-L{folder}/lib", *(f"-l{need}" for need in needs)]
        subprocess.run(["cc", *shared, "-o", str(folder / name), str(source), *flags], check=True, timeout=60)

    build("lib/liblow.so", "int low(void) { return 40; }")
    build("lib/libhigh.so", "int low(void); int high(void) { return low() + 2; }", "low")
    (folder / "bin").mkdir()
    build("bin/high", "int high(void); int main(void) { return high(); }", "high", "low")
    source = """
        import ctypes, os, subprocess
        def handler(event, context):
            os.chdir("/tmp")
            return [ctypes.CDLL("libhigh.so").high(), subprocess.run(["high"]).returncode]
    """
    folder.chmod(0o755)
    wanted = layered(write_code(tmp_path / "code", source), str(folder))
    assert await answer(pool, wanted, kind) == [42, 42]


async def test_layers_are_read_only_and_say_nothing_of_the_host(
    pool: LinuxPool, kind: StartKind, tmp_path: Path
) -> None:
    layers = [layer(tmp_path / f"somewhere-{number}", {f"data/{number}": "x"}) for number in range(5)]
    source = """
        import os
        def tried(act):
            try:
                act()
            except OSError as error:
                return os.strerror(error.errno)
        def handler(event, context):
            lines = [line.split() for line in open("/proc/self/mountinfo")]
            (line,) = [line for line in lines if line[4].startswith("/opt")]
            writes = [
                lambda: open("/opt/new", "w"), lambda: open("/opt/data/0", "a"), lambda: os.unlink("/opt/data/0"),
                lambda: os.chmod("/opt/data/0", 0o777), lambda: os.mkdir("/opt/data/new"),
            ]
            return [line, [tried(write) for write in writes], sorted(os.listdir("/opt/data"))]
    """
    line, tried, names = await answer(pool, layered(write_code(tmp_path / "code", source), *layers), kind)
    assert set(tried) <= {"Read-only file system", "Permission denied", "Operation not permitted"}
    assert {"ro", "nosuid", "nodev"} <= set(line[5].split(","))
    assert line[3] == "/"
    assert "somewhere" not in " ".join(line)
    assert names == list("01234")
    assert [sorted(os.listdir(f"{one}/data")) for one in layers] == [["0"], ["1"], ["2"], ["3"], ["4"]]


async def test_a_layer_that_is_gone_from_the_disk_is_a_fault_and_leaves_nothing(
    pool: LinuxPool, tmp_path: Path
) -> None:
    there = layer(tmp_path / "there", {"x": "x"})
    code = write_code(tmp_path / "code", "def handler(event, context): return 1")
    with pytest.raises(SandboxFault, match="No such file"):
        await pool.start(layered(code, there, str(tmp_path / "gone")))
