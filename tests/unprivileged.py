"""Programs of a user who is not root, for tests that are: what a laptop's owner, or a service without privilege, sees.

The user has no name, no groups and no home but a folder of the test's own. Where Python or the checkout lies below a
folder that is root's alone, the program gets a mount namespace in which the way there is open, and only that.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
import pytest

from tests.engines import Served

ROOT = Path(__file__).parent.parent
UID = 1_880_000_000 + os.getpid() % 1_000_000  # nobody else's, so that what runs as this user is of this run
UID_BASE = 2_000_000_000
"""Of its sandboxes, as they are called inside."""
ACCEPT_ALL = ("memory=rlimit", "cpu=none", "pids=rlimit", "tmp=tmpfs")
"""What such a user's engine needs to be accepted here, where nothing of the cgroups is theirs."""
_SWITCHES = {"kernel/unprivileged_userns_clone": "0", "kernel/apparmor_restrict_unprivileged_userns": "1"}


def need_user_namespaces() -> None:
    """Skip where the kernel's settings keep users from having user namespaces, and only there."""
    for name, value in _SWITCHES.items():
        path = Path("/proc/sys") / name
        if path.exists() and path.read_text().strip() == value:
            pytest.skip(f"this kernel lets only root make user namespaces: {path} is {value}")
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.exists() and limit.read_text().strip() == "0":
        pytest.skip(f"this kernel has no user namespaces: {limit} is 0")


def own_folder(folder: Path, uid: int = UID) -> Path:
    """A folder of the user's, which the user can reach."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, uid, uid)
    folder.chmod(0o700)
    return folder


def start_as_user(
    arguments: Sequence[str],
    home: Path,
    *,
    output: int = subprocess.PIPE,
    uid: int = UID,
    before: str = "",
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """`python ARGUMENTS` of the user, whose home is `home`, with its errors in its output. `before` are commands of
    root's, in the mount namespace."""
    program = shlex.join([sys.executable, *arguments])
    if uid:
        program = f"setpriv --reuid={uid} --regid={uid} --clear-groups -- {program}"
    opened = _open_ways([Path(sys.prefix), Path(sys.base_prefix), ROOT, home]) if uid else []
    script = "\n".join([*opened, before, f"exec {program}"])
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "/bin/sh", "-ec", script],
        cwd=ROOT,
        env={
            "PATH": f"{home / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(home),
            "CLEAVE_CONFIG": os.devnull,
            "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def serve_as_user(
    home: Path, accepted: Iterable[str] = ACCEPT_ALL, *, uid: int = UID, before: str = "", compile_ahead: bool = False
) -> Served:
    """An engine of the user's, in a process of its own; tests.engines.ready waits for it. `compile_ahead`: with
    sandboxes that none of its functions asked for."""
    data_dir, log = home / "data", home / "log"
    flags = ["--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0", "--log-format=json", "--drain-s=5"]
    flags += [f"--uid-base={UID_BASE}", "--compile-ahead" if compile_ahead else "--no-compile-ahead"]
    flags += [f"--data-dir={data_dir}", *(f"--accept-weaker={name}" for name in accepted)]
    with log.open("ab") as output:
        process = start_as_user(
            ["-m", "engine.cli.main", "serve", *flags], home, output=output.fileno(), uid=uid, before=before
        )
    return Served(data_dir, process, log)


def processes_of(uid: int = UID) -> dict[int, str]:
    """What runs as the user: process ids and what each is."""
    found = {}
    for process in psutil.process_iter(["uids", "cmdline"]):
        if process.info["uids"] and uid in process.info["uids"]:
            found[process.pid] = " ".join(process.info["cmdline"] or ["?"])
    return found


def _open_ways(wanted: Iterable[Path]) -> list[str]:
    """Commands after which all of `wanted` can be reached by everybody: each folder on the way that is closed to others
    gets an open one over it, in which only what is wanted is shown."""
    closed: dict[Path, set[Path]] = {}
    for path in (each.resolve() for each in wanted):
        for above in reversed(path.parents):
            if not above.stat().st_mode & stat.S_IXOTH:
                closed.setdefault(above, set()).add(path)
                break
    commands = []
    for above, paths in closed.items():
        apart = [path for path in paths if not any(other in path.parents for other in paths)]
        stage = [(f"/run/cleave-stage-{number}", shlex.quote(str(path))) for number, path in enumerate(apart)]
        commands += ["mount -t tmpfs tmpfs /run"]
        commands += [f"mkdir {at} && mount --rbind {path} {at}" for at, path in stage]
        commands += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(above))}"]
        commands += [f"mkdir -p {path} && mount --move {at} {path}" for at, path in stage]
        commands += ["umount /run"]
    return commands
