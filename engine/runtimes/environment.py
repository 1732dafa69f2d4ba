"""The environment variables of a function, as AWS Lambda sets them.

Leaves to others: `_X_AMZN_TRACE_ID`, which is another for each event and which the guest sets; refusing reserved names
when a function is created (engine.registry). Guarantees: what a user sets never replaces a reserved variable.

Sources: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (which are reserved, which only have a default)
and what was recorded on AWS for the Python runtimes.
"""

from __future__ import annotations

from engine.model.function import Function, LogFormat

RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
"""What a user cannot set."""

TASK_ROOT = "/var/task"
RUNTIME_DIR = "/var/runtime"

PATH = "/usr/local/bin:/usr/bin:/bin:/opt/bin"
LIBRARY_PATH = "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"


def log_group_name(function_name: str) -> str:
    """The CloudWatch log group that AWS would write to."""
    return f"/aws/lambda/{function_name}"


def function_environment(
    function: Function,
    *,
    region: str,
    log_stream_name: str,
    interpreter_lib: str = "",
    runtime_api: str = "127.0.0.1:9001",
) -> dict[str, str]:
    """All variables of a sandbox of `function`.

    `interpreter_lib` is the folder of the interpreter's shared libraries where the loader does not look by itself.
    `runtime_api` is where the Lambda Runtime API listens inside the sandbox, for the runtimes that use it.
    """
    config = function.config
    defaults = {
        "PATH": PATH,
        "LD_LIBRARY_PATH": f"{interpreter_lib}:{LIBRARY_PATH}" if interpreter_lib else LIBRARY_PATH,
        # AWS has en_US.UTF-8. A small host need not have it, and setlocale() fails for what is not there.
        "LANG": "C.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": ":UTC",
        "PWD": TASK_ROOT,
        "SHLVL": "0",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
    }
    if config.runtime.startswith("python"):
        defaults["PYTHONPATH"] = RUNTIME_DIR
    fixed = {
        "_HANDLER": config.handler,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.config.aws_settings.get("LogGroup") or log_group_name(function.name),
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream_name,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "LAMBDA_TASK_ROOT": TASK_ROOT,
        "LAMBDA_RUNTIME_DIR": RUNTIME_DIR,
    }
    if not config.runtime.startswith("provided"):  # AWS sets it for its own runtimes alone
        fixed["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{config.runtime}"
    if config.log_format is LogFormat.JSON:
        fixed["AWS_LAMBDA_LOG_FORMAT"] = config.log_format.value
        fixed["AWS_LAMBDA_LOG_LEVEL"] = config.log_level.value
    chosen = {name: value for name, value in config.environment.items() if name not in RESERVED}
    return {**defaults, **chosen, **fixed}
