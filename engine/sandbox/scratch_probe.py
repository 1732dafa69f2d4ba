"""What this host can do for /tmp, found by making one: the checks that `cleave doctor` shows.

Leaves to engine.sandbox.scratch_choice which one an engine uses.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from engine.errors import EngineError, SandboxFault
from engine.model.host import Check
from engine.sandbox.scratch_backends import Backend, Images, Tmpfs
from engine.sandbox.scratch_choice import PROBE_MB, WEAKER_ENCRYPTION, WEAKER_TMP, TmpBackend, choose
from engine.sandbox.scratch_folders import Projects, Subvolumes

_FSCRYPT = "fscrypt: AES-256-XTS, a random key for each sandbox"
_MECHANISMS = {
    "auto": Images.mechanism,
    "loop": Images.mechanism,
    "project": Projects.mechanism,
    "btrfs": Subvolumes.mechanism,
    "tmpfs": Tmpfs.mechanism,
}


def probe_tmp(
    folder: Path,
    accept_weaker: Collection[str],
    *,
    encrypt: bool,
    max_sandboxes: int,
    asked: TmpBackend = "auto",
    reserve: bool = False,
) -> tuple[Check, ...]:
    """The checks "tmp" and "tmp-encryption". `folder` is on the disk where an engine's would be. Some 50 ms. Changes
    nothing on the host: quotas that are off stay off."""
    with tempfile.TemporaryDirectory(dir=folder if folder.is_dir() else None, prefix="cleave-probe-") as made:
        try:
            accepted = [*accept_weaker, WEAKER_ENCRYPTION]
            backend = choose(Path(made), accepted, asked=asked, encrypt=encrypt, reserve=reserve, turn_on=False)
        except (EngineError, OSError) as error:
            problem = error.message if isinstance(error, EngineError) else str(error)
            fix = error.fix if isinstance(error, EngineError) else "run the engine as root"
            return (
                Check("tmp", False, _MECHANISMS[asked], problem, fix, weaker=WEAKER_TMP),
                Check("tmp-encryption", False, _FSCRYPT, "there is no /tmp to encrypt", fix, weaker=WEAKER_TMP),
            )
        return (
            Check(
                "tmp",
                True,
                backend.mechanism,
                _room(backend, Path(made), max_sandboxes, asked),
                weaker=WEAKER_TMP if asked == "auto" and not backend.on_disk else "",
            ),
            _encryption(backend, Path(made), asked, wanted=encrypt, accepted=WEAKER_ENCRYPTION in accept_weaker),
        )


def _room(backend: Backend, folder: Path, max_sandboxes: int, asked: TmpBackend) -> str:
    if not backend.on_disk:
        how = "the weaker form, accepted by the settings" if asked == "auto" else f'as asked: tmp_backend = "{asked}"'
        return f"{backend.promise}; {how}"
    disk = os.statvfs(folder)
    fit = (disk.f_bavail * disk.f_frsize >> 20) // PROBE_MB
    text = f"{backend.promise}; the disk has room for {fit:,} full ones of {PROBE_MB} MB"
    return text + f", fewer than max_sandboxes ({max_sandboxes:,})" if fit < max_sandboxes else text


def _encryption(backend: Backend, folder: Path, asked: TmpBackend, *, wanted: bool, accepted: bool) -> Check:
    if not backend.on_disk:
        return Check("tmp-encryption", True, "memory", "nothing of it is on a disk")
    if not wanted:
        return Check("tmp-encryption", True, "none", "not asked for: tmp_encryption = false")
    if backend.encrypted:
        return Check("tmp-encryption", True, _FSCRYPT, "the key is gone with the sandbox")
    if accepted:
        detail = "the weaker form, accepted by the settings"
        return Check("tmp-encryption", True, "none", detail, weaker=WEAKER_ENCRYPTION)
    try:
        choose(folder, (), asked=asked, turn_on=False)
    except EngineError as error:
        return Check("tmp-encryption", False, _FSCRYPT, error.message, error.fix, weaker=WEAKER_ENCRYPTION)
    raise SandboxFault("tmp encryption", 0, "it works at the second try", fix="run `cleave doctor` again")
