"""The system call filter: each entry of its table, and what its four exceptions let through and what not."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest

from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code
from tests.security.beside import beside, process_of
from tests.security.probes import PRELUDE, ending_of, handler, inside, outside

ROOT = Path(__file__).resolve().parent.parent.parent
HEADERS = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")]

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64"),
]


def numbers(action: str) -> dict[str, int]:
    """The calls of the filter's table with this action, and their numbers."""
    table = (ROOT / "native/box/seccomp.c").read_text()
    header = next(path for path in HEADERS if path.exists()).read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header)}
    known |= {name: int(number) for name, number in re.findall(r"CALL_(\w+) = (\d+)", table)}
    names = re.findall(rf"\{{(SYS|CALL)_(\w+), {action}, \"", table)
    return {name: known[name] for _, name in names}


async def test_every_call_that_the_table_refuses_is_refused(pool: LinuxPool, tmp_path: Path) -> None:
    refused = numbers("REFUSE")
    assert len(refused) > 45
    body = "return {name: syscall(number, -1, -1, -1, -1, -1, -1) for name, number in event.items()}"
    assert set((await inside(pool, tmp_path, body, refused)).values()) == {"EPERM"}
    on_the_host = outside(body, {name: refused[name] for name in ("bpf", "keyctl", "io_setup", "fsopen", "kcmp")})
    assert "EPERM" not in on_the_host.values()


async def test_what_is_hidden_looks_as_if_the_kernel_did_not_have_it(pool: LinuxPool, tmp_path: Path) -> None:
    hidden = numbers("NOT_HERE")
    assert len(hidden) == 6
    body = "return {name: syscall(number, -1, -1, -1, -1, -1) for name, number in event.items()}"
    assert set((await inside(pool, tmp_path, body, hidden)).values()) == {"ENOSYS"}
    assert outside(body, {"clone3": 435}) == {"clone3": "E2BIG"}


NEWER = {
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wait": 455,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "file_getattr": 468,
}
"""What is let through of what was added since Linux 6.6: its older form is, or it concerns the caller alone."""


async def test_each_newer_call_is_decided_and_those_that_nobody_has_looked_at_are_not_there(
    pool: LinuxPool, tmp_path: Path
) -> None:
    """Beside a sandbox, without its filter, the kernel's own answers; 470 is the first that the table does not know."""
    body = "return {str(number): syscall(number, -1, -1, -1, -1, -1, -1) for number in event}"
    known = set(numbers("REFUSE").values()) | set(numbers("NOT_HERE").values())
    passed = [number for number in range(443, 470) if number not in known]
    assert set(NEWER.values()) <= set(passed)
    assert await inside(pool, tmp_path, body, passed) == outside(body, passed)
    later = [470, 471, 500, 548, 600, 1_000, 0x3FFFFFFF]
    assert set((await inside(pool, tmp_path, body, later)).values()) == {"ENOSYS"}


def decide(program: list[list[int]], number: int) -> int:
    """What the filter's program answers to a call: the kernel's interpreter, for the instructions in use."""
    data = struct.pack("=iIQ6Q", number, 0xC000003E, 0, *[0] * 6)
    at = value = 0
    while True:
        code, yes, no, constant = program[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, constant)
        elif code == 0x54:
            value &= constant
        elif code == 0x06:
            return constant
        else:
            held = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            at += yes if held else no


async def test_the_loaded_program_is_the_table_for_every_number(pool: LinuxPool, tmp_path: Path) -> None:
    """Read back from a sandbox's process. A call that came after the table was written is not there."""
    body = """
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        assert libc.ptrace(16, event, None, None) == 0
        os.waitpid(event, 0x40000000)
        program = ctypes.create_string_buffer(8 * 4096)
        count = libc.ptrace(0x420C, event, 0, ctypes.addressof(program))
        libc.ptrace(17, event, None, None)
        return list(struct.iter_unpack("HBBI", program.raw[: 8 * count]))
    """
    sandbox = await pool.start(spec(write_code(tmp_path / "code", handler("return 1"))))
    await run(sandbox)
    program = outside(body, process_of(pool, sandbox))
    await sandbox.close()
    allow, refuse, none, nothing = 0x7FFF0000, 0x50001, 0x50026, 0x50000
    rows = {"REFUSE": refuse, "NOT_HERE": none, "PRETEND": nothing}
    expected = {number: answer for action, answer in rows.items() for number in numbers(action).values()}
    # With all arguments 0: clone makes a child, no family of sockets is 0, the limit asked about is no core's.
    expected[41] = expected[53] = 0x50061
    assert {number: decide(program, number) for number in range(470)} == {
        number: expected.get(number, allow) for number in range(470)
    }
    later = [*range(470, 2_000), 0x3FFFFFFF, 0x40000000, 0x40000001, 0x7FFFFFFF, -1, -2]
    assert {decide(program, number) for number in later} == {none}


COMMANDS = {
    "add a key": "return ioctl(top, 0xC0506617, spec + struct.pack('II', 64, 0) + bytes(32) + bytes(range(64)))",
    "ask for the key": "return ioctl(top, 0xC080661A, spec + bytes(128 - len(spec)))",
    "ask for the policy": "return ioctl(top, 0xC0096616, struct.pack('Q', 24) + bytes(24))",
    "flags": "return ioctl(file, 0x40086602, struct.pack('L', struct.unpack('L', get(file, 0x80086601, 8))[0] | 0x40))",
    "a project": "return ioctl(file, 0x401C5820, get(file, 0x801C581F, 28))",
}
"""Commands to the file system of /tmp."""

ASK = """
def ioctl(fd, command, argument):
    return tried(lambda: fcntl.ioctl(fd, command, bytearray(argument)))
def get(fd, command, size):
    answer = bytearray(size)
    fcntl.ioctl(fd, command, answer)
    return bytes(answer)
top = os.open("/tmp", os.O_RDONLY)
file = os.open("/tmp/mine", os.O_RDWR | os.O_CREAT)
spec = struct.pack("II", 2, 0) + bytes(32)
"""


@pytest.mark.parametrize("what", COMMANDS)
async def test_no_command_reaches_keys_flags_or_projects_of_files(pool: LinuxPool, tmp_path: Path, what: str) -> None:
    code = write_code(tmp_path / "code", handler(ASK + COMMANDS[what]))
    sandbox = await pool.start(spec(code))
    ending, _ = await run(sandbox)
    with beside(pool, sandbox, ASK + f"def attack():\n    {COMMANDS[what]}\nsay(attack())") as said:
        assert said == 0
    await sandbox.close()
    assert ending.payload == b'"EPERM"'


TERMINAL = """
def attack():
    client = socket.socket(socket.AF_UNIX)
    client.connect("/tmp/door")
    terminal = socket.recv_fds(client, 1, 1)[1][0]
    out, into = os.pipe()
    if os.fork() == 0:
        os.setsid()
        commands = [(0x540E, 0), (0x5412, b"x"), (0x5423, bytes(4)), (0x541C, bytes([3]))]
        found = [tried(fcntl.ioctl, terminal, *command) for command in commands]
        os.write(into, json.dumps([answer if isinstance(answer, str) else "done" for answer in found]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(out, 4096))
"""


async def test_a_terminal_that_got_in_is_neither_taken_nor_typed_into(pool: LinuxPool, tmp_path: Path) -> None:
    """Handed in through a socket in /tmp. Made the controlling one it takes what is typed, for the shell behind it."""
    hand_in = """
        server = socket.socket(socket.AF_UNIX)
        server.bind("/tmp/door")
        server.listen()
        say("listening")
        for _, theirs in pairs:
            socket.send_fds(server.accept()[0], [b"x"], [theirs])
        until_told()
    """
    source = PRELUDE + TERMINAL + "def handler(event, context):\n    return attack() if event else None\n"
    sandbox = await pool.start(spec(write_code(tmp_path / "code", source)))
    await run(sandbox, 0)
    with beside(pool, sandbox, hand_in, first="pairs = [os.openpty() for _ in range(2)]"):
        ending, _ = await run(sandbox, 1)
        with beside(pool, sandbox, TERMINAL + "say(attack())") as without:
            pass
    await sandbox.close()
    assert json.loads(ending.payload) == ["EPERM"] * 4
    # Kernels may be set up to refuse typing (EIO); a console's command is none of a terminal's.
    assert without[0] == "done"
    assert without[1] in ("done", "EIO")
    assert without[2:] == ["done", "ENOTTY"]


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
    "IPsec keys": (15, 3, 2),
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
    "mapped": "return tried(lambda: mmap.mmap(-1, 2 << 20, flags=0x44022) and None)",
    "a memory file": "fd = tried(os.memfd_create, 'x', 4)\nreturn fd if isinstance(fd, str) else None",
    "System V": "return call('shmget', 0, 2 << 20, 0o15600)",
}


@pytest.mark.parametrize("how", HUGE_PAGES)
async def test_the_hosts_pool_of_huge_pages_is_not_its_to_take(pool: LinuxPool, tmp_path: Path, how: str) -> None:
    """None of them is reserved: what they ask for is there on a host that has set none aside, too."""
    if os.path.exists("/sys/kernel/mm/hugepages"):
        assert isinstance(outside(HUGE_PAGES[how]), int | None)
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
        return [syscall(162), syscall(306, -1), tried(os.fsync, os.open("/tmp", os.O_RDONLY))]
    """
    assert await inside(pool, tmp_path, body) == [0, 0, None]
    assert outside("return syscall(306, -1)") == "EBADF"
