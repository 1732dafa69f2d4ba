"""A pool over the debug build, in a process of its own that a test may kill at any step.

    python -m tests.faults.steps_engine DATA_DIR EGRESS parks|forks TMP_BACKEND

The page is named in CLEAVE_STEPS_PAGE. Reads one command a line and answers each with one line of JSON; ends at the end
of its input, without clearing up. A sandbox here is started, invoked twice, told to exit, and closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tests.faults import steps_build


def _load_box() -> ModuleType:
    """Put the debug build where the engine looks for its own."""
    name = "engine.sandbox._box"
    spec = importlib.util.spec_from_file_location(name, steps_build.BOX)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_load_box()
step_in = ctypes.CDLL(str(steps_build.BOX)).box_step

from engine.errors import EngineError, HostUnfit  # noqa: E402  # over the debug build
from engine.fabric.datadir import DataDir  # noqa: E402
from engine.model.function import Egress  # noqa: E402
from engine.runtimes.interpreters import Interpreter, find_interpreters  # noqa: E402
from engine.sandbox.counts import Resource  # noqa: E402
from engine.sandbox.demand import ParkSettings  # noqa: E402
from engine.sandbox.lifecycle import SandboxState  # noqa: E402
from engine.sandbox.network import NetworkSettings  # noqa: E402
from engine.sandbox.pool import LinuxPool  # noqa: E402
from engine.sandbox.scratch_choice import TmpBackend  # noqa: E402
from engine.sandbox.uids import base_of  # noqa: E402
from engine.zygote import host as zygote_host  # noqa: E402
from tests.sandboxes import RUNTIME, run, spec, write_code  # noqa: E402

CODE = """
    import ctypes, os
    # Loaded in the zygote already; its path is not to be seen from here, so that it goes by its soname.
    step = ctypes.CDLL("cleave-steps", mode=os.RTLD_NOLOAD | os.RTLD_NOW).box_step
    step(b"guest: init")
    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        step(b"guest: handler")
        print("call", calls)
        if event.get("exit"):
            os._exit(0)
        return calls
"""


def _stepping(folder: Path) -> dict[str, Interpreter]:
    """This Python, started with the page: a zygote gets no environment from the engine."""
    real = find_interpreters([], os.environ.get("PATH", ""))[RUNTIME]
    wrapper = folder.with_name(f"{folder.name}-python")
    wrapper.write_text(f'#!/bin/sh\nCLEAVE_STEPS_PAGE={os.environ["CLEAVE_STEPS_PAGE"]} exec {real.path} "$@"\n')
    wrapper.chmod(0o755)
    return {RUNTIME: Interpreter(RUNTIME, str(wrapper), real.prefixes)}


class Driver:
    """The commands."""

    def __init__(self, data_dir: Path, egress: Egress, parks: bool, tmp: TmpBackend) -> None:
        self.egress = egress
        self.parks = parks
        zygote_host.fork_module_path = lambda: steps_build.FORK
        data = DataDir.open(data_dir)
        self.code = write_code(data_dir.with_name(f"{data_dir.name}-code"), CODE)
        layers = [write_code(data_dir.with_name(f"{data_dir.name}-{name}"), "") for name in ("base", "more")]
        self.layers = tuple(str(layer) for layer in layers)
        self.pool = LinuxPool(
            instance_id=data.instance_id,
            scratch_dir=data.path / "scratch",
            interpreters=_stepping(data_dir),
            uid_base=base_of(data.instance_id, 16),
            uid_count=16,
            tmp_pool_size=0,
            tmp_backend=tmp,
            accept_weaker=("tmp=tmpfs", "tmp-encryption=none"),
            leaf_pool_size=0,
            network=NetworkSettings(pool_size=0),
            park=ParkSettings(ceiling=1, memory_mb=0) if parks else None,  # none by itself: `run` makes them
            own_process=True,
        )

    async def open(self) -> dict[str, Any]:
        """Start, with a zygote."""
        left = await self.pool.open(RUNTIME)
        try:
            self.pool.refuse(self.egress)
        except HostUnfit:
            self.egress = Egress.NONE
        return {"left": left, "egress": self.egress.value}

    async def run(self) -> dict[str, Any]:
        """One sandbox's life: {"outcomes": [...]}, with "fault" where the engine failed."""
        outcomes: list[str] = []
        if self.parks:
            await self.pool.park_one(RUNTIME)
        try:
            wanted = replace(spec(self.code, egress=self.egress), layer_paths=self.layers)
            sandbox = await self.pool.start(wanted)
        except EngineError as error:
            return {"outcomes": outcomes, "fault": str(error)}
        sandbox.listen(_moved)
        fault = ""
        try:
            for event in ({}, {}, {"exit": True}):
                if not sandbox.dead:
                    outcomes.append((await run(sandbox, event))[0].outcome.value)
        except EngineError as error:
            fault = str(error)
        await sandbox.close()
        return {"outcomes": outcomes, "fault": fault}

    async def look(self) -> dict[str, Any]:
        """What there is of this engine, by its own account, once the networks that wait for it are freed."""
        counts = self.pool.counts
        while counts.alive(Resource.NETWORKS):
            await asyncio.sleep(0.001)
        return {
            "alive": {kind.value: counts.alive(kind) for kind in Resource},
            "zygotes": sorted(self.pool.zygote_pids.values()),
            "fds": _fds(),
        }

    async def close(self) -> dict[str, Any]:
        """Stop in order."""
        await self.pool.close()
        return await self.look()


def _moved(left: SandboxState, entered: SandboxState) -> None:
    step_in(f"engine: sandbox {entered.value}".encode())


def _fds() -> list[str]:
    """What its descriptors are, without what differs between two of a kind."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}").partition("[")[0])
    return sorted(found)


async def main(data_dir: Path, egress: Egress, parks: bool, tmp: TmpBackend) -> None:
    """Serve commands."""
    driver = Driver(data_dir, egress, parks, tmp)
    loop = asyncio.get_running_loop()
    commands: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        name: getattr(driver, name) for name in ("open", "run", "look", "close")
    }
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer = await commands[line.strip()]()
        print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Egress(sys.argv[2]), sys.argv[3] == "parks", cast(TmpBackend, sys.argv[4])))
