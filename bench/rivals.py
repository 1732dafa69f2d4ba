"""Other ways to start the same interpreter with the same handler: python3 -S, bubblewrap and runc, beside the engine.

Theory of operation: a turn is one start of each rival, one parked start over gRPC, and a block of echoes, so that all
see the same machine. A rival is timed from the spawn of its program until the answer to its event is read; that it
ends after that is not counted. Each is given what favours it: bytecode compiled ahead, files in the page cache, and a
spawn by posix_spawn. bubblewrap has namespaces of each kind, a read-only root, no capabilities, and neither a seccomp
filter nor limits; runc has all of that and a cgroup of the function's tier.

`start` compares a rival with what a parked start takes above the echo: neither has gRPC in it. `served` puts the echo
on both sides, as if the rival stood behind a server that costs nothing else.

A rival that is not installed, or does not run here, is absent from the row, with the reason.
"""

from __future__ import annotations

import compileall
import contextlib
import io
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

from engine.cli.benching.comparison import summary, times
from engine.cli.benching.scenarios import EVENT, Trial
from engine.cli.benching.show import ms
from engine.runtimes.interpreters import Interpreter, find_interpreters

DRIVER = Path(__file__).with_name("rival_start.py")
INSIDE_CODE, INSIDE_DRIVER = "/var/task", "/var/start.py"
UID = 65_534
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
ANSWER_WITHIN_S = 60


@dataclass(frozen=True)
class Place:
    """What is started: the interpreter, the unpacked code, and a folder for what a rival keeps."""

    interpreter: Interpreter
    code: Path
    folder: Path
    memory_mb: int

    def folders(self) -> list[str]:
        """The host's folders that the interpreter needs, outermost first, none inside another."""
        wanted = [folder for folder in ("/usr", *self.interpreter.prefixes) if os.path.isdir(folder)]
        return [folder for folder in wanted if not any(folder.startswith(f"{other}/") for other in wanted)]

    def links(self) -> dict[str, str]:
        """Links at the root that lead into them, such as /lib: by name, the target."""
        names = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
        return {name: os.readlink(name) for name in names if os.path.islink(name)}

    def roots(self) -> list[str]:
        """The same names where they are no links."""
        return [name for name in ("/bin", "/lib", "/lib64") if os.path.isdir(name) and not os.path.islink(name)]


def python(place: Place) -> list[str]:
    """The interpreter alone."""
    return [place.interpreter.path, "-S", str(DRIVER), str(place.code)]


def bubblewrap(place: Place) -> list[str]:
    """bwrap, with namespaces of each kind and a root of read-only mounts."""
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--uid", str(UID), "--gid", str(UID), "--hostname", "sandbox"]
    for folder in (*place.folders(), *place.roots()):
        words += ["--ro-bind", folder, folder]
    for name, target in place.links().items():
        words += ["--symlink", target, name]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    words += ["--ro-bind", str(place.code), INSIDE_CODE, "--ro-bind", str(DRIVER), INSIDE_DRIVER]
    return [*words, "--remount-ro", "/", place.interpreter.path, "-S", INSIDE_DRIVER, INSIDE_CODE]


def runc(place: Place) -> list[str]:
    """runc, from a bundle that is written here: namespaces, a read-only root, no capabilities, limits of the tier."""
    bundle = place.folder / "bundle"
    if not bundle.exists():
        root = bundle / "rootfs"
        (root / "tmp").mkdir(parents=True)
        (root / "tmp").chmod(0o1777)  # whose mode the mount takes on
        for name, target in place.links().items():
            (root / name.lstrip("/")).symlink_to(target)
        (bundle / "config.json").write_text(json.dumps(_runc_config(place)))
    return [
        "runc",
        "--root",
        str(place.folder / "state"),
        "run",
        "--bundle",
        str(bundle),
        f"cleave-bench-{os.getpid()}",
    ]


@dataclass(frozen=True)
class Rival:
    """One of them: its key in results, what people call it, the program that has to be there, and its command line."""

    name: str
    words: str
    program: str
    command: Callable[[Place], list[str]]


RIVALS = (
    Rival("python", "python3 -S", "", python),
    Rival("bubblewrap", "bubblewrap", "bwrap", bubblewrap),
    Rival("runc", "runc", "runc", runc),
)


@dataclass
class Contest:
    """All that can run here, in turns with parked starts."""

    place: Place
    trial: Trial
    echoes_us: list[list[float]] = field(default_factory=list)
    parked_us: list[float] = field(default_factory=list)
    rivals_us: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rival in RIVALS:
            try:
                self._start(rival)  # the first one is not counted: it reads files from the disk
            except OSError as error:
                self.absent[rival.name] = str(error)
            else:
                self.rivals_us[rival.name] = []

    def turn(self) -> None:
        """One start of each. Raises OSError where one that could run does not return its event."""
        self.trial.before()
        begun = time.perf_counter_ns()
        self.trial.call()
        self.parked_us.append((time.perf_counter_ns() - begun) / 1000)
        for rival in RIVALS:
            if rival.name not in self.absent:
                self.rivals_us[rival.name].append(self._start(rival))

    def row(self, name: str) -> dict[str, Any]:
        """The result of all turns, microseconds and times."""
        parked = self.trial.row(self.parked_us, samples=True)
        echo_us = statistics.median(parked["samples_us"]["echo"])
        row = {
            "name": name,
            "memory_mb": self.place.memory_mb,
            "turns": len(self.parked_us),
            "left_out": parked["left_out"],
            "parked_us": parked["call_us"],
            "above_echo_us": parked["above_echo_us"],
            "echo_us": parked["echo_us"],
            "rivals_us": {rival: summary(took_us) for rival, took_us in self.rivals_us.items()},
            "times": {rival: self._times(took_us, echo_us) for rival, took_us in self.rivals_us.items()},
            "absent": {f"times.{rival}": why for rival, why in self.absent.items()},
            "samples_us": {"parked": parked["samples_us"]["call"]},
        }
        for rival, took_us in self.rivals_us.items():
            row["samples_us"][rival] = [round(took, 1) for took in took_us]
        return row

    def _times(self, all_us: list[float], echo_us: float) -> dict[str, float]:
        counted = self.trial.counted()
        rival_us, parked_us = list(compress(all_us, counted)), list(compress(self.parked_us, counted))
        start = times(rival_us, [took - echo_us for took in parked_us])
        served = times([took + echo_us for took in rival_us], parked_us)
        return {"start": start["times"], "resolution": start["resolution"], "served": served["times"]}

    def _start(self, rival: Rival) -> float:
        """Microseconds until its answer. Raises OSError with the reason where it does not come."""
        if rival.program and shutil.which(rival.program) is None:
            raise OSError(f"{rival.program} is not installed; as root on Debian: .ci/prerequisites bench")
        command = rival.command(self.place)
        program = shutil.which(command[0]) or command[0]
        with contextlib.ExitStack() as stack:
            said = stack.enter_context(tempfile.TemporaryFile())
            event, answer_write, answer = (stack.enter_context(open(fd, mode, 0)) for fd, mode in _pipes())
            actions = [
                (os.POSIX_SPAWN_DUP2, event.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, answer_write.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
            ]
            begun = time.perf_counter_ns()
            pid = os.posix_spawn(program, command, ENVIRONMENT, file_actions=actions)
            answer_write.close()
            came = select.select([answer], [], [], ANSWER_WITHIN_S)[0]
            first = answer.read(65_536) if came else b""
            took_us = (time.perf_counter_ns() - begun) / 1000
            if not came:
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if first != EVENT or status != 0:
                said.seek(0)
                lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
                last = lines[-1] if lines else f"it ended with status {status}"
                raise OSError(f"{rival.words} does not run here: {last[-300:]}")
        return took_us


def _pipes() -> Iterator[tuple[int, str]]:
    """What a rival reads its event from, with the event in it; what it writes its answer to, and where that is read."""
    read, write = os.pipe2(os.O_CLOEXEC)
    yield read, "rb"
    os.write(write, EVENT)
    os.close(write)
    read, write = os.pipe2(os.O_CLOEXEC)
    yield write, "wb"
    yield read, "rb"


HEAD = ("THE SAME HANDLER", "MB", "STARTS", "P50", "P90", "P99", "PARKED IS FASTER, START", "SERVED")


def table(result: dict[str, Any]) -> list[Sequence[str]]:
    """A line for each way to start it; ± is the resolution of the ratio."""
    lines: list[Sequence[str]] = []
    for row in result["rows"]:
        if "rivals_us" in row:
            turns, label = str(row["turns"]), row["name"]
            tail = ("", "")
            lines.append(
                (f"{label}: parked, with gRPC", str(row["memory_mb"]), turns, *_three(row["parked_us"]), *tail)
            )
            for rival in RIVALS:
                lines.append((f"{label}: {rival.words}", "", *_cells(row, rival, turns)))
    return lines


def _cells(row: dict[str, Any], rival: Rival, turns: str) -> Iterable[str]:
    if rival.name not in row["rivals_us"]:
        return ("0", row["absent"][f"times.{rival.name}"], "", "", "", "")
    found = row["times"][rival.name]
    start = f"{found['start']:.1f} ±{found['resolution']:.1f} times"
    return (turns, *_three(row["rivals_us"][rival.name]), start, f"{found['served']:.1f} times")


def _three(us: dict[str, float]) -> Iterable[str]:
    return (ms(us[name]) for name in ("p50", "p90", "p99"))


@contextlib.contextmanager
def contest(trial: Trial, code: bytes) -> Iterator[Contest]:
    """The rivals with the code that the trial's function has, in a folder that goes with the context."""
    with tempfile.TemporaryDirectory(prefix="cleave-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        unpacked = folder / "code"
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(unpacked)
        compileall.compile_dir(unpacked, quiet=2)
        own = next(iter(find_interpreters([], "").values()))
        try:
            yield Contest(Place(own, unpacked, folder, trial.scenario.memory_mb), trial)
        finally:
            _remove_container(folder)


def _remove_container(folder: Path) -> None:
    """What a runc that was interrupted has left."""
    state = folder / "state"
    for container in state.iterdir() if state.exists() else ():
        subprocess.run(["runc", "--root", str(state), "delete", "--force", container.name], capture_output=True)


def _runc_config(place: Place) -> dict[str, Any]:
    def bound(source: str, target: str) -> dict[str, Any]:
        options = ["rbind", "ro", "nosuid", "nodev"]
        return {"destination": target, "type": "bind", "source": source, "options": options}

    binds = [bound(folder, folder) for folder in (*place.folders(), *place.roots())]
    binds += [bound(str(place.code), INSIDE_CODE), bound(str(DRIVER), INSIDE_DRIVER)]
    proc = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}
    dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]}
    tmp = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
    return {
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": UID, "gid": UID},
            "args": [place.interpreter.path, "-S", INSIDE_DRIVER, INSIDE_CODE],
            "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        },
        "mounts": [proc, dev, tmp, *binds],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")],
            "resources": {
                "memory": {"limit": place.memory_mb << 20},
                "cpu": {"quota": max(1_000, 100_000 * place.memory_mb // 1_769), "period": 100_000},
                "pids": {"limit": 1_024},
            },
        },
    }
