"""Modules that are imported ahead: there when a function starts, once for all that want the same, refused where a fork
could not have them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
import pytest_asyncio

from engine.errors import NotInvocable
from engine.model.host import ZygoteFound
from engine.model.outcome import Outcome, StartKind
from engine.sandbox.counts import Happening, Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.pool import LinuxPool
from engine.v1 import resources_pb2
from engine.zygote.keeper import ZygoteSettings
from tests.doors import GrpcDoor, Refused, zip_of
from tests.engines import engine
from tests.packages import Packages, own_packages
from tests.pythons import each_python, pythons
from tests.remains import until
from tests.sandboxes import RUNTIME, real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

LOADED = """
    import sys
    before = sorted(sys.modules)

    def handler(event, context):
        import os
        return {"before": before, "pid": os.getpid(), "path": sys.path}
"""


@pytest.fixture
def packages() -> Iterator[Packages]:
    with own_packages() as packages:
        yield packages


@pytest_asyncio.fixture
async def pool(tmp_path: Path, packages: Packages) -> AsyncIterator[LinuxPool]:
    settings = ZygoteSettings(preload_timeout_s=2.0)
    async with real_pool(tmp_path / "pool", zygotes=settings, runtimes={RUNTIME: packages.interpreter}) as pool:
        yield pool


async def answer_of(pool: LinuxPool, code: Path, *preload: str, **settings: Any) -> tuple[Any, StartKind]:
    """What a function with this preload answers, in a sandbox of its own, and how that was started."""
    sandbox = await pool.start(replace(spec(code), preload=tuple(sorted(preload)), **settings))
    try:
        ending, seen = await run(sandbox)
        assert ending.outcome is Outcome.OK, ending
        assert seen.kind is not None
        return json.loads(ending.payload), seen.kind
    finally:
        await sandbox.close()


def zygotes(pool: LinuxPool, *preload: str) -> list[ZygoteFound]:
    """Those of a set that serve."""
    return [one for one in pool.zygote_reports() if one.preload == tuple(sorted(preload)) and not one.trouble]


def happened(pool: LinuxPool, what: Happening) -> int:
    """How often."""
    return {one.kind: one.count for one in pool.counts.events()}[what.value]


async def test_what_is_preloaded_is_there_before_the_functions_own_code_runs(
    pool: LinuxPool, packages: Packages, tmp_path: Path
) -> None:
    packages.write(ahead="import colorsys, os\nPID = os.getpid()\n")
    code = write_code(tmp_path / "code", LOADED)
    without, _ = await answer_of(pool, code)
    assert not {"ahead", "colorsys", "decimal"} & set(without["before"])
    found, _ = await answer_of(pool, code, "ahead", "decimal")
    assert {"ahead", "colorsys", "decimal"} <= set(found["before"])


async def test_installed_packages_come_last_on_the_path_and_only_with_a_preload(
    pool: LinuxPool, packages: Packages, tmp_path: Path
) -> None:
    code = write_code(tmp_path / "code", LOADED)
    found, _ = await answer_of(pool, code, "json")
    assert (found["path"][0], found["path"][-1]) == ("/var/task", str(packages.site))
    without, _ = await answer_of(pool, code)
    assert str(packages.site) not in without["path"]


async def test_functions_with_the_same_set_share_one_interpreter_and_its_memory(
    pool: LinuxPool, packages: Packages, tmp_path: Path
) -> None:
    packages.write(large="kept = bytearray(8 << 20)\n")
    code = write_code(tmp_path / "code", LOADED)
    for preload in (("large", "json"), ("json", "large"), ("json",)):
        await answer_of(pool, code, *preload)
    assert len(pool.zygote_reports()) == 3  # with both, with json, and the plain one
    (both,), (small,), (plain,) = (zygotes(pool, *preload) for preload in (("json", "large"), ("json",), ()))
    assert both.forks == 2
    assert 8 << 20 <= both.preload_memory_bytes < 16 << 20
    assert 0 < small.preload_memory_bytes < 4 << 20
    assert plain.preload_memory_bytes == 0


async def test_a_sandbox_with_a_preload_is_parked_too(tmp_path: Path, packages: Packages) -> None:
    packages.write(ahead="import colorsys\n")
    park = ParkSettings(floor=0, ceiling=2, rate_per_s=1_000)
    code = write_code(tmp_path / "code", LOADED)
    async with real_pool(tmp_path / "pool", park=park, runtimes={RUNTIME: packages.interpreter}) as pool:
        assert (await answer_of(pool, code, "ahead"))[1] is StartKind.FORK
        await until(lambda: pool.counts.alive(Resource.PARKED), what="one is parked")
        found, kind = await answer_of(pool, code, "ahead")
        assert (kind, "colorsys" in found["before"]) == (StartKind.PARKED, True)
        # A function with another set gets none of those.
        assert (await answer_of(pool, code, "json"))[1] is StartKind.FORK


async def test_a_functions_own_code_is_never_imported_ahead(pool: LinuxPool, tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", "import os\nos.abort()\n")
    with pytest.raises(NotInvocable, match="app cannot be imported: ModuleNotFoundError: No module named 'app'"):
        await pool.start(replace(spec(code), preload=("app",)))


async def test_a_module_runs_without_roots_rights_and_without_a_network(
    pool: LinuxPool, packages: Packages, tmp_path: Path
) -> None:
    packages.write(
        looks="""
            import os, socket
            WHO = os.getuid(), os.geteuid(), os.getgid()
            try:
                os.open("/etc/passwd", os.O_WRONLY)
            except OSError as error:
                WRITES = type(error).__name__
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.connect(("198.51.100.1", 9))
                    REACHES = "the network"
                except OSError as error:
                    REACHES = os.strerror(error.errno)
        """
    )
    code = write_code(
        tmp_path / "code", "import looks\ndef handler(e, c):\n    return vars(looks)['WHO'], looks.REACHES"
    )
    found, _ = await answer_of(pool, code, "looks")
    assert found == [[65534, 65534, 65534], "Network is unreachable"]


FAULTS = {
    "thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "started 1 thread, and no fork has them",
    ),
    "socket": ("import socket\nkept = socket.socket()", r"keeps open: socket:\["),
    "file": ("kept = open('/etc/passwd')", "keeps open: /etc/passwd"),
    "prints": ("print('hello')", "prints when it is imported: 'hello'"),
    "complains": ("import sys\nsys.stderr.write('beware')", "prints when it is imported: 'beware'"),
    "prints in C": (
        "import ctypes\nctypes.CDLL(None).printf(b'half a line')",
        "prints when it is imported: 'half a line'",
    ),
    "blocks": ("import time\ntime.sleep(1000)", "is not there within 2 s"),
    "spins": ("while True: pass", "is not there within 2 s"),
    "leaves": ("raise SystemExit(3)", "exits when it is imported: 3"),
    "exits": ("import os\nos._exit(3)", "ends the interpreter with status 3"),
    "crashes": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ends the interpreter with signal 9"),
    "raises": ("raise ValueError('no')", "cannot be imported: ValueError: no"),
    "absent": (None, "cannot be imported: ModuleNotFoundError: No module named 'faulty'"),
    "forks": ("import os, time\nif os.fork() == 0:\n    time.sleep(1000)", "started a process"),
    "shares": ("import mmap\nkept = mmap.mmap(-1, 4096)", "has memory that all sandboxes would share"),
    "alarms": ("import signal\nsignal.setitimer(signal.ITIMER_REAL, 1000)", "set a timer"),
    "closes": ("import os\nos.closerange(3, 64)", "ends the interpreter with status 1: OSError"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_module_that_no_fork_can_have_is_refused_by_name_and_nothing_else_is_disturbed(
    pool: LinuxPool, packages: Packages, tmp_path: Path, fault: str
) -> None:
    source, why = FAULTS[fault]
    if source is not None:
        packages.write(faulty=source)
    code = write_code(tmp_path / "code", LOADED)
    others = {process.pid for process in psutil.Process().children(recursive=True)}
    plain = zygotes(pool)
    refused = asyncio.ensure_future(pool.start(replace(spec(code), preload=("faulty", "json"))))
    assert (await answer_of(pool, code))[1] is StartKind.FORK  # also while it blocks
    with pytest.raises(
        NotInvocable, match=f"{RUNTIME} cannot import ahead what the function's preload names: faulty {why}"
    ):
        await refused
    (trouble,) = [one for one in pool.zygote_reports() if one.trouble]
    assert (trouble.preload, trouble.pid) == (("faulty", "json"), 0)
    assert trouble.trouble.startswith("faulty ")
    # The next start is refused at once, by the same reason, and without another try.
    with pytest.raises(NotInvocable, match="faulty"):
        await pool.start(replace(spec(code), preload=("faulty", "json")))
    assert happened(pool, Happening.PRELOAD_REFUSED) == 1
    assert pool.counts.alive(Resource.SANDBOXES) == 0
    assert [one.pid for one in zygotes(pool)] == [one.pid for one in plain]
    assert (await answer_of(pool, code, "json"))[1] is StartKind.FORK
    (with_json,) = zygotes(pool, "json")
    left = {process.pid for process in psutil.Process().children(recursive=True)}
    await until(lambda: not _alive(left - others - {with_json.pid}), what="what it had started is gone")
    assert _orphans(packages) == []


async def _invoke_for_ever(door: GrpcDoor, name: str) -> NoReturn:
    while True:
        await door.invoke(name)


def _alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid)]


def _orphans(packages: Packages) -> list[int]:
    """Processes that a module has left, which have the interpreter's command line."""
    parents = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "ppid"])
        if str(packages.site) in " ".join(process.info["cmdline"] or ()) and process.info["ppid"] not in parents
    ]


@each_python()
async def test_each_python_imports_ahead(tmp_path: Path, runtime: str) -> None:
    async with engine(tmp_path / "data") as running:
        source = "import sys\nbefore = set(sys.modules)\ndef handler(e, c):\n    return sorted(before)\n"
        await running.grpc.create("ahead", zip_of(source), runtime=runtime, preload=["json", "decimal"])
        assert {"json", "decimal"} <= set((await running.grpc.invoke("ahead")).json())
        host = await running.grpc.counts()
        (one,) = [one for one in host.zygotes if one.preload]
        assert (one.runtime, list(one.preload), one.forks) == (runtime, ["decimal", "json"], 1)
        function = await running.grpc.function("ahead")
        assert list(function.config.preload) == ["json", "decimal"]
        assert 0 < function.preload_memory_bytes == one.preload_memory_bytes
        assert pythons()[runtime].version


async def test_a_preload_that_cannot_be_had_is_refused_when_it_is_deployed(tmp_path: Path) -> None:
    async with engine(tmp_path / "data") as running:
        for preload in (["no_such_module"], ["json", "not a name"], ["test.__main__"], [f"m{n}" for n in range(33)]):
            with pytest.raises(Refused, match=r"config\.preload|cannot import ahead") as refused:
                await running.grpc.create("refused", zip_of("def handler(e, c):\n    return 1\n"), preload=preload)
            assert refused.value.code == "INVALID_ARGUMENT"
        await running.grpc.create("fine", zip_of("def handler(e, c):\n    return 1\n"), preload=["json"])
        with pytest.raises(Refused, match="no_such_module"):
            await running.grpc.update("fine", preload=["no_such_module"])
        assert (await running.grpc.invoke("fine")).json() == 1
        await running.grpc.update("fine", preload=[])
        assert (await running.grpc.invoke("fine")).json() == 1


async def test_a_module_that_breaks_later_fails_its_functions_visibly_until_they_leave_it_out(
    tmp_path: Path, packages: Packages
) -> None:
    packages.write(ahead="")
    async with engine(tmp_path / "data", interpreters=[str(packages.python)], keep_alive_s=0.0) as running:
        door = running.grpc
        await door.create("broken", zip_of("def handler(e, c):\n    return 1\n"), preload=["ahead"])
        await door.create("beside", zip_of("def handler(e, c):\n    return 2\n"))
        assert (await door.invoke("broken")).json() == 1
        packages.write(ahead="raise ValueError('broken since')")
        (zygote,) = [one for one in (await door.counts()).zygotes if one.preload]
        psutil.Process(zygote.pid).kill()
        with pytest.raises(Refused, match=r"ahead cannot be imported: ValueError: broken since") as refused:
            await _invoke_for_ever(door, "broken")  # until the engine knows that it is gone
        assert refused.value.code == "FAILED_PRECONDITION"
        function = await door.function("broken")
        assert function.state == resources_pb2.STATE_FAILED
        assert "broken since" in function.state_reason
        assert [one.trouble for one in (await door.counts()).zygotes if one.preload] == [function.state_reason]
        assert (await door.invoke("beside")).json() == 2
        await door.update("broken", preload=[])
        assert (await door.function("broken")).state == resources_pb2.STATE_ACTIVE
        assert (await door.invoke("broken")).json() == 1
