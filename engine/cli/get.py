"""`cleave list` and `cleave get`: what functions there are, and all about one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.options import AddressOption, OutputOption, choose
from engine.cli.problems import Problem

if TYPE_CHECKING:
    from engine.cli.client import Engine


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_functions)
    app.command("get")(get)


def list_functions(ctx: typer.Context, address: AddressOption = None, output: OutputOption = None) -> int:
    """List the functions by name."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of
    from engine.cli.render import note, plain, print_json, print_table, size
    from engine.v1 import functions_pb2, resources_pb2

    choices = choose(ctx, address, output)
    functions: list[resources_pb2.Function] = []
    with connected(choices) as engine, failures_of("cannot list the functions", choices):
        request = functions_pb2.ListFunctionsRequest(page_size=1000)
        while True:
            page = engine.functions.ListFunctions(request, timeout=CONTROL_TIMEOUT_S)
            functions += page.functions
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    if choices.json:
        print_json({"functions": [plain(function) for function in functions]})
    elif not functions:
        note(f"There is no function. Make one with:\n\n  cleave init hello && {choices.command('deploy', 'hello')}")
    else:
        rows = [
            (
                function.name.removeprefix("functions/"),
                function.config.runtime,
                f"{function.config.memory_mb} MB",
                f"{function.config.timeout_ms / 1000:g} s",
                resources_pb2.State.Name(function.state).removeprefix("STATE_").lower(),
                size(function.code_size_bytes),
                function.update_time.ToDatetime().isoformat(" ", "seconds"),
            )
            for function in functions
        ]
        print_table(("NAME", "RUNTIME", "MEMORY", "TIMEOUT", "STATE", "CODE", "CHANGED (UTC)"), rows)
    return 0


def get(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The function: its name or ARN, also of a version or an alias.")],
    code: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write its zip, as it was deployed, to this file too.")
    ] = None,
    address: AddressOption = None,
    output: OutputOption = None,
) -> int:
    """Show all about one function."""
    from engine.cli.client import CONTROL_TIMEOUT_S, connected, failures_of, function_ref, not_found
    from engine.cli.render import plain, print_json, print_table
    from engine.v1 import functions_pb2

    choices = choose(ctx, address, output)
    ref = function_ref(name)
    what = f"cannot show {ref.name}"
    with connected(choices) as engine:
        try:
            with failures_of(what, choices):
                request = functions_pb2.GetFunctionRequest(name=ref.resource_name())
                function = engine.functions.GetFunction(request, timeout=CONTROL_TIMEOUT_S).function
                if code is not None:
                    _download(engine, ref.resource_name(), code)
        except Problem as problem:
            raise not_found(engine, what, ref.name, choices, problem) from None
    document = plain(function)
    if choices.json:
        print_json({"function": document})
        return 0
    rows = document | {f"config.{key}": value for key, value in document.pop("config").items()}
    rows |= {f"config.environment.{key}": value for key, value in rows.pop("config.environment").items()}
    rows.pop("config", None)
    print_table(("FIELD", "VALUE"), [(key, str(value)) for key, value in rows.items() if value not in ("", None, [])])
    return 0


def _download(engine: Engine, name: str, file: Path) -> None:
    """Write a function's zip: all of it or nothing. Raises grpc.RpcError, Problem, OSError."""
    import hashlib
    import os
    import tempfile

    from engine.cli.client import UPLOAD_TIMEOUT_S
    from engine.v1 import code_pb2

    frames = engine.code.DownloadCode(code_pb2.DownloadCodeRequest(name=name), timeout=UPLOAD_TIMEOUT_S)
    header = next(frames).header
    digest = hashlib.sha256()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(descriptor, "wb") as target:
            for frame in frames:
                digest.update(frame.chunk)
                target.write(frame.chunk)
        if digest.hexdigest() != header.sha256:
            raise Problem(f"cannot write {file}", "what came is not what the engine stores", "try again")
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
