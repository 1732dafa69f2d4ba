"""The systemd unit: delegates the cgroups, waits out a drain, and takes nothing away that sandboxes are made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.config import Settings

UNIT = Path(__file__).resolve().parents[3] / "packaging" / "systemd" / "cleave.service"


@pytest.fixture(scope="module")
def unit() -> dict[str, str]:
    pairs = re.findall(r"^([A-Za-z]+)=(.*)$", UNIT.read_text(), re.MULTILINE)
    return dict(pairs)


def test_the_unit_notifies_delegates_and_reloads(unit: dict[str, str]) -> None:
    assert (unit["Type"], unit["Delegate"]) == ("notify", "yes")
    assert unit["ExecStart"].endswith("cleave serve")
    assert "-HUP" in unit["ExecReload"]


def test_systemd_waits_longer_than_a_drain_takes(unit: dict[str, str]) -> None:
    assert unit["KillMode"] == "mixed"
    assert float(unit["TimeoutStopSec"]) >= 2 * Settings(data_dir="/d").drain_s


@pytest.mark.parametrize(
    "directive",
    ["NoNewPrivileges", "RestrictNamespaces", "PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock",
     "ProtectControlGroups", "ProtectProc", "ProtectKernelTunables", "SystemCallFilter", "PrivateUsers"],
)  # fmt: skip
def test_hardening_that_would_break_sandboxes_is_not_set(unit: dict[str, str], directive: str) -> None:
    assert directive not in unit
