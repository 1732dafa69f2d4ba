"""`cleave doctor --prove` on a host that offers egress to the internet."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.integration.test_prove import check, command
from tests.networks import RESOLVER, FakeHost
from tests.security.test_network_ends import of_engines

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(180)]


def test_the_policy_of_egress_is_proved_where_it_can_be_had(lab: FakeHost, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        document = check(command(tmp_path, closed.getsockname()[1], egress_resolvers=RESOLVER))
    finding = next(finding for finding in document["proof"] if finding["limit"] == "network, internet")
    assert finding["verdict"] == "held"
    assert "lo and eth0 alone" in finding["found"]
    assert of_engines() == []
