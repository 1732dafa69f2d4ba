"""Attempts to change the walls: mounts, roots, namespaces, cgroups, the kernel's settings, devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code
from tests.security.probes import handler, inside, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]

MOUNTS = {
    "mount": """return call("mount", b"none", b"/tmp", b"tmpfs", 0, None)""",
    "remount writable": """
        call("mount", b"/usr", b"/usr", None, 0x1000, None)
        return call("mount", None, b"/usr", None, 0x1020, None)
    """,
    "bind over": """return call("mount", b"/tmp", b"/usr", None, 0x1000, None)""",
    "mount /proc again": """return call("mount", b"proc", b"/proc", b"proc", 0, None)""",
    "umount": """
        call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
        return call("umount2", b"/tmp", 2)
    """,
    "fsopen": """return 0 if isinstance(syscall(430, b"tmpfs", 0), int) else syscall(430, b"tmpfs", 0)""",
    "open_tree": """return 0 if isinstance(syscall(428, -100, b"/usr", 1), int) else syscall(428, -100, b"/usr", 1)""",
    "chroot": """return call("chroot", b"/tmp")""",
    "pivot_root": """
        call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
        os.makedirs("/tmp/new/old")
        call("mount", b"/tmp/new", b"/tmp/new", None, 0x1000, None)
        return syscall(155, b"/tmp/new", b"/tmp/new/old")
    """,
}


@pytest.mark.parametrize("attack", MOUNTS)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
async def test_no_mount_and_no_root_can_be_changed(pool: LinuxPool, tmp_path: Path, attack: str) -> None:
    assert outside(MOUNTS[attack]) == 0
    assert await inside(pool, tmp_path, MOUNTS[attack]) == "EPERM"


async def test_the_classic_way_out_of_a_root_is_closed(pool: LinuxPool, tmp_path: Path) -> None:
    """chroot into a folder with one foot outside, then climb."""
    body = """
        os.makedirs("/tmp/cell", exist_ok=True)
        foot = os.open("/", os.O_RDONLY)
        entered = call("chroot", b"/tmp/cell")
        os.fchdir(foot)
        for _ in range(64):
            os.chdir("..")
        os.rmdir("/tmp/cell") if entered != 0 else None
        return [entered, "shadow" in os.listdir("etc")]
    """
    assert outside(body) == [0, True]
    assert await inside(pool, tmp_path, body) == ["EPERM", False]


NAMESPACES = {
    "a user namespace": 0x10000000,
    "a mount namespace": 0x20000,
    "a PID namespace": 0x20000000,
    "a network namespace": 0x40000000,
    "a cgroup namespace": 0x2000000,
    "a System V namespace": 0x8000000,
    "a hostname": 0x4000000,
    "a clock": 0x80,
}


@pytest.mark.parametrize(
    ("how", "what"),
    # To clone that bit is part of a signal's number.
    [
        (how, what)
        for how in ("unshare", "clone", "clone3")
        for what in NAMESPACES
        if (how, what) != ("clone", "a clock")
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
async def test_no_namespace_is_made(pool: LinuxPool, tmp_path: Path, what: str, how: str) -> None:
    flag = NAMESPACES[what]
    bodies = {
        "unshare": f'return call("unshare", {flag})',
        "clone": f"""
            pid = syscall(56, {flag} | 17, 0, 0, 0, 0)
            if pid == 0:
                os._exit(0)
            return pid if isinstance(pid, str) else 0
        """,
        "clone3": f"""
            arguments = struct.pack("8Q", {flag}, 0, 0, 0, 17, 0, 0, 0)
            pid = syscall(435, arguments, len(arguments))
            if pid == 0:
                os._exit(0)
            return pid if isinstance(pid, str) else 0
        """,
    }
    assert outside(bodies[how]) == 0
    assert await inside(pool, tmp_path, bodies[how]) == ("ENOSYS" if how == "clone3" else "EPERM")


@pytest.mark.parametrize("kind", ["mnt", "net", "pid", "user", "cgroup"])
async def test_no_namespace_is_joined(pool: LinuxPool, tmp_path: Path, kind: str) -> None:
    body = f"""
        fd = os.open("/proc/self/ns/{kind}", os.O_RDONLY)
        return call("setns", fd, 0)
    """
    # One may join one's own, but for that of users.
    assert outside(body) == ("EINVAL" if kind == "user" else 0)
    assert await inside(pool, tmp_path, body) == "EPERM"


@pytest.mark.parametrize("hierarchy", ["memory", "pids", "cpu", "unified"])
async def test_the_limits_cannot_be_mounted_into_reach(pool: LinuxPool, tmp_path: Path, hierarchy: str) -> None:
    folders = pool.cgroup_directories
    # What is mounted together can be mounted so alone, and on v2 all of it is one tree.
    together = ",".join(name for name in folders if folders[name] == folders[hierarchy])
    kind, options = ("cgroup2", "None") if "unified" in together else ("cgroup", f'b"{together}"')
    body = f"""
        os.makedirs("/tmp/cg", exist_ok=True)
        mounted = call("mount", b"cgroup", b"/tmp/cg", b"{kind}", 0, {options})
        return [mounted, opened("/tmp/cg/release_agent", os.O_WRONLY), opened("/tmp/cg/cgroup.procs", os.O_WRONLY)]
    """
    if folders[hierarchy]:
        assert outside(body)[0] == 0
    assert await inside(pool, tmp_path, body) == ["EPERM", "ENOENT", "ENOENT"]


async def test_it_can_neither_raise_nor_leave_its_limits(pool: LinuxPool, tmp_path: Path) -> None:
    """By their paths on the host, and by every name that /proc gives them."""
    sandbox = await pool.start(
        spec(
            write_code(
                tmp_path / "code",
                handler("""
                    found = []
                    for path in event:
                        found.append(opened(path, os.O_WRONLY))
                        found.append(opened("/proc/1/root" + path, os.O_WRONLY))
                        found.append(opened("/proc/self/cwd/../.." + path, os.O_WRONLY))
                    return sorted(set(found))
                """),
            )
        )
    )
    folders = {Path(folder) / sandbox.id for folder in pool.cgroup_directories.values() if folder}
    knobs = [
        str(folder / name)
        for folder in folders
        for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.cfs_quota_us", "cpu.max", "cgroup.procs")
        if (folder / name).exists()
    ]
    assert len(knobs) >= 4
    assert outside("return sorted({opened(path, os.O_WRONLY) for path in event})", knobs) == ["opened"]
    ending, _ = await run(sandbox, knobs)
    await sandbox.close()
    assert ending.payload == b'["ENOENT"]'


async def test_its_cgroup_is_the_root_of_what_it_sees(pool: LinuxPool, tmp_path: Path) -> None:
    body = "return sorted({line.rstrip().split(':', 2)[2] for line in open('/proc/self/cgroup')})"
    assert await inside(pool, tmp_path, body) == ["/"]
    body = "return os.path.exists('/sys/fs/cgroup')"
    assert outside(body) is True
    assert await inside(pool, tmp_path, body) is False


KERNEL_FILES = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sysrq-trigger",
    "/proc/pressure/memory",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
]


@pytest.mark.parametrize("path", KERNEL_FILES)
async def test_no_setting_of_the_kernel_is_open_for_writing(pool: LinuxPool, tmp_path: Path, path: str) -> None:
    body = f"return opened({path!r}, os.O_WRONLY)"
    if os.path.exists(path):  # not every kernel has every one
        assert outside(body) == "opened"
    assert await inside(pool, tmp_path, body) in ("EROFS", "EACCES", "ENOENT")


@pytest.mark.parametrize("name", ["mem", "oom_score_adj", "comm", "coredump_filter", "uid_map", "setgroups"])
async def test_nothing_in_proc_can_be_written_not_even_its_own(pool: LinuxPool, tmp_path: Path, name: str) -> None:
    body = f"return opened('/proc/self/{name}', os.O_WRONLY)"
    assert outside(body) == "opened"
    assert await inside(pool, tmp_path, body) in ("EROFS", "EACCES")


@pytest.mark.parametrize("device", ["a disk", "memory", "the kernel's log", "a loop device", "a terminal's master"])
async def test_no_device_can_be_made(pool: LinuxPool, tmp_path: Path, device: str) -> None:
    kind, major, minor = {
        "a disk": ("S_IFBLK", 8, 0),
        "memory": ("S_IFCHR", 1, 1),
        "the kernel's log": ("S_IFCHR", 1, 11),
        "a loop device": ("S_IFCHR", 10, 237),
        "a terminal's master": ("S_IFCHR", 5, 2),
    }[device]
    body = f"""
        path = f"/tmp/device{{os.getpid()}}"
        made = tried(os.mknod, path, stat.{kind} | 0o666, os.makedev({major}, {minor}))
        if made is None:
            os.unlink(path)
        return made
    """
    assert outside(body) is None
    assert await inside(pool, tmp_path, body) in ("EPERM", "EACCES")  # for want of a capability, and by Landlock


async def test_a_device_it_finds_in_its_code_does_not_open(pool: LinuxPool, tmp_path: Path) -> None:
    """The code is mounted nodev: one that an unpacked archive had in it would be of no use."""
    body = "return [opened(event + '/null', os.O_RDWR), os.path.exists(event + '/null')]"
    code = write_code(tmp_path / "code", handler(body))
    os.mknod(code / "null", 0o020666, os.makedev(1, 3))
    assert outside(body, str(code)) == ["opened", True]
    sandbox = await pool.start(spec(code))
    ending, _ = await run(sandbox, "/var/task")
    await sandbox.close()
    assert ending.payload in (b'["EACCES", true]', b'["EROFS", true]')


async def test_the_hostname_is_not_its_to_change(pool: LinuxPool, tmp_path: Path) -> None:
    body = "return call('sethostname', b'x', 1)"
    assert outside(body) == 0
    assert await inside(pool, tmp_path, body) == "EPERM"
