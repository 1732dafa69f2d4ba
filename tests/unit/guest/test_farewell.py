"""What a function does at the end of its sandbox: SIGTERM, threads, exit handlers; and who is asked at all."""

from __future__ import annotations

import pytest

from engine.guest import wire
from tests.unit.guest.driver import Guest

HANDLER = "\ndef handler(event, context):\n    exec(event, globals())\n    return 'served'\n"
LEAVE = wire.frame(wire.LEAVE)


def leave(guest: Guest) -> int:
    """Tell it to go; its exit status."""
    guest.send(LEAVE)
    return guest.ended()


def served(guest: Guest, module: str, event: str = "pass") -> None:
    guest.start(module + HANDLER, event)
    assert guest.result() == "served"


def test_a_sigterm_handler_runs_and_then_the_exit_handlers(any_guest: Guest) -> None:
    module = "import atexit, signal\natexit.register(print, 'at exit')\n"
    module += "signal.signal(signal.SIGTERM, lambda number, frame: print('signal', number))\n"
    served(any_guest, module)
    assert any_guest.farewells == 1
    assert leave(any_guest) == 0
    assert any_guest.log == b"signal 15\nat exit\n"


def test_who_registers_nothing_is_not_asked_and_ends_all_the_same(any_guest: Guest) -> None:
    served(any_guest, "")
    assert any_guest.farewells == 0
    assert leave(any_guest) == 0
    assert any_guest.log == b""


@pytest.mark.parametrize(
    "statement",
    [
        "import logging; logging.getLogger()",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL)",
        "import signal; signal.signal(signal.SIGUSR1, print)",
    ],
)
def test_what_is_no_wish_to_hear_of_the_end_is_none(guest: Guest, statement: str) -> None:
    served(guest, statement + "\n")
    guest.call(statement)
    assert guest.farewells == 0


@pytest.mark.parametrize("preload", ["import atexit; atexit.register(print, 'preloaded')", "import logging"])
def test_what_was_preloaded_is_no_wish_of_the_function_s(
    tmp_path_factory: pytest.TempPathFactory, preload: str
) -> None:
    with Guest(tmp_path_factory.mktemp("none"), before=preload) as guest:
        served(guest, "import atexit, logging\n")
        assert guest.farewells == 0
    with Guest(tmp_path_factory.mktemp("one"), before=preload) as guest:
        served(guest, "import atexit, logging\natexit.register(print)\n")
        assert guest.farewells == 1


def test_it_may_register_in_any_invocation_and_says_so_once(any_guest: Guest) -> None:
    served(any_guest, "")
    assert any_guest.call("import atexit; atexit.register(print, 'late')") == "served"
    assert any_guest.farewells == 1
    any_guest.call("import signal; signal.signal(signal.SIGTERM, print)")
    assert any_guest.farewells == 1
    assert leave(any_guest) == 0
    assert any_guest.log.endswith(b"late\n")


def test_one_whose_invocation_failed_says_so_too(guest: Guest) -> None:
    guest.start(HANDLER, "import atexit; atexit.register(print); raise ValueError")
    guest.error()
    assert guest.farewells == 1


@pytest.mark.parametrize(
    ("body", "status", "log"),
    [
        ("sys.exit(5)", 5, b"at exit\n"),
        ("sys.exit()", 0, b"at exit\n"),
        ("os._exit(6)", 6, b""),
        ("1 / 0", 0, b"ZeroDivisionError: division by zero\nat exit\n"),
        ("raise OSError('no pipe of ours')", 0, b"OSError: no pipe of ours\nat exit\n"),
        ("raise KeyboardInterrupt", -2, b"KeyboardInterrupt\nat exit\n"),
        ("os.kill(os.getpid(), 9)", -9, b""),
    ],
)
def test_whatever_a_sigterm_handler_does_the_exit_handlers_run_if_the_process_is_there(
    any_guest: Guest, body: str, status: int, log: bytes
) -> None:
    module = "import atexit, os, signal, sys\natexit.register(print, 'at exit')\n"
    module += f"def goes(number, frame):\n    {body}\nsignal.signal(signal.SIGTERM, goes)\n"
    served(any_guest, module)
    assert leave(any_guest) == status
    assert any_guest.log.endswith(log)
    assert b"cleave_guest" not in any_guest.log


def test_threads_are_waited_for_unless_they_are_daemons(any_guest: Guest) -> None:
    module = """
import atexit, signal, threading
atexit.register(print, 'at exit')
going = threading.Event()
def last():
    going.wait()
    print('flushed')
threading.Thread(target=last).start()
threading.Thread(target=threading.Event().wait, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: going.set())
"""
    served(any_guest, module)
    assert leave(any_guest) == 0
    assert any_guest.log == b"flushed\nat exit\n"


def test_a_handler_of_the_event_loop_runs_and_its_tasks_end(any_guest: Guest) -> None:
    module = """
import asyncio, signal
async def last():
    await asyncio.sleep(0.01)
    print('flushed')
def goes():
    tasks.append(asyncio.ensure_future(last()))
tasks = []
async def handler(event, context):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, goes)
    return 'served'
"""
    any_guest.start(module)
    assert any_guest.result() == "served"
    assert any_guest.farewells == 1
    assert leave(any_guest) == 0
    assert any_guest.log == b"flushed\n"


def test_a_stream_that_just_ends_runs_exit_handlers_as_well(guest: Guest) -> None:
    served(guest, "import atexit\natexit.register(print, 'at exit')\n")
    assert guest.end() == 0
    assert guest.log == b"at exit\n"
