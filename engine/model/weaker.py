"""The names under which an operator accepts the weaker form of a limit: the setting accept_weaker."""

from __future__ import annotations

from enum import StrEnum


class Weaker(StrEnum):
    """`limit=form`: what holds instead where this host cannot do more. Nothing is accepted that is not named."""

    MEMORY_RLIMIT = "memory=rlimit"
    """RLIMIT_DATA and RLIMIT_AS: each process of a sandbox may have the tier, memory that is not mapped is not counted
    (files in /tmp, memfd, pipes), and swap is not off."""
    CPU_NICE = "cpu=nice"
    """A weight against neighbours by the tier, on a full machine; no ceiling."""
    CPU_NONE = "cpu=none"
    """Neither weight nor ceiling: a sandbox takes what CPU it gets."""
    PIDS_RLIMIT = "pids=rlimit"
    """RLIMIT_NPROC of a user that only this sandbox is; before Linux 5.14 without root, of the engine's own user."""
    TMP_TMPFS = "tmp=tmpfs"
    """/tmp in memory, with its quota. Where a cgroup limits memory its limit is the tier and the quota of /tmp
    together."""
    TMP_ENCRYPTION_NONE = "tmp-encryption=none"
    """What is in /tmp may be on a disk in the clear: in the file under it, or in swap."""
