"""Code as a weapon: links out of its folder, links into it, writing to it, and what a layer could hide."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

import pytest

from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code
from tests.security.probes import handler, inside, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]


SECRET = uuid.uuid4().hex


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host's that everybody may read."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    tmp_path.chmod(0o755)
    return path


@pytest.mark.parametrize("link", ["absolute", "relative", "of a folder", "to the root", "to a process"])
async def test_a_link_in_the_code_leads_nowhere_outside(
    pool: LinuxPool, tmp_path: Path, secret: Path, link: str
) -> None:
    """The store refuses such an archive; one that got past it would find the sandbox's own root."""
    body = """
        found = []
        top, secret = event
        for folder, _, names in os.walk(top, followlinks=True):
            for name in names:
                text = tried(lambda: open(os.path.join(folder, name), errors="replace").read(100_000))
                found.append(secret in text)
            if len(found) > 100:
                break
        return any(found)
    """
    code = write_code(tmp_path / "code", handler(body))
    target = {
        "absolute": str(secret),
        "relative": os.path.relpath(secret, code),
        "of a folder": str(tmp_path),
        "to the root": "/proc/self/root" + str(tmp_path),
        "to a process": f"/proc/{os.getpid()}/root{tmp_path}",
    }[link]
    (code / "link").symlink_to(target)
    assert outside(body, [str(code), SECRET]) is True
    sandbox = await pool.start(spec(code))
    ending, _ = await run(sandbox, ["/var/task", SECRET])
    await sandbox.close()
    assert ending.payload == b"false"


async def test_the_folder_of_the_code_is_all_there_is_above_it(pool: LinuxPool, tmp_path: Path, secret: Path) -> None:
    """`..` of a mount's root is the sandbox's, not the host's."""
    body = """
        os.chdir(event)
        folder = os.open(".", os.O_RDONLY)
        climbed = [tried(os.open, "../" * depth + "secret", os.O_RDONLY, dir_fd=folder) for depth in range(1, 6)]
        return any(isinstance(fd, int) for fd in climbed)
    """
    code = write_code(tmp_path / "code", handler(body))
    assert outside(body, str(code)) is True
    sandbox = await pool.start(spec(code))
    ending, _ = await run(sandbox, "/var/task")
    await sandbox.close()
    assert ending.payload == b"false"


@pytest.mark.parametrize("path", ["/var/task/app.py", "/usr/bin/env", "/etc/passwd", "/var/runtime"])
async def test_a_hard_link_takes_no_file_of_others_into_tmp(pool: LinuxPool, tmp_path: Path, path: str) -> None:
    body = """
        source, target = event
        refused = tried(os.link, source, target)
        if refused is None:
            os.unlink(target)
        return refused
    """
    source = tmp_path / "source"
    source.write_text("x")
    assert outside(body, [str(source), str(tmp_path / "target")]) is None
    refused = await inside(pool, tmp_path, body, [path, "/tmp/link"])
    assert refused in ("EXDEV", "EPERM"), refused


CHANGES = {
    "append": "open(path, 'a').close()",
    "truncate": "os.truncate(path, 0)",
    "remove": "os.unlink(path)",
    "rename": "os.rename(path, path + '.old')",
    "mode": "os.chmod(path, 0o777)",
    "owner": "os.chown(path, os.getuid(), os.getgid())",
    "times": "os.utime(path, (1, 1))",
    "attribute": "os.setxattr(path, 'user.x', b'x')",
    "a new file": "open(os.path.dirname(path) + '/new', 'w').close()",
    "through its own memory": "os.close(os.open('/proc/self/exe', os.O_RDWR))",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_its_code_cannot_be_changed_for_those_who_come_after(
    pool: LinuxPool, tmp_path: Path, change: str
) -> None:
    body = f"""
        path = event + "/app.py"
        return tried(lambda: {CHANGES[change]})
    """
    code = write_code(tmp_path / "code", handler(body))
    before = [(path.name, path.read_bytes(), stat.filemode(path.stat().st_mode)) for path in sorted(code.iterdir())]
    sandbox = await pool.start(spec(code))
    ending, _ = await run(sandbox, "/var/task")
    await sandbox.close()
    assert ending.payload in (b'"EROFS"', b'"EACCES"', b'"EPERM"', b'"ETXTBSY"')
    after = [(path.name, path.read_bytes(), stat.filemode(path.stat().st_mode)) for path in sorted(code.iterdir())]
    assert after == before
    if change not in ("through its own memory", "remove", "rename", "truncate", "attribute"):
        assert outside(body, str(code)) is None


async def test_code_is_read_only_and_its_folder_is_all_there_is(pool: LinuxPool, tmp_path: Path) -> None:
    body = """
        flags = os.statvfs("/var/task").f_flag
        return [bool(flags & flag) for flag in (os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV)] + os.listdir("/var/task")
    """
    assert await inside(pool, tmp_path, body) == [True, True, True, "app.py"]
