"""A load on one function of a running engine, for `cleave bench NAME`.

Warm calls go to the function itself. For cold starts it is copied: functions of other names with the same code and
settings, which are deleted at the end, so that nothing of the function is changed, nor is what it has warm taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc

from engine.cli.benching.load import Load, Tally, load_client
from engine.cli.benching.loads import row
from engine.cli.benching.targets import Cold, Target, Warm, renewer
from engine.cli.client import CONTROL_TIMEOUT_S, Engine, connected, failures_of, function_ref, not_found
from engine.cli.options import Choices
from engine.cli.problems import Problem
from engine.v1 import functions_pb2, resources_pb2

_FEWEST_COPIES, _MOST_COPIES = 4, 256
_READY_AGAIN_S = 2.0
"""How long until a copy that was called can be called again, at most, on a machine that keeps up."""
_WARM_UP = 0.2  # of the duration
_WARM_UP_S = 1.0  # at most


def measure_own(
    choices: Choices, name: str, event: bytes, load: Load, starts: list[str], say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], bool]:
    """A row for each of `starts`, "cold" or "warm", and whether the function itself failed. `say` is told what is
    about to be done. Raises Problem."""
    ref = function_ref(name)
    what = f"cannot measure {ref.name}"
    rows, function_failed = [], False
    with connected(choices) as engine:
        function = _get(engine, what, ref.resource_name(), ref.name, choices)
        for start in starts:
            say(f"{start} calls for {load.duration_s:g} s")
            with failures_of(what, choices), contextlib.ExitStack() as stack:
                names = [ref.resource_name()]
                if start == "cold":
                    names = stack.enter_context(_copies(engine, function, _count(load)))
                tally = asyncio.run(_run(choices.address, start, names, event, load))
            rows.append({**row(start, function.config.memory_mb, load, [tally]), "function": ref.name, "start": start})
            function_failed = function_failed or tally.function_errors > 0
    return rows, function_failed


async def _run(address: str, start: str, names: list[str], event: bytes, load: Load) -> Tally:
    async with load_client(address) as client, contextlib.AsyncExitStack() as stack:
        target: Target = Warm(names[0])
        if start == "cold":
            target = Cold(names, await stack.enter_async_context(renewer(address)))
        # Connections are made, and as many sandboxes as it takes are warm.
        await client.run(replace(load, duration_s=min(_WARM_UP * load.duration_s, _WARM_UP_S)), target, event)
        return await client.run(load, target, event)


def _get(engine: Engine, what: str, resource: str, name: str, choices: Choices) -> resources_pb2.Function:
    try:
        with failures_of(what, choices):
            request = functions_pb2.GetFunctionRequest(name=resource)
            return engine.functions.GetFunction(request, timeout=CONTROL_TIMEOUT_S).function
    except Problem as problem:
        raise not_found(engine, what, name, choices, problem) from None


def _count(load: Load) -> int:
    wanted = round(load.rate * _READY_AGAIN_S) if load.rate else 2 * load.concurrency
    return min(max(wanted, _FEWEST_COPIES), _MOST_COPIES)


@contextlib.contextmanager
def _copies(engine: Engine, function: resources_pb2.Function, count: int) -> Iterator[list[str]]:
    token = secrets.token_hex(4)
    with contextlib.ExitStack() as stack:
        names: list[str] = []
        for number in range(count):
            copied = functions_pb2.CreateFunctionRequest(
                function_id=f"cleave-bench-{token}-{number}",
                function=resources_pb2.Function(config=function.config, code_blob=function.code_blob),
            )
            made = engine.functions.CreateFunction(copied, timeout=CONTROL_TIMEOUT_S).function.name
            stack.callback(_delete, engine, made)
            names.append(made)
        yield names


def _delete(engine: Engine, name: str) -> None:
    with contextlib.suppress(grpc.RpcError):
        engine.functions.DeleteFunction(functions_pb2.DeleteFunctionRequest(name=name), timeout=CONTROL_TIMEOUT_S)
