"""What a size of /tmp needs is made when a function asks for it, so that no invocation waits for a format."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doors import zip_of
from tests.engines import engine
from tests.remains import nothing_left, until

pytestmark = pytest.mark.privileged

CODE = zip_of("import os\ndef handler(event, context):\n    return os.statvfs('/tmp').f_blocks > 0\n")


async def test_a_size_is_formatted_when_a_function_asks_for_it_and_after_a_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with engine(data, tmp_pool_size=1, tmp_backend="loop") as running:
        for door, size_mb in (("grpc", 601), ("http", 602)):
            await running.door(door).create(f"sized-{door}", CODE, tmp_mb=size_mb)
            await until((data / "scratch" / f"{size_mb}.ext4").exists)
        await running.grpc.update("sized-grpc", tmp_mb=603)
        await until((data / "scratch" / "603.ext4").exists)
        assert (await running.grpc.invoke("sized-grpc")).json() is True
    for template in (data / "scratch").glob("*.ext4"):
        template.unlink()
    async with engine(data, tmp_pool_size=0, tmp_backend="loop"):
        for size_mb in (602, 603):
            await until((data / "scratch" / f"{size_mb}.ext4").exists)
        assert not (data / "scratch" / "601.ext4").exists()
    await nothing_left(data)
