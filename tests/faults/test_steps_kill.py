"""kill -9 of each process at each step: of a start, of invocations, of an end, of an engine's own start and stop.

The steps are those of the debug build (native/box/steps.h), in the zygote, in the sandbox before and after it has split
in two and in the engine; which there are is asked of a run that nobody disturbs. The process that reaches the step
waits there while the test kills the zygote, the sandbox's process 1, its guest or the engine; then it goes on, if it is
not the one that was killed. So over each thing that a /tmp can be made of here. Reduced counts kill at a sample of the
steps, full counts at all.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import psutil
import pytest

from engine.model.function import Egress
from engine.sandbox import box
from tests.conftest import full_counts
from tests.faults import steps_build
from tests.faults.steps_page import Step, StepsPage
from tests.native.filesystems import ALL, kinds, mounted
from tests.remains import cgroups_of, instance_of, leaves_of, loops_of, mounts_of, until
from tests.sandboxes import real_pool, run, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(900)]

UNDISTURBED = {"outcomes": ["ok", "ok", "exited"], "fault": ""}
FEW, FEWER = 12, 6
"""Steps that a reduced run kills each process at, spread over all of them; and an engine, which takes long to start."""
PR_SET_CHILD_SUBREAPER = 36
ASSIGNED = Step("assign: code mounted", 1)
PARKS = Step("guest: split off", 1)


class Engine:
    """steps_engine.py in a process of its own."""

    def __init__(self, data_dir: Path, page: StepsPage, egress: Egress, *, parks: bool, tmp: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.faults.steps_engine",
                str(data_dir),
                egress.value,
                "parks" if parks else "forks",
                tmp,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"CLEAVE_STEPS_PAGE": str(page.path)},
            cwd=steps_build.ROOT,
            text=True,
        )
        self._answers: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, command: str) -> None:
        """Give a command; `answer` or `killed` follows."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    @property
    def answered(self) -> bool:
        """Whether the answer is there."""
        return not self._answers.empty()

    def answer(self, within_s: float = 30.0) -> dict[str, Any]:
        """Wait for it."""
        try:
            line = self._answers.get(timeout=within_s)
        except Empty:
            raise AssertionError("the engine hangs") from None
        assert line, f"the engine ended with status {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def do(self, command: str) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self.ask(command)
        return self.answer()

    def end(self) -> None:
        """End it, whatever it does. Safe to call again."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdin.close()
        self.process.stdout.close()

    def zygote(self) -> int | None:
        """Its zygote, also one that does not serve yet."""
        return next((child.pid for child in self._children() if _parameter(child, "zygote.py")), None)

    def sandbox(self) -> int | None:
        """Process 1 of its sandbox."""
        return next((child.pid for child in self._children() if _level(child.pid) == 2), None)

    def guest(self) -> int | None:
        """Process 2 of its sandbox."""
        first = self.sandbox()
        members = psutil.Process(first).children() if first else []
        return members[0].pid if members else None

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()


def _parameter(process: psutil.Process, text: str) -> bool:
    """Whether a process was exec'ed with it, and is in the PID namespace of this one."""
    try:
        return _level(process.pid) == 1 and any(text in part for part in process.cmdline())
    except psutil.Error:
        return False


def _level(pid: int) -> int:
    """How deep in PID namespaces it is; 0 where there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next(len(line.split()) - 1 for line in lines if line.startswith("NSpid:"))


@pytest.fixture(scope="module", autouse=True)
def debug_build() -> None:
    steps_build.build()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[StepsPage]:
    page = StepsPage(tmp_path / "page")
    yield page
    page.close()


IMAGES = "loop"
"""The back end for /tmp that needs no file system of the test's own."""
OTHERS = ("tmpfs", *kinds())


@pytest.fixture
def tmp(request: pytest.FixtureRequest) -> str:
    """What a /tmp is made of: IMAGES, "tmpfs", or a kind of file system that limits folders."""
    return str(request.param)


@pytest.fixture
def data_dir(tmp_path: Path, tmp: str) -> Iterator[Path]:
    if tmp in ALL:
        with mounted(ALL[tmp], tmp_path / "on") as disk:
            yield disk / "data"
    else:
        yield tmp_path / "data"


@pytest.fixture
def engines(data_dir: Path, page: StepsPage, tmp: str) -> Iterator[Callable[..., Engine]]:
    """Starts engines, one after the other, over the same data directory."""
    started: list[Engine] = []

    def start(egress: Egress = Egress.NONE, *, parks: bool = False) -> Engine:
        started.append(Engine(data_dir, page, egress, parks=parks, tmp=ALL[tmp].backend if tmp in ALL else tmp))
        return started[-1]

    yield start
    page.release()
    for engine in started:
        engine.end()
    box.Host(f"cleave-{instance_of(data_dir)}").sweep(True)


@pytest.fixture
async def bystander(tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    """Another engine with a sandbox that has served; each call of this is one more event for it."""
    async with real_pool(tmp_path / "bystander") as pool:
        source = "calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return calls\n"
        sandbox = await pool.start(spec(write_code(tmp_path / "bystander" / "code", source)))
        expected = 0

        async def still_answers() -> None:
            nonlocal expected
            expected += 1
            ending, _ = await run(sandbox)
            assert (ending.outcome.value, ending.payload) == ("ok", str(expected).encode())

        await still_answers()
        yield still_answers
        await sandbox.close()


@pytest.fixture
def orphans(bystander: Callable[[], Any]) -> Iterator[Callable[[], list[str]]]:
    """Orphans come to this process, so that a killed engine's descendants can be told from others'. Gives those there
    are beside the children at the start, the bystander's; the dead ones are waited for."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before = {child.pid for child in psutil.Process().children()}

    def left() -> list[str]:
        found = []
        for child in psutil.Process().children():
            if child.pid in before:
                continue
            try:
                if child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)
                else:
                    found.append(f"{child.pid} {' '.join(child.cmdline())}")
            except (psutil.Error, ChildProcessError):
                continue
        return found

    yield left
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def sample(steps: list[Step], few: int) -> list[Step]:
    """All of them in full counts; else the same few each time, from the first to the last, and the narrowest of all: a
    sandbox is there, and nobody but its zygote knows."""
    assert len(steps) > few // 2, steps
    if full_counts() or len(steps) <= few:
        return steps
    chosen = {at * (len(steps) - 1) // (few - 1) for at in range(few)}
    return [step for at, step in enumerate(steps) if at in chosen or step == Step("zygote: cloned", 1)]


# With the step before which there is none, and that after which.
VICTIMS: dict[str, tuple[Callable[[Engine], int | None], str, str]] = {
    "zygote": (Engine.zygote, "", ""),
    "process 1": (Engine.sandbox, "sandbox: cloned", "process 1: reported"),
    "guest": (Engine.guest, "guest: split off", "process 1: reaped the guest"),
}


@pytest.mark.parametrize(
    ("victim", "parks", "tmp"),
    [
        *(pytest.param(victim, False, IMAGES, id=victim) for victim in VICTIMS),
        *(pytest.param(victim, True, IMAGES, id=f"{victim}, parking") for victim in VICTIMS),
        *(pytest.param("process 1", False, other, id=f"process 1, {other}") for other in OTHERS),
    ],
    indirect=["tmp"],
)
async def test_whatever_dies_in_a_sandboxs_life_the_engine_goes_on_and_nothing_is_left(
    victim: str,
    parks: bool,
    engines: Callable[..., Engine],
    page: StepsPage,
    data_dir: Path,
    bystander: Callable[[], Any],
) -> None:
    engine = engines(parks=parks)
    engine.do("open")
    assert engine.do("run") == UNDISTURBED
    page.arm()
    assert engine.do("run") == UNDISTURBED
    find, birth, death = VICTIMS[victim]
    names = [step.name for step in page.reached()]
    assert parks == (ASSIGNED in page.reached())
    steps = page.reached()[names.index(birth) if birth else 0 : names.index(death) + 1 if death else None]
    page.off()
    before = {name: value for name, value in engine.do("look").items() if name != "zygotes"}
    killed = 0
    pid = None
    for step in sample(steps, FEW):
        page.arm(step)
        engine.ask("run")
        if await asyncio.to_thread(page.wait, lambda: engine.answered):
            pid = find(engine)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                killed += 1
        page.release()
        answer = await asyncio.to_thread(engine.answer)
        page.off()
        if victim == "zygote" or pid is None:
            assert answer == UNDISTURBED, f"{step}: no start depends on a zygote that can be replaced"
        elif parks and steps.index(step) <= steps.index(PARKS):
            # While process 1 stands at a step of its own the guest goes on, and may have been given its function.
            if answer != UNDISTURBED:
                assert step.name.startswith("process 1:"), f"{step}: nobody depends on what is nobody's yet: {answer}"
                assert_told(answer, step, victim)
        else:
            assert_told(answer, step, victim)

        again = await asyncio.to_thread(engine.do, "run")
        assert again == UNDISTURBED, f"after the {victim} was killed at {step}: {again}"
        after = await asyncio.to_thread(engine.do, "look")
        zygotes = after.pop("zygotes")
        assert after == before, f"the {victim} was killed at {step}"
        assert len(zygotes) == 1
        assert {child.pid for child in psutil.Process(engine.process.pid).children()} == set(zygotes), step
        assert leaves_of(instance_of(data_dir)) == [], step
        await until(lambda: not loops_of(data_dir), within_s=5, what=f"{step}: the loop device is gone")
        await bystander()
    assert killed >= len(sample(steps, FEW)) // 2, "hardly ever was there anything to kill"
    engine.do("close")
    assert names_in(data_dir / "scratch" / "folders") == set()
    assert cgroups_of(instance_of(data_dir)) == []


def names_in(folder: Path) -> set[str]:
    """What is in it, if it is there."""
    return set(os.listdir(folder)) if folder.is_dir() else set()


def assert_told(answer: dict[str, Any], step: Step, victim: str) -> None:
    """Of a sandbox that was killed: its function served up to there and then exited, or the engine says that it could
    not be started. Before the guest is there the function is never blamed."""
    outcomes = answer["outcomes"]
    if answer["fault"]:
        assert "exited" not in outcomes, (step, answer)
    else:
        assert outcomes in (["exited"], ["ok", "exited"], ["ok", "ok", "exited"], ["ok"], ["ok", "ok"]), (step, answer)
    # The one that stood there was killed; elsewhere the guest may have gone on before its end came.
    if step.name.startswith({"process 1": "sandbox:", "guest": "guest: split"}[victim]):
        assert answer["fault"], (step, answer)


@pytest.mark.parametrize(
    ("egress", "parks", "tmp"),
    [
        pytest.param(Egress.NONE, False, IMAGES, id="egress none"),
        pytest.param(Egress.INTERNET, False, IMAGES, id="egress internet, where the host has it"),
        pytest.param(Egress.NONE, True, IMAGES, id="parking"),
        *(pytest.param(Egress.NONE, False, other, id=other) for other in OTHERS),
    ],
    indirect=["tmp"],
)
async def test_an_engine_killed_at_any_step_leaves_nothing_that_the_next_one_does_not_remove(
    egress: Egress,
    parks: bool,
    tmp: str,
    engines: Callable[..., Engine],
    page: StepsPage,
    data_dir: Path,
    bystander: Callable[[], Any],
    orphans: Callable[[], list[str]],
) -> None:
    first = engines(egress, parks=parks)
    page.arm()
    for command in ("open", "run", "close"):
        first.do(command)
    steps = page.reached()
    assert parks == (ASSIGNED in steps)
    page.off()
    first.end()
    killed = 0
    for step in sample(steps, FEWER):
        engine = engines(egress, parks=parks)
        page.arm(step)
        if await reached(engine, page):
            killed += 1
        engine.process.kill()
        page.release()
        await asyncio.to_thread(engine.end)
        page.off()
        await until(lambda: not orphans(), within_s=5, what=f"killed at {step}, everything it started has died")
        await until(lambda: not loops_of(data_dir), within_s=5, what=f"killed at {step}, no loop device")
        assert mounts_of(data_dir) == []
        await bystander()
    assert killed > 0.9 * len(sample(steps, FEWER)), "steps that were there once were not there again"

    last = engines(egress, parks=parks)
    last.do("open")
    assert leaves_of(instance_of(data_dir)) == []
    kept: dict[str, set[str]] = {IMAGES: {"512.ext4"}, "tmpfs": set()}
    assert names_in(data_dir / "scratch") - {"code"} == kept.get(tmp, {"folders"})
    assert names_in(data_dir / "scratch" / "code") == {"nothing", "tried"}
    assert names_in(data_dir / "scratch" / "folders") == set()
    assert last.do("run") == UNDISTURBED
    gone = last.do("close")
    assert set(gone["alive"].values()) == {0}
    last.end()
    assert cgroups_of(instance_of(data_dir)) == []


async def reached(engine: Engine, page: StepsPage) -> bool:
    """Open, run and close it until somebody waits at the step."""
    for command in ("open", "run", "close"):
        engine.ask(command)
        if await asyncio.to_thread(page.wait, lambda: engine.answered):
            return True
        engine.answer()
    return False
