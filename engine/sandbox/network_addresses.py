"""Which addresses of the engine's subnet go to whom: pairs (a /31 each, RFC 3021), by number.

The lower three quarters are sandboxes' and are seen inside the router namespace only; the last quarter is for uplinks,
which the host sees, so that engines that share a subnet take different ones. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

from engine.errors import HostUnfit, SandboxFault


class Pairs:
    """The pairs of one subnet, which has at least some dozens of them."""

    def __init__(self, subnet: IPv4Network) -> None:
        self._first = int(subnet.network_address)
        pairs = subnet.num_addresses // 2
        self._sandboxes = pairs * 3 // 4
        self._uplinks = pairs - self._sandboxes
        self._used: set[int] = set()
        self._next = 0

    def take(self) -> int:
        """A number that nobody has; the one given back longest ago. Raises SandboxFault when all are in use."""
        if len(self._used) >= self._sandboxes:
            raise SandboxFault(
                "network link", 0, f"all {self._sandboxes} addresses are in use", fix="set a larger egress_subnet"
            )
        while self._next in self._used:
            self._next = (self._next + 1) % self._sandboxes
        number = self._next
        self._used.add(number)
        self._next = (number + 1) % self._sandboxes
        return number

    def give_back(self, number: int) -> None:
        """Somebody else may have it."""
        self._used.discard(number)

    def addresses(self, number: int) -> tuple[int, int]:
        """The router's end and the sandbox's."""
        return self._first + 2 * number, self._first + 2 * number + 1

    def uplink(self, instance_id: str, taken: Sequence[IPv4Network]) -> tuple[int, int]:
        """The host's end and the router's: where the id leads, or the next that is not `taken`. Raises HostUnfit."""
        start = int(instance_id, 16) % self._uplinks
        for step in range(self._uplinks):
            pair = self.addresses(self._sandboxes + (start + step) % self._uplinks)
            network = IPv4Network((pair[0], 31))
            if not any(route.prefixlen and route.overlaps(network) for route in taken):
                return pair
        raise HostUnfit("every address for an uplink is in use", fix="set another egress_subnet")
