"""/tmp for an engine that may not mount: a tmpfs that its mounter makes, in the mounter's user namespace.

It has its quota of bytes and of files like any other. It is memory: counted with the sandbox's where a cgroup counts
that, whose limit is raised by the quota; and where none does, by nobody but its own quota.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import psutil

from engine.errors import SandboxFault
from engine.model.host import Check
from engine.model.weaker import Weaker
from engine.sandbox import box
from engine.sandbox.means import Means, accept_line, may_mount, unfit
from engine.sandbox.scratch_backends import Backend, Images, Tmpfs
from engine.sandbox.scratch_choice import PROBE_MB, TmpBackend, choose
from engine.sandbox.scratch_probe import probe_tmp
from engine.sandbox.scratch_template import FILES_PER_MB
from engine.zygote.mounter import Mounter


class MounterTmpfs(Tmpfs):
    """Memory, mounted by the mounter."""

    def __init__(self, mounter: Mounter) -> None:
        self._mounter = mounter

    def make(self, size_mb: int) -> box.Scratch:
        """See the protocol."""
        return box.scratch_of(self._mounter.tmpfs(size_mb << 20, size_mb * FILES_PER_MB))


def user_tmp_checks(
    mounter: Mounter | None, accept_weaker: Collection[str], *, asked: TmpBackend, encrypt: bool
) -> tuple[Check, ...]:
    """The checks "tmp" and "tmp-encryption" of such an engine, by making one."""
    name = Weaker.TMP_TMPFS
    if asked not in ("auto", "tmpfs"):
        fix = f'run the engine as root, or let it choose: tmp_backend = "auto" with {accept_line([name])}'
        return (Check("tmp", False, asked, f'only root can have tmp_backend = "{asked}"', fix),)
    try:
        if mounter is None:
            raise SandboxFault("tmp mount", 0, "there are no user namespaces to mount it in")
        MounterTmpfs(mounter).make(PROBE_MB).close()
    except SandboxFault as fault:
        return (Check("tmp", False, Tmpfs.mechanism, fault.message, "run the engine as root"),)
    if name not in accept_weaker and asked == "auto":
        fix = f"run the engine as root; or accept a /tmp in memory: {accept_line([name])}"
        return (Check("tmp", False, Images.mechanism, "only root can mount an image", fix, weaker=name),)
    detail = "the weaker form, accepted by the settings: its quota is memory beside the tier"
    return (
        Check("tmp", True, "tmpfs", detail, weaker=name),
        _encryption(accept_weaker) if encrypt else Check("tmp-encryption", True, "none", "not asked for"),
    )


def _encryption(accept_weaker: Collection[str]) -> Check:
    if not psutil.swap_memory().total:
        return Check("tmp-encryption", True, "memory", "nothing of it is on a disk: this host has no swap")
    name = Weaker.TMP_ENCRYPTION_NONE
    detail = "this host has swap, where what is in memory can be written in the clear"
    if name in accept_weaker:
        return Check(
            "tmp-encryption", True, "none", f"the weaker form, accepted by the settings: {detail}", weaker=name
        )
    fix = f"swapoff -a, or encrypt the swap and accept it: {accept_line([name])}; or tmp_encryption = false"
    return Check("tmp-encryption", False, "memory", detail, fix, weaker=name)


def tmp_checks(
    folder: Path,
    means: Means,
    accept_weaker: Collection[str],
    *,
    asked: TmpBackend = "auto",
    encrypt: bool,
    reserve: bool = False,
    max_sandboxes: int = 0,
) -> tuple[Check, ...]:
    """The checks "tmp" and "tmp-encryption" of an engine with these means. Some 50 ms."""
    if means.mounter is None and may_mount():
        return probe_tmp(
            folder, accept_weaker, asked=asked, encrypt=encrypt, reserve=reserve, max_sandboxes=max_sandboxes
        )
    return user_tmp_checks(means.mounter, accept_weaker, asked=asked, encrypt=encrypt)


def choose_tmp(
    folder: Path, means: Means, *, accept_weaker: Collection[str], asked: TmpBackend, encrypt: bool, reserve: bool
) -> Backend:
    """What this engine makes /tmp with. Raises HostUnfit with all that this host cannot enforce, limits of `means`
    included, and SandboxFault for a full disk."""
    missing = means.missing()
    if not missing and means.mounter is None:
        return choose(folder, accept_weaker, asked=asked, encrypt=encrypt, reserve=reserve)
    checks = tmp_checks(folder, means, accept_weaker, asked=asked, encrypt=encrypt, reserve=reserve)
    missing = (*missing, *(check for check in checks if not check.enforced))
    if missing or means.mounter is None:
        raise unfit(missing, accept_weaker)
    return MounterTmpfs(means.mounter)
