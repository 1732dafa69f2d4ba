"""What a handler sees: context, environment, paths, the state it left."""

from __future__ import annotations

import json
import os
import time

from engine.guest import wire
from tests.unit.guest.driver import Guest

CONTEXT = """
def handler(event, context):
    shown = dict(vars(context))
    shown["client_context"] = context.client_context and {
        "client": context.client_context.client and context.client_context.client.installation_id,
        "custom": context.client_context.custom,
        "env": context.client_context.env,
    }
    shown["identity"] = [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]
    shown["remaining"] = context.get_remaining_time_in_millis()
    context.log("logged")
    repr(context)
    return shown
"""


def test_the_context_has_what_aws_s_has(any_guest: Guest) -> None:
    any_guest.start(CONTEXT)
    first = any_guest.result()
    assert first["client_context"] is None
    assert first["identity"] == [None, None]
    assert first["tenant_id"] is None
    deadline_ms = int(time.time() * 1000) + 9_000
    client = {"client": {"installation_id": "i"}, "custom": {"k": "v"}, "env": {"locale": "en"}}
    shown = any_guest.call(
        request_id="r2",
        deadline_ms=deadline_ms,
        client_context=json.dumps(client),
        identity={"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool"},
        tenant_id="t",
    )
    assert 0 < shown.pop("remaining") <= 9_000
    assert shown == {
        "aws_request_id": "r2",
        "log_group_name": "/aws/lambda/f",
        "log_stream_name": "stream",
        "function_name": "f",
        "memory_limit_in_mb": "256",
        "function_version": "$LATEST",
        "invoked_function_arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
        "tenant_id": "t",
        "client_context": {"client": "i", "custom": {"k": "v"}, "env": {"locale": "en"}},
        "identity": ["id", "pool"],
        "_epoch_deadline_time_in_ms": deadline_ms,
    }
    assert any_guest.log == b"loggedlogged"


def test_a_client_context_that_is_not_json_is_an_error_of_that_call_alone(guest: Guest) -> None:
    guest.start("def handler(event, context):\n    return 1\n")
    assert guest.result() == 1
    guest.event(client_context="{")
    assert guest.error()["errorType"] == "Runtime.LambdaContextUnmarshalError"
    assert guest.call() == 1


ENVIRONMENT = """
import os, subprocess, sys, time
def handler(event, context):
    return {
        "environ": dict(os.environ),
        "child": subprocess.run(["/usr/bin/env"], capture_output=True, text=True).stdout.splitlines(),
        "cwd": os.getcwd(),
        "path": sys.path,
        "argv": sys.argv,
        "tzname": time.tzname,
        "stdin": sys.stdin.read(),
        "main": sorted(name for name in vars(sys.modules["__main__"])),
        "fds": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    }
"""


def test_the_environment_is_the_specified_one_and_nothing_else(any_guest: Guest) -> None:
    any_guest.code(ENVIRONMENT)
    any_guest.specify(environment={"MINE": "ä=1"})
    any_guest.event(trace_id="Root=1-2-3")
    assert any_guest.frame()[0] == wire.READY
    shown = any_guest.result()
    expected = {
        "LAMBDA_TASK_ROOT": str(any_guest.task_root),
        "TZ": ":UTC",
        "MINE": "ä=1",
        "_X_AMZN_TRACE_ID": "Root=1-2-3",
    }
    assert shown["environ"] == expected
    assert set(shown["child"]) == {f"{name}={value}" for name, value in expected.items()}
    assert "_X_AMZN_TRACE_ID" not in any_guest.call()["environ"]


def test_the_interpreter_looks_like_a_fresh_one(any_guest: Guest) -> None:
    any_guest.start(ENVIRONMENT)
    shown = any_guest.result()
    assert shown["cwd"] == str(any_guest.task_root)
    assert shown["path"][0] == str(any_guest.task_root)
    assert all("python" in path for path in shown["path"][1:])
    assert not any(path.endswith("home") for path in shown["path"])
    assert shown["argv"] == [""]
    assert shown["tzname"][0] == "UTC"
    assert shown["stdin"] == ""
    assert "BOOT" not in shown["main"]
    assert "cleave_guest" not in shown["main"]


def test_descriptors_are_the_three_streams_the_control_stream_and_one_spare(guest: Guest) -> None:
    guest.start("import os\ndef handler(event, context):\n    return os.listdir('/proc/self/fd')\n")
    assert len(guest.result()) == 6 + 1  # and the one that lists


def test_a_child_program_does_not_inherit_the_control_stream(guest: Guest) -> None:
    source = "import os\ndef handler(event, context):\n    os.system('ls -l /proc/self/fd')\n"
    guest.start(source)
    guest.result()
    assert b"socket:" not in guest.log


def test_the_second_invocation_finds_what_the_first_left(any_guest: Guest) -> None:
    any_guest.start("count = 0\ndef handler(event, context):\n    global count\n    count += 1\n    return count\n")
    assert any_guest.result() == 1
    assert [any_guest.call(), any_guest.call()] == [2, 3]


def test_exit_and_quit_are_there(guest: Guest) -> None:
    guest.start("def handler(event, context):\n    repr(quit)\n    exit(4)\n")
    assert guest.ended() == 4


def test_an_empty_event_is_an_empty_object(guest: Guest) -> None:
    guest.start("def handler(event, context):\n    return event\n")
    guest.result()
    guest.event(raw=b"")
    assert guest.result() == {}


def test_a_large_event_and_result_pass(any_guest: Guest) -> None:
    any_guest.start("def handler(event, context):\n    return event\n")
    any_guest.result()
    text = "x" * 6_000_000
    assert any_guest.call(text) == text


def test_the_end_of_the_stream_ends_the_guest(any_guest: Guest) -> None:
    any_guest.start("import atexit\natexit.register(print, 'bye')\ndef handler(event, context):\n    return 1\n")
    assert any_guest.result() == 1
    assert any_guest.end() == 0
    assert any_guest.log == b"bye\n"


def test_a_fork_that_returns_from_the_handler_sends_nothing(guest: Guest) -> None:
    source = """
import os
def handler(event, context):
    if event == "plain":
        return "plain"
    if os.fork() == 0:
        return "child"
    os.wait()
    return "parent"
"""
    guest.start(source, "plain")
    assert guest.result() == "plain"
    assert guest.call("fork") == "parent"
    assert guest.call("plain") == "plain"


def test_what_is_not_the_protocol_ends_the_guest_with_a_word(guest: Guest) -> None:
    guest.send(wire.frame(wire.EVENT, b"x"))
    assert guest.ended() == 70
    assert b"control stream" in guest.log


def test_a_length_over_its_limit_is_refused_before_it_is_read(guest: Guest) -> None:
    guest.start("def handler(event, context):\n    return 1\n")
    guest.result()
    guest.send(wire.HEADER.pack(wire.EVENT_LIMIT_BYTES + 1, wire.EVENT))
    assert guest.ended() == 70


def test_a_handler_of_a_preloaded_interpreter_shares_no_environment_with_it(guest: Guest) -> None:
    guest.start("import os\ndef handler(event, context):\n    return os.environ.get('INHERITED')\n")
    assert guest.result() is None
    assert "INHERITED" not in os.environ
