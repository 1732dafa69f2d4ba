"""Which way of making a /tmp an engine uses: the strongest that works on this host, or the one that the settings name.

Found by making one. Guarantees: what was asked for and does not work, or only in a form that is weaker than the
operator accepted, is refused with what to do; what a killed engine left in the same folder is removed first.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from engine.errors import EngineError, HostUnfit, SandboxFault
from engine.model.weaker import Weaker
from engine.sandbox.scratch_backends import Backend, Images, Tmpfs
from engine.sandbox.scratch_folders import CRYPT_STAGE, Projects, Subvolumes, sweep

TmpBackend = Literal["auto", "loop", "project", "btrfs", "tmpfs"]
"""As the setting tmp_backend names them; the order is that of "auto"."""

WEAKER_TMP = Weaker.TMP_TMPFS
"""In accept_weaker: a /tmp in memory will do."""
WEAKER_ENCRYPTION = Weaker.TMP_ENCRYPTION_NONE
"""In accept_weaker: a /tmp that lies on the disk unencrypted will do."""
PROBE_MB = 512
"""The size that is tried: the smallest, and every function's unless it asks for more."""
_FIXES = {
    "loop": "run as root, with the loop module and ext4",
    "project": "put the data directory on ext4 made by `mkfs.ext4 -O project,quota,encrypt`, or on XFS, either mounted "
    "with the option prjquota, and run as root on Linux 5.14 or later",
    "btrfs": "put the data directory on btrfs and run as root; the engine turns its quotas on where "
    'tmp_backend = "btrfs" says so, as does `btrfs quota enable`',
    "tmpfs": "run as root, or in a user namespace that may mount",
}
_ENCRYPTION_FIXES = {
    "loop": "use a kernel with CONFIG_FS_ENCRYPTION and AES-XTS",
    "project": "use ext4 with `tune2fs -O encrypt`, and a kernel with CONFIG_FS_ENCRYPTION and AES-XTS",
    "btrfs": 'use loop images, which are encrypted: tmp_backend = "loop"',
}


def choose(
    folder: Path,
    accept_weaker: Collection[str],
    *,
    asked: TmpBackend = "auto",
    encrypt: bool = True,
    reserve: bool = False,
    turn_on: bool = True,
) -> Backend:
    """The one that `asked` names, or the strongest that works here; some 20 ms. Raises HostUnfit, with what to do,
    where that would be weaker than asked and the operator did not accept it. For a full disk it raises SandboxFault.
    Without `turn_on`, quotas that are off are not turned on for it, as they are where "btrfs" is asked for."""
    with contextlib.suppress(SandboxFault):  # what somebody holds keeps its limits, and is the next start's
        sweep(folder)

    def attempt(name: str) -> Backend:
        return _attempt(
            name, folder, accept_weaker, encrypt=encrypt, reserve=reserve, turn_on=turn_on and asked == "btrfs"
        )

    if asked != "auto":
        try:
            return attempt(asked)
        except HostUnfit as unfit:
            fix = f'{unfit.fix}, or let the engine choose: tmp_backend = "auto"'
            raise HostUnfit(f'{unfit.message} (tmp_backend = "{asked}")', fix=fix) from unfit
    try:
        return attempt("loop")
    except HostUnfit as unfit:
        if isinstance(unfit.__cause__, SandboxFault) and unfit.__cause__.stage == CRYPT_STAGE:
            raise  # a kernel without encryption has it nowhere
        problem = unfit
    for name in ("project", "btrfs"):
        try:
            return attempt(name)
        except HostUnfit:
            continue
    if WEAKER_TMP in accept_weaker:
        return attempt("tmpfs")
    raise HostUnfit(
        problem.message, fix=f'{problem.fix}, or accept a /tmp that counts as memory: accept_weaker = ["{WEAKER_TMP}"]'
    ) from problem


def _attempt(
    name: str, folder: Path, accept_weaker: Collection[str], *, encrypt: bool, reserve: bool, turn_on: bool
) -> Backend:
    """Raises HostUnfit, and SandboxFault for a full disk."""
    if reserve and name in ("project", "btrfs"):
        raise HostUnfit(
            "only loop images can take the whole of a /tmp from the disk when it is made",
            fix='set tmp_reserve = false, or tmp_backend = "loop"',
        )

    def backend(encrypted: bool) -> Backend:
        match name:
            case "loop":
                return Images(folder, encrypt=encrypted, reserve=reserve)
            case "project":
                return Projects(folder, encrypt=encrypted)
            case "btrfs":
                return Subvolumes(folder, encrypt=encrypted, turn_on=turn_on)
        return Tmpfs()

    try:
        try:
            return _working(backend(encrypt))
        except SandboxFault as problem:
            if problem.stage != CRYPT_STAGE or WEAKER_ENCRYPTION not in accept_weaker:
                raise
            return _working(backend(encrypted=False))
    except EngineError as problem:
        if isinstance(problem, SandboxFault) and problem.errno == errno.ENOSPC:
            raise
        if isinstance(problem, SandboxFault) and problem.stage == CRYPT_STAGE:
            raise HostUnfit(
                f"/tmp cannot be encrypted on this host: {problem.text}",
                fix=f"{_ENCRYPTION_FIXES[name]}, or accept the weaker form: "
                f'accept_weaker = ["{WEAKER_ENCRYPTION}"], or do not ask for it: tmp_encryption = false',
            ) from problem
        raise HostUnfit(
            f"/tmp cannot have a quota on this host: {problem.message}",
            fix=problem.fix if isinstance(problem, HostUnfit) else _FIXES[name],
        ) from problem


def _working(backend: Backend) -> Backend:
    backend.make(PROBE_MB).close()
    return backend
