"""Whether anybody is connected to a port of this process, as the kernel tells it (proc_pid_net(5)): gRPC does not.

Guarantees: a connection that waits to be accepted counts; where the kernel does not tell, somebody is connected.
"""

from __future__ import annotations

from pathlib import Path

TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_GONE = frozenset({"06", "07", "0A"})
"""TIME_WAIT, CLOSE and LISTEN, of enum tcp_states in include/net/tcp_states.h."""


def connected(port: int) -> bool:
    """Whether a connection comes in at the port. Blocks for some microseconds for each connection of the host."""
    wanted = f":{port:04X}"
    try:
        return any(
            _comes_in(line, wanted) for table in TABLES if table.exists() for line in table.read_text().splitlines()
        )
    except OSError:
        return True


def _comes_in(line: str, wanted: str) -> bool:
    _, local, _, state = line.split(maxsplit=4)[:4]
    return local.endswith(wanted) and state not in _GONE
