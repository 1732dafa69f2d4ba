"""What this host gives an engine to limit its sandboxes with: found by doing it, from the strongest mechanism to the
weakest that the operator accepts by name.

    memory, cpu, pids   a cgroup of the sandbox's own, each of the three for itself; else rlimits and niceness
    isolation           namespaces made as root; else a user namespace for each sandbox

Leaves /tmp to engine.sandbox.scratch_backends and scratch_user. Guarantees: what is not enforced and not accepted is a
check that says so, with the fix and the name that would accept the weaker form.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import HostUnfit, SandboxFault
from engine.model.function import MEMORY_MB_PER_VCPU
from engine.model.host import Check
from engine.model.weaker import Weaker
from engine.sandbox import box
from engine.zygote.mounter import Mounter
from engine.zygote.subids import SubIds, find_subids

LIMITS = {"memory": "memory, swap off", "cpu": "cpu bandwidth and shares", "pids": "pids"}
"""What a cgroup limits, with the mechanism as people are told it."""
ISOLATION = "namespaces: pid, mount, ipc, uts, network, cgroup"
_AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
_SWITCHES = {
    "kernel.unprivileged_userns_clone": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
    "user.max_user_namespaces": "0",
}
"""Settings of the kernel that keep users from making user namespaces, with the value that does. Debian's, Ubuntu's,
user_namespaces(7)."""
_NICEST = 19
UID_COUNT = 4_096
"""As many users are there for sandboxes."""


@dataclass(frozen=True, slots=True)
class Means:
    """How this engine limits and isolates. `host` is open; whoever holds this calls `close`."""

    host: box.Host
    left: int  # sandboxes of a dead predecessor that were removed
    mounter: Mounter | None  # where the engine may not mount
    subids: SubIds | None  # where it has users to give away
    checks: tuple[Check, ...]

    @property
    def outer(self) -> tuple[int, int] | None:
        """User and group of the zygotes, where each sandbox needs a user namespace of its own below theirs."""
        return (os.geteuid(), os.getegid()) if self.mounter is not None and self.subids is None else None

    @property
    def code_mount(self) -> Callable[[bytes, bytes | None], int]:
        """Makes the detached mount of a folder: see box.code_mount."""
        return box.code_mount if self.mounter is None else self.mounter.code

    @property
    def merged_mount(self) -> Callable[[Sequence[bytes], bytes], int]:
        """Makes one of several folders: see box.merged_mount."""
        return box.merged_mount if self.mounter is None else self.mounter.merged

    @property
    def may_park(self) -> bool:
        """Whether a sandbox can be given its limits and its code once it is there: an rlimit cannot be, and a mount
        only by root."""
        return self.mounter is None and len(self.host.limits) == len(LIMITS)

    def missing(self) -> tuple[Check, ...]:
        """What is neither enforced nor accepted in its weaker form."""
        return tuple(check for check in self.checks if not check.enforced)

    def close(self) -> None:
        """End what it runs. The cgroups are the caller's to sweep."""
        if self.mounter is not None:
            self.mounter.close()


def find_means(slice_name: str, accept_weaker: Collection[str], *, uid_base: int, uid_count: int = UID_COUNT) -> Means:
    """Try everything, some 10 ms as root and 100 without. `slice_name` is what the engine's cgroups are called; the
    others say which users sandboxes run as."""
    host, left, problems = open_cgroups(slice_name)
    checks = [_cgroup_check(limit, host, problems, accept_weaker) for limit in LIMITS]
    if may_mount():
        return Means(host, left, None, None, (*checks, Check("isolation", True, ISOLATION)))
    mounter, subids, isolation = _user_namespaces(find_subids(uid_base, uid_count))
    return Means(host, left, mounter, subids, (*checks, isolation))


def open_cgroups(slice_name: str) -> tuple[box.Host, int, dict[str, SandboxFault]]:
    """The engine's cgroups with as many limits as can be had; how many leaves a predecessor had left in them; and why
    each limit that is missing is."""
    host = box.Host(slice_name)
    try:
        return host, _open(host), {}
    except SandboxFault:
        problems = {}
        for limit in LIMITS:
            try:
                _open(box.Host(slice_name, (limit,)))
            except SandboxFault as fault:
                problems[limit] = fault
        with contextlib.suppress(SandboxFault):
            host.sweep(True)
        host = box.Host(slice_name, [limit for limit in LIMITS if limit not in problems])
        return host, _open(host) if host.limits else 0, problems


def _open(host: box.Host) -> int:
    """Make the engine's cgroups, empty them, and see whether they take the limits of a leaf."""
    host.open()
    left = host.sweep()
    host.leaf("probe", memory_bytes=128 << 20, cpu_quota_us=10_000, cpu_shares=100, pids=64).remove()
    return left


def _cgroup_check(
    limit: str, host: box.Host, problems: dict[str, SandboxFault], accept_weaker: Collection[str]
) -> Check:
    problem = problems.get(limit)
    if problem is None:
        where = os.path.dirname(host.directories[limit])
        return Check(limit, True, f"cgroup {host.kind} {LIMITS[limit]}", f"under {where}")
    for name, mechanism, detail in _forms(limit):
        if name in accept_weaker:
            return Check(limit, True, mechanism, f"the weaker form, accepted by the settings: {detail}", weaker=name)
    name, mechanism, detail = _forms(limit)[0]
    if os.geteuid() == 0:
        fix = "mount cgroup2 on /sys/fs/cgroup, or boot with it"
    else:
        fix = "run the engine as root, or in a unit with Delegate=yes (systemd, cgroup v2)"
    fix += f"; or accept {mechanism}: {accept_line([name])}"
    return Check(limit, False, f"cgroup {LIMITS[limit]}", problem.message, fix, weaker=name)


def _forms(limit: str) -> list[tuple[Weaker, str, str]]:
    """The weaker forms that this host has: name, mechanism, what is weaker. The strongest first."""
    if limit == "memory":
        return [(Weaker.MEMORY_RLIMIT, "RLIMIT_DATA and RLIMIT_AS", "of each process; swap is not off")]
    if limit == "pids":
        return [(Weaker.PIDS_RLIMIT, "RLIMIT_NPROC", "of the sandbox's own user")]
    none = (Weaker.CPU_NONE, "none", "neither weight nor ceiling")
    return [none] if _autogroups() else [(Weaker.CPU_NICE, "niceness by tier", "a weight, and no ceiling"), none]


def _autogroups() -> bool:
    """Whether niceness counts only among the processes of one session, and so between no two sandboxes: sched(7)."""
    try:
        return _AUTOGROUP.read_text().strip() == "1"
    except OSError:
        return False


def niceness(memory_mb: int) -> int:
    """The nice value whose weight is nearest to the tier's share of a vCPU: each step is a factor of 1.25 (sched(7)).
    Tiers above one vCPU cannot be preferred without privilege."""
    nice, share = 0, memory_mb / MEMORY_MB_PER_VCPU
    while share < 0.9 and nice < _NICEST:
        nice, share = nice + 1, share * 1.25
    return nice


def may_mount() -> bool:
    """Whether this process can make the mounts of a sandbox itself."""
    try:
        os.close(box.code_mount(b"/"))
    except SandboxFault:
        return False
    return True


def _user_namespaces(subids: SubIds | None) -> tuple[Mounter | None, SubIds | None, Check]:
    mechanism = f"user namespaces; {ISOLATION}"
    mounter = Mounter(subids)
    try:
        mounter.open()
    except SandboxFault as fault:
        if subids is not None:  # newuidmap that may not, or ids that another namespace above has not
            return _user_namespaces(None)
        return None, None, Check("isolation", False, mechanism, fault.message, _user_namespace_fix())
    if subids is not None:
        detail = f"to the host sandboxes are users from {subids.first_uid} on (newuidmap)"
    else:
        detail = f"one for each sandbox; to the host every sandbox is user {os.geteuid()}"
    return mounter, subids, Check("isolation", True, mechanism, detail)


def _user_namespace_fix() -> str:
    fixes = []
    for name, value in _SWITCHES.items():
        try:
            if Path("/proc/sys", *name.split(".")).read_text().strip() == value:
                fixes.append(f"sysctl -w {name}={'0' if value == '1' else '1' if name.endswith('clone') else '10000'}")
        except OSError:  # a kernel without that setting
            continue
    return " and ".join(fixes) or "run the engine as root"


def accept_line(names: Collection[str]) -> str:
    """The line of the settings that accepts these weaker forms, beside those that are accepted already."""
    return "accept_weaker = [" + ", ".join(f'"{name}"' for name in names) + "]"


def unfit(missing: Sequence[Check], accept_weaker: Collection[str]) -> HostUnfit:
    """One error for all that is missing, with what to do and the one line of settings that would accept it."""
    listed = "; ".join(f"{check.limit}: {check.detail}" for check in missing)
    names = dict.fromkeys([*accept_weaker, *(check.weaker for check in missing if check.weaker)])
    fix = "; ".join(dict.fromkeys(check.fix.partition("; or accept")[0] for check in missing))
    if all(check.weaker for check in missing):
        fix += f"; or accept the weaker forms (docs/unprivileged.md): {accept_line(names)}"
    return HostUnfit(f"this host cannot enforce {listed}", fix=fix)
