"""Raw bytes on the socket: limits, garbage, and what the front still serves afterwards."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Callable, Mapping

import orjson
import pytest

from engine.rest import messages
from engine.rest.app import BODY_LIMIT_BYTES, CODE_BODY_LIMIT_BYTES
from engine.rest.connection import HEAD_LIMIT_BYTES
from tests.compat.stub_rooms import Rooms
from tests.unit.rest.conftest import Wire

INVOKE = "/2015-03-31/functions/f/invocations"
FUNCTIONS = "/2015-03-31/functions"
HEAD = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\n".encode()

CUT_OFF = r"reset|[Bb]roken pipe"


@pytest.fixture(autouse=True)
async def function(rooms: Rooms) -> None:
    await rooms.add_function("f")


def serves(connect: Callable[[], Wire]) -> bool:
    """Whether the front still does its work, for somebody else."""
    return connect().ask("POST", INVOKE, b'{"still": "here"}').body == b'{"still": "here"}'


def flood(wire: Wire, data: bytes) -> None:
    """Send far more than anybody should take."""
    for _ in range(4_096):
        wire.send(data)


def test_many_requests_share_a_connection(wire: Wire) -> None:
    ids = {wire.ask("POST", INVOKE, b"1").headers["x-amzn-requestid"] for _ in range(5)}
    assert len(ids) == 5


def test_an_error_does_not_cost_its_connection(wire: Wire) -> None:
    for path in ("/nothing", FUNCTIONS + "/other/invocations", FUNCTIONS + "/f/aliases"):
        assert wire.ask("POST", path, b"{}").status in (400, 403, 404)
    assert wire.ask("GET", "/health").status == 200


def test_pipelined_requests_are_answered_in_turn(wire: Wire) -> None:
    wire.send((HEAD + b"Content-Length: 1\r\n\r\n1") + (HEAD + b"Content-Length: 1\r\n\r\n2"))
    assert [wire.answer().body, wire.answer().body] == [b"1", b"2"]


def test_a_chunked_body_is_read_whole(wire: Wire) -> None:
    wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n3\r\n,2]\r\n0\r\nTrailer: x\r\n\r\n")
    assert wire.answer().body == b"[1,2]"
    assert wire.ask("POST", INVOKE, b"3").body == b"3"


def test_an_announced_body_over_the_limit_is_refused_before_it_comes(wire: Wire, rooms: Rooms) -> None:
    wire.send(HEAD + f"Content-Length: {BODY_LIMIT_BYTES + 1}\r\n\r\n".encode())
    answer = wire.answer()
    assert (answer.status, answer.error) == (413, "RequestTooLargeException")
    assert answer.message == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    assert answer.headers["connection"] == "close"
    assert rooms.invoker.requests == []


def test_a_body_that_is_asked_about_first_is_refused_without_it(wire: Wire) -> None:
    wire.send(HEAD + f"Content-Length: {BODY_LIMIT_BYTES + 1}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert wire.answer().status == 413


def test_a_body_without_an_end_is_refused_at_the_limit(wire: Wire, rooms: Rooms, connect: Callable[[], Wire]) -> None:
    wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    for _ in range(BODY_LIMIT_BYTES // 65_536 + 1):
        wire.send(piece)
    assert wire.answer().status == 413
    assert rooms.invoker.requests == []
    assert serves(connect)


def test_a_client_that_reads_only_after_it_has_sent_everything_gets_its_answer(wire: Wire) -> None:
    size = 4 * BODY_LIMIT_BYTES
    wire.send(HEAD + f"Content-Length: {size}\r\n\r\n".encode())
    wire.send(bytes(size))
    assert wire.answer().status == 413


def test_a_body_on_its_way_is_taken_before_its_refusal_and_keeps_its_connection(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "PAUSE_S", 20.0)
    size = BODY_LIMIT_BYTES + 1
    wire.send(HEAD + f"Content-Length: {size}\r\n\r\n".encode())
    wire.send(bytes(size - 1))
    # Nothing comes while something is missing.
    assert select.select([wire.socket], [], [], 0.05) == ([], [], [])
    wire.send(b"x")
    answer = wire.answer()
    assert (answer.status, "connection" in answer.headers) == (413, False)
    assert wire.ask("POST", INVOKE, b"1").body == b"1"


def test_a_client_that_sends_on_gets_its_answer_and_an_end(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, connect: Callable[[], Wire]
) -> None:
    monkeypatch.setattr(messages, "DISCARD_LIMIT_BYTES", 2**20)
    wire.send(HEAD + f"Content-Length: {2**40}\r\n\r\n".encode())
    assert wire.answer().status == 413
    with pytest.raises(OSError, match=CUT_OFF):
        flood(wire, b" " * 65_536)
    assert serves(connect)


def test_a_client_that_stalls_after_a_refusal_is_let_go(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "DISCARD_LIMIT_S", 0.01)
    wire.send(HEAD + f"Content-Length: {2**40}\r\n\r\nx".encode())
    assert wire.answer().status == 413
    assert wire.is_closed()


def test_code_may_be_larger_than_an_event_but_not_without_end(wire: Wire, connect: Callable[[], Wire]) -> None:
    wire.send(f"PUT {FUNCTIONS}/f/code HTTP/1.1\r\nHost: localhost\r\nContent-Length: ".encode())
    wire.send(f"{CODE_BODY_LIMIT_BYTES + 1}\r\n\r\n".encode())
    assert wire.answer().status == 413
    filler = orjson.dumps({"ZipFile": "A" * (BODY_LIMIT_BYTES + 4), "DryRun": True})
    answer = connect().ask("PUT", f"{FUNCTIONS}/f/code", filler)
    assert (answer.status, "unzip" in answer.message) == (400, True)


def test_a_length_that_is_shorter_than_the_body_makes_no_request_of_the_rest(
    wire: Wire, rooms: Rooms, connect: Callable[[], Wire]
) -> None:
    wire.send(HEAD + b"Content-Length: 1\r\n\r\n1{}\r\n\r\n")
    assert wire.answer().status in (200, 400)
    assert serves(connect)
    assert len(rooms.invoker.requests) <= 2


def test_a_length_that_is_longer_than_the_body_runs_nothing(
    wire: Wire, rooms: Rooms, connect: Callable[[], Wire]
) -> None:
    wire.send(HEAD + b"Content-Length: 10\r\n\r\n1")
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.is_closed()
    assert rooms.invoker.requests == []
    assert serves(connect)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"No colon\r\n",
        b"Space : before\r\n",
        b"Zero\0: byte\r\n",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(
    wire: Wire, rooms: Rooms, connect: Callable[[], Wire], head: bytes
) -> None:
    wire.send(HEAD + head + b"\r\n1")
    assert wire.answer().status == 400
    assert rooms.invoker.requests == []
    assert serves(connect)


def test_a_head_without_an_end_is_refused(wire: Wire, connect: Callable[[], Wire]) -> None:
    wire.send(b"GET / HTTP/1.1\r\nX: ")
    with pytest.raises(OSError, match=CUT_OFF):
        flood(wire, b"x" * HEAD_LIMIT_BYTES)
    assert serves(connect)


def test_headers_without_an_end_are_refused(wire: Wire, connect: Callable[[], Wire]) -> None:
    wire.send(b"GET / HTTP/1.1\r\n")
    with pytest.raises(OSError, match=CUT_OFF):
        flood(wire, b"X: y\r\n" * 10_000)
    assert serves(connect)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(32),
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_garbage_leaves_the_front_serving(
    wire: Wire, rooms: Rooms, connect: Callable[[], Wire], garbage: bytes
) -> None:
    wire.send(garbage)
    wire.socket.shutdown(socket.SHUT_WR)
    while wire.socket.recv(65_536):
        pass
    assert serves(connect)
    assert rooms.faults.events == []


def test_random_requests_are_answered_without_a_fault(
    rooms: Rooms, connect: Callable[[], Wire], counts: Mapping[str, int]
) -> None:
    dice = random.Random(20_260_101)
    tokens = [INVOKE, FUNCTIONS, "/f", "%ff", "%2F", "?", "Qualifier=", "MaxItems=", "x", "-1", "&", "{", "é", "*", "%"]
    bodies = [b"{}", b"", b"null", b"[]", b'{"Code": 1}', b"\xff", b'{"Timeout": [], "Role": {}}', b'{"Code": {}}']
    wire = connect()
    for _ in range(counts["frames"]):
        path = INVOKE[:12] + "".join(dice.choice(tokens) for _ in range(dice.randint(0, 5)))
        path = "/" + path.replace(" ", "").encode("ascii", "replace").decode()
        answer = wire.ask(dice.choice(["GET", "PUT", "POST", "DELETE", "HEAD"]), path, dice.choice(bodies))
        assert answer.status in (200, 400, 403, 404), path
        if answer.headers.get("connection") == "close":
            wire = connect()
    assert rooms.faults.events == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "x"])
def test_an_encoded_body_is_an_unsupported_medium(wire: Wire, encoding: str) -> None:
    answer = wire.ask("POST", INVOKE, b"\x1f\x8b", headers=f"Content-Encoding: {encoding}\r\n")
    assert (answer.status, answer.error) == (415, "UnsupportedMediaTypeException")


def test_a_body_that_is_not_json_is_refused_in_aws_words(wire: Wire) -> None:
    answer = wire.ask("POST", FUNCTIONS, b"{")
    assert (answer.status, answer.error) == (400, "SerializationException")
    assert answer.message.startswith("Could not parse request body into json")


def test_an_unknown_path_and_a_wrong_method_answer_in_the_apis_form(wire: Wire) -> None:
    unknown = wire.ask("GET", "/2015-03-31/nothing")
    assert (unknown.status, unknown.error) == (403, "AccessDeniedException")
    wrong = wire.ask("PATCH", FUNCTIONS)
    assert (wrong.status, wrong.error) == (403, "AccessDeniedException")
    assert wrong.headers["allow"] == "GET, POST"
    for answer in (unknown, wrong):
        assert answer.headers["x-amzn-requestid"]
        assert answer.message == "Unable to determine service/operation name to be authorized"
    assert orjson.loads(wrong.body)["Detail"].endswith("; use GET, POST")


@pytest.mark.parametrize("path", ["/", "/health"])
def test_who_looks_is_told_what_is_here(wire: Wire, path: str) -> None:
    about = orjson.loads(wire.ask("GET", path).body)
    assert (about["service"], about["status"]) == ("cleave", "ok")
    assert "Invoke" in about["serves"]
    assert wire.ask("HEAD", path).body == b""
    assert wire.ask("POST", path, b"{}").status == 405


def test_code_is_given_out_by_a_signed_link_only(wire: Wire, rooms: Rooms) -> None:
    (digest, data), *_ = rooms.code.zips.items()
    signed = rooms.code.links.sign(digest)
    link = f"/code/{digest}.zip?Expires={signed.expires}&Signature={signed.signature}"
    assert [wire.ask("GET", link).body for _ in range(3)] == [data] * 3
    assert wire.ask("HEAD", link).headers["content-length"] == str(len(data))
    for path in (f"/code/{digest}.zip", f"/code/{'0' * 64}.zip", "/code/../../etc/passwd", "/code/x.zip", "/code/"):
        assert wire.ask("GET", path).status in (403, 404)
    assert wire.ask("DELETE", link).status == 405


def test_an_answer_is_not_held_back_for_an_acknowledgement(wire: Wire) -> None:
    def ask() -> float:
        before = time.perf_counter()
        wire.ask("POST", INVOKE, b"1")
        return time.perf_counter() - before

    # The kernel acknowledges the first segments of a connection at once, the later ones after 40 ms.
    assert min([ask() for _ in range(40)][-10:]) < 0.03
