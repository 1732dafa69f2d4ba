"""What a module keeps from before the fork: nothing random repeats in siblings, whatever made it, and what depends on
the process notices that it is another."""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.model.outcome import Outcome, StartKind
from engine.runtimes.interpreters import Interpreter, examine
from engine.sandbox.counts import Resource
from engine.sandbox.demand import ParkSettings
from engine.sandbox.pool import LinuxPool
from engine.zygote.host import fork_module_path
from tests.packages import Packages, own_packages
from tests.remains import until
from tests.sandboxes import RUNTIME, real_pool, run, spec, write_code

pytestmark = pytest.mark.privileged

ROOT = Path(__file__).resolve().parents[2]

DRAWS = """
    import hashlib, multiprocessing.process, os, random, secrets, ssl, tempfile, uuid

    def draw():
        return [
            random.random(), random.randbytes(8).hex(), random.SystemRandom().random(), secrets.token_hex(),
            str(uuid.uuid1()), str(uuid.uuid4()), ssl.RAND_bytes(8).hex(), next(tempfile._get_candidate_names()),
            hashlib.pbkdf2_hmac("sha256", ssl.RAND_bytes(8), b"salt", 2).hex(),
            multiprocessing.process.current_process().authkey.hex(),
        ]

    FIRST = draw()  # what there is of random state is there before the fork
"""
SECOND_OPENSSL = """
    import ctypes

    LIBRARY = ctypes.CDLL({path!r})

    def draw():
        drawn = []
        for name in ("RAND_bytes", "RAND_priv_bytes"):
            bytes_ = ctypes.create_string_buffer(16)
            assert getattr(LIBRARY, name)(bytes_, 16) == 1
            drawn.append(bytes_.raw.hex())
        return drawn

    FIRST = draw()
"""
NUMPY = """
    import numpy.random

    def draw():
        return [float(numpy.random.rand()), int(numpy.random.default_rng().integers(1 << 60))]

    FIRST = draw()
"""
HANDLER = "import {module}\ndef handler(event, context):\n    return {module}.draw() + ['end']\n"


@pytest.fixture
def packages() -> Iterator[Packages]:
    with own_packages() as packages:
        yield packages


def libcrypto() -> str:
    """The file of a libcrypto of this host."""
    code = (
        "import ssl\nprint(*(line.split()[-1] for line in open('/proc/self/maps') if 'libcrypto' in line), sep='\\n')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    named = ctypes.util.find_library("crypto")
    found = [path for path in (*said, *(f"/usr/lib/x86_64-linux-gnu/{named}", f"/usr/lib64/{named}")) if path]
    return next(path for path in found if os.path.exists(path))


async def drawn_by(pool: LinuxPool, code: Path, module: str) -> list[list[Any]]:
    """What siblings draw: three that are forked, and some that are parked before."""
    drawn, kinds = [], set()
    for _ in range(2):
        sandboxes = await asyncio.gather(*(pool.start(replace(spec(code), preload=(module,))) for _ in range(3)))
        for sandbox in sandboxes:
            ending, seen = await run(sandbox)
            assert ending.outcome is Outcome.OK, ending.error
            drawn.append(json.loads(ending.payload)[:-1])
            kinds.add(seen.kind)
            await sandbox.close()
        await until(lambda: pool.counts.alive(Resource.PARKED) >= 2, what="some are parked")
    assert kinds == {StartKind.FORK, StartKind.PARKED}
    return drawn


async def hold_that_nothing_repeats(folder: Path, module: str, interpreter: Interpreter) -> None:
    code = write_code(folder / "code", HANDLER.format(module=module))
    park = ParkSettings(floor=0, ceiling=2, rate_per_s=1_000)
    async with real_pool(folder / "pool", park=park, runtimes={RUNTIME: interpreter}) as pool:
        drawn = await drawn_by(pool, code, module)
    assert len(drawn) == 6
    for kind in range(len(drawn[0])):
        assert len({values[kind] for values in drawn}) == len(drawn), (kind, drawn)


async def test_nothing_random_of_the_standard_library_repeats_where_it_was_drawn_from_before_the_fork(
    tmp_path: Path, packages: Packages
) -> None:
    packages.write(draws=DRAWS)
    await hold_that_nothing_repeats(tmp_path, "draws", packages.interpreter)


async def test_a_second_copy_of_openssl_draws_other_bytes_in_each_sandbox(tmp_path: Path, packages: Packages) -> None:
    """Of which the guest knows nothing: it tells by itself that its process is another than the zygote's."""
    copy = packages.site / "libsecond.so"
    shutil.copy(libcrypto(), copy)
    packages.write(second="import ssl\n" + SECOND_OPENSSL.format(path=str(copy)).replace("\n    ", "\n"))
    await hold_that_nothing_repeats(tmp_path, "second", packages.interpreter)


async def test_numpy_is_imported_ahead_and_draws_other_numbers_in_each_sandbox(
    tmp_path: Path, packages: Packages
) -> None:
    """That of the environment of the tests, which has a copy of BLAS that would start threads."""
    pytest.importorskip("numpy")
    tests_own = examine(str(Path(sys.prefix) / "bin" / "python"), fork_module_path())
    numpy = Path(tests_own.venv or sys.prefix) / "lib" / RUNTIME / "site-packages"
    for name in ("numpy", "numpy.libs"):
        if (numpy / name).is_dir():
            shutil.copytree(numpy / name, packages.site / name, ignore=shutil.ignore_patterns("tests"))
    packages.write(drawing=NUMPY)
    await hold_that_nothing_repeats(tmp_path, "drawing", packages.interpreter)


async def test_a_module_that_keeps_its_process_id_notices_that_it_is_in_another(
    tmp_path: Path, packages: Packages
) -> None:
    packages.write(
        keeps="""
            import os
            PID, HOOKS = os.getpid(), []
            os.register_at_fork(after_in_child=lambda: HOOKS.append(os.getpid()))
        """
    )
    source = """
        import os, keeps
        def handler(event, context):
            return [keeps.PID != os.getpid(), keeps.HOOKS == [os.getpid()], os.getpid()]
    """
    code = write_code(tmp_path / "code", source)
    async with real_pool(tmp_path / "pool", runtimes={RUNTIME: packages.interpreter}) as pool:
        for own_layout in (False, True):
            sandbox = await pool.start(replace(spec(code), preload=("keeps",), own_layout=own_layout))
            ending, _ = await run(sandbox)
            await sandbox.close()
            differs, hooked, pid = json.loads(ending.payload)
            assert (differs, hooked, pid) == (True, True, 2), ending


FIRST_CHILD = """
import os, sys
from pathlib import Path
from engine.runtimes.interpreters import Interpreter, own_path
from engine.sandbox.counts import Counts
from engine.zygote.host import Zygote
assert os.getpid() == 1, "no namespace"
python = Interpreter("python3", own_path(), (sys.base_prefix,))
zygote = Zygote(python, uid_base=1_870_000_000, uid_count=4, counts=Counts())
zygote.spawn()
print(zygote.pid)
zygote.kill()
zygote.close()
"""


def test_a_zygote_never_has_the_process_id_that_its_sandboxes_have() -> None:
    """Else a library that compares them sees no difference. In a container an engine's first child would have it."""
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", FIRST_CHILD]
    ran = subprocess.run(command, capture_output=True, check=False, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 2
