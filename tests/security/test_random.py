"""Nothing random repeats between sandboxes of one zygote, which share its memory when they begin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.sandbox.pool import LinuxPool
from tests.sandboxes import run, spec, write_code
from tests.security.probes import handler, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="package")]

DRAW = """
    import random, secrets, ssl, tempfile, uuid
    names = tempfile._get_candidate_names()
    return [
        random.random(), random.randbytes(8).hex(), secrets.token_hex(), uuid.uuid4().hex, uuid.uuid1().hex,
        os.urandom(16).hex(), ssl.RAND_bytes(16).hex(), next(names),
    ]
"""
KINDS = 8


async def test_what_is_random_in_one_is_not_in_another(pool: LinuxPool, tmp_path: Path) -> None:
    code = write_code(tmp_path / "code", handler(DRAW))
    drawn = []
    for _ in range(4):
        sandbox = await pool.start(spec(code))
        drawn += [json.loads((await run(sandbox))[0].payload) for _ in range(2)]
        await sandbox.close()
    for kind in range(KINDS):
        assert len({values[kind] for values in drawn}) == len(drawn), kind
    forked = """
        import random
        found = set()
        for _ in range(4):
            out, into = os.pipe()
            child = libc.fork()  # Python, whose own fork would reseed, does not hear of it
            if child == 0:
                os.write(into, repr(random.random()).encode())
                os._exit(0)
            found.add(os.read(out, 4096))
            os.waitpid(child, 0)
        return len(found)
    """
    assert outside(forked) == 1
