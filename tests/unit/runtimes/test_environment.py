"""A function sees the environment that it would see on AWS Lambda."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.model.function import Function, FunctionConfig, LogFormat, LogLevel
from engine.runtimes.environment import RESERVED, function_environment

# The environment recorded on AWS, without the credentials, which this release has none of, and without
# _X_AMZN_TRACE_ID, which comes with each event.
NAMES = [
    "_HANDLER",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "TZ",
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "LANG",
    "LC_CTYPE",
    "PWD",
    "SHLVL",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
]


def environment(
    variables: Mapping[str, str] | None = None, runtime: str = "python3.11", lib: str = "", **log: Any
) -> dict[str, str]:
    config = FunctionConfig(runtime, "app.handler", memory_mb=256, environment=variables or {}, **log)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    function = Function("thumbs", config, "0" * 64, 1, "etag", when, when)
    return function_environment(
        function, region="eu-north-1", log_stream_name="2026/01/01/[$LATEST]ab", interpreter_lib=lib
    )


def test_every_variable_of_lambda_is_there_and_no_other() -> None:
    assert sorted(environment()) == sorted(NAMES)


def test_a_log_in_json_adds_its_format_and_its_level() -> None:
    mine = {"AWS_LAMBDA_LOG_FORMAT": "Text", "AWS_LAMBDA_LOG_LEVEL": "TRACE"}
    found = environment(mine, log_format=LogFormat.JSON, log_level=LogLevel.ERROR)
    assert found["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert found["AWS_LAMBDA_LOG_LEVEL"] == "ERROR"
    assert sorted(found) == sorted([*NAMES, *mine])


def test_the_variables_say_what_the_function_is() -> None:
    found = environment()
    assert found["_HANDLER"] == "app.handler"
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "eu-north-1"
    assert found["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == "thumbs"
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert found["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert found["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/thumbs"
    own = environment(aws_settings={"LogGroup": "/own"})
    assert own["AWS_LAMBDA_LOG_GROUP_NAME"] == "/own"
    assert found["AWS_LAMBDA_LOG_STREAM_NAME"] == "2026/01/01/[$LATEST]ab"
    assert found["PATH"] == "/usr/local/bin:/usr/bin:/bin:/opt/bin"
    assert found["TZ"] == ":UTC"


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_user_replaces_no_reserved_variable(name: str) -> None:
    assert environment({name: "mine"}).get(name) == environment().get(name)


@pytest.mark.parametrize(
    "name", ["PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "TZ", "LANG", "AWS_XRAY_DAEMON_ADDRESS", "MINE"]
)
def test_a_user_sets_everything_else(name: str) -> None:
    assert environment({name: "mine"})[name] == "mine"


def test_a_runtime_of_the_users_own_has_no_execution_env() -> None:
    found = environment(runtime="provided.al2023")
    assert "AWS_EXECUTION_ENV" not in found
    assert "PYTHONPATH" not in found


def test_the_interpreters_libraries_are_looked_up_first() -> None:
    assert environment(lib="/usr/local/lib")["LD_LIBRARY_PATH"].startswith("/usr/local/lib:/lib64:")
