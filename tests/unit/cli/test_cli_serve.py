"""serve: signals, reloads, ports, exit codes, in a process of its own with a service that notes what it is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("serving_engine.py")


class Serving:
    """A running `cleave serve`."""

    def __init__(self, folder: Path, *flags: str, **environ: str) -> None:
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.calls_file = folder / "calls"
        self.config = folder / "cleave.toml"
        if not self.config.exists():
            self.config.write_text(f'data_dir = "{self.data}"\nmax_concurrency = 5\n')
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "STUB_CALLS": str(self.calls_file)}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "serve", "--config", str(self.config), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables | environ,
        )

    def until(self, event: str) -> dict[str, Any]:
        """The next log line of this event."""
        assert self.process.stderr
        for line in self.process.stderr:
            if line.startswith("{") and (document := json.loads(line))["event"] == event:
                return dict(document)
        raise AssertionError(f"ended without {event}")

    def reload(self, text: str) -> None:
        self.config.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]


Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[Serving] = []

    def serve(*flags: str, **environ: str) -> Serving:
        started.append(Serving(tmp_path, *flags, **environ))
        return started[-1]

    yield serve
    for serving in started:
        serving.process.kill()
        serving.process.communicate()


def test_it_tells_its_ports_in_the_log_and_in_a_file_and_drains_on_sigterm(serve: Serve) -> None:
    serving = serve("--max-concurrency", "6")
    line = serving.until("serving")
    assert (line["grpc_port"], line["http_port"], line["level"]) == (11, 22, "info")
    ports = json.loads((serving.data / "ports.json").read_text())
    assert ports == {"grpc_port": 11, "http_port": 22, "pid": serving.process.pid}
    serving.process.send_signal(signal.SIGTERM)
    code, out, err = serving.end()
    assert (code, out) == (0, "")
    assert '"event":"stopped"' in err
    assert serving.calls == [{"call": "start", "max_concurrency": 6}, {"call": "stop"}]
    assert list(serving.data.iterdir()) == []


def test_a_half_written_file_of_ports_that_a_killed_engine_left_is_gone(serve: Serve, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "ports.json.new").write_text('{"grpc')
    serving = serve()
    serving.until("serving")
    assert [path.name for path in data.iterdir()] == ["ports.json"]
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end()[0] == 0
    assert list(data.iterdir()) == []


def test_ctrl_c_drains_too(serve: Serve) -> None:
    serving = serve()
    serving.until("serving")
    serving.process.send_signal(signal.SIGINT)
    assert serving.end()[0] == 0
    assert serving.calls[-1] == {"call": "stop"}


def test_a_second_signal_a_second_later_ends_it_at_once(serve: Serve) -> None:
    serving = serve(STUB_BEHAVIOUR="hang")
    serving.until("serving")
    serving.process.send_signal(signal.SIGTERM)
    serving.until("draining")
    while serving.process.poll() is None:
        serving.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    code, _, err = serving.end()
    assert (code, '"event":"ended_at_once"' in err) == (1, True)


def test_signals_close_together_are_one_request_and_let_it_drain(serve: Serve) -> None:
    """As a parent's death sends them, one for each of its threads."""
    serving = serve(STUB_BEHAVIOUR="hang")
    serving.until("serving")
    serving.process.send_signal(signal.SIGTERM)
    serving.process.send_signal(signal.SIGINT)
    for _ in range(2):
        serving.until("stop_signal")
    serving.reload("max_concurrency = 7\n")
    code, _, err = serving.end()
    assert (code, '"event":"stopped"' in err) == (0, True), err


def test_a_signal_during_the_start_ends_it(serve: Serve) -> None:
    serving = serve(STUB_BEHAVIOUR="hang at start")
    assert serving.process.stderr
    assert serving.process.stderr.readline() == "starting\n"
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end()[0] == 0
    assert serving.calls[-1] == {"call": "stop"}


def test_sighup_takes_what_can_change_and_names_what_cannot(serve: Serve) -> None:
    serving = serve()
    serving.until("serving")
    serving.reload(f'data_dir = "{serving.data}"\nmax_concurrency = 9\nregion = "eu-west-1"\n')
    line = serving.until("reloaded")
    assert (line["changed"], line["needs_restart"]) == ({"max_concurrency": 9}, ["region"])
    assert serving.calls[-1] == {"call": "reload", "max_concurrency": 9, "region": "us-east-1"}


def test_a_flag_goes_before_the_file_on_reload_too(serve: Serve) -> None:
    serving = serve("--max-concurrency", "6")
    serving.until("serving")
    serving.reload(f'data_dir = "{serving.data}"\nmax_concurrency = 9\n')
    assert serving.until("reloaded")["changed"] == {}
    assert [call["call"] for call in serving.calls] == ["start"]


def test_a_wrong_file_on_sighup_changes_nothing_and_says_why(serve: Serve) -> None:
    serving = serve()
    serving.until("serving")
    serving.reload("max_concurrency = 0\n")
    line = serving.until("reload_refused")
    assert "max_concurrency" in line["why"]
    assert "max_concurrency" in line["fix"]
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end()[0] == 0
    assert [call["call"] for call in serving.calls] == ["start", "stop"]


def test_the_log_level_changes_on_sighup(serve: Serve) -> None:
    serving = serve()
    serving.until("serving")
    serving.reload(f'data_dir = "{serving.data}"\nmax_concurrency = 5\nlog_level = "error"\n')
    serving.process.send_signal(signal.SIGTERM)
    code, _, err = serving.end()
    assert code == 0
    assert "draining" not in err


def test_a_start_that_is_refused_exits_with_1_and_a_fix(serve: Serve) -> None:
    serving = serve(STUB_BEHAVIOUR="refuse")
    code, out, err = serving.end()
    assert (code, out) == (1, "")
    assert "held by another engine" in err
    assert "Fix: cleave serve --data-dir ELSEWHERE" in err
    assert serving.calls[-1] == {"call": "stop"}
    assert not (serving.data / "ports.json").exists()


@pytest.mark.parametrize("flags", [("--max-concurrency", "0"), ("--grpc-address", "0.0.0.0:1")])
def test_wrong_settings_exit_with_2_and_start_nothing(serve: Serve, flags: tuple[str, ...]) -> None:
    serving = serve(*flags, "--output", "json")
    code, out, _ = serving.end()
    assert code == 2
    assert flags[0] in json.loads(out)["error"]["message"]
    assert not serving.calls_file.exists()


def test_json_output_says_where_it_serves(serve: Serve) -> None:
    serving = serve("--output", "json")
    assert serving.process.stdout
    document = json.loads(serving.process.stdout.readline())
    assert document["serving"]["grpc_address"] == "127.0.0.1:11"


def test_systemd_is_told_when_it_is_ready_reloads_and_stops(serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        serving = serve(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert listening.recv(100) == b"READY=1"
        serving.process.send_signal(signal.SIGHUP)
        assert listening.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert listening.recv(100) == b"READY=1"
        serving.process.send_signal(signal.SIGTERM)
        assert listening.recv(100) == b"STOPPING=1"
        assert serving.end()[0] == 0


def test_every_setting_is_a_flag_with_its_documentation() -> None:
    from engine.config import FIELDS

    shown = subprocess.run(
        [sys.executable, str(PROGRAM), "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "300"},
    ).stdout
    flat = " ".join(shown.split())
    for field in FIELDS.values():
        assert field.flag in flat
        assert field.doc in flat
