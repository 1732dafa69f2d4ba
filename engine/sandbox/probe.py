"""Asks the host what it can enforce, by doing it: each check makes the thing it is about, reads it back and removes it.

Leaves to others what to do about the answers: the pool refuses to start without the limits, `cleave doctor` shows them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from engine.errors import EngineError
from engine.model.host import Check
from engine.runtimes.interpreters import Interpreter
from engine.sandbox import box, cpu, network_firewalls, network_host, parts
from engine.sandbox.network import NetworkSettings
from engine.sandbox.scratch_choice import TmpBackend
from engine.sandbox.scratch_probe import probe_tmp

_PROBE_MEMORY_MB = 128
_AS_ROOT = "run the engine as root"
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
    network: NetworkSettings | None = None,
) -> tuple[Check, ...]:
    """One check a limit. `folder` is where images for /tmp may be made; `accept_weaker` names the limits whose weaker
    form the operator accepts. Blocks for some 100 ms; leaves nothing."""
    return (
        *_cgroups(),
        *probe_tmp(
            folder,
            accept_weaker,
            asked=tmp_backend,
            encrypt=tmp_encryption,
            reserve=tmp_reserve,
            max_sandboxes=max_sandboxes,
        ),
        _isolation(),
        _network(network or NetworkSettings()),
        _root("privileges", "unprivileged user, no capabilities, no_new_privs", lambda: None),
        _seccomp(),
        _timeout(),
        _runtimes(interpreters),
    )


def _cgroups() -> list[Check]:
    name = f"cleave-probe-{os.getpid()}"
    host = box.Host(name)
    mechanisms = {"memory": "memory, swap off", "cpu": "cpu bandwidth and shares", "pids": "pids"}
    if host.kind == "none":
        fix = "mount cgroup2 on /sys/fs/cgroup, or boot with it"
        return [Check(limit, False, "", "no cgroup controllers are mounted", fix) for limit in mechanisms]
    try:
        host.open()
        try:
            leaf = host.leaf(
                "probe",
                memory_bytes=_PROBE_MEMORY_MB << 20,
                cpu_quota_us=cpu.cpu_quota_us(_PROBE_MEMORY_MB),
                cpu_shares=cpu.cpu_shares(_PROBE_MEMORY_MB),
                pids=parts.PIDS,
            )
            leaf.remove()
        finally:
            host.sweep(True)
    except EngineError as error:
        return [Check(limit, False, f"cgroup {host.kind}", error.message, _AS_ROOT) for limit in mechanisms]
    directories = host.directories
    return [
        Check(limit, True, f"cgroup {host.kind} {what}", f"under {os.path.dirname(directories[limit])}")
        for limit, what in mechanisms.items()
    ]


def _root(limit: str, mechanism: str, check: Callable[[], str | None]) -> Check:
    if os.geteuid() != 0:
        return Check(limit, False, mechanism, "the engine does not run as root", _AS_ROOT)
    problem = check()
    return Check(limit, problem is None, mechanism, problem or "", "" if problem is None else "use another kernel")


def _network(settings: NetworkSettings) -> Check:
    """Whether a sandbox is alone in its network. That the host has no way out is no limit that fails: it is said."""
    mechanism = "a network namespace of its own, loopback up (egress: none)"
    if os.geteuid() != 0:
        return Check("network", False, mechanism, "the engine does not run as root", _AS_ROOT)
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


def _isolation() -> Check:
    """Namespaces, and Landlock as a further wall: a kernel that has none of it fails no limit, which is said."""
    version = box.landlock_version()
    mechanism = "namespaces: pid, mount, ipc, uts, network, cgroup"
    if version >= _LANDLOCK_USED:
        mechanism += f"; Landlock {version}"
    check = _root("isolation", mechanism, _namespaces)
    if not check.enforced or version >= _LANDLOCK_WHOLE:
        return check
    if version < _LANDLOCK_USED:
        told = "no Landlock: mounts, modes and namespaces stand alone"
        return replace(check, detail=told, fix="use Linux 5.19 or later with lsm=landlock")
    return replace(check, detail="this Landlock knows no scopes: namespaces alone keep signals and sockets in")


def _namespaces() -> str | None:
    missing = [
        name for name in ("pid", "mnt", "ipc", "uts", "net", "cgroup") if not os.path.exists(f"/proc/self/ns/{name}")
    ]
    return f"this kernel has no {', '.join(missing)} namespaces" if missing else None


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


def _runtimes(interpreters: Mapping[str, Interpreter]) -> Check:
    found = ", ".join(f"{name} ({interpreter.path})" for name, interpreter in sorted(interpreters.items()))
    fix = "" if found else "install Python 3.9 or later, or name one in the setting interpreters"
    return Check("runtimes", bool(found), "Python interpreters of this host", found or "none found", fix)
