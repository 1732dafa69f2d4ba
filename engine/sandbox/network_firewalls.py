"""Other firewalls of this host that drop what is forwarded, and what to tell them so that egress gets through.

No rule of the engine's own table can let a packet past another table's: an accept ends the chain that it is in, a drop
ends the packet (nft(8), "verdict statement"). The tables of others are never changed here. Letting the engine's uplinks
through there gives sandboxes no more than they have: the engine's own rules come first.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import HostUnfit
from engine.sandbox.network_host import NFT_FOLDERS, UPLINK_PREFIX, nft_path

_WITHIN_S = 20
_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
_FIREWALLD = ("inet", "firewalld", "filter_FORWARD")
"""Its policy is to accept, and its last rule rejects."""


@dataclass(frozen=True, slots=True)
class Firewall:
    """A chain that drops what no rule of its own lets through."""

    chain: str  # such as "ip filter FORWARD"
    fix: str  # commands


def dropping() -> list[Firewall]:
    """Those of the network namespace of the calling thread; none where neither nft nor iptables can say."""
    chains = _chains()
    user_chains = {(chain["family"], chain["table"]) for chain in chains if chain["name"] == "DOCKER-USER"}
    found = []
    for chain in chains:
        family, table, name = where = (chain["family"], chain["table"], chain["name"])
        if where == _FIREWALLD:
            fix = f"firewall-cmd --permanent --zone=trusted --add-interface={UPLINK_PREFIX}+ && firewall-cmd --reload"
        elif (chain.get("hook"), chain.get("policy")) != ("forward", "drop"):
            continue
        elif (family, table) in user_chains:
            fix = _by_iptables("iptables", "DOCKER-USER")  # which Docker keeps as it is
        else:
            fix = _by_nft(f"{family} {table} {name}")
        found.append(Firewall(" ".join(where), fix))
    return [*found, *_legacy()]


def _chains() -> list[dict[str, Any]]:
    try:
        done = subprocess.run(
            [nft_path(), "-j", "list", "chains"], capture_output=True, timeout=_WITHIN_S, cwd="/", check=True
        )
        return [entry["chain"] for entry in json.loads(done.stdout)["nftables"] if "chain" in entry]
    except (HostUnfit, OSError, subprocess.SubprocessError, ValueError, KeyError):
        return []


def _legacy() -> list[Firewall]:
    """The kernel's older tables, which nft does not show."""
    try:
        if "filter" not in _LEGACY_TABLES.read_text(encoding="ascii").split():
            return []
        command = shutil.which("iptables-legacy", path=NFT_FOLDERS) or shutil.which("iptables", path=NFT_FOLDERS)
        if command is None:
            return []
        done = subprocess.run([command, "-S"], capture_output=True, timeout=_WITHIN_S, cwd="/", check=True, text=True)
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    lines = done.stdout.splitlines()
    if "-P FORWARD DROP" not in lines:
        return []
    chain = "DOCKER-USER" if "-N DOCKER-USER" in lines else "FORWARD"
    return [Firewall("iptables FORWARD", _by_iptables(Path(command).name, chain))]


def _by_nft(chain: str) -> str:
    return (
        f'nft \'insert rule {chain} iifname "{UPLINK_PREFIX}*" accept; '
        f'insert rule {chain} oifname "{UPLINK_PREFIX}*" ct state established,related accept\''
    )


def _by_iptables(command: str, chain: str) -> str:
    return (
        f"{command} -I {chain} -i {UPLINK_PREFIX}+ -j ACCEPT && "
        f"{command} -I {chain} -o {UPLINK_PREFIX}+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
    )
