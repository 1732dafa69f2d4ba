"""This kernel has every file system that a /tmp can be a folder of, so that the tests of them leave none out."""

from __future__ import annotations

import pytest

from tests.native.filesystems import ALL, kinds

pytestmark = pytest.mark.privileged


def test_every_file_system_with_quotas_can_be_mounted_here() -> None:
    assert kinds() == tuple(ALL)
