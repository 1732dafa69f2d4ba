"""stdout, stderr and logging: what is written is in the log, in order, before the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tests.unit.guest.driver import Guest

STATEMENTS = """
import os, sys
def handler(event, context):
    exec(event or "", globals())
    return 1
"""


def run(guest: Guest, statements: str) -> bytes:
    """What one more invocation adds to the log."""
    before = len(guest.log)
    assert guest.call(statements) == 1
    return guest.log[before:]


def test_output_is_in_the_log_before_the_answer(any_guest: Guest) -> None:
    any_guest.start(STATEMENTS)
    any_guest.result()
    assert run(any_guest, "print('no line end', end='')") == b"no line end"
    assert run(any_guest, "sys.stderr.write('e'); sys.stdout.buffer.write(b'\\x00\\xff')") == b"\x00\xffe"
    assert run(any_guest, "os.write(1, b'raw'); os.system('echo child')") == b"rawchild\n"


def test_text_that_is_not_utf_8_never_raises(any_guest: Guest) -> None:
    any_guest.start(STATEMENTS)
    any_guest.result()
    assert run(any_guest, "print('ä \\ud800')") == "ä \\ud800\n".encode()
    assert run(any_guest, "print('\\udcff', file=sys.stderr)") == b"\\udcff\n"


def test_lines_of_both_streams_keep_their_order(guest: Guest) -> None:
    guest.start(STATEMENTS)
    guest.result()
    statements = "for n in range(50):\n  print(n)\n  print(-n, file=sys.stderr)"
    assert run(guest, statements) == b"".join(b"%d\n%d\n" % (n, -n) for n in range(50))


def test_a_flood_of_lines_does_not_block(guest: Guest, counts: Mapping[str, int]) -> None:
    lines = counts["log_lines"] // 5
    guest.start(STATEMENTS, f"for n in range({lines}): print('line', n)")
    assert guest.result() == 1
    assert guest.log.count(b"\n") == lines
    assert guest.log.endswith(b"line %d\n" % (lines - 1))


def test_a_closed_descriptor_does_not_break_the_next_call(any_guest: Guest) -> None:
    any_guest.start(STATEMENTS)
    any_guest.result()
    run(any_guest, "os.close(1); os.close(2)")
    assert run(any_guest, "print('back'); print('again', file=sys.stderr); os.system('echo child')").split() == [
        b"back",
        b"again",
        b"child",
    ]
    any_guest.event("os.close(1); print('x' * 10_000)")
    assert any_guest.error()["errorType"] == "OSError"
    assert b"[ERROR] OSError: [Errno 9] Bad file descriptor\r" in any_guest.log
    assert run(any_guest, "print('back')").endswith(b"back\n")


def test_a_closed_or_replaced_stream_does_not_break_the_next_call(any_guest: Guest) -> None:
    any_guest.start(STATEMENTS)
    any_guest.result()
    for statements in (
        "sys.stdout.close()",
        "sys.stdout.detach()",
        "sys.__stdout__.close(); sys.stderr.close()",
        "sys.stdout = None; sys.stderr = None",
        "sys.stdout = 5",
        "class S:\n def write(self, s): pass\n def flush(self): raise SystemExit(3)\nsys.stdout = S()",
        "class S:\n @property\n def closed(self): raise ValueError\nsys.stdout = S()",
        "import io\nsys.stdout = io.TextIOWrapper(sys.__stdout__.buffer)\nsys.stdout = None",
        "del sys.stdout",
    ):
        run(any_guest, statements)
        assert b"back\n" in run(any_guest, "print('back', file=sys.__stdout__); os.write(2, b'')"), statements
    any_guest.event("raise ValueError('still told')")
    any_guest.error()
    assert b"[ERROR] ValueError: still told" in any_guest.log


def test_a_stream_that_was_closed_is_a_working_one_in_the_next_call(guest: Guest) -> None:
    guest.start(STATEMENTS)
    guest.result()
    run(guest, "sys.stdout.close()")
    assert run(guest, "print('back')") == b"back\n"


def test_output_goes_where_the_function_redirects_it(guest: Guest) -> None:
    guest.start(STATEMENTS)
    guest.result()
    statements = "import contextlib, io, logging\nwith contextlib.redirect_stdout(io.StringIO()) as kept:\n"
    statements += " print('kept'); logging.warning('kept too')\nassert 'kept too' in kept.getvalue()"
    assert run(guest, statements) == b""


LOGGING = """
import logging
logger = logging.getLogger(__name__)
logging.warning("at init")
logging.basicConfig(format="changed %(message)s")
def handler(event, context):
    exec(event or "", globals())
    return [len(logging.getLogger().handlers), logging.getLogger().level]
"""

STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_logging_has_aws_s_handler_and_format(any_guest: Guest) -> None:
    any_guest.start(LOGGING)
    assert any_guest.result() == [1, 30]
    assert re.fullmatch(rb"\[WARNING\]\t" + STAMP + rb"\t\tat init\n", any_guest.log), any_guest.log
    any_guest.log = b""
    statements = "logger.error('%s there', 'hello'); logger.info('not shown')\n"
    statements += "try:\n 1 / 0\nexcept ZeroDivisionError:\n logger.exception('failed')\nprint('after')"
    any_guest.call(statements, request_id="r2")
    lines = any_guest.log.splitlines()
    assert re.fullmatch(rb"\[ERROR\]\t" + STAMP + rb"\tr2\thello there", lines[0]), lines
    assert re.fullmatch(rb"\[ERROR\]\t" + STAMP + rb"\tr2\tfailed", lines[1]), lines
    assert lines[-2:] == [b"ZeroDivisionError: division by zero", b"after"]


def test_the_log_level_comes_from_the_environment(guest: Guest) -> None:
    guest.start(LOGGING, "logger.debug('shown')", environment={"AWS_LAMBDA_LOG_LEVEL": "DEBUG"})
    assert guest.result() == [1, 10]
    assert b"[DEBUG]" in guest.log


def test_a_log_call_that_cannot_be_formatted_does_not_raise(guest: Guest) -> None:
    guest.start(LOGGING, "logger.error('%d', 'x')")
    assert guest.result() == [1, 30]
    assert b"--- Logging error ---" in guest.log


def test_the_json_format_writes_one_object_a_record(any_guest: Guest) -> None:
    statements = "try:\n 1 / 0\nexcept ZeroDivisionError:\n logger.exception('failed', extra={'order': 7})"
    any_guest.start(LOGGING, statements, log_format="JSON")
    any_guest.result()
    first, second = map(json.loads, any_guest.log.splitlines())
    assert (first["level"], first["message"], first["logger"]) == ("WARNING", "at init", "root")
    assert second["requestId"] == "r1"
    assert second["errorType"] == "ZeroDivisionError"
    assert second["order"] == 7
    assert any("1 / 0" in line or "<string>" in line for line in second["stackTrace"])


def test_logging_is_set_up_once_however_it_is_imported(any_guest: Guest) -> None:
    source = """
import importlib.util, sys
assert importlib.util.find_spec("logging") is not None
import logging.handlers
import logging
hooks = [finder for finder in sys.meta_path if "logsetup" in type(finder).__module__]
def handler(event, context):
    loader = type(logging.__loader__).__name__
    return [len(logging.getLogger().handlers), len(hooks), "cleave" in str(logging.__spec__)]
"""
    any_guest.start(source)
    assert any_guest.result() == [1, 0, False]


def test_logging_that_was_loaded_before_is_set_up_too(any_guest: Guest) -> None:
    source = "import logging\ndef handler(event, context):\n    logging.warning('w')\n"
    any_guest.start(source)
    any_guest.result()
    assert any_guest.log.startswith(b"[WARNING]\t")


def test_a_module_of_the_function_that_is_called_logging_is_left_alone(guest: Guest) -> None:
    guest.code("NAME = 'mine'\n", "logging.py")
    guest.start("import logging\ndef handler(event, context):\n    return logging.NAME\n")
    assert guest.result() == "mine"
