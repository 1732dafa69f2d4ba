"""The AWS CLI, version 2, unmodified, against a running engine: what the README shows, `aws logs tail`, and where it
differs from version 1. Its commands take a second each and are run together; each test is about some of them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.compat import aws_cli
from tests.doors import REGION, zip_of
from tests.engines import Engine, engine

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(120)]

GROUP = "/aws/lambda/noted"
LIMIT_S = 100.0
CODE = zip_of("""
    import json

    def handler(event, context):
        print(event["say"])
        print(json.dumps({"level": "warn", "said": event["say"]}))
        return event
""")


@dataclass
class Told:
    """How a command ended."""

    status: int | None
    out: str
    err: str

    def messages(self) -> list[str]:
        """The lines of a tail in its detailed format, without time and stream."""
        assert self.status == 0, self.err
        return [line.split(" ", 2)[2] for line in self.out.splitlines()]


class Shell:
    """Runs commands of the CLI against an engine."""

    def __init__(self, program: Path, home: Path, port: int) -> None:
        self._program = program
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            **aws_cli.ENVIRONMENT,
        }
        self._at_once = asyncio.Semaphore(2)

    async def start(self, *words: str, out: IO[bytes] | int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        """Begin one."""
        return await asyncio.create_subprocess_exec(
            str(self._program),
            *words,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str) -> Told:
        """Run one to its end."""
        async with self._at_once:
            process = await self.start(*words)
            try:
                out, err = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            return Told(process.returncode, out.decode(), err.decode())


async def follow(shell: Shell, one: Engine) -> list[str]:
    """The lines of a `tail --follow` at a terminal, from before a call until after it."""
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as screen, open(theirs, "wb", buffering=0) as terminal:
        process = await shell.start(
            "logs", "tail", GROUP, "--follow", "--format", "short", "--color", "off", out=terminal
        )
        lines = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), screen
        )
        seen: list[str] = []

        async def read_until(mark: str) -> None:
            while mark not in (seen[-1] if seen else ""):
                seen.append((await lines.readline()).decode())
                assert seen[-1], "it ended by itself"

        try:
            await read_until("second")
            await one.http.invoke("noted", b'{"say": "later"}')
            await read_until("later")
            await read_until("REPORT")
            return seen
        finally:
            transport.close()
            # Not by SIGINT, which it would ignore wherever the tests do.
            if process.returncode is None:
                process.kill()
            await process.wait()


async def everything(cli: aws_cli.Cli, folder: Path) -> dict[str, Any]:
    """What each command told, by a name for it."""
    program = folder / "aws"
    program.write_text(cli.script())
    program.chmod(0o755)
    async with engine(folder / "data") as one:
        port = one.service.http_port
        shell = Shell(program, folder, port)
        await one.http.create("noted", CODE)
        await one.http.create("quiet", CODE)
        await one.http.invoke("noted", b'{"say": "first"}')
        # In another millisecond, which is what a log counts.
        then = time.time_ns() // 1_000_000 + 2
        while time.time_ns() // 1_000_000 <= then:
            await asyncio.sleep(0.001)
        await one.http.invoke("noted", b'{"say": "second"}')
        tail = ("logs", "tail", GROUP)
        since = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(then / 1_000))}.{then % 1_000:03d}Z"
        payload = '{"say": "Ahoy – «world»"}'
        this = ("--function-name", "quiet")
        commands: dict[str, tuple[str, ...]] = {
            "tail": tail,
            "since": (*tail, "--since", since),
            "long ago": (*tail, "--since", "3d", "--log-stream-name-prefix", "1999/"),
            "json": (*tail, "--format", "json", "--filter-pattern", "{ $.level = warn && $.said = second }"),
            "pattern": (*tail, "--filter-pattern", '"first" -level'),
            "nobody": ("logs", "tail", "/aws/lambda/nobody"),
            "base64": (
                "lambda",
                "invoke",
                *this,
                "--payload",
                base64.b64encode(payload.encode()).decode(),
                "/dev/stderr",
            ),
            "raw": (
                *("lambda", "invoke", *this, "--cli-binary-format", "raw-in-base64-out"),
                "--payload",
                payload,
                "/dev/stderr",
            ),
            "wait": ("lambda", "wait", "function-active-v2", *this),
            "pages": (
                "lambda",
                "list-functions",
                "--page-size",
                "1",
                "--query",
                "Functions[].FunctionName",
                "--output",
                "yaml",
            ),
        }
        async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as all_of_them:
            shown = aws_cli.run_shown(cli, folder / "shown", port, "aws logs tail /aws/lambda/greet")
            tasks: dict[str, asyncio.Task[Any]] = {"readme": all_of_them.create_task(shown)}
            # Those that a call later would change come first.
            for name, words in commands.items():
                tasks[name] = all_of_them.create_task(shell.run(*words))
            await asyncio.wait([tasks[name] for name in ("tail", "since", "long ago", "json", "pattern")])
            tasks["follow"] = all_of_them.create_task(follow(shell, one))
        return {name: task.result() for name, task in tasks.items()}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cli = aws_cli.find(2)
    return asyncio.run(everything(cli, tmp_path_factory.mktemp("cli")))


def test_what_the_readme_shows_works_as_shown_with_a_tail_of_the_log(told: dict[str, Any]) -> None:
    aws_cli.check_shown(*told["readme"])
    reports = re.findall(r"REPORT RequestId: \S+", told["readme"][1])
    # Once from the tail, and once from what the README asks for.
    assert len(reports) == 2 * len(set(reports)) == 2


def test_the_log_of_a_function_is_tailed_with_times_and_streams(told: dict[str, Any]) -> None:
    lines = told["tail"].out.splitlines()
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00 \d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32} \S", line) for line in lines
    )
    kinds = [message.split()[0] for message in told["tail"].messages()]
    assert kinds == [
        "INIT_START",
        "START",
        "first",
        '{"level":',
        "END",
        "REPORT",
        "START",
        "second",
        '{"level":',
        "END",
        "REPORT",
    ]


def test_a_tail_begins_where_since_says(told: dict[str, Any]) -> None:
    assert [line.split()[0] for line in told["since"].messages()] == ["START", "second", '{"level":', "END", "REPORT"]
    assert told["long ago"].messages() == []


def test_a_line_that_is_json_is_laid_out_and_found_by_its_members(told: dict[str, Any]) -> None:
    assert told["json"].status == 0, told["json"].err
    head, _, document = told["json"].out.partition("\n")
    assert head.endswith(" ")
    assert json.loads(document) == {"level": "warn", "said": "second"}
    assert document.startswith('{\n    "level"')


def test_a_pattern_chooses_the_lines_of_a_tail(told: dict[str, Any]) -> None:
    assert told["pattern"].messages() == ["first"]


def test_a_followed_tail_goes_on_with_each_line_once(told: dict[str, Any]) -> None:
    lines = [line.split(" ", 1)[1].strip() for line in told["follow"]]
    words = [line for line in lines if line in ("first", "second", "later")]
    assert words == ["first", "second", "later"]
    assert sum(line.startswith("REPORT") for line in lines) == 3


def test_a_tail_of_no_group_says_so(told: dict[str, Any]) -> None:
    assert told["nobody"].status == 254
    assert "(ResourceNotFoundException)" in told["nobody"].err


def test_a_payload_is_base64_or_raw_as_the_binary_format_says(told: dict[str, Any]) -> None:
    for name in ("base64", "raw"):
        assert told[name].status == 0, told[name].err
        assert json.loads(told[name].err) == {"say": "Ahoy – «world»"}
        assert json.loads(told[name].out) == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}


def test_a_waiter_ends_and_pages_are_joined(told: dict[str, Any]) -> None:
    assert (told["wait"].status, told["wait"].out) == (0, "")
    assert told["pages"].status == 0, told["pages"].err
    assert {"- noted", "- quiet"} <= set(told["pages"].out.splitlines())
