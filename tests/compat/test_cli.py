"""The AWS CLI, version 1, unmodified: what the README shows of it, against a running engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.compat import aws_cli
from tests.engines import engine

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(180)]


async def test_what_the_readme_shows_of_the_aws_cli_works_as_shown(tmp_path: Path) -> None:
    cli = await asyncio.to_thread(aws_cli.find, 1)
    async with engine(tmp_path / "data") as one:
        aws_cli.check_shown(*await aws_cli.run_shown(cli, tmp_path / "shown", one.service.http_port))
        assert (await asyncio.to_thread(one.http.client.list_functions))["Functions"] == []
