"""What the README shows works as shown: the demo, and every block after a `<!-- run -->` mark, in order, by a user who
pastes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from examples.demo import engine

ROOT = Path(__file__).resolve().parents[2]
RUN = re.compile(r"^<!-- run -->\n```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(180)]


def test_the_demo_runs_and_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.run(
        [sys.executable, ROOT / "examples/demo.py"],
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "140"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert re.search(r"cold start \((?:parked|fork)\), gRPC\W+20\b", demo.stdout), demo.stdout
    assert re.search(r"warm, gRPC\W+200\b", demo.stdout)
    assert re.search(r"warm, boto3\W+1\b", demo.stdout)
    assert not list(tmp_path.iterdir())


def test_the_blocks_of_the_readme_do_what_it_says(tmp_path: Path) -> None:
    blocks = RUN.findall((ROOT / "README.md").read_text())
    assert [language for language, _ in blocks] == ["sh", *["python"] * 4]
    with engine(tmp_path, Console(quiet=True)) as ports:
        printed = ""
        for language, body in blocks:
            # The reader's engine has the default ports, and this one cannot have them.
            body = body.replace("127.0.0.1:50051", f"127.0.0.1:{ports.grpc}")
            body = body.replace("127.0.0.1:9000", f"127.0.0.1:{ports.http}").replace("/tmp/hello", f"{tmp_path}/hello")
            shell = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
            ran = subprocess.run(
                [*shell, body],
                cwd=ROOT,
                env={**os.environ, "CLEAVE_GRPC_ADDRESS": f"127.0.0.1:{ports.grpc}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert ran.returncode == 0, f"{body}\n{ran.stdout}"
            printed += ran.stdout
    for told in (
        "Hello, world!",
        "Hello, boto3!",
        "Hello, gRPC!",
        "Hello, Python!",
        "Hello, a stream!",
        "Hello, no server!",
        "REPORT",
        "warm",
    ):
        assert told in printed, printed
    assert "parked" in printed or "fork" in printed, printed
