"""The AWS CLI, unmodified: what the README shows of it, against a running engine."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import CI
from tests.doors import RUNTIME
from tests.engines import engine

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

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(180)]


async def test_what_the_readme_shows_of_the_aws_cli_works_as_shown(tmp_path: Path) -> None:
    if not CI and shutil.which("aws", path=PATH) is None:
        pytest.skip("needs the AWS CLI, which requirements/dev.lock has")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/curl").write_text(CURL)
    (tmp_path / "bin/curl").chmod(0o755)
    path = PATH if shutil.which("curl", path=PATH) else f"{tmp_path}/bin:{PATH}"
    [body] = SHOWN.findall((ROOT / "README.md").read_text())
    async with engine(tmp_path / "data") as one:
        # The reader's engine has the default port, and this one cannot have it.
        body = body.replace("127.0.0.1:9000", f"127.0.0.1:{one.service.http_port}").replace("/tmp/", f"{tmp_path}/")
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", body.replace("python3.11", RUNTIME)),
            cwd=ROOT,
            # Without the settings of whoever runs the tests.
            env={"PATH": path, "HOME": str(tmp_path), "AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true"},
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
        assert process.returncode == 0, told
        for said in ("Hello, world!", "greeting world, ", "REPORT RequestId: ", "Ahoy, world!", '"Version": "1"'):
            assert said in told, told
        assert (await asyncio.to_thread(one.http.client.list_functions))["Functions"] == []
