"""What an engine could send to a guest: a guest follows its stream or ends and says so; it never hangs or breaks."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.guest import wire
from engine.guest.channel import Channel, ProtocolError
from tests.fuzz.streams import Streams, parse
from tests.unit.guest.driver import home

SEED = 20_260_802
LOST = "the control stream of the sandbox is lost"
APP = "def handler(event, context):\n    return [event, context.aws_request_id]\ndef bye(event, context):\n    pass\n"
APP += "def parts(event, context):\n    yield [1]\n    yield event\n"
APP += "def listen(event, context):\n    for chunk in getattr(event, 'stream', ()):\n        yield chunk\n"
ANSWERS = {wire.READY: 0, wire.INIT_ERROR: 300_000, wire.RESULT: 7_000_000, wire.ERROR: 300_000, wire.TOO_LARGE: 0}
ANSWERS[wire.CHUNK] = wire.CHUNK_LIMIT_BYTES


def test_any_stream_is_read_as_its_frames_until_one_is_not_due(counts: Mapping[str, int]) -> None:
    limit = 70_000
    for seed in range(SEED, SEED + counts["frames"]):
        streams = Streams(seed)
        bodies = [streams.chance.randbytes(streams.chance.choice((0, 5, 100, 65_536))) for _ in range(3)]
        stream = streams.mutate([wire.frame(wire.EVENT, body) for body in bodies])
        frames, whole = parse(stream, {wire.EVENT: limit})
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            ours.setblocking(False)
            for piece in streams.pieces(stream):
                ours.send(piece)
            ours.shutdown(socket.SHUT_WR)
            channel = Channel(theirs.fileno(), theirs.fileno())
            received = []
            try:
                while (frame := channel.receive({wire.EVENT: limit})) is not None:
                    received.append(frame)
                ended = True
            except ProtocolError:
                ended = False
        assert (received, ended) == (frames, whole), seed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(APP)
    program = Path(__file__).with_name("guest_server.py")
    with subprocess.Popen(
        [sys.executable, "-I", str(program), home(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


def ask(server: subprocess.Popen[bytes], stream: bytes) -> dict[str, Any]:
    """Feed one stream to a fresh guest."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(struct.pack("<I", len(stream)) + stream)
    server.stdin.flush()
    found: dict[str, Any] = json.loads(server.stdout.readline())
    return found


def engines_frames(streams: Streams, code: Path) -> list[bytes]:
    """A specification and two events."""
    environment: dict[str, Any] = {"LAMBDA_TASK_ROOT": str(code), "TZ": ":UTC", "A": "b"}
    spec = {
        "handler": streams.chance.choice(("app.handler", "app.parts", "app.listen")),
        "environment": streams.replaced(environment) if streams.chance.random() < 0.2 else environment,
        "memory_mb": 128,
        "function_name": "f",
        "function_version": "1",
        "log_group_name": "g",
        "log_stream_name": "s",
        "result_limit_bytes": 100_000,
        "log_format": "Text",
    }
    frames = [wire.frame(wire.SPEC, streams.odd(spec))]
    for number in range(2):
        meta = {
            "request_id": f"r-{number}",
            "deadline_ms": 2_000_000_000_000,
            "timeout_ms": 3_000,
            "function_arn": "arn",
            "client_context": '{"client": {"app_title": "t"}}',
            "trace_id": "Root=1",
            "tenant_id": None,
            "stream_limit_bytes": streams.chance.choice((0, 10, 1_000)),
            "input": streams.chance.choice((False, True)),
        }
        encoded = streams.odd(meta)
        length = streams.chance.choice((len(encoded),) * 9 + (len(encoded) + 1, 0, 2**32 - 1))
        payload = streams.chance.choice((b"{}", b'{"a": [1, "\\ud83d\\ude00"]}', b"", streams.text()))
        frames.append(wire.frame(wire.EVENT, wire.META.pack(length) + encoded + payload))
        if meta["input"]:
            frames += [wire.frame(wire.INPUT, bytes(5)), wire.frame(wire.INPUT_END)]
    return frames


class Undisturbed(random.Random):
    """Always takes the first way."""

    def random(self) -> float:
        return 0.5

    def choice(self, seq: Any) -> Any:
        return seq[0]


def test_an_undisturbed_guest_answers_every_event(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    streams = Streams(SEED)
    streams.chance = Undisturbed()
    ended = ask(server, b"".join(engines_frames(streams, tmp_path / "code")))
    assert (ended["status"], ended["in_time"], ended["log"]) == (0, True, wire.INIT_END.decode())
    frames, whole = parse(bytes.fromhex(ended["said"]), ANSWERS)
    assert frames == [(wire.READY, b""), (wire.RESULT, b'[{}, "r-0"]'), (wire.RESULT, b'[{}, "r-1"]')]
    assert whole


@pytest.mark.time_limit(240)
def test_a_guest_follows_or_ends_whatever_it_is_sent(
    server: subprocess.Popen[bytes], tmp_path: Path, counts: Mapping[str, int]
) -> None:
    for seed in range(SEED, SEED + counts["frames"] // 4):
        streams = Streams(seed)
        stream = streams.mutate(engines_frames(streams, tmp_path / "code"))
        ended = ask(server, stream)
        assert ended["in_time"], (seed, ended)
        frames, whole = parse(bytes.fromhex(ended["said"]), ANSWERS)
        assert whole, (seed, ended)
        kinds = [kind for kind, _ in frames]
        # Each frame when it is due: READY first, then one answer an event; or INIT_ERROR alone.
        assert kinds == [wire.INIT_ERROR] or kinds[:1] in ([], [wire.READY]), (seed, ended)
        assert set(kinds[1:]) <= {wire.RESULT, wire.ERROR, wire.TOO_LARGE, wire.CHUNK}, (seed, ended)
        assert all(json.loads(body) for kind, body in frames if kind in (wire.ERROR, wire.INIT_ERROR)), seed
        if kinds == [wire.INIT_ERROR]:
            assert ended["status"] == 1, (seed, ended)
        else:
            assert ended["status"] in (0, os.EX_SOFTWARE), (seed, ended)
            assert (ended["status"] == os.EX_SOFTWARE) == (LOST in ended["log"]), (seed, ended)
