"""The command's group: what all commands share, and where a failure becomes text or JSON and an exit code.

main() guarantees that nothing the user can cause ends in a traceback, and that with `--output json` standard output
holds one JSON document whatever happened.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from engine import __version__
from engine.cli import (
    aliases,
    bench,
    concurrency,
    delete,
    deploy,
    doctor,
    events,
    function_settings,
    get,
    init,
    invoke,
    layers,
    logs,
    permissions,
    runtimes,
    serve,
    signing,
    sources,
    tags,
    timelines,
    top,
    urls,
    version,
    versions,
)
from engine.cli.options import ADDRESS_VARIABLE, DEFAULT_ADDRESS, AddressOption, Choices, Output, OutputOption, choose
from engine.cli.problems import EXIT_CODES_HELP, ExitCode, Problem
from engine.errors import EngineError, field_violations

_COMMANDS = (
    serve,
    init,
    deploy,
    invoke,
    get,
    logs,
    delete,
    versions,
    aliases,
    concurrency,
    events,
    layers,
    urls,
    permissions,
    tags,
    sources,
    signing,
    function_settings,
    runtimes,
    doctor,
    top,
    timelines,
    bench,
    version,
)


def build_app() -> typer.Typer:
    """The whole command. Each module of _COMMANDS adds its own by register(app)."""
    app = typer.Typer(
        help="Run AWS Lambda functions in sandboxes, on machines you own.",
        epilog=EXIT_CODES_HELP,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback(invoke_without_command=True)(_group)
    for module in _COMMANDS:
        module.register(app)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (sys.argv) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    choices = Choices(
        address=os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS,
        # A wrong argument before --output is reported as --output wants it.
        output=Output.JSON if _asks_for_json(arguments) else Output.TEXT,
    )
    try:
        command = typer.main.get_command(build_app())
        code = command.main(args=arguments, prog_name="cleave", standalone_mode=False, obj=choices)
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.OK
    except BrokenPipeError:
        # The reader left, as `| head` does. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (Problem, EngineError, typer.TyperException, typer.Abort, OSError) as error:
        problem = _problem(error)
    if choices.json:
        import json

        print(json.dumps(problem.document()), flush=True)
    else:
        print(problem.text(), file=sys.stderr, flush=True)
    return problem.exit_code


def _group(
    ctx: typer.Context,
    address: AddressOption = None,
    output: OutputOption = None,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    choose(ctx, address, output)
    if show_version:
        typer.echo(f"cleave {__version__}")
        raise typer.Exit(ExitCode.OK)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(ExitCode.USAGE)
    return ExitCode.OK


def _problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case EngineError():
            fields = dict(field_violations(error))
            return Problem(
                "the engine failed", error.message, error.fix or "cleave doctor", reason=error.reason, fields=fields
            )
        case typer.TyperException():
            where = getattr(getattr(error, "ctx", None), "command_path", "cleave")
            return Problem(
                "the command line cannot be used",
                error.format_message(),
                f"{where} --help",
                exit_code=ExitCode.USAGE,
                code="INVALID_ARGUMENT",
                reason="USAGE",
            )
        case typer.Abort():
            return Problem("nothing was done", "the question was not answered with yes", "give --yes to go ahead")
        case _:
            return Problem("the command could not do its work", str(error), "see the path and the reason above")


def _asks_for_json(arguments: Sequence[str]) -> bool:
    joined = " ".join(arguments)
    return any(form in joined for form in ("--output json", "--output=json", "-o json", "-ojson"))


if __name__ == "__main__":
    sys.exit(main())
