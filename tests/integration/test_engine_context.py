"""What a function finds around it is what it finds on AWS Lambda, but for what docs/differences.md lists."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from engine.v1 import invocations_pb2
from tests.doors import zip_of
from tests.engines import Engine, engine

pytestmark = [pytest.mark.privileged, pytest.mark.asyncio(loop_scope="module")]

SIGNALS = "{int(s): str(signal.getsignal(s)) for s in signal.valid_signals() if signal.getsignal(s)}"
ENCODINGS = "[sys.getfilesystemencoding(), locale.getpreferredencoding(), locale.setlocale(locale.LC_ALL)]"
CODE = f"""
    import builtins, json, locale, logging, os, signal, socket, subprocess, sys, time

    at_import = dict(os.environ)

    def shell(command):
        return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True).stdout

    def around(event, context):
        return {{
            "environ": dict(os.environ),
            "at_import": at_import,
            "child": sorted(shell("env").splitlines()),
            "cwd": [os.getcwd(), shell("pwd").strip()],
            "path": sys.path,
            "argv": sys.argv,
            "signals": {SIGNALS},
            "encodings": {ENCODINGS},
            "streams": [[s.encoding, s.errors, s.isatty()] for s in (sys.stdin, sys.stdout, sys.stderr)],
            "stdin": sys.stdin.read(),
            "time": [time.tzname, time.localtime(0)[:5], shell("date -d @0 +%H:%M%Z").strip()],
            "names": [__name__, __file__, sys.modules["__main__"].__dict__.get("__file__")],
            "builtins": [name for name in ("exit", "quit", "help", "copyright") if hasattr(builtins, name)],
            "host": [socket.gethostname(), os.path.expanduser("~"), os.getpid() < 10],
            "logging": [logging.getLogger().level, [type(h).__name__ for h in logging.getLogger().handlers]],
        }}

    def shown(event, context):
        time.sleep(0.05)
        client, identity = context.client_context, context.identity
        return {{
            "aws_request_id": context.aws_request_id,
            "function_name": context.function_name,
            "function_version": context.function_version,
            "invoked_function_arn": context.invoked_function_arn,
            "memory_limit_in_mb": context.memory_limit_in_mb,
            "log": [context.log_group_name, context.log_stream_name],
            "environment": [os.environ["AWS_LAMBDA_LOG_GROUP_NAME"], os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]],
            "identity": [identity.cognito_identity_id, identity.cognito_identity_pool_id],
            "client": client and [client.client and client.client.app_title, client.custom, client.env],
            "tenant_id": context.tenant_id,
            "remaining": context.get_remaining_time_in_millis(),
            "trace": os.environ["_X_AMZN_TRACE_ID"],
        }}

    def vendored(event, context):
        import inside
        return [inside.__file__, sys.path[:3]]
"""
ENVIRONMENT = {
    "_HANDLER": "app.around",
    "AWS_DEFAULT_REGION": "eu-north-1",
    "AWS_EXECUTION_ENV": f"AWS_Lambda_python3.{sys.version_info[1]}",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
    "AWS_LAMBDA_FUNCTION_NAME": "around",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/around",
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
    "AWS_REGION": "eu-north-1",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
    "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
    "_AWS_XRAY_DAEMON_PORT": "2000",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LANG": "C.UTF-8",
    "LC_CTYPE": "C.UTF-8",
    "LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
    "PWD": "/var/task",
    "PYTHONPATH": "/var/runtime",
    "SHLVL": "0",
    "TZ": ":UTC",
    "MINE": "ä = 1",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    folder = tmp_path_factory.mktemp("context") / "data"
    async with engine(folder, region="eu-north-1", account="123456789012") as running:
        code = zip_of(CODE)
        await running.grpc.create(
            "around", code, handler="app.around", memory_mb=256, environment={"MINE": "ä = 1"}, timeout_ms=60_000
        )
        await running.grpc.create("shown", code, handler="app.shown", memory_mb=256, timeout_ms=60_000)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def around(running: Engine) -> dict[str, Any]:
    """What a function finds."""
    found: dict[str, Any] = (await running.grpc.invoke("around")).json()
    return found


async def test_the_environment_is_complete_and_has_nothing_of_the_engines(around: dict[str, Any]) -> None:
    environ = dict(around["environ"])
    assert environ.pop("_X_AMZN_TRACE_ID").startswith("Root=1-")
    stream = environ.pop("AWS_LAMBDA_LOG_STREAM_NAME")
    assert environ.pop("LD_LIBRARY_PATH").endswith(ENVIRONMENT["LD_LIBRARY_PATH"])
    assert environ == {name: value for name, value in ENVIRONMENT.items() if name != "LD_LIBRARY_PATH"}
    day, _, rest = stream.rpartition("/")
    assert len(day.split("/")) == 3
    assert rest.startswith("[$LATEST]")
    assert len(rest) == len("[$LATEST]") + 32


async def test_module_code_has_the_same_environment_but_for_the_trace(around: dict[str, Any]) -> None:
    environ = dict(around["environ"])
    del environ["_X_AMZN_TRACE_ID"]
    assert around["at_import"] == environ


async def test_a_program_that_it_starts_has_the_same_environment(around: dict[str, Any]) -> None:
    child = dict(line.split("=", 1) for line in around["child"])
    for name in ("_", "SHLVL", "PWD", "OLDPWD"):  # a shell's own
        child.pop(name, None)
    assert child == {name: value for name, value in around["environ"].items() if name not in ("SHLVL", "PWD")}


async def test_it_is_in_the_folder_of_its_code_which_is_searched_first(around: dict[str, Any]) -> None:
    assert around["cwd"] == ["/var/task", "/var/task"]
    assert around["path"][0] == "/var/task"
    assert around["names"] == ["app", "/var/task/app.py", None]
    assert around["argv"] == [""]
    assert all(path.startswith(sys.base_prefix) for path in around["path"][1:])
    assert not any(path.endswith("site-packages") for path in around["path"])


async def test_signals_encodings_and_locale_are_those_of_a_fresh_interpreter(around: dict[str, Any]) -> None:
    program = f"import json, locale, signal, sys; print(json.dumps([{SIGNALS}, {ENCODINGS}]))"
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("LD_LIBRARY_PATH", "PYTHONPATH")}
    fresh = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    signals, encodings = json.loads(fresh.stdout)
    assert around["signals"] == signals
    assert around["encodings"] == encodings
    assert around["encodings"][:2] == ["utf-8", "UTF-8"]


async def test_its_streams_are_utf_8_and_never_a_terminal(around: dict[str, Any]) -> None:
    assert [(encoding, terminal) for encoding, _, terminal in around["streams"]] == [("utf-8", False)] * 3
    assert around["streams"][1][1] == "backslashreplace", "no text is too strange for the log"
    assert around["stdin"] == ""


async def test_the_time_is_utc(around: dict[str, Any]) -> None:
    names, epoch, shell = around["time"]
    assert names == ["UTC", "UTC"]
    assert epoch == [1970, 1, 1, 0, 0]
    assert shell == "00:00UTC"


async def test_logging_has_the_handler_that_aws_installs(around: dict[str, Any]) -> None:
    assert around["logging"] == [30, ["LambdaLoggerHandler"]]


async def test_what_differs_of_the_interpreter_and_the_host_is_as_documented(around: dict[str, Any]) -> None:
    assert around["builtins"] == ["exit", "quit"]
    assert around["host"] == ["sandbox", "/tmp", True]


async def test_the_context_tells_the_invocation(running: Engine) -> None:
    client = {"client": {"app_title": "t"}, "custom": {"k": ["v"]}, "env": {"locale": "en"}}
    answer = await running.grpc.invoke("shown")
    found = answer.json()
    assert found["aws_request_id"] == answer.request_id
    assert (found["function_name"], found["function_version"]) == ("shown", "$LATEST")
    assert found["invoked_function_arn"] == "arn:aws:lambda:eu-north-1:123456789012:function:shown"
    assert found["memory_limit_in_mb"] == "256"
    assert found["log"] == found["environment"]
    assert found["log"][0] == "/aws/lambda/shown"
    assert 0 < found["remaining"] <= 60_000 - 50
    assert found["identity"] == [None, None]
    assert (found["client"], found["tenant_id"]) == (None, None)

    request = invocations_pb2.InvokeRequest(name="functions/shown", client_context=json.dumps(client).encode())
    by_grpc = json.loads((await running.grpc.invocations.Invoke(request)).payload)
    encoded = base64.b64encode(json.dumps(client).encode()).decode()
    by_http = await asyncio.to_thread(running.http.client.invoke, FunctionName="shown", ClientContext=encoded)
    for document in (by_grpc, json.loads(by_http["Payload"].read())):
        assert document["client"] == ["t", {"k": ["v"]}, {"locale": "en"}]
        assert document["log"] == found["log"], "sandboxes of one state of a function share a stream"
    assert by_grpc["trace"] != found["trace"]


async def test_a_pythonpath_of_the_users_is_searched_after_the_code(running: Engine) -> None:
    given = {"PYTHONPATH": "/var/task/vendor:/nowhere:vendor"}
    files = {"app.py": CODE, "vendor/inside.py": ""}
    await running.grpc.create("vendored", zip_of(files), handler="app.vendored", environment=given)
    found, path = (await running.grpc.invoke("vendored")).json()
    assert found == "/var/task/vendor/inside.py"
    assert path[:2] == ["/var/task", "/var/task/vendor"]
    assert "vendor" not in path[2]
    await running.grpc.update("vendored", code=zip_of({**files, "inside.py": "raise ImportError"}))
    assert (await running.grpc.invoke("vendored")).failed, "the code comes first"
