"""Who is connected to a port, asked of the kernel."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from engine.fabric import peers


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_client_is_connected_until_it_has_left_also_one_that_was_not_accepted_yet(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this host has no {address}")
    with server:
        port = server.getsockname()[1]
        assert not peers.connected(port)
        with socket.create_connection((address, port)) as client:
            assert peers.connected(port)
            accepted, _ = server.accept()
            with accepted:
                assert peers.connected(port)
                assert not peers.connected(client.getsockname()[1] ^ 1)
                client.close()
                assert accepted.recv(1) == b""
        assert not peers.connected(port)


def test_where_the_kernel_does_not_tell_somebody_is_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "TABLES", (tmp_path,))
    assert peers.connected(1)
