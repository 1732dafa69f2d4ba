"""What a function finds and is refused where nothing needs root to ask: for engines that are not root, too.

With root's means to show that each attack succeeds elsewhere, test_view.py, test_walls.py and the others hold the same
and more.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import engine
from engine.model.outcome import Outcome
from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, run_once, spec, write_code

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]


async def inside(pool: LinuxPool, folder: Path, body: str, **settings: int) -> Any:
    """What the body of a handler returns."""
    source = "def handler(event, context):\n" + textwrap.indent(textwrap.dedent(body), "    ")
    ending, seen = await run_once(pool, folder, source, **settings)
    assert ending.outcome is Outcome.OK, (ending, bytes(seen.written))
    return json.loads(ending.payload)


def outside(body: str) -> Any:
    """What the same body returns as root on the host."""
    program = "import json\ndef handler():\n" + textwrap.indent(textwrap.dedent(body), "    ")
    program += "\nprint(json.dumps(handler()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=30)
    return json.loads(done.stdout)


async def test_it_is_nobody_with_no_way_back(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        ids = os.getresuid() + os.getresgid() + tuple(os.getgroups())
        keys = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        return {"ids": ids, **{key: status[key].strip() for key in keys}}
    """
    found = await inside(pool, tmp_path, body)
    assert min(found.pop("ids")) >= 0x7000_0000
    none = "0" * 16
    assert found == {
        **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), none),
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


async def test_two_sandboxes_have_two_user_ids(pool: LinuxPool, tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", "import os\ndef handler(event, context):\n    return os.getuid()\n")
    first, second = await pool.start(spec(code)), await pool.start(spec(code))
    uids = {(await run(sandbox))[0].payload for sandbox in (first, second)}
    await first.close()
    await second.close()
    assert len(uids) == 2


async def test_only_tmp_can_be_written(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os
        writable = []
        for folder, folders, _ in os.walk("/"):
            if folder.startswith(("/proc", "/sys")):
                folders.clear()
                continue
            try:
                with open(folder + "/probe", "w"):
                    writable.append(folder)
            except OSError:
                pass
            if folder.count("/") > 3:
                folders.clear()
        return writable
    """
    assert await inside(pool, tmp_path, body) == ["/tmp"]


async def test_the_hosts_files_are_not_there(pool: LinuxPool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    body = f"""
        import os
        paths = ["/etc/shadow", "/home", "/boot", "/sys", "/run", "/var/lib", "/dev/shm", "/dev/kmsg", "/dev/loop0",
                 {str(tmp_path / "secret")!r}]
        return [path for path in paths if os.path.lexists(path)]
    """
    assert await inside(pool, tmp_path, body) == []
    assert outside(body) != []


async def test_the_root_is_the_minimal_one(pool: LinuxPool, tmp_path: Path) -> None:
    found = set(await inside(pool, tmp_path, "import os\nreturn os.listdir('/')"))
    shown = {"bin", "dev", "etc", "lib", "lib32", "lib64", "opt", "proc", "sbin", "tmp", "usr", "var"}
    # The interpreter's own folder is shown at its own path.
    assert found - shown <= {Path(sys.base_prefix).parts[1]}


async def test_it_sees_no_process_but_its_own(pool: LinuxPool, tmp_path: Path) -> None:
    body = "import os\nreturn sorted(int(p) for p in os.listdir('/proc') if p.isdigit())"
    assert await inside(pool, tmp_path, body) == [1, 2]


async def test_nothing_in_proc_says_where_on_the_host_things_lie(pool: LinuxPool, tmp_path: Path) -> None:
    body = f"""
        import os
        paths = {[os.fspath(tmp_path), os.fspath(Path(engine.__file__).parent)]}
        told, read = [], 0
        for folder in ("/proc", "/proc/self", "/proc/self/task/2", "/proc/self/fd", "/proc/self/fdinfo", "/proc/1"):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                try:
                    text = os.readlink(path) if os.path.islink(path) else ""
                    if os.path.isfile(path) and name not in ("mem", "kmsg"):
                        text += open(path, errors="replace").read()
                except OSError:
                    continue
                read += bool(text)
                told += [(path, secret) for secret in paths if secret in text]
        return told, read
    """
    told, read = await inside(pool, tmp_path, body)
    assert told == []
    assert read > 20
    # Where the walls are off, as for the engine itself, it is in the maps.
    assert str(Path(engine.__file__).parent) in Path("/proc/self/maps").read_text()


async def test_its_devices_are_the_harmless_ones(pool: LinuxPool, tmp_path: Path) -> None:
    body = (
        "import os, stat\nreturn sorted(n for n in os.listdir('/dev') if stat.S_ISCHR(os.lstat('/dev/' + n).st_mode))"
    )
    assert await inside(pool, tmp_path, body) == ["full", "null", "random", "tty", "urandom", "zero"]


async def test_its_descriptors_are_its_log_and_its_control_socket(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os
        def is_open(fd):
            try:
                os.fstat(fd)
                return True
            except OSError:
                return False
        return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(1024) if is_open(fd)}
    """
    found = await inside(pool, tmp_path, body)
    log = found["1"]
    # The guest keeps a way back to its log for when user code closes 1 and 2.
    assert found == {"0": "/dev/null", "1": log, "2": log, "3": found["3"], "4": found["4"], "5": log}
    assert len(set(found.values())) == 4
    assert all(found[fd].startswith("pipe:") for fd in "345")


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
async def test_it_reaches_no_address_of_the_host(pool: LinuxPool, tmp_path: Path, family: str) -> None:
    address = {"AF_INET": "127.0.0.1", "AF_INET6": "::1"}[family]
    with socket.socket(getattr(socket, family)) as listening:
        listening.bind((address, 0))
        listening.listen()
        body = f"""
            import socket
            try:
                with socket.socket(socket.{family}) as sock:
                    sock.settimeout(2)
                    sock.connect(({address!r}, {listening.getsockname()[1]}))
                return "connected"
            except OSError as error:
                return type(error).__name__
        """
        assert outside(body) == "connected"
        assert await inside(pool, tmp_path, body) == "ConnectionRefusedError"


async def test_it_has_loopback_and_no_other_interface(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import socket, threading
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        tunnels = ("tunl", "sit", "ip6", "gre", "erspan")  # the kernel's own templates, in every namespace
        names = [line.split(":")[0].strip() for line in list(open("/proc/net/dev"))[2:]]
        return [name for name in names if not name.startswith(tunnels)]
    """
    assert await inside(pool, tmp_path, body) == ["lo"]


async def test_abstract_sockets_of_the_host_are_not_reachable(pool: LinuxPool, tmp_path: Path) -> None:
    name = f"\0cleave-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        body = f"""
            import socket
            try:
                socket.socket(socket.AF_UNIX).connect({name!r})
                return "connected"
            except OSError as error:
                return type(error).__name__
        """
        assert outside(body) == "connected"
        assert await inside(pool, tmp_path, body) == "ConnectionRefusedError"


_CALLS = {
    "mount": ("mount", "b'none', b'/tmp', b'tmpfs', 0, None"),
    "umount": ("umount2", "b'/tmp', 2"),
    "unshare user": ("unshare", "0x10000000"),
    "setns": ("setns", "0, 0"),
    "chroot": ("chroot", "b'/tmp'"),
    "sethostname": ("sethostname", "b'x', 1"),
}


@pytest.mark.parametrize("call", _CALLS)
async def test_calls_that_would_change_its_walls_are_refused(pool: LinuxPool, tmp_path: Path, call: str) -> None:
    name, arguments = _CALLS[call]
    body = f"""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.{name}({arguments})
        return [result, ctypes.get_errno()]
    """
    result, errno = await inside(pool, tmp_path, body)
    assert result == -1
    assert errno in (1, 13), errno


@pytest.mark.parametrize("flag", [0x10000000, 0x20000000, 0x00020000, 0x40000000])
async def test_clone_makes_no_namespaces(pool: LinuxPool, tmp_path: Path, flag: int) -> None:
    body = f"""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        pid = libc.syscall(56, {flag} | 17, 0, 0, 0, 0)
        if pid == 0:
            libc._exit(0)
        return [pid, ctypes.get_errno()]
    """
    assert await inside(pool, tmp_path, body) == [-1, 1]


async def test_a_setuid_program_gives_nothing(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os, subprocess
        found = [p for p in ("/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd") if os.path.exists(p)]
        ids = []
        for path in found:
            child = subprocess.Popen([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            try:
                ids += [line.split()[1:4] for line in open(f"/proc/{child.pid}/status") if line.startswith("Uid")]
            except OSError:
                pass
            child.communicate()
        return [os.getuid(), sorted({int(i) for row in ids for i in row})]
    """
    uid, seen = await inside(pool, tmp_path, body)
    assert set(seen) <= {uid}


async def test_open_files_stop_at_the_limit(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os
        opened = 0
        try:
            while True:
                os.open("/dev/null", os.O_RDONLY)
                opened += 1
        except OSError as error:
            return [opened, error.errno]
    """
    assert await inside(pool, tmp_path, body) == [1_018, 24]


async def test_tmp_stops_at_its_quota_and_is_not_memory(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os
        written = 0
        try:
            with open("/tmp/bomb", "wb", buffering=0) as file:
                while written < 600 << 20:
                    os.posix_fallocate(file.fileno(), written, 1 << 20)
                    written += 1 << 20
        except OSError as error:
            return [written >> 20, error.errno]
    """
    written, errno = await inside(pool, tmp_path, body, memory_mb=256, timeout_ms=50_000)
    assert errno == 28
    assert 512 <= written <= 522


async def test_proc_and_sysctls_cannot_be_changed(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os
        opened = []
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
                     "/proc/sys/kernel/hostname", "/proc/1/mem", "/proc/self/uid_map", "/proc/self/oom_score_adj"):
            try:
                fd = os.open(path, os.O_WRONLY)
                try:
                    os.write(fd, b"0")
                    opened.append(path)
                finally:
                    os.close(fd)
            except OSError:
                pass
        return opened
    """
    found = await inside(pool, tmp_path, body)
    # One may always volunteer to be killed first; the memory of process 1 is the guest's own.
    assert set(found) <= {"/proc/self/oom_score_adj", "/proc/1/mem"}


async def test_code_is_read_only_and_its_folder_is_all_there_is(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import os
        try:
            open("/var/task/app.py", "a")
            return "written"
        except OSError:
            return [bool(os.statvfs("/var/task").f_flag & os.ST_RDONLY), os.listdir("/var/task")]
    """
    assert await inside(pool, tmp_path, body) == [True, ["app.py"]]
