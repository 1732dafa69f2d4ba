"""What a function finds when it looks around: who it is, what it sees, what it was given."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from engine.sandbox.pool import LinuxPool
from tests.sandboxes import real_pool
from tests.security.probes import inside, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def odd_engine() -> Iterator[None]:
    """An engine that was started with settings that its sandboxes are not to have."""
    lowered = {resource.RLIMIT_STACK: 1 << 20, resource.RLIMIT_FSIZE: 1 << 40, resource.RLIMIT_SIGPENDING: 10}
    before = {which: resource.getrlimit(which) for which in lowered}
    mask = os.umask(0o077)
    os.environ["SECRET_OF_THE_ENGINE"] = "secret"
    try:
        for which, soft in lowered.items():
            resource.setrlimit(which, (soft, before[which][1]))
        yield
    finally:
        for which, limit in before.items():
            resource.setrlimit(which, limit)
        del os.environ["SECRET_OF_THE_ENGINE"]
        os.umask(mask)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(odd_engine: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinuxPool]:
    async with real_pool(tmp_path_factory.mktemp("view")) as pool:
        os.umask(0o022)  # the zygote is there; what follows are the files of these tests
        yield pool


async def test_it_is_nobody_with_no_way_back(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        ids = os.getresuid() + os.getresgid() + tuple(os.getgroups())
        keys = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        return {"ids": ids, **{key: status[key].strip() for key in keys}}
    """
    found = await inside(pool, tmp_path, body)
    assert min(found.pop("ids")) >= 0x7000_0000
    assert found == {
        **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16),
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    assert outside(body)["CapEff"] != "0" * 16


@pytest.mark.parametrize("call", ["setuid", "setgid", "setgroups", "capset", "no_new_privs"])
async def test_it_cannot_become_anybody_else(pool: LinuxPool, tmp_path: Path, call: str) -> None:
    bodies = {
        "setuid": "return tried(os.setresuid, 0, 0, 0)",
        "setgid": "return tried(os.setresgid, 0, 0, 0)",
        "setgroups": "return tried(os.setgroups, [0])",
        "capset": "return syscall(126, struct.pack('II', 0x20080522, 0), struct.pack('6I', 1, 1, 0, 0, 0, 0)) or None",
        "no_new_privs": "return None if call('prctl', 38, 0, 0, 0, 0) == 0 else 'EPERM'",
    }
    if call not in ("no_new_privs",):
        assert outside(bodies[call]) is None
    assert await inside(pool, tmp_path, bodies[call]) == "EPERM"


async def test_a_setuid_program_gives_nothing(pool: LinuxPool, tmp_path: Path) -> None:
    """One of the host's, run by nobody: outside it is root's process, inside it stays nobody's."""
    body = """
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        path = next(p for p in ("/usr/bin/mount", "/usr/bin/su", "/usr/bin/passwd") if os.path.exists(p))
        assert os.stat(path).st_mode & stat.S_ISUID
        out, into = os.pipe()
        os.set_blocking(into, False)
        while isinstance(tried(os.write, into, bytes(4096)), int):
            pass
        os.set_blocking(into, True)
        child = os.fork()
        if child == 0:  # it waits there, with the first that it has to say
            os.dup2(into, 1)
            os.dup2(into, 2)
            os.close(out)
            os.execv(path, [path])
        ids = set()
        for _ in range(200):
            lines = open(f"/proc/{child}/status").readlines()
            if lines[0].split()[1] != "python3":
                ids |= {int(i) for line in lines if line.startswith("Uid") for i in line.split()[2:]}
            if 0 in ids or lines[2].split()[1] == "Z":
                break
            time.sleep(0.001)
        os.close(out)
        os.waitpid(child, 0)
        return [os.getuid(), sorted(ids)]
    """
    uid, seen = await inside(pool, tmp_path, body)
    assert set(seen) <= {uid}
    assert 0 in outside(body)[1]


async def test_a_setuid_program_of_its_own_gives_nothing(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        import shutil
        path = event + "/id"
        shutil.copy("/usr/bin/id", path)
        os.chmod(path, 0o6755)
        if os.getuid() == 0:
            os.chmod(event, 0o755)
            os.chdir(event)
            os.setgid(65534)
            os.setuid(65534)
            path = "./id"
        done = subprocess.run([path, "-u"], capture_output=True, text=True)
        return [os.getuid(), int(done.stdout), bool(os.statvfs("/tmp").f_flag & os.ST_NOSUID)]
    """
    assert outside(body, str(tmp_path))[:2] == [65534, 0]
    uid, became, nosuid = await inside(pool, tmp_path, body, "/tmp")
    assert (became, nosuid) == (uid, True)


async def test_only_tmp_can_be_written(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        writable = []
        for folder, folders, _ in os.walk("/"):
            if folder.startswith("/proc/") and folder.count("/") > 2:
                folders.clear()
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


async def test_what_only_root_may_write_is_also_mounted_read_only(pool: LinuxPool, tmp_path: Path) -> None:
    """Two lines: a mistake in one does not open the other."""
    body = """
        flags = {path: bool(os.statvfs(path).f_flag & os.ST_RDONLY)
                 for path in ("/", "/usr", "/etc", "/proc", "/var/task", "/tmp")}
        owners = {os.stat(path).st_uid for path in ("/", "/usr", "/etc", "/proc", "/var")}
        return [[path for path in flags if not flags[path]], sorted(owners)]
    """
    assert await inside(pool, tmp_path, body) == [["/tmp"], [0]]


async def test_the_hosts_files_are_not_there(pool: LinuxPool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    paths = ["/etc/shadow", "/home", "/boot", "/sys", "/run", "/var/lib", "/dev/shm", "/dev/kmsg", "/dev/loop0"]
    body = "return [path for path in event if os.path.lexists(path)]"
    assert await inside(pool, tmp_path, body, [*paths, str(tmp_path / "secret")]) == []
    assert outside(body, [*paths, str(tmp_path / "secret")]) != []


async def test_the_root_is_the_minimal_one(pool: LinuxPool, tmp_path: Path) -> None:
    found = set(await inside(pool, tmp_path, "return os.listdir('/')"))
    shown = {"bin", "dev", "etc", "lib", "lib32", "lib64", "opt", "proc", "sbin", "tmp", "usr", "var"}
    # The interpreter's own folder is shown at its own path.
    assert found - shown <= {Path(sys.base_prefix).parts[1]}


async def test_it_sees_no_process_but_its_own(pool: LinuxPool, tmp_path: Path) -> None:
    body = "return sorted(int(p) for p in os.listdir('/proc') if p.isdigit())"
    assert await inside(pool, tmp_path, body) == [1, 2]
    assert len(outside(body)) > 2


async def test_its_devices_are_the_harmless_ones(pool: LinuxPool, tmp_path: Path) -> None:
    body = "return sorted(name for name in os.listdir('/dev') if stat.S_ISCHR(os.lstat('/dev/' + name).st_mode))"
    assert await inside(pool, tmp_path, body) == ["full", "null", "random", "tty", "urandom", "zero"]
    body = """
        numbers = {name: os.stat("/dev/" + name).st_rdev for name in event}
        return {name: [os.major(number), os.minor(number)] for name, number in numbers.items()}
    """
    numbers = {"full": [1, 7], "null": [1, 3], "random": [1, 8], "tty": [5, 0], "urandom": [1, 9], "zero": [1, 5]}
    assert await inside(pool, tmp_path, body, list(numbers)) == numbers


HIDDEN = ["cmdline", "kallsyms", "diskstats", "partitions", "swaps", "interrupts"]


@pytest.mark.parametrize("name", HIDDEN)
async def test_proc_tells_nothing_of_the_hosts_hardware_and_disks(pool: LinuxPool, tmp_path: Path, name: str) -> None:
    body = f"return os.path.exists('/proc/{name}') and len(open('/proc/{name}').read())"
    if os.path.exists(f"/proc/{name}"):
        assert outside(body) > 0
    assert not await inside(pool, tmp_path, body)


@pytest.mark.parametrize("name", ["bus", "fs", "irq"])
async def test_folders_of_proc_that_are_the_hosts_are_empty(pool: LinuxPool, tmp_path: Path, name: str) -> None:
    body = f"return os.listdir('/proc/{name}')"
    assert outside(body) != []
    assert await inside(pool, tmp_path, body) == []


async def test_nothing_that_only_root_may_read_is_read(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        names = ("kcore", "kmsg", "kpagecount", "vmallocinfo", "slabinfo", "timer_list", "sysrq-trigger")
        return [name for name in names if opened("/proc/" + name) == "opened"]
    """
    assert await inside(pool, tmp_path, body) == []
    assert outside(body) != []


async def test_its_command_line_and_its_memory_map_name_no_path_of_the_engine(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        maps = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
        # The fork server's library is a copy in memory.
        maps = [path for path in maps if not path.startswith(("/usr/", "/lib", "/memfd:cleave ", event))]
        return [open("/proc/self/cmdline").read().strip("\\0").split("\\0")[1:], sys.orig_argv[1:], maps]
    """
    assert await inside(pool, tmp_path, body, sys.base_prefix) == [[], [], []]


async def test_its_descriptors_are_its_log_and_its_two_pipes(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        def is_open(fd):
            return not isinstance(tried(os.fstat, fd), str)
        return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(1024) if is_open(fd)}
    """
    found = await inside(pool, tmp_path, body)
    log = found["1"]
    # The guest keeps a way back to its log for when user code closes 1 and 2.
    assert found == {"0": "/dev/null", "1": log, "2": log, "3": found["3"], "4": found["4"], "5": log}
    assert len(set(found.values())) == 4
    assert all(found[fd].startswith("pipe:") for fd in "345")


async def test_a_program_it_starts_inherits_no_pipe_to_the_engine(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        done = subprocess.run(["/bin/ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)
        ours = [os.readlink(f"/proc/self/fd/{fd}") for fd in (3, 4)]
        return [ours, [pipe for pipe in ours if pipe in done.stdout]]
    """
    ours, inherited = await inside(pool, tmp_path, body)
    assert all(path.startswith("pipe:") for path in ours)
    assert inherited == []


async def test_it_has_loopback_and_no_other_interface(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        server = socket.create_server(("127.0.0.1", 0))
        socket.create_connection(server.getsockname()).close()
        tunnels = ("tunl", "sit", "ip6", "gre", "erspan")  # the kernel's own templates, in every namespace
        names = [line.split(":")[0].strip() for line in list(open("/proc/net/dev"))[2:]]
        return [name for name in names if not name.startswith(tunnels)]
    """
    assert await inside(pool, tmp_path, body) == ["lo"]
    assert len(outside(body)) > 1


async def test_its_environment_is_what_the_engine_made(pool: LinuxPool, tmp_path: Path) -> None:
    found = await inside(pool, tmp_path, "return dict(os.environ)")
    assert set(found) <= {
        *("LAMBDA_TASK_ROOT", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "PATH", "TZ"),
        *("_X_AMZN_TRACE_ID", "LC_CTYPE"),
    }
    body = "return 'SECRET' in open('/proc/self/environ').read()"
    assert await inside(pool, tmp_path, body) is False
    assert outside(body, afresh=True) is True


async def test_nothing_of_how_the_engine_was_started_is_inherited(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        names = ("STACK", "FSIZE", "CORE", "NOFILE", "NPROC", "MEMLOCK", "MSGQUEUE", "SIGPENDING", "NICE", "RTPRIO",
                 "AS", "CPU", "DATA", "RSS", "RTTIME")
        limits = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names}
        mask = os.umask(0)
        return [limits, mask, int(open("/proc/self/oom_score_adj").read()), os.getsid(0), os.getpgid(0)]
    """
    limits, mask, protection, session, group = await inside(pool, tmp_path, body)
    without = [-1, -1]
    assert limits == {
        "STACK": [8 << 20, -1],
        "FSIZE": [10_240 << 20] * 2,
        "CORE": [1, 1],
        "NOFILE": [1_024, 1_024],
        "NPROC": [1_024, 1_024],
        "MEMLOCK": [65_536, 65_536],
        "MSGQUEUE": [0, 0],
        "SIGPENDING": [1_024, 1_024],
        "NICE": [0, 0],
        "RTPRIO": [0, 0],
        **dict.fromkeys(("AS", "CPU", "DATA", "RSS", "RTTIME"), without),
    }
    assert (mask, protection, session, group) == (0o022, 1_000, 1, 1)
