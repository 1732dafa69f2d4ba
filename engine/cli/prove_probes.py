"""The limits that `cleave doctor --prove` asks about: what each is asked to be, and which answers say that it holds.

Data and judgement; the handlers that answer are engine.cli.prove_handlers', calling them is engine.cli.prove_run's. An
answer is what a hostile place may say: one that is not of the expected form is a limit that does not hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from engine.cli import prove_handlers as handlers

MB = 1 << 20
MEMORY_TIER_MB = 128
CPU_TIER_MB = 885  # half a vCPU: less than one, so that one loop can ask for more
LOOK_TIER_MB = 1_769
TMP_MB = 512
TMP_FILES = 64 * TMP_MB
PROCESSES = 1_024
OPEN_FILES = 1_024
LARGEST_FILE_MB = 10_240
LOCKED_BYTES = 64 << 10
_ROOM = 1.05  # a file system may round its size up by so much


class Found(NamedTuple):
    """What an answer says."""

    text: str
    held: bool


Judge = Callable[[Any, Mapping[str, Any]], Found]
"""From a handler's answer and the event that it had. Raises LookupError, TypeError or ValueError for nonsense."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question that one event answers. `check` is the line of `cleave doctor` that is about the limit."""

    limit: str
    check: str
    asked: str
    handler: Callable[[dict[str, Any]], Any]
    judge: Judge
    event: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def reason(self) -> str:
        """Why it is asked as it is."""
        return reason(self.handler)


def reason(handler: Callable[[dict[str, Any]], Any]) -> str:
    """A handler's docstring in one line."""
    return " ".join((handler.__doc__ or "").split())


def most_of(tier_mb: int, own_bytes: int) -> int:
    """What still fits into a tier beside `own_bytes`, in bytes, where page tables (8 bytes for each 4 KB) count too.
    1 MB less than all, so that 2 MB more are 1 MB too much."""
    return int(((tier_mb - 1) * MB - own_bytes) * 512 / 513) & -4096


def _tmp_bytes(answer: Any, event: Mapping[str, Any]) -> Found:
    stored, refusal = answer
    held = refusal == "ENOSPC" and TMP_MB * MB * 0.99 <= stored <= TMP_MB * MB * _ROOM
    return Found(f"{stored / MB:.1f} MB, then {refusal or 'more'}", held)


def _tmp_files(answer: Any, event: Mapping[str, Any]) -> Found:
    made, refusal = answer
    return Found(f"{made:,}, then {refusal or 'more'}", refusal == "ENOSPC" and made <= TMP_FILES * _ROOM)


def _counted(most: int, refusals: tuple[str, ...]) -> Judge:
    def judge(answer: Any, event: Mapping[str, Any]) -> Found:
        count, refusal = answer
        return Found(f"{count:,}, then {refusal or 'more'}", refusal in refusals and count <= most)

    return judge


def _core_dumps(answer: Any, event: Mapping[str, Any]) -> Found:
    limit, files = answer
    # 1 is none too, and also where the host's core_pattern is a pipe: core(5).
    if files or limit not in (0, 1):
        return Found(f"{', '.join(files) or 'no file'}, limit {limit}", False)
    return Found("none after a crash", True)


def _file_size(answer: Any, event: Mapping[str, Any]) -> Found:
    at_most, past = answer
    found = f"{LARGEST_FILE_MB:,} MB {at_most or 'fits'}, a byte more {past or 'fits'}"
    return Found(found, at_most == "" and past == "EFBIG")


def _locked_memory(answer: Any, event: Mapping[str, Any]) -> Found:
    return Found(f"{event['bytes'] >> 10} KB: {answer or 'locked'}", answer in ("ENOMEM", "EPERM", "EAGAIN"))


def _other_processes(answer: Any, event: Mapping[str, Any]) -> Found:
    seen, signalled = answer
    if signalled != "ESRCH":
        return Found(f"process {event['pid']} of the host: {signalled or 'reached'}", False)
    return Found(f"{len(seen)} seen, its own", 1 <= len(seen) <= 2)


def _host_files(answer: Any, event: Mapping[str, Any]) -> Found:
    found, writable = answer
    seen = [f"{path} is there" for path in found] + [f"{path} can be written" for path in writable if path != "/tmp"]
    return Found("; ".join(seen) or "none; /tmp alone can be written", not seen and writable == ["/tmp"])


def _devices(answer: Any, event: Mapping[str, Any]) -> Found:
    found, made = answer
    others = [name for name in found if name not in HARMLESS]
    text = f"{', '.join(others)} too" if others else ", ".join(found)
    return Found(text if made else f"{text}; made one", not others and made in ("EPERM", "EACCES"))


HARMLESS = ("full", "null", "random", "tty", "urandom", "zero")


def _unreachable(answer: Any, event: Mapping[str, Any]) -> Found:
    allowed = ("lo", "eth0") if event["neighbours"] else ("lo",)
    # The kernel's own templates of tunnels are in every namespace, and down.
    seen = [name for name in answer["interfaces"] if not name.startswith(TEMPLATES)]
    wrong = [f"interface {name}" for name in seen if name not in allowed]
    wrong += [f"IPv6 on {name}" for name in answer["interfaces_6"] if name != "lo"]
    for target, refusal in answer["answers"].items():
        # On loopback it is the sandbox's own that refuses; elsewhere a refusal would come from who was reached.
        own = target.startswith(("127.", "::1 ", "an abstract"))
        if refusal not in (OWN_LOOPBACK if own else NO_WAY):
            wrong.append(f"{target}: {refusal or 'connected'}")
    count = len(answer["answers"])
    return Found("; ".join(wrong) or f"none of {count} addresses, {' and '.join(seen)} alone", not wrong and count > 1)


TEMPLATES = ("tunl", "sit", "ip6", "gre", "erspan")
OWN_LOOPBACK = ("ECONNREFUSED", "EADDRNOTAVAIL")
NO_WAY = ("ENETUNREACH", "EHOSTUNREACH")


def _privileges(answer: Any, event: Mapping[str, Any]) -> Found:
    caps = {key: answer[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(answer[key], 16)}
    ids = {int(text) for key in ("Uid", "Gid", "Groups") for text in answer[key].split()}
    wrong = [f"{key} {value}" for key, value in caps.items()]
    wrong += [] if answer["NoNewPrivs"] == "1" else ["no_new_privs is off"]
    wrong += ["root's id"] if 0 in ids else []
    wrong += [] if answer["setuid"] in ("EPERM", "EINVAL") else [f"setuid(0): {answer['setuid'] or 'done'}"]
    return Found("; ".join(wrong) or f"user {answer['Uid'].split()[0]}, no capability, no way back", not wrong)


def _system_calls(answer: Any, event: Mapping[str, Any]) -> Found:
    wrong = [f"{name}: {error or 'done'}" for name, error in answer["answers"].items() if error not in REFUSALS]
    wrong += [] if answer["mode"] == "2" else ["no filter"]
    wrong += ["one was not asked"] if len(answer["answers"]) <= len(event["numbers"]) else []
    return Found("; ".join(wrong) or f"all {len(answer['answers'])} refused", not wrong)


REFUSALS = ("EPERM", "ENOSYS")
_NUMBERS: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "mount": 165, "pivot_root": 155, "setns": 308, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "keyctl": 250, "add_key": 248, "kexec_load": 246, "init_module": 175, "open_by_handle_at": 304,
    },
    "aarch64": {
        "mount": 40, "pivot_root": 41, "setns": 268, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "keyctl": 219, "add_key": 217, "kexec_load": 104, "init_module": 105, "open_by_handle_at": 265,
    },
}  # fmt: skip
_EVERYWHERE = {"io_uring_setup": 425, "open_tree": 428, "move_mount": 429}  # from 424 on all have the same numbers
NUMBERS = {**_NUMBERS.get(os.uname().machine, {}), **_EVERYWHERE}
"""System calls by number: from asm/unistd_64.h and asm-generic/unistd.h of Linux."""


def _descriptors(answer: Any, event: Mapping[str, Any]) -> Found:
    foreign = {fd: what for fd, what in answer["open"].items() if what != "/dev/null" and not what.startswith("pipe:")}
    wrong = [f"{fd} is {what}" for fd, what in foreign.items()]
    wrong += [f"{fd} is passed on" for fd in answer["passed_on"]]
    text = f"{len(answer['open'])}: its log, its control pipes, null"
    return Found("; ".join(wrong) or text, not wrong and len(answer["open"]) <= 6)


def _environment(answer: Any, event: Mapping[str, Any]) -> Found:
    foreign = [name for name in answer if not name.startswith(OF_LAMBDA) and name not in PLAIN + STARTED_WITH]
    return Found(", ".join(foreign) or f"{len(answer)} variables, all of the function's", not foreign)


OF_LAMBDA = ("AWS_", "_AWS_", "_X_AMZN_", "_HANDLER", "LAMBDA_")
PLAIN = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG", "LC_CTYPE", "TZ", "PWD", "SHLVL")
STARTED_WITH = ("MALLOC_ARENA_MAX", "LD_BIND_NOW")
"""What the engine starts interpreters with; functions do not see it."""


LOOKS = (
    Probe("/tmp, bytes", "tmp", f"{TMP_MB} MB", handlers.tmp_bytes, _tmp_bytes, {"enough": 2 * TMP_MB * MB}),
    Probe("/tmp, files", "tmp", f"{TMP_FILES:,}", handlers.tmp_files, _tmp_files, {"enough": 2 * TMP_FILES}),
    Probe(
        "processes", "pids", f"{PROCESSES:,}", handlers.processes, _counted(PROCESSES, ("EAGAIN",)),
        {"enough": PROCESSES + 100},
    ),
    Probe(
        "open files", "privileges", f"{OPEN_FILES:,}", handlers.open_files, _counted(OPEN_FILES, ("EMFILE",)),
        {"enough": OPEN_FILES + 100},
    ),
    Probe("core dumps", "privileges", "none", handlers.core_dumps, _core_dumps),
    Probe(
        "file size", "privileges", f"{LARGEST_FILE_MB:,} MB", handlers.file_size, _file_size,
        {"bytes": LARGEST_FILE_MB * MB},
    ),
    Probe(
        "locked memory", "privileges", f"{LOCKED_BYTES >> 10} KB", handlers.locked_memory, _locked_memory,
        {"bytes": LOCKED_BYTES + 4096 * 8},
    ),
    Probe("other processes", "isolation", "none seen", handlers.other_processes, _other_processes),
    Probe("host files", "isolation", "none seen", handlers.host_files, _host_files),
    Probe("devices", "isolation", "harmless ones", handlers.devices, _devices),
    Probe("privileges", "privileges", "none", handlers.privileges, _privileges),
    Probe(
        "system calls", "seccomp", f"{len(NUMBERS) + 1} refused", handlers.system_calls, _system_calls,
        {"numbers": NUMBERS},
    ),
    Probe("descriptors", "isolation", "none inherited", handlers.descriptors, _descriptors),
    Probe("environment", "isolation", "the function's", handlers.environment, _environment),
)  # fmt: skip
"""Those that one sandbox can answer by looking around."""
NO_NETWORK = Probe(
    "network, none", "network", "nothing reached", handlers.unreachable, _unreachable, {"neighbours": False}
)
INTERNET = Probe(
    "network, internet", "network", "no host, no neighbour", handlers.unreachable, _unreachable, {"neighbours": True}
)
HOST_PATHS = ("/etc/shadow", "/etc/ssh", "/boot", "/sys", "/run", "/var/lib", "/dev/shm", "/dev/kmsg", "/dev/loop0")
"""Those of them that this host has must not be seen."""
