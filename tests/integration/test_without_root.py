"""Whole engines on hosts that lack something: run by a user who is not root, without cgroups, with those of v1 alone.

What cannot be enforced is refused with all of it named, and in its weaker form once the settings accept that by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from engine.sandbox.strays import end_strays
from engine.v1 import layers_pb2, layers_pb2_grpc
from engine.v1 import reports_pb2 as pb
from tests.doors import zip_of
from tests.engines import Served, end, ready
from tests.newuidmap import FIRST, set_id_programs
from tests.remains import until
from tests.unprivileged import (
    ACCEPT_ALL,
    UID,
    UID_BASE,
    need_user_namespaces,
    own_folder,
    processes_of,
    serve_as_user,
    start_as_user,
)

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

NO_CGROUPS = "umount --recursive --lazy /sys/fs/cgroup"
NO_UNIFIED = "umount /sys/fs/cgroup/unified"
TAG = sys.implementation.cache_tag
RLIMITS = ("memory=rlimit", "cpu=none", "pids=rlimit")
DAEMONS = """
    import os, signal, time
    def handler(event, context):
        if os.fork() == 0:
            os.setsid()
            for number in (1, 2, 3, 15):
                signal.signal(number, signal.SIG_IGN)
            os.fork()
            os.fork()
        while True:
            time.sleep(1)
"""


@contextlib.contextmanager
def home_of(uid: int = UID) -> Iterator[Path]:
    """A folder of the user's, in which nobody has left anything."""
    folder = own_folder(Path(tempfile.mkdtemp(prefix="cleave-user-")), uid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def serving(home: Path, accepted: tuple[str, ...] = ACCEPT_ALL, **how: Any) -> AsyncIterator[Served]:
    """An engine until it is stopped, or killed where the test has failed."""
    started = serve_as_user(home, accepted, **how)
    try:
        await ready(started)
        yield started
        if started.process.poll() is None:
            await started.stopped()
    finally:
        await started.close_doors()
        end(started)


async def refused(home: Path, accepted: tuple[str, ...] = (), **how: Any) -> str:
    """What an engine says that does not start."""
    started = serve_as_user(home, accepted, **how)
    try:
        assert await started.ended() != 0
        return started.said()
    finally:
        end(started)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Served]:
    """One of the user's, with every weaker form accepted."""
    need_user_namespaces()
    with home_of() as home:
        before = processes_of()
        async with serving(home) as started:
            yield started
        await until(lambda: processes_of().keys() <= before.keys(), what="all of it is gone")


async def create(engine: Served, name: str, source: str, **config: Any) -> None:
    await engine.grpc.create(name, zip_of(source), **({"memory_mb": 256, "timeout_ms": 20_000} | config))


async def test_without_root_an_engine_is_refused_with_all_that_is_missing_and_the_line_that_accepts_it() -> None:
    need_user_namespaces()
    before = processes_of()
    with home_of() as home:
        said = await refused(home)
        for limit in ("memory", "cpu", "pids", "tmp"):
            assert f"{limit}: " in said
        assert "run the engine as root" in said
        assert 'accept_weaker = ["memory=rlimit", "cpu=none", "pids=rlimit", "tmp=tmpfs"]' in said
    assert processes_of().keys() <= before.keys()


@pytest.mark.parametrize("left_out", ACCEPT_ALL)
async def test_one_weaker_form_that_is_not_named_is_enough_to_refuse(left_out: str) -> None:
    need_user_namespaces()
    with home_of() as home:
        said = await refused(home, tuple(name for name in ACCEPT_ALL if name != left_out))
    assert f"cannot enforce {left_out.partition('=')[0]}: " in said
    assert f'"{left_out}"' in said


async def test_a_name_that_is_no_weaker_form_is_refused_with_all_that_are() -> None:
    with home_of() as home:
        said = await refused(home, ("memory",))
    assert "accept_weaker" in said
    assert "memory=rlimit, cpu=nice, cpu=none, pids=rlimit, tmp=tmpfs, tmp-encryption=none" in said


async def test_every_limit_proves_to_hold_but_those_whose_weaker_form_was_accepted() -> None:
    need_user_namespaces()
    before = processes_of()
    with home_of() as home:
        folder = home / "tmp"
        folder.mkdir()
        own_folder(folder)
        settings = {"ACCEPT_WEAKER": ",".join(ACCEPT_ALL), "INIT_TIMEOUT_MS": "4000", "UID_BASE": str(UID_BASE)}
        environment = {"TMPDIR": str(folder), **{f"CLEAVE_{name}": value for name, value in settings.items()}}
        words = ["-m", "engine.cli.main", "doctor", "--prove", "-o", "json", "--address", "127.0.0.1:1"]
        with (home / "said").open("w+b") as said:
            process = start_as_user(words, home, output=said.fileno(), environment=environment)
            assert await asyncio.to_thread(process.wait, 100) == 0
            said.seek(0)
            document = json.load(said)
        held = {finding["limit"]: finding["held"] for finding in document["proof"]}
        assert {limit for limit in held if held[limit] is None} == {"memory", "CPU", "network, internet"}
        assert False not in held.values()
        assert len(held) >= 22
        assert list(folder.iterdir()) == []
    assert processes_of().keys() <= before.keys()


async def test_a_function_runs_cold_and_warm(engine: Served) -> None:
    await create(
        engine, "hello", "calls = []\ndef handler(event, context):\n    calls.append(1)\n    return len(calls)\n"
    )
    first, second = await engine.grpc.invoke("hello"), await engine.grpc.invoke("hello")
    assert (first.json(), second.json()) == (1, 2)
    assert first.report is not None
    assert second.report is not None
    assert (first.report.start_kind, second.report.start_kind) == (pb.START_KIND_FORK, pb.START_KIND_WARM)
    assert 0 < first.report.peak_memory_bytes < 256 << 20
    assert first.report.cpu_us > 0


async def test_what_is_in_force_is_said_for_each_limit(engine: Served) -> None:
    checks = {check.limit: check for check in (await engine.grpc.counts()).checks}
    weaker = {limit: check.weaker for limit, check in checks.items() if check.weaker}
    assert weaker == {"memory": "memory=rlimit", "cpu": "cpu=none", "pids": "pids=rlimit", "tmp": "tmp=tmpfs"}
    assert all(check.enforced for check in checks.values())
    assert checks["memory"].mechanism == "RLIMIT_DATA and RLIMIT_AS"
    assert "accepted by the settings" in checks["memory"].detail
    assert f"user {UID}" in checks["isolation"].detail


async def test_a_function_has_no_privilege_and_no_way_to_any(engine: Served) -> None:
    source = """
        import ctypes, errno, os, subprocess
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, *arguments):
            return 0 if getattr(libc, name)(*arguments) == 0 else errno.errorcode[ctypes.get_errno()]
        def opened(path):
            try:
                os.close(os.open(path, os.O_WRONLY))
                return 0
            except OSError as error:
                return errno.errorcode[error.errno]
        def handler(event, context):
            status = dict(line.split(":", 1) for line in open("/proc/self/status"))
            su = subprocess.Popen(["/usr/bin/su", "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            su.wait()
            return {
                "ids": sorted({*os.getresuid(), *os.getresgid()}),
                "capabilities": {int(status[key], 16) for key in status if key.startswith("Cap")} == {0},
                "no_new_privs": status["NoNewPrivs"].strip(),
                "namespaces": [call("unshare", flag) for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000)],
                "unmount": call("umount2", b"/proc", 2),
                "setuid": call("setuid", 0),
                "maps": [opened(f"/proc/self/{name}") for name in ("uid_map", "gid_map", "setgroups")],
                "raised": call("setrlimit", 2, (ctypes.c_ulong * 2)(1 << 40, 1 << 40)),
            }
    """
    await create(engine, "powers", source)
    found = (await engine.grpc.invoke("powers")).json()
    assert found["ids"] == [found["ids"][0]]
    assert UID_BASE <= found["ids"][0] < UID_BASE + 100
    assert found["capabilities"]
    assert found["no_new_privs"] == "1"
    assert found["namespaces"] == ["EPERM"] * 4
    assert (found["unmount"], found["raised"]) == ("EPERM", "EPERM")
    assert found["setuid"] in ("EPERM", "EINVAL")  # there is no user 0 in a namespace of one
    assert 0 not in found["maps"]


@pytest.mark.parametrize(
    "grab",
    ["bytearray(500 << 20)", "[bytes(1 << 20) for _ in range(500)]", "' ' * (1 << 40)"],
    ids=["at once", "in steps", "more than there is"],
)
async def test_memory_over_the_tier_is_told_from_other_failures(engine: Served, grab: str) -> None:
    name = f"grabs-{abs(hash(grab))}"
    await create(engine, name, f"def handler(event, context):\n    kept = {grab}\n    return 1\n")
    answer = await engine.grpc.invoke(name)
    assert answer.report is not None
    assert answer.report.outcome == pb.OUTCOME_OUT_OF_MEMORY
    assert answer.json()["errorType"] == "Runtime.ExitError"


async def test_shared_memory_over_the_tier_is_refused(engine: Served) -> None:
    source = "import mmap\ndef handler(event, context):\n    mmap.mmap(-1, 300 << 20)\n"
    await create(engine, "shares", source)
    assert "Cannot allocate memory" in (await engine.grpc.invoke("shares")).json()["errorMessage"]


async def test_an_end_of_its_own_making_is_not_taken_for_want_of_memory(engine: Served) -> None:
    await create(engine, "kills", "import os\ndef handler(event, context):\n    os.kill(os.getpid(), 9)\n")
    answer = await engine.grpc.invoke("kills")
    assert answer.report is not None
    assert answer.report.outcome == pb.OUTCOME_EXITED


async def test_what_is_in_tmp_is_not_taken_from_the_tier(engine: Served) -> None:
    source = """
        def handler(event, context):
            with open("/tmp/large", "wb") as file:
                for _ in range(400):
                    file.write(bytes(1 << 20))
            kept = bytearray(100 << 20)
            return len(kept)
    """
    await create(engine, "stores", source)
    answer = await engine.grpc.invoke("stores")
    assert answer.json() == 100 << 20
    assert answer.report is not None
    assert answer.report.tmp_written_bytes >= 400 << 20


async def test_a_timeout_takes_every_process_of_the_sandbox(engine: Served) -> None:
    before = processes_of()
    await create(engine, "daemons", DAEMONS, timeout_ms=1_000)
    answer = await engine.grpc.invoke("daemons")
    assert answer.report is not None
    assert answer.report.outcome == pb.OUTCOME_TIMEOUT
    await until(lambda: processes_of().keys() <= before.keys(), within_s=10, what="its processes are gone")


async def test_a_mounter_that_died_is_replaced(engine: Served) -> None:
    (mounter,) = [pid for pid, command in processes_of().items() if "mounts.py" in command]
    os.kill(mounter, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(mounter) or psutil.Process(mounter).status() == psutil.STATUS_ZOMBIE)
    await create(engine, "after", "def handler(event, context):\n    return 1\n")
    assert (await engine.grpc.invoke("after")).json() == 1


async def test_code_is_compiled_ahead_of_its_starts() -> None:
    need_user_namespaces()
    with home_of() as home:
        async with serving(home, compile_ahead=True) as engine:
            await create(engine, "f", "def handler(event, context):\n    return __cached__\n")
            store = engine.data_dir / "code" / "blobs"
            await until(lambda: list(store.glob("*/bytecode-*")), within_s=30, what="it is compiled")
            assert [path.name for path in store.glob("*/task/__pycache__/*")] == [f"app.{TAG}.pyc"]
            assert (await engine.grpc.invoke("f")).json() == f"/var/task/__pycache__/app.{TAG}.pyc"


async def test_what_runs_when_the_engine_is_killed_dies_with_it() -> None:
    need_user_namespaces()
    with home_of() as home:
        before = processes_of()
        async with serving(home) as killed:
            await create(killed, "daemons", DAEMONS)
            call = killed.grpc.call("daemons")
            await until(lambda: len(processes_of()) >= len(before) + 9, within_s=20, what="the daemons run")
            killed.signal(signal.SIGKILL)
            await killed.ended()
            await until(lambda: processes_of().keys() <= before.keys(), within_s=10, what="all of it is gone")
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await call


async def test_what_a_dead_engine_left_is_found_without_cgroups_and_nobody_elses(engine: Served) -> None:
    await create(engine, "bystander", "def handler(event, context):\n    return 1\n")
    await engine.grpc.invoke("bystander")
    with home_of() as home:
        before = processes_of()
        async with serving(home) as other:
            await create(other, "daemons", DAEMONS)
            call = asyncio.ensure_future(other.grpc.invoke("daemons"))
            await until(lambda: len(processes_of()) >= len(before) + 9, within_s=20, what="the daemons run")
            count = await asyncio.to_thread(end_strays, f"cleave-{other.instance}")
            assert count >= 2  # its zygote and process 1, with which the others die
            assert (await call).failed
            assert end_strays(f"cleave-{other.instance}") == 0
            assert before.keys() <= processes_of().keys()
    answer = await engine.grpc.invoke("bystander")
    assert answer.report is not None
    assert answer.report.start_kind == pb.START_KIND_WARM


async def test_with_ids_of_the_users_own_each_sandbox_is_another_user_of_the_host() -> None:
    need_user_namespaces()
    with home_of() as home, set_id_programs(home) as before:
        async with serving(home, before=before) as engine:
            (isolation,) = [check for check in (await engine.grpc.counts()).checks if check.limit == "isolation"]
            assert f"users from {FIRST} on (newuidmap)" in isolation.detail
            source = """
                import os, time
                def handler(event, context):
                    with open("/tmp/mine", "w") as file:
                        file.write("mine")
                    time.sleep(event["s"])
                    return [os.getuid(), os.getgid(), os.getgroups(), os.stat("/tmp/mine").st_uid]
            """
            await create(engine, "who", source)
            await create(engine, "daemons", DAEMONS, timeout_ms=1_000)
            slow = asyncio.ensure_future(engine.grpc.invoke("who", b'{"s": 1}'))
            await until(lambda: processes_of(FIRST), within_s=20, what="the first runs")
            fast = await engine.grpc.invoke("who", b'{"s": 0}')
            assert processes_of(FIRST + 1)
            for answer, uid in ((await slow, UID_BASE), (fast, UID_BASE + 1)):
                assert answer.json() == [uid, uid, [], uid]
            answer = await engine.grpc.invoke("daemons")
            assert answer.report is not None
            assert answer.report.outcome == pb.OUTCOME_TIMEOUT
            await until(lambda: not processes_of(FIRST + 2), within_s=10, what="its processes are gone")
        assert not processes_of(FIRST)


async def test_root_without_cgroups_is_refused_unless_rlimits_will_do() -> None:
    with home_of(0) as home:
        said = await refused(home, uid=0, before=NO_CGROUPS)
        assert "mount cgroup2 on /sys/fs/cgroup" in said
        assert 'accept_weaker = ["memory=rlimit", "cpu=none", "pids=rlimit"]' in said
        async with serving(home, RLIMITS, uid=0, before=NO_CGROUPS) as engine:
            checks = {check.limit: check for check in (await engine.grpc.counts()).checks}
            assert {limit for limit, check in checks.items() if check.weaker} == {"memory", "cpu", "pids"}
            assert checks["tmp"].mechanism.startswith("ext4")
            source = "def handler(event, context):\n    return len(bytearray(event['bytes']))\n"
            await create(engine, "grabs", source)
            assert (await engine.grpc.invoke("grabs", b'{"bytes": 1000}')).json() == 1000
            answer = await engine.grpc.invoke("grabs", b'{"bytes": 500000000}')
            assert answer.report is not None
            assert answer.report.outcome == pb.OUTCOME_OUT_OF_MEMORY


@pytest.mark.parametrize("hidden", [NO_UNIFIED] if Path("/sys/fs/cgroup/unified").is_dir() else [])
async def test_with_the_cgroups_of_v1_alone_every_limit_holds_in_full(hidden: str) -> None:
    with home_of(0) as home:
        async with serving(home, (), uid=0, before=hidden) as engine:
            checks = {check.limit: check for check in (await engine.grpc.counts()).checks}
            for limit in ("memory", "cpu", "pids", "tmp"):
                assert (checks[limit].enforced, checks[limit].weaker) == (True, ""), checks[limit]
            await create(engine, "daemons", DAEMONS, timeout_ms=1_000)
            answer = await engine.grpc.invoke("daemons")
            assert answer.report is not None
            assert answer.report.outcome == pb.OUTCOME_TIMEOUT


async def test_layers_are_merged_for_functions_of_the_users_engine(engine: Served) -> None:
    stub: Any = layers_pb2_grpc.LayerServiceStub(engine.grpc.channel)
    names = []
    for name, files in (("base", {"both": "base", "one": "base"}), ("more", {"both": "more"})):
        layer = layers_pb2.LayerVersion(code_blob=await engine.grpc.upload(zip_of(files)))
        request = layers_pb2.PublishLayerVersionRequest(parent=f"layers/{name}", layer_version=layer)
        names.append((await stub.PublishLayerVersion(request)).layer_version.name)
    source = "def handler(event, context):\n    return [open(f'/opt/{name}').read() for name in ('both', 'one')]\n"
    await create(engine, "layered", source, layers=names)
    assert (await engine.grpc.invoke("layered")).json() == ["more", "base"]
