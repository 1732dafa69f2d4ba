"""The AWS CLI of this host, version 1 or 2: where it is, and running what the README shows of it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import CI
from tests.doors import RUNTIME

ROOT = Path(__file__).resolve().parents[2]
SHOWN = re.compile(r"^<!-- run: aws -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
CURL = f"""#!{sys.executable}
import sys, urllib.parse, urllib.request
url = urllib.parse.urlsplit(sys.argv[-1])
request = urllib.request.Request(f"http://127.0.0.1:{{url.port}}{{url.path}}", headers={{"Host": url.netloc}})
print(urllib.request.urlopen(request, timeout=50).read().decode())
"""
"""What stands in for curl on a host without it."""

# Without the settings of whoever runs the tests.
ENVIRONMENT = {"AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true"}

_MISSING = {
    1: "needs version 1 of the AWS CLI, which requirements/dev.lock has",
    2: "needs version 2 of the AWS CLI: run .ci/sdks, which installs it or says how",
}


class Cli(NamedTuple):
    """One."""

    program: str
    version: tuple[int, int]

    def script(self) -> str:
        """What calls it. Releases that do not read AWS_ENDPOINT_URL are told the endpoint as the README says."""
        reads = self.version >= (2, 13) or (1, 29) <= self.version < (2, 0)
        endpoint = "" if reads else ' --endpoint-url "$AWS_ENDPOINT_URL"'
        return f'#!/bin/sh\nexec {self.program}{endpoint} "$@"\n'


@cache
def _found() -> dict[int, Cli]:
    """The first of each version: of the environment of the tests, of PATH, of where packages have it."""
    found: dict[int, Cli] = {}
    for folder in [*PATH.split(":"), "/usr/local/bin", "/usr/bin"]:
        program = Path(folder, "aws")
        if not program.is_file() or len(found) == len(_MISSING):
            continue
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        if version := re.match(r"aws-cli/(\d+)\.(\d+)\.", told.stdout):
            found.setdefault(int(version[1]), Cli(str(program), (int(version[1]), int(version[2]))))
    return found


def find(major: int) -> Cli:
    """It. Where it is missing, the test is skipped, or fails under CI."""
    cli = _found().get(major)
    if cli is None:
        if CI:
            pytest.fail(f"{_MISSING[major]}; under CI it may not be missing", pytrace=False)
        pytest.skip(_MISSING[major])
    return cli


async def run_shown(cli: Cli, folder: Path, port: int, after_invoke: str = "") -> tuple[int | None, str]:
    """Run what the README shows, in a folder that is not there yet; returns its exit status and what it wrote.
    `after_invoke` is one more command."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    scripts = {"aws": cli.script()} | ({} if shutil.which("curl", path=PATH) else {"curl": CURL})
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    [body] = SHOWN.findall((ROOT / "README.md").read_text())
    # The reader's engine has the default port, and this one cannot have it.
    body = body.replace("127.0.0.1:9000", f"127.0.0.1:{port}").replace("/tmp/", f"{folder}/")
    body = body.replace("\naws logs", f"\n{after_invoke}\naws logs", 1)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", body.replace("python3.11", RUNTIME)),
        cwd=ROOT,
        env={"PATH": f"{programs}:{PATH}", "HOME": str(folder), **ENVIRONMENT},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        told = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, told


def check_shown(status: int | None, told: str) -> None:
    """Hold what run_shown returned to what the README says."""
    assert status == 0, told
    for said in ("Hello, world!", "greeting world, ", "REPORT RequestId: ", "Ahoy, world!", '"Version": "1"'):
        assert said in told, told
