"""Small settings of functions that are stored and returned: what becomes of recursive loops, when a runtime is renewed,
how many environments of a capacity provider there are to be.

Nothing here acts on them: a function runs on the engine's own interpreters, and on no capacity provider. Whether a
function is there is the caller's to know. Settings have AWS's names and values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidArgument
from engine.model.partitions import partition_of
from engine.registry.attached import Attached, Document

RECURSION = "recursion"
RUNTIME = "runtime-management"
SCALING = "scaling"
LOOPS = ("Terminate", "Allow")
MODES = ("Auto", "FunctionUpdate", "Manual")
ENVIRONMENTS = 15_000
"""Of one function: botocore's service model lambda/2015-03-31."""


class FunctionSettings:
    """Of all functions."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def recursion(self, name: str) -> str:
        """What becomes of a loop: Terminate unless it was set."""
        return str((self._attached.get(RECURSION, name) or {}).get("RecursiveLoop", LOOPS[0]))

    async def set_recursion(self, name: str, loop: str) -> str:
        """Raises InvalidArgument, NotFound where the function is gone."""
        _check_one_of("RecursiveLoop", loop, LOOPS)
        await self._attached.put(RECURSION, name, "", {"RecursiveLoop": loop})
        return loop

    def runtime(self, name: str, qualifier: str) -> Document:
        """UpdateRuntimeOn, and the RuntimeVersionArn if that is Manual. `qualifier` is $LATEST or a version."""
        return self._attached.get(RUNTIME, name, qualifier) or {"UpdateRuntimeOn": MODES[0]}

    async def set_runtime(self, name: str, qualifier: str, mode: str, arn: str, *, own: str) -> Document:
        """`own` is the ARN of what the function runs on, which is all that Manual can choose. Raises InvalidArgument,
        NotFound where the function is gone."""
        _check_one_of("UpdateRuntimeOn", mode, MODES)
        field = {"RuntimeVersionArn": "is for Manual, and needed for it"}
        if mode == "Manual" and not arn:
            raise InvalidArgument(
                "You must specify a RuntimeVersionArn when UpdateRuntimeOn is set to Manual.", fields=field
            )
        if mode != "Manual" and arn:
            raise InvalidArgument(
                "RuntimeVersionArn can only be specified when UpdateRuntimeOn is set to Manual.", fields=field
            )
        if arn and arn != own:
            raise InvalidArgument(
                f"The runtime version {arn} is not there: a function runs on the engine's own interpreter",
                fix="use Auto, or the RuntimeVersionArn of GetFunctionConfiguration",
                fields={"RuntimeVersionArn": "is not there"},
            )
        setting = {"UpdateRuntimeOn": mode, **({"RuntimeVersionArn": arn} if arn else {})}
        await self._attached.put(RUNTIME, name, qualifier, setting)
        return setting

    def scaling(self, name: str, qualifier: str) -> Document | None:
        """What was asked for: MinExecutionEnvironments and MaxExecutionEnvironments, where they were given."""
        return self._attached.get(SCALING, name, qualifier)

    async def set_scaling(self, name: str, qualifier: str, wanted: Mapping[str, Any] | None) -> None:
        """None takes it back. Raises InvalidArgument, NotFound where the function is gone."""
        if wanted is None:
            await self._attached.delete(SCALING, name, qualifier)
            return
        least, most = wanted.get("MinExecutionEnvironments"), wanted.get("MaxExecutionEnvironments")
        if any(value is not None and not 0 <= value <= ENVIRONMENTS for value in (least, most)):
            raise InvalidArgument(
                f"MinExecutionEnvironments and MaxExecutionEnvironments must be 0 to {ENVIRONMENTS}.",
                fields={"FunctionScalingConfig": "is out of range"},
            )
        if least is not None and most is not None and least > most:
            raise InvalidArgument(
                "MinExecutionEnvironments must be less than or equal to MaxExecutionEnvironments.",
                fields={"FunctionScalingConfig": "has a minimum over its maximum"},
            )
        await self._attached.put(SCALING, name, qualifier, wanted)


def runtime_version_arn(region: str, runtime: str) -> str:
    """Names the interpreter that a function runs on: the host's own."""
    return f"arn:{partition_of(region)}:lambda:{region}::runtime:{runtime}"


def _check_one_of(name: str, value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise InvalidArgument(
            f"{name} must be one of {', '.join(values)}, and is {value!a}.",
            fields={name: f"must be {', '.join(values)}"},
        )
