"""Who may talk to the front."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.errors import EngineError
from engine.rest.guard import RefusedAddress, check_listen_host
from tests.compat.stub_rooms import Rooms
from tests.unit.rest.conftest import Wire

LIST = "/2015-03-31/functions"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9000", "localhost", "LocalHost:1", "[::1]", "[::1]:9000", "127.1.2.3:80"]
)
def test_a_loopback_host_is_served(wire: Wire, host: str) -> None:
    assert wire.ask("GET", LIST, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9000",
        "127.0.0.1.evil.example",
        "localhost.evil.example:9000",
        "192.168.0.1",
        "0.0.0.0",
        "[::2]:9000",
        "[::1",
        "[::1]evil:80",
        "::1",
        "127.0.0.1:9000:80",
        "127.0.0.1:evil",
        "user@127.0.0.1",
        "2130706433",
        "",
    ],
)
def test_any_other_host_is_refused(wire: Wire, host: str) -> None:
    answer = wire.ask("GET", LIST, host=host)
    assert (answer.status, answer.error) == (403, "AccessDeniedException")
    assert "own machine" in answer.message


def test_two_hosts_are_refused(wire: Wire) -> None:
    assert wire.ask("GET", LIST, headers="Host: 127.0.0.1\r\n").status == 403


def test_a_request_without_a_host_is_refused(wire: Wire) -> None:
    wire.send(b"GET /2015-03-31/functions HTTP/1.0\r\n\r\n")
    assert wire.answer().status == 403


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:9000", "https://[::1]:1"])
def test_a_page_of_this_machine_is_served(wire: Wire, origin: str) -> None:
    assert wire.ask("GET", LIST, headers=f"Origin: {origin}\r\n").status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "http://[",
        "localhost",
        "file://",
        "",
    ],
)
def test_a_foreign_page_is_refused_whatever_it_asks_for(wire: Wire, rooms: Rooms, origin: str) -> None:
    header = f"Origin: {origin}\r\n"
    invoke = "/2015-03-31/functions/f/invocations"
    for method, path in (("GET", LIST), ("POST", invoke), ("OPTIONS", LIST), ("GET", "/health"), ("GET", "/nothing")):
        answer = wire.ask(method, path, b"" if method == "POST" else None, headers=header)
        assert (answer.status, answer.error) == (403, "AccessDeniedException")
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert rooms.invoker.requests == []


def test_two_origins_are_both_looked_at(wire: Wire) -> None:
    assert wire.ask("GET", LIST, headers="Origin: http://localhost\r\nOrigin: http://evil.example\r\n").status == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.1", "engine.example"])
async def test_the_front_does_not_listen_beyond_loopback(rooms: Rooms, host: str) -> None:
    server = rooms.front()
    with pytest.raises(EngineError, match="authentication") as caught:
        await server.start(host, 0)
    assert caught.value.fix
    await server.stop(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_loopback_is_listened_on(host: str) -> None:
    check_listen_host(host)


def test_a_refused_address_names_its_setting() -> None:
    with pytest.raises(RefusedAddress) as caught:
        check_listen_host("0.0.0.0")
    assert "http_address" in caught.value.fields


def test_the_refusal_of_a_request_does_not_cost_its_connection(connect: Callable[[], Wire]) -> None:
    wire = connect()
    assert wire.ask("POST", LIST, b"{}", host="evil.example").status == 403
    assert wire.ask("GET", LIST).status == 200
