"""The system call filter: each entry of its table, and what its four exceptions let through and what not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from tests.security.probes import ending_of, inside, outside

ROOT = Path(__file__).resolve().parent.parent.parent
HEADERS = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")]
OWN_NUMBERS = {"QUOTACTL_FD": 443, "STATMOUNT": 457, "LISTMOUNT": 458, "OPEN_TREE_ATTR": 467}

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64"),
]


def numbers(action: str) -> dict[str, int]:
    """The calls of the filter's table with this action, and their numbers."""
    table = (ROOT / "native/box/seccomp.c").read_text()
    header = next(path for path in HEADERS if path.exists()).read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header)}
    names = re.findall(rf"\{{(SYS|CALL)_(\w+), {action}, \"", table)
    return {name: known[name] if kind == "SYS" else OWN_NUMBERS[name] for kind, name in names}


async def test_every_call_that_the_table_refuses_is_refused(pool: LinuxPool, tmp_path: Path) -> None:
    refused = numbers("REFUSE")
    assert len(refused) > 45
    body = "return {name: syscall(number, -1, -1, -1, -1, -1, -1) for name, number in event.items()}"
    assert set((await inside(pool, tmp_path, body, refused)).values()) == {"EPERM"}
    on_the_host = outside(body, {name: refused[name] for name in ("bpf", "keyctl", "io_setup", "fsopen", "kcmp")})
    assert "EPERM" not in on_the_host.values()


async def test_what_is_hidden_looks_as_if_the_kernel_did_not_have_it(pool: LinuxPool, tmp_path: Path) -> None:
    assert set(numbers("NOT_HERE")) == {"clone3"}
    body = "return syscall(435, None, 0)"
    assert outside(body) == "EINVAL"
    assert await inside(pool, tmp_path, body) == "ENOSYS"


async def test_threads_and_children_are_made_as_ever(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        done = []
        thread = threading.Thread(target=done.append, args=(1,))
        thread.start()
        thread.join()
        child = subprocess.run(["/bin/sh", "-c", "echo $((40 + 2)) | cat"], capture_output=True, text=True)
        return [done, child.stdout.strip()]
    """
    assert await inside(pool, tmp_path, body) == [[1], "42"]


@pytest.mark.parametrize("way", ["32-bit calls", "x32 calls"])
async def test_the_kernels_other_tables_of_calls_are_no_way_around(pool: LinuxPool, tmp_path: Path, way: str) -> None:
    """mount by another number: 21 of the 32-bit table, 165 with the bit of x32."""
    if way == "x32 calls":
        assert await inside(pool, tmp_path, "return syscall(0x40000000 | 165, 0, 0, 0, 0, 0)") == "ENOSYS"
        return
    body = """
        code = mmap.mmap(-1, 4096, prot=7)
        code.write(bytes.fromhex("53b815000000cd805bc3"))  # push rbx; mov eax, 21; int 0x80; pop rbx; ret
        return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    """
    assert outside(body) < 0  # it gets as far as the kernel's own checks
    ending, _ = await ending_of(pool, tmp_path, body)
    assert (ending.outcome, ending.exit_status) == (Outcome.EXITED, "signal: bad system call")


FAMILIES = {
    "vsock": (40, 1, 0),
    "packet": (17, 3, 0),
    "netlink": (16, 3, 0),
    "netlink to the audit log": (16, 3, 9),
    "netlink of devices": (16, 3, 15),
    "netlink diagnosis": (16, 3, 4),
    "kernel crypto": (38, 5, 0),
    "bluetooth": (31, 3, 1),
    "controller area network": (29, 3, 1),
    "tipc": (30, 1, 0),
    "rds": (21, 5, 0),
    "xdp": (44, 3, 0),
    "qrtr": (42, 2, 0),
}
IN_EVERY_KERNEL = {"packet", "netlink", "netlink of devices"}


@pytest.mark.parametrize("family", FAMILIES)
async def test_no_socket_reaches_past_its_network_namespace(pool: LinuxPool, tmp_path: Path, family: str) -> None:
    body = "socket.socket(*event).close()"
    attack = f"return tried(lambda: {body.removesuffix('.close()')} and None)"
    if family in IN_EVERY_KERNEL:
        assert outside(attack, FAMILIES[family]) is None
    assert await inside(pool, tmp_path, attack, FAMILIES[family]) == "EAFNOSUPPORT"


@pytest.mark.parametrize(("kind", "protocol"), [("SOCK_RAW", 1), ("SOCK_RAW", 255), ("SOCK_DGRAM", 1)])
async def test_no_raw_socket_is_made(pool: LinuxPool, tmp_path: Path, kind: str, protocol: int) -> None:
    body = f"return tried(lambda: socket.socket(socket.AF_INET, socket.{kind}, {protocol}) and None)"
    if kind == "SOCK_RAW":
        assert outside(body) is None
    assert await inside(pool, tmp_path, body) in ("EPERM", "EACCES")


async def test_the_sockets_that_programs_need_are_there(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        made = [socket.socket(family, kind) for family in (1, 2, 10) for kind in (1, 2)] + [*socket.socketpair()]
        return len(made)
    """
    assert await inside(pool, tmp_path, body) == 8


async def test_no_core_dump_reaches_the_hosts_handler(pool: LinuxPool, tmp_path: Path) -> None:
    """A handler behind a pipe is started whatever the limit is, unless it is 1: so that must not change."""
    body = """
        before = resource.getrlimit(resource.RLIMIT_CORE)
        for limits in ((0, 0), (0, 1)):
            resource.setrlimit(resource.RLIMIT_CORE, limits)
            resource.prlimit(0, resource.RLIMIT_CORE, limits)
            syscall(160, 4, struct.pack("QQ", *limits))  # setrlimit itself
        os.chdir("/tmp")
        child = os.fork()
        if child == 0:
            os.abort()
        status = os.waitpid(child, 0)[1]
        return [before, resource.getrlimit(resource.RLIMIT_CORE), os.listdir("/tmp"), os.WTERMSIG(status)]
    """
    assert await inside(pool, tmp_path, body) == [[1, 1], [1, 1], [], 6]
    assert outside("resource.setrlimit(4, (0, 0))\nreturn resource.getrlimit(4)") == [0, 0]


async def test_other_limits_can_be_lowered_and_asked_for(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
        raised = tried(resource.setrlimit, resource.RLIMIT_NOFILE, (100, 200))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 4_000))
        except ValueError as error:
            raised = str(error)
        return [resource.getrlimit(resource.RLIMIT_NOFILE), raised]
    """
    assert await inside(pool, tmp_path, body) == [[100, 200], "not allowed to raise maximum limit"]


HUGE_PAGES = {
    "mapped": "return tried(lambda: mmap.mmap(-1, 2 << 20, flags=0x40022) and None)",
    "a memory file": "fd = tried(os.memfd_create, 'x', 4)\nreturn fd if isinstance(fd, str) else None",
    "System V": "return call('shmget', 0, 2 << 20, 0o5600)",
}


@pytest.mark.parametrize("how", HUGE_PAGES)
async def test_the_hosts_pool_of_huge_pages_is_not_its_to_take(pool: LinuxPool, tmp_path: Path, how: str) -> None:
    found = await inside(pool, tmp_path, HUGE_PAGES[how])
    assert found == ("EPERM" if how == "System V" else "ENOMEM")


async def test_asynchronous_reads_of_the_hosts_count_are_refused(pool: LinuxPool, tmp_path: Path) -> None:
    body = "return syscall(206, 64, ctypes.byref(ctypes.c_ulong(0)))"
    assert outside(body) == 0
    assert await inside(pool, tmp_path, body) == "EPERM"


async def test_it_cannot_make_the_host_write_out_its_disks(pool: LinuxPool, tmp_path: Path) -> None:
    """sync waits for every file system there is; here it says that all is well and does nothing."""
    body = """
        libc.sync()
        return [syscall(162), syscall(306, os.open("/usr", os.O_RDONLY)), tried(os.fsync, os.open("/tmp", os.O_RDONLY))]
    """
    assert await inside(pool, tmp_path, body) == [0, 0, None]
    body = """
        started = time.monotonic()
        for _ in range(20_000):
            libc.sync()
        return time.monotonic() - started
    """
    assert await inside(pool, tmp_path, body) < 2
