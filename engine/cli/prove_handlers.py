"""What `cleave doctor --prove` runs inside: a handler for each limit, whose docstring is the reason to ask it so.

Data to the command, which sends this file as app.py: standard library only, Python 3.9 and later, modules imported
where they are used (they are memory too). A handler says what it found, and leaves its sandbox as it was;
engine.cli.prove_probes has what it should have found.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Event = dict[str, Any]

MB = 1 << 20


def handler(event: Event, context: object) -> Any:
    """Run the handler that the event names."""
    return globals()[event["probe"]](event)


def memory(event: Event) -> None:
    """Touching page after page is how any program comes to have memory; huge pages would hide where the edge is."""
    import mmap

    kept = mmap.mmap(-1, event["bytes"], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    kept.madvise(15)  # MADV_NOHUGEPAGE
    for at in range(0, event["bytes"], 4096):
        kept[at] = 1


def cpu(event: Event) -> list[tuple[float, float]]:
    """A loop takes all the CPU there is. It is measured between two moments at which the kernel let it go on after a
    pause, so that what was left of a period at either end, and the burst at the start, do not count."""
    windows = []
    began = _after_a_pause()
    for _ in range(3):
        ended = _after_a_pause()
        while ended[1] - began[1] < event["seconds"]:
            ended = _after_a_pause()
        used, took = ended[0] - began[0], ended[1] - began[1]
        windows.append((used, took))
        if used >= event["enough"] * took:
            break
        began = ended
    return windows


def _after_a_pause(longest_s: float = 0.5) -> tuple[float, float]:
    """CPU time and wall time, once the clock has jumped; without a quota it never does."""
    end = last = time.monotonic()
    end += longest_s
    while last < end:
        now = time.monotonic()
        if now - last > 0.01:
            break
        last = now
    return time.process_time(), time.monotonic()


def outlive(event: Event) -> None:
    """A daemon in a session of its own that ignores every signal, a child that is stopped and one that only sleeps:
    what would be left where only the handler's own process is killed."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(15, event["mark"].encode())  # PR_SET_NAME, which the host can see
    for kind in ("daemon", "stopped", "sleeping"):
        if os.fork() == 0:
            if kind == "daemon":
                os.setsid()
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            if kind == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def tmp_bytes(event: Event) -> list[Any]:
    """Space that is set aside counts like space that is written, and takes no time: then one byte more is written."""
    found, step = 0, 16 * MB
    with open("/tmp/probe-bytes", "wb", buffering=0) as file:
        try:
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), found, step)
                    found += step
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
                if found > event["enough"]:
                    return [found, ""]
            return [found, _refusal(os.pwrite, file.fileno(), b"x" * 8192, found)]
        finally:
            os.unlink("/tmp/probe-bytes")


def tmp_files(event: Event) -> list[Any]:
    """Empty files take no bytes, so that only a limit of their number stops them."""
    folder = "/tmp/probe-files"
    os.mkdir(folder)
    made, refusal = 0, ""
    while made < event["enough"] and not refusal:
        refusal = _refusal(os.mknod, f"{folder}/{made}")
        made += not refusal
    for number in range(made):
        os.unlink(f"{folder}/{number}")
    os.rmdir(folder)
    return [made, refusal]


def processes(event: Event) -> list[Any]:
    """A fork bomb that counts itself. The children wait, so that all are there at the same time."""
    import signal

    children: list[int] = []
    refusal = ""
    while len(children) < event["enough"] and not refusal:
        try:
            child = os.fork()
        except OSError as error:
            refusal = errno.errorcode[error.errno or 0]
            break
        if child == 0:
            while True:
                signal.pause()
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    return [len(children) + 2, refusal]  # with its own, and process 1


def open_files(event: Event) -> list[Any]:
    """One after another until there is no number left; those that were open before count too."""
    before = len(_descriptors())
    opened: list[int] = []
    refusal = ""
    while len(opened) < event["enough"] and not refusal:
        refusal = _refusal(lambda: opened.append(os.open("/dev/null", os.O_RDONLY)))
    for fd in opened:
        os.close(fd)
    return [before + len(opened), refusal]


def core_dumps(event: Event) -> list[Any]:
    """A crash that asks for a dump of any size, in the one place where a file could be written."""
    import resource

    folder = "/tmp/probe-core"
    os.mkdir(folder)
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (OSError, ValueError):
            pass
        os.chdir(folder)
        os.abort()
    os.waitpid(child, 0)
    files = os.listdir(folder)
    for name in files:
        os.unlink(f"{folder}/{name}")
    os.rmdir(folder)
    return [resource.getrlimit(resource.RLIMIT_CORE)[1], files]


def file_size(event: Event) -> list[Any]:
    """A sparse file takes no space, so that only the limit of its length can stop it: at the limit, and a byte past."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open("/tmp/probe-size", "wb") as file:
        try:
            at_most = _refusal(os.ftruncate, file.fileno(), event["bytes"])
            return [at_most, _refusal(os.ftruncate, file.fileno(), event["bytes"] + 1)]
        finally:
            os.unlink("/tmp/probe-size")


def locked_memory(event: Event) -> str:
    """Memory that can never be given back is the host's before it is the tier's."""
    import ctypes
    import mmap

    kept = mmap.mmap(-1, event["bytes"])
    return _call("mlock", ctypes.addressof(ctypes.c_char.from_buffer(kept)), event["bytes"])


def other_processes(event: Event) -> list[Any]:
    """What /proc lists, and whether the command that asks can be signalled by its number on the host."""
    seen = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return [seen, _refusal(os.kill, event["pid"], 0)]


def host_files(event: Event) -> list[Any]:
    """Where hosts keep what is theirs, a file that was made for this question, and a write into every folder near the
    root."""
    found = [path for path in event["paths"] if os.path.lexists(path)]
    writable = []
    for folder, folders, _ in os.walk("/"):
        if folder in ("/proc", "/sys", "/tmp") or folder.count("/") > 2:
            folders.clear()
        if folder not in ("/proc", "/sys") and not _refusal(_touch, f"{folder}/probe-written"):
            writable.append(folder)
    return [found, writable]


def devices(event: Event) -> list[Any]:
    """Those that are there, and making one: a disk's numbers are all that it takes to read it."""
    import stat

    found = sorted(name for name in os.listdir("/dev") if stat.S_IFMT(os.lstat(f"/dev/{name}").st_mode) in _DEVICES)
    return [found, _refusal(os.mknod, "/tmp/probe-disk", 0o60600, os.makedev(7, 0))]


_DEVICES = (0o020000, 0o060000)  # S_IFCHR, S_IFBLK


def unreachable(event: Event) -> Any:
    """Each address answers on the host, or would if it were reached: how it does not is what is told."""
    import socket

    with open("/proc/net/dev", encoding="ascii") as file:
        names = [line.split(":")[0].strip() for line in list(file)[2:]]
    with open("/proc/net/if_inet6", encoding="ascii") as file:
        names_6 = sorted({line.split()[-1] for line in file})
    answers = {}
    targets = [(address, port) for address, port in event["addresses"]]
    if event["neighbours"]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("192.0.2.1", 9))  # no packet is sent: the kernel says which address would be
            own = int.from_bytes(socket.inet_aton(sock.getsockname()[0]), "big")
        targets += [(socket.inet_ntoa((own + step).to_bytes(4, "big")), 80) for step in (-2, -1, 2)]
    for address, port in targets:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            sock.settimeout(1)
            answers[f"{address} port {port}"] = _refusal(sock.connect, (address, port))
    with socket.socket(socket.AF_UNIX) as sock:
        answers["an abstract socket"] = _refusal(sock.connect, "\0" + event["abstract"])
    return {"interfaces": names, "interfaces_6": names_6, "answers": answers}


def privileges(event: Event) -> dict[str, Any]:
    """As the kernel itself tells it, and whether any of it can be had back."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    keys = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Uid", "Gid", "Groups")
    return {**{key: status.get(key, "") for key in keys}, "setuid": _refusal(os.setuid, 0)}


def system_calls(event: Event) -> dict[str, Any]:
    """Each is made with arguments that no kernel takes: EPERM comes from the filter, before anybody looks at them."""
    answers = {name: _call("syscall", number, *[-1] * 5) for name, number in event["numbers"].items()}
    answers["unshare user"] = _call("unshare", 0x10000000)  # CLONE_NEWUSER
    with open("/proc/self/status", encoding="ascii") as file:
        mode = next((line.split()[1] for line in file if line.startswith("Seccomp:")), "")
    return {"mode": mode, "answers": answers}


def descriptors(event: Event) -> dict[str, Any]:
    """What is open before any code of the function opens something, and what a program that it starts would have."""
    import fcntl

    found = _descriptors()
    passed = [fd for fd in found if fd > 2 and not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC]
    return {"open": {str(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in found}, "passed_on": passed}


def environment(event: Event) -> list[str]:
    """The variables that the function sees, and those that the kernel keeps of how its process was started."""
    names = set(os.environ)
    for process in ("self", "1"):
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                names |= {entry.partition(b"=")[0].decode() for entry in file.read().split(b"\0") if entry}
        except OSError:
            pass
    return sorted(names)


def leave(event: Event) -> None:
    """Leave a mess in /tmp and end, so that the next event is another sandbox's, perhaps on the same image."""
    os.makedirs("/tmp/left/below", mode=0o700)
    with open("/tmp/left/below/secret", "w", encoding="ascii") as file:
        file.write("secret" * 1000)
        file.flush()
        os.fsync(file.fileno())
    os._exit(0)


def find(event: Event) -> list[str]:
    """What the sandbox before it left."""
    return os.listdir("/tmp")


def _refusal(action: Callable[..., object], *arguments: object) -> str:
    """The name of the error, such as "EPERM"; "" where it is done."""
    try:
        action(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ""


def _call(name: str, *arguments: int) -> str:
    """The same for a function of the C library that returns -1 when refused."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*(ctypes.c_long(argument) for argument in arguments)) == -1:
        return errno.errorcode.get(ctypes.get_errno(), "?")
    return ""


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    os.unlink(path)


def _descriptors() -> list[int]:
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    return [fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")]
