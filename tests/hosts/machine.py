"""A machine with a kernel of its own, emulated by qemu, to run tests in where this host's kernel is not the kind that
they are about: pure cgroup v2, pure v1, hybrid, and no cgroups at all.

Theory of operation: `.ci/v2-image` makes the kernel and the root file system, once. For each run `tree_disk` packs what
is tested (engine/ as it is built, the tests, the packages that they import) and the arguments of each phase; `boot`
starts qemu with those two as read-only disks and an empty one for /tmp, passes on what the machine says on its serial
console, and reads the last line, in which it tells what each phase came to. What runs inside is
tests/hosts/guest/boot.sh's.

As a program it shows the machine's output as it comes:  python -m tests.hosts.machine bare tests/native -x
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("none", "v1", "hybrid", "bare", "delegated", "undelegated")
TREE = ("engine", "tests/*.py", "tests/native", "tests/integration", "tests/security", "tests/hosts", "pyproject.toml")
"""Of the repository, what the tests inside need."""
PACKAGES = ("pytest", "pytest-asyncio", "hypothesis", "boto3")
"""What they import beside what the engine requires, with all that these require."""
_END = "cleave-host end: "
_TMP_BYTES = 4 << 30  # sparse
_MEMORY_MB = 2_048
# One: two vCPUs of qemu's are hardly faster, and patching code that the other one runs has frozen the machine.
_CPUS = 1
_ALIVE = b"\0"  # comes every few seconds, whatever the tests do
_FROZEN_S = 60.0


@dataclass(frozen=True)
class Phase:
    """How one run of pytest inside ended."""

    exit: int
    passed: int
    failed: int
    skipped: int
    seconds: float


@dataclass
class Run:
    """What came of one boot."""

    output: str
    phases: Mapping[str, Phase] = field(default_factory=dict)
    boot_s: float = 0.0
    total_s: float = 0.0
    expired: bool = False  # the tests took too long
    frozen: bool = False  # the machine itself had stopped

    def of(self, phase: str) -> str:
        """The part of the output that is about a phase, and what came before the first one."""
        begin, end = (
            self.output.find(f"cleave-host phase {phase}:"),
            self.output.find(f"cleave-host phase {phase}: over"),
        )
        return self.output if begin < 0 or end < 0 else self.output[begin:end]


def image() -> Path:
    """The machine's kernel and root file system. Raises FileNotFoundError that says how to make them."""
    asked = subprocess.run([ROOT / ".ci/v2-image", "--check"], cwd=ROOT, capture_output=True, text=True)
    if asked.returncode != 0:
        raise FileNotFoundError(asked.stderr.strip())
    if shutil.which("qemu-system-x86_64") is None:
        raise FileNotFoundError("qemu-system-x86_64 is missing: .ci/prerequisites v2")
    return ROOT / asked.stdout.strip()


def tree_disk(folder: Path, job: Mapping[str, Sequence[str]], counts: str) -> Path:
    """A squashfs of what is tested, and of `job`: the arguments of pytest for each phase."""
    tree = folder / "tree"
    for source in (path for pattern in TREE for path in ROOT.glob(pattern)):
        target = tree / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=_link)
        else:
            _link(source, target)
    for path in _distribution_files([*PACKAGES, *_engine_requires()]):
        target = tree / "site" / path[1]
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(path[0], target)
    here = tree / "tests/hosts/guest"
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", here / "absent.so", here / "absent.c", "-ldl"], check=True
    )
    (tree / "job").mkdir()
    (tree / "job/counts").write_text(counts)
    for phase, arguments in job.items():
        (tree / "job" / phase).write_text("".join(f"{argument}\n" for argument in arguments))
    disk = folder / "tree.squashfs"
    subprocess.run(
        ["mksquashfs", tree, disk, "-noappend", "-no-progress", "-quiet", "-comp", "lz4", "-all-root"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=_with_sbin(),
    )
    shutil.rmtree(tree)
    return disk


def _engine_requires() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line).name for line in project["dependencies"]]


def _distribution_files(names: Iterable[str]) -> Iterable[tuple[Path, str]]:
    """Every file of these distributions and of what they require, with its path below site-packages."""
    wanted, seen = list(names), set[str]()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        distribution = metadata.distribution(name)
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
        for file in distribution.files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():  # scripts are elsewhere
                yield source, str(file)


def _link(source: str | Path, target: str | Path) -> None:
    """A copy that costs nothing, where both are on one file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _with_sbin() -> dict[str, str]:
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}


def boot(
    machine: Path, tree: Path, folder: Path, *, limit_s: float, hear: Callable[[str], None] = lambda _: None
) -> Run:
    """Run the machine until it ends, at most `limit_s`. `hear` gets each line as it comes. `folder` is for its /tmp.

    An emulator may freeze, about which the tests say nothing: it is started once more then."""
    started = time.monotonic()
    run = _boot(machine, tree, folder, limit_s, hear)
    if run.frozen:
        hear("the machine froze, and is started again")
        run = _boot(machine, tree, folder, limit_s - (time.monotonic() - started), hear)
    return run


def _boot(machine: Path, tree: Path, folder: Path, limit_s: float, hear: Callable[[str], None]) -> Run:
    scratch = folder / "tmp.ext4"
    with open(scratch, "wb") as disk:
        disk.truncate(_TMP_BYTES)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", scratch],
        check=True,
        env=_with_sbin(),
    )
    run = Run("")
    lines: list[str] = []
    started = heard = time.monotonic()
    over = threading.Event()
    process = subprocess.Popen(
        _command(machine, tree, scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def watch() -> None:
        while not over.wait(1):
            now = time.monotonic()
            run.expired, run.frozen = now - started > limit_s, now - heard > _FROZEN_S
            if run.expired or run.frozen:
                return process.kill()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        assert process.stdout is not None
        unfinished = b""
        while data := os.read(process.stdout.fileno(), 65_536):
            heard = time.monotonic()
            *whole, unfinished = (unfinished + data.replace(_ALIVE, b"")).split(b"\n")
            for raw in whole:
                lines.append(raw.decode(errors="replace").rstrip("\r"))
                hear(lines[-1])
                if lines[-1].startswith("cleave-host booted:"):
                    run.boot_s = time.monotonic() - started
    finally:
        over.set()
        watching.join()
        process.kill()
        process.communicate()
        scratch.unlink()
    run.total_s = time.monotonic() - started
    run.output = "\n".join(lines)
    run.phases = read_end(run.output)
    return run


def read_end(output: str) -> Mapping[str, Phase]:
    """What each phase came to, from the machine's last word; nothing where it did not come to say it."""
    ends = [line.removeprefix(_END) for line in output.splitlines() if line.startswith(_END)]
    return {name: Phase(**result) for name, result in json.loads(ends[-1]).items()} if ends else {}


def _command(machine: Path, tree: Path, scratch: Path) -> list[str]:
    disks = ((machine / "root.squashfs", "on"), (tree, "on"), (scratch, "off"))
    drives = [
        argument
        for path, read_only in disks
        # The machine's disks are of no use once it has ended.
        for argument in ("-drive", f"file={path},format=raw,if=virtio,readonly={read_only},cache=unsafe")
    ]
    return [
        "qemu-system-x86_64",
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(_CPUS), "-m", str(_MEMORY_MB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-nic", "none", "-no-reboot"),
        *("-kernel", str(machine / "vmlinuz"), "-initrd", str(machine / "initramfs")),
        # A panic ends the machine. The processor's weaknesses are not emulated, and what works around them is slow.
        *("-append", "console=ttyS0 loglevel=2 panic=-1 mitigations=off random.trust_cpu=on"),
        *drives,
    ]


def main(arguments: Sequence[str]) -> int:
    """`PHASE PYTEST_ARGUMENT…`: one phase, shown as it goes."""
    if not arguments or arguments[0] not in PHASES:
        print(f"usage: python -m tests.hosts.machine {'|'.join(PHASES)} [pytest argument]…", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="cleave-host-") as made:
        folder = Path(made)
        tree = tree_disk(folder, {arguments[0]: arguments[1:]}, os.environ.get("CLEAVE_COUNTS", "reduced"))
        run = boot(image(), tree, folder, limit_s=3_600, hear=lambda line: print(line, flush=True))
    print(f"booted after {run.boot_s:.1f} s, ended after {run.total_s:.1f} s")
    phase = run.phases.get(arguments[0])
    return 1 if phase is None else phase.exit


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
