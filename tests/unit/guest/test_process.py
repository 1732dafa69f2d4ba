"""What the guest is to the process around it: its imports, what forks share, the rehearsal in a zygote."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.zygote.host import fork_module_path
from tests.unit.guest.driver import IMPORT, Guest, home, program

LEAN = {"logging", "threading", "asyncio", "typing", "re", "random", "ssl", "hashlib", "subprocess", "socket"}
LEAN |= {"traceback", "linecache", "inspect", "dataclasses", "json", "enum", "functools", "collections"}


def ask(tmp_path: Path, python: str, code: str) -> Any:
    """The JSON that a program prints which has imported the guest as a zygote does."""
    path = program(tmp_path, IMPORT.format(home=home(tmp_path)) + code)
    done = subprocess.run([python, "-I", "-S", "-B", path], capture_output=True, check=True, timeout=20)
    assert done.stderr == b""
    return json.loads(done.stdout)


def test_importing_the_guest_brings_none_of_the_large_modules(tmp_path: Path, python: str) -> None:
    loaded = set(ask(tmp_path, python, "m = sorted(sys.modules); import json; print(json.dumps(m))"))
    assert not loaded & LEAN


def test_serving_a_plain_function_brings_none_of_them_either(any_guest: Guest) -> None:
    source = "import sys\ndef handler(event, context):\n    print(1)\n    if event: raise ValueError\n"
    any_guest.start(source + "    return sorted(sys.modules)\n")
    assert not set(any_guest.result()) & LEAN
    any_guest.event(1)
    any_guest.error()
    assert not set(any_guest.call()) & LEAN


RESEED = """
import json, os, random, secrets, tempfile, uuid, _ssl
{preload}
random.random(), tempfile.mkdtemp, next(tempfile._get_candidate_names()), uuid.uuid1()
from cleave_guest import reseed
def draw():
    return [random.random(), secrets.token_hex(4), str(uuid.uuid4()), next(tempfile._get_candidate_names()),
            _ssl.RAND_bytes(8).hex() {more}]
def child():
    out, into = os.pipe()
    if os.fork() == 0:
        random.setstate(state)  # as a clone that runs no fork handler has it
        reseed.after_fork()
        os.write(into, json.dumps(draw()).encode())
        os._exit(0)
    os.wait()
    os.close(into)
    return json.loads(os.read(out, 65536))
state = random.getstate()
print(json.dumps([child(), child()]))
"""


def test_two_forks_draw_different_values(tmp_path: Path, python: str) -> None:
    first, second = ask(tmp_path, python, RESEED.format(preload="", more=""))
    assert len(first) == 5
    assert all(ours != theirs for ours, theirs in zip(first, second, strict=True))


def test_numpy_and_multiprocessing_are_reseeded_where_they_are_loaded(tmp_path: Path) -> None:
    purelib = next(path for path in sys.path if path.endswith("site-packages"))
    preload = f"sys.path.append({purelib!r})\nimport multiprocessing.process\nimport numpy.random"
    more = ", float(numpy.random.rand()), multiprocessing.process.current_process().authkey.hex()"
    first, second = ask(tmp_path, sys.executable, RESEED.format(preload=preload, more=more))
    assert len(first) == 7
    assert all(ours != theirs for ours, theirs in zip(first, second, strict=True))


SAME_PID = """
import ctypes, json, os, _ssl
from cleave_guest import reseed
libc = ctypes.PyDLL(None)
CLONE_NEWPID, SIGCHLD, SYS_CLONE = 0x20000000, 17, {number}
def split():
    # Raw, so that no fork handler runs, and each time process 1 of a namespace: as zygotes and sandboxes are.
    return libc.syscall(SYS_CLONE, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0)
out, into = os.pipe()
zygote = split()
assert zygote >= 0, "clone"
if zygote == 0:
    _ssl.RAND_bytes(8)
    for number in range(2):
        child = split()
        if child == 0:
            {reseed}
            os.write(into, (_ssl.RAND_bytes(8).hex() + " %d " % os.getpid()).encode())
            os._exit(0)
        os.waitpid(child, 0)
    os._exit(0)
os.waitpid(zygote, 0)
print(json.dumps(os.read(out, 4096).decode().split()))
"""


@pytest.mark.privileged
@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the number of clone on x86-64 only")
def test_openssl_is_stirred_where_siblings_have_the_same_process_id(tmp_path: Path) -> None:
    def drawn(reseed: str) -> tuple[str, str]:
        first, first_pid, second, second_pid = ask(tmp_path, sys.executable, SAME_PID.format(number=56, reseed=reseed))
        assert first_pid == second_pid == "1"
        return first, second

    first, second = drawn("pass")
    assert first == second, "this OpenSSL tells forks apart by itself, so the test shows nothing"
    first, second = drawn("reseed.after_fork()")
    assert first != second


def test_reseeding_imports_nothing(tmp_path: Path, python: str) -> None:
    code = "before = set(sys.modules)\nfrom cleave_guest import reseed\nreseed.after_fork()\n"
    code += "new = sorted(set(sys.modules) - before)\nimport json; print(json.dumps(new))"
    assert ask(tmp_path, python, code) == []


REHEARSE = """
import builtins, gc, os, time
{preload}
guest = cleave_guest.runtime.anticipate()
os.environ["KEPT"] = "1"
os.environ.pop("TZ", None)
os.chdir("/usr")
def state():
    return [dict(os.environ), list(sys.path), list(sys.meta_path), dict(sys.path_importer_cache), dict(sys.modules),
            list(sys.argv), [sys.stdin, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__], os.getcwd(),
            sys.dont_write_bytecode, hasattr(builtins, "exit"), time.tzname, sorted(os.listdir("/proc/self/fd")),
            [os.readlink("/proc/self/fd/" + fd) for fd in "012"], gc.isenabled(), {more}]
gc.disable()
{rehearsed}
before = state()
cleave_guest.runtime.rehearse(guest, {how})
changed = [n for n, (a, b) in enumerate(zip(before, state())) if a != b]
print(changed)
"""


IN_A_FORK = {"rehearsed": "cleave_guest.runtime.rehearse(guest)", "how": "2, whole=False"}
"""Of what has rehearsed already."""
HOWS = pytest.mark.parametrize("how", [{"rehearsed": "", "how": ""}, IN_A_FORK], ids=["whole", "in a fork"])


@HOWS
def test_a_rehearsal_leaves_no_trace(tmp_path: Path, python: str, how: dict[str, str]) -> None:
    assert ask(tmp_path, python, REHEARSE.format(preload="", more="", **how)) == []


@HOWS
def test_a_rehearsal_leaves_no_trace_in_loaded_logging(tmp_path: Path, python: str, how: dict[str, str]) -> None:
    more = "list(logging.getLogger().handlers), logging.getLogger().level, logging.Formatter.converter"
    assert ask(tmp_path, python, REHEARSE.format(preload="import logging", more=more, **how)) == []


def test_a_guest_after_a_rehearsal_serves_as_one_without(tmp_path: Path, python: str) -> None:
    before = "cleave_guest.runtime.rehearse(cleave_guest.runtime.anticipate())\nimport logging\n"
    with Guest(tmp_path, python=python, before=before) as guest:
        guest.start("import logging\nlogging.warning('w')\ndef handler(event, context):\n    return event\n", 1)
        assert guest.result() == 1
        assert guest.log.count(b"[WARNING]") == 1
        assert guest.call(2) == 2


def test_what_a_rehearsal_in_a_fork_imports_is_forgotten(tmp_path: Path) -> None:
    code = "from cleave_guest import rehearsal\nrehearsal._SOURCE = b'import colorsys' + rehearsal._SOURCE\n"
    code += "guest = cleave_guest.runtime.anticipate()\nbefore = list(sys.modules)\n"
    code += "cleave_guest.runtime.rehearse(guest, 2, whole=False)\nafter = list(sys.modules)\n"
    code += "import json\nprint(json.dumps([after == before, 'colorsys' in after]))\n"
    assert ask(tmp_path, sys.executable, code) == [True, False]


def test_a_rehearsal_that_goes_wrong_is_an_error(tmp_path: Path) -> None:
    code = "from cleave_guest import rehearsal\nrehearsal._SOURCE = b'def handler(event, context): return 1'\n"
    code += "guest = cleave_guest.runtime.anticipate()\n"
    code += "try:\n    cleave_guest.runtime.rehearse(guest, 1)\nexcept RuntimeError:\n    print('true')\n"
    assert ask(tmp_path, sys.executable, code) is True


AHEAD = """
import io, json, os
from cleave_guest import stdio
def opened():
    links = ["/proc/self/fd/%d" % fd for fd in range(30)]
    return [os.readlink(link) for link in links if os.path.lexists(link)]
real = os.dup(1)
os.dup2(os.open(os.path.join(os.path.dirname(__file__), "file"), os.O_RDWR | os.O_CREAT), 1)
before = opened()
made = stdio.make_ahead()
assert opened() == before
assert io.TextIOWrapper(io.FileIO(1, "w", closefd=False)).seekable()
out, into = os.pipe()
os.dup2(into, 1)
made.take()
made._out.write("line\\n")
os.close(1)
made.settle()
made._out.write("again\\n")
text = os.read(out, 100).decode()
os.dup2(real, 1)
print(json.dumps([made._out.seekable(), made._err.seekable(), text]))
"""


def test_streams_that_were_made_ahead_are_those_of_the_pipe_that_comes(tmp_path: Path, python: str) -> None:
    assert ask(tmp_path, python, AHEAD) == [False, False, "line\nagain\n"]


ENVIRONMENT = """
import json, os
from cleave_guest import interpreter, zygote
fork = zygote._load_fork_module({fork!r})
interpreter.anticipate(fork.put_environment)
def seen():
    out, into = os.pipe()
    if os.fork() == 0:
        os.dup2(into, 1)
        os.execv("/usr/bin/env", ["env"])  # what C code has
    os.wait()
    os.close(into)
    return [sorted(os.read(out, 65536).decode().splitlines()), dict(os.environ), os.environb[b"A"].decode()]
found = []
interpreter.set_environment({{"A": "1", "EMPTY": "", "WIDE": "\\u20ac="}})
found.append(seen())
os.environ["LATER"] = "2"
del os.environ["EMPTY"]
found.append(seen())
for wrong in ({{"A=B": "1"}}, {{"": "1"}}, {{"A\\0": "1"}}, {{"A": "1\\0"}}):
    try:
        interpreter.set_environment(wrong)
    except ValueError:
        found.append(seen() == found[1])
print(json.dumps(found))
"""


def test_the_environment_is_put_whole_and_can_be_changed_as_ever(tmp_path: Path, python: str) -> None:
    first, second, *wrong = ask(tmp_path, python, ENVIRONMENT.format(fork=str(fork_module_path())))
    assert first == [["A=1", "EMPTY=", "WIDE=\u20ac="], {"A": "1", "EMPTY": "", "WIDE": "\u20ac="}, "1"]
    assert second == [["A=1", "LATER=2", "WIDE=\u20ac="], {"A": "1", "WIDE": "\u20ac=", "LATER": "2"}, "1"]
    assert wrong == [True] * 4


PACK = r"""
import json, os, struct
from cleave_guest import zygote
fork = zygote._load_fork_module({fork!r})
kept = [[str(number), {{number: bytes([number % 256]) * number}}] for number in range(2000)]
written = repr(kept)
proc = os.open("/proc", os.O_RDONLY)
def counted(name):
    with open("/proc/vmstat") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(name))
before = counted("thp_fault_fallback ")
fork.pack_pages(proc)
found = [repr(kept) == written]
more = [bytearray(number * 100) for number in range(1000)]  # the heap still grows
kept.extend(kept[:10])
found.append(repr(kept[:2000]) == written)
if os.fork() == 0:
    os._exit(repr(kept[:2000]) != written)
found.append(os.wait()[1] == 0)
large = 0
if os.geteuid() == 0 and os.path.exists("/proc/kpageflags"):
    with open("/proc/self/maps") as maps, open("/proc/self/pagemap", "rb") as pagemap, \
            open("/proc/kpageflags", "rb") as flags:
        start, end = next(line.split()[0].split("-") for line in maps if "[heap]" in line)
        pagemap.seek(int(start, 16) // 4096 * 8)
        for _ in range(64):
            entry, = struct.unpack("=Q", pagemap.read(8))
            flags.seek((entry & ((1 << 55) - 1)) * 8)
            large += struct.unpack("=Q", flags.read(8))[0] >> 22 & 1
given = os.path.exists("/sys/kernel/mm/transparent_hugepage/enabled") and counted("thp_fault_fallback ") == before
if given:
    with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
        given = "[never]" not in file.read()
print(json.dumps([found, given, large]))
"""


def test_memory_that_is_packed_into_large_pages_is_as_it_was(tmp_path: Path, python: str) -> None:
    found, given, large = ask(tmp_path, python, PACK.format(fork=str(fork_module_path())))
    assert found == [True] * 3
    if given and Path("/proc/kpageflags").exists() and os.geteuid() == 0:
        assert large > 32
