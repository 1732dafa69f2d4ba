"""A whole engine, attacked from a function that it runs: its process, ports, files, terminal; and from a web page."""

from __future__ import annotations

import http.client
import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.doors import zip_of
from tests.engines import Served, served
from tests.security.probes import handler, outside

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).resolve().parent.parent.parent

SECRET = uuid.uuid4().hex

ATTACK = """
    exec(compile("def attack(event):\\n" + event["body"], "attack", "exec"), globals())
    return attack(event["what"])
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    os.environ["SECRET_OF_THE_ENGINE"] = SECRET
    try:
        async with served(tmp_path_factory.mktemp("reach") / "data") as running:
            await running.grpc.create("attacker", zip_of(handler(ATTACK)), timeout_ms=20_000)
            yield running
    finally:
        del os.environ["SECRET_OF_THE_ENGINE"]


async def from_a_function(running: Served, body: str, what: Any) -> Any:
    """What the body returns in a function of this engine."""
    text = "\n".join("    " + line for line in body.strip().splitlines())
    answer = await running.grpc.invoke("attacker", json.dumps({"body": text, "what": what}).encode())
    return answer.json()


@pytest.mark.parametrize("door", ["grpc", "http"])
async def test_its_ports_are_not_there(running: Served, door: str) -> None:
    port = running.grpc_port if door == "grpc" else running.http_port
    body = """
found = []
for address in ("127.0.0.1", "127.0.0.2", "::1"):
    answer = tried(socket.create_connection, (address, event), 2)
    found.append(answer if isinstance(answer, str) else "connected")
return found
"""
    assert "connected" in outside(body, port)
    assert set(await from_a_function(running, body, port)) == {"ECONNREFUSED"}


@pytest.mark.parametrize(
    "what", ["its database", "its folder", "its lock", "other functions' code", "its scratch images"]
)
async def test_its_files_are_not_there(running: Served, what: str) -> None:
    folder = running.data_dir
    paths = {
        "its database": [str(path) for path in folder.rglob("*.db*")]
        + [str(path) for path in folder.rglob("*.sqlite*")],
        "its folder": [str(folder)],
        "its lock": [str(folder / "instance")],
        "other functions' code": [str(path) for path in folder.rglob("app.py")],
        "its scratch images": [str(path) for path in folder.rglob("*.ext4")] or [str(folder)],
    }[what]
    body = (
        "return sorted({opened(prefix + path) for path in event for prefix in ('', '/proc/self/root', '/proc/1/cwd')})"
    )
    assert paths
    assert "opened" in outside(body, paths)
    assert await from_a_function(running, body, paths) == ["ENOENT"]


async def test_its_environment_and_memory_are_not_there(running: Served) -> None:
    body = """
return [opened(f"/proc/{event}/{name}") for name in ("environ", "mem", "maps", "fd/0")]
"""
    assert outside(body, running.process.pid) == ["opened"] * 4
    assert await from_a_function(running, body, running.process.pid) == ["ENOENT"] * 4
    body = "return 'SECRET_OF' in open(f'/proc/{event}/environ').read() + str(dict(os.environ))"
    assert await from_a_function(running, body, "self") is False
    assert outside(body, running.process.pid) is True


async def test_no_copy_of_its_secrets_is_in_a_functions_memory(running: Served) -> None:
    """A zygote is started by exec: neither the engine's environment nor its heap is in it."""
    body = """
table = bytes(byte ^ 0x55 for byte in range(256))
found = []
for line in open("/proc/self/maps"):
    start, end = (int(word, 16) for word in line.split()[0].split("-"))
    if "r" not in line.split()[1] or "[v" in line:
        continue
    with open("/proc/self/mem", "rb", 0) as memory:
        memory.seek(start)
        data = tried(memory.read, end - start)
    # What is looked for is not in memory as it is, so that the program does not find itself.
    found += [word for word in event if isinstance(data, bytes) and bytes.fromhex(word) in data.translate(table)]
return found
"""

    def masked(word: str) -> str:
        return bytes(byte ^ 0x55 for byte in word.encode()).hex()

    assert await from_a_function(running, body, [masked(SECRET), masked("SECRET_OF_THE_ENGINE")]) == []
    known = masked("AWS_LAMBDA_FUNCTION_NAME")
    assert known in await from_a_function(running, body, [known])


@pytest.mark.parametrize("signal_number", [0, 9, 15, 19])
async def test_no_signal_reaches_it_or_its_zygote(running: Served, signal_number: int) -> None:
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    pids = [running.process.pid, -running.process.pid, *(int(pid) for pid in children)]
    body = f"return sorted({{call('kill', pid, {signal_number}) for pid in event}})"
    assert await from_a_function(running, body, pids) == ["ESRCH"]
    assert running.process.poll() is None
    assert outside("return {call('kill', pid, 0) for pid in event[:1]} == {0}", pids) is True


async def test_a_page_that_rebinds_its_name_to_loopback_controls_nothing(running: Served) -> None:
    """The browser sends the page's name as the host, and its origin."""

    def ask(headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", running.http_port, timeout=5)
        try:
            connection.request("GET", "/2015-03-31/functions", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    own = f"127.0.0.1:{running.http_port}"
    assert ask({"Host": own}) == 200
    assert ask({"Host": f"evil.example:{running.http_port}"}) == 403
    assert ask({"Host": own, "Origin": "http://evil.example"}) == 403


async def test_no_terminal_of_the_engine_takes_what_a_function_types(tmp_path: Path) -> None:
    """TIOCSTI puts a character into a terminal's input, as if the operator had typed it."""
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "tests.security.on_a_terminal", str(tmp_path)]
    process = subprocess.Popen(
        program,
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while b"}" not in said:
            said += os.read(ours, 4096)
    except OSError:
        pass
    os.close(ours)
    assert process.wait(20) is not None
    assert b"{" in said, said.decode(errors="replace")
    found = json.loads(said[said.index(b"{") : said.rindex(b"}") + 1])
    assert found["beside the engine"] == "typed"
    assert found["inside"] == []
