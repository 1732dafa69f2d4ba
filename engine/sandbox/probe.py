"""Asks the host what it can enforce, by doing it: each check makes the thing it is about, reads it back and removes it.

Leaves to others what to do about the answers: the pool refuses to start without the limits, `cleave doctor` shows them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from engine.errors import EngineError
from engine.model.host import Check
from engine.runtimes.interpreters import Interpreter
from engine.sandbox import box, network_firewalls, network_host, uids
from engine.sandbox.code_mounts import CodeMounts
from engine.sandbox.means import UID_COUNT, Means, find_means
from engine.sandbox.network import NetworkSettings
from engine.sandbox.scratch_choice import TmpBackend
from engine.sandbox.scratch_user import tmp_checks

_LANDLOCK_USED = 2
_LANDLOCK_WHOLE = 6
"""Versions: the first that is used at all, and the first that has all that is used of it (native/box/landlock.c)."""


def probe_host(
    interpreters: Mapping[str, Interpreter],
    folder: Path,
    *,
    accept_weaker: Collection[str] = (),
    tmp_backend: TmpBackend = "auto",
    tmp_encryption: bool = True,
    tmp_reserve: bool = False,
    max_sandboxes: int = 0,
    uid_base: int = uids.FIRST,
    uid_count: int = UID_COUNT,
    network: NetworkSettings | None = None,
    refused: Mapping[str, str] | None = None,
) -> tuple[Check, ...]:
    """One check a limit. `folder` is where images for /tmp may be made; `accept_weaker` names the limits whose weaker
    form the operator accepts; `refused` are interpreters that were named and are none. Blocks
    for some 100 ms; leaves nothing."""
    means = find_means(f"cleave-probe-{os.getpid()}", accept_weaker, uid_base=uid_base, uid_count=uid_count)
    try:
        root = means.mounter is None
        return (
            *(_with_landlock(check) if check.limit == "isolation" else check for check in means.checks),
            *tmp_checks(
                folder,
                means,
                accept_weaker,
                asked=tmp_backend,
                encrypt=tmp_encryption,
                reserve=tmp_reserve,
                max_sandboxes=max_sandboxes,
            ),
            _code(means, folder),
            _network(network or NetworkSettings()) if root else _network_of_user(means),
            _privileges(means),
            _seccomp(),
            _timeout(),
            _runtimes(interpreters, refused or {}),
        )
    finally:
        means.close()
        means.host.sweep(True)


def _with_landlock(check: Check) -> Check:
    """Landlock as a further wall: a kernel that has none of it fails no limit, which is said."""
    version = box.landlock_version()
    if version >= _LANDLOCK_USED:
        check = replace(check, mechanism=f"{check.mechanism}; Landlock {version}")
    if not check.enforced or version >= _LANDLOCK_WHOLE:
        return check
    told, fix = "this Landlock knows no scopes: namespaces alone keep signals and sockets in", check.fix
    if version < _LANDLOCK_USED:
        told = "no Landlock: mounts, modes and namespaces stand alone"
        fix = "use Linux 5.19 or later with lsm=landlock"
    return replace(check, detail="; ".join(filter(None, (check.detail, told))), fix=fix)


def _network_of_user(means: Means) -> Check:
    """Made and tried by the mounter, with the rest of the namespaces."""
    mechanism = "a network namespace of its own, loopback up (egress: none)"
    return Check("network", means.mounter is not None, mechanism, "egress: internet is refused: only root can have it")


def _code(means: Means, folder: Path) -> Check:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        return CodeMounts(Path(made)).open(means.code_mount)


def _privileges(means: Means) -> Check:
    mechanism = "unprivileged user, no capabilities, no_new_privs"
    detail = "the engine's own user, under another number; its groups cannot be given up" if means.outer else ""
    return Check("privileges", True, mechanism, detail)


def _network(settings: NetworkSettings) -> Check:
    """Whether a sandbox is alone in its network. That the host has no way out is no limit that fails: it is said."""
    mechanism = "a network namespace of its own, loopback up (egress: none)"
    try:
        os.close(box.net_make()[0])
    except EngineError as error:
        return Check("network", False, mechanism, error.message, "use a kernel with CONFIG_NET_NS")
    problem = network_host.unfit(settings.subnet, settings.resolvers)
    if problem is not None:
        return Check("network", True, mechanism, f"egress: internet is refused: {problem.message}", problem.fix)
    mechanism = "a network namespace of its own, loopback up (egress: none); veth and nftables (egress: internet)"
    dropping = network_firewalls.dropping()
    if dropping:
        chains = ", ".join(firewall.chain for firewall in dropping)
        detail = f"{chains} drops what is forwarded: without a rule there, egress ends there"
        return Check("network", True, mechanism, detail, "; ".join(firewall.fix for firewall in dropping))
    return Check("network", True, mechanism, "internet reaches public addresses only, never the host or a neighbour")


def _seccomp() -> Check:
    known = Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    fix = "" if known else "use a kernel with CONFIG_SECCOMP_FILTER"
    return Check("seccomp", known, "a filter of system calls (native/box/seccomp.c)", fix and "not in this kernel", fix)


def _timeout() -> Check:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Check("timeout", False, "pidfd", str(error), "use Linux 5.12 or later")
    return Check("timeout", True, "kill of the PID namespace by pidfd", "takes every process of the sandbox")


def _runtimes(interpreters: Mapping[str, Interpreter], refused: Mapping[str, str]) -> Check:
    found = ", ".join(f"{name} ({interpreter.path})" for name, interpreter in sorted(interpreters.items()))
    fix = "" if found else "install Python 3.9 or later, or name one: cleave runtimes add PATH"
    if refused:
        found = "; ".join(filter(None, (found, *(f"{path} cannot be one: {why}" for path, why in refused.items()))))
        fix = fix or "take what cannot be one out of the setting interpreters, or `cleave runtimes remove` it"
        return Check("runtimes", bool(interpreters), "Python interpreters of this host", found, fix)
    return Check("runtimes", bool(found), "Python interpreters of this host", found or "none found", fix)
