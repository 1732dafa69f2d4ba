"""Event-invoke configuration: how often, and for how long, a function's asynchronous events are tried, and where their
outcome would go. One for $LATEST, each version and each alias; none stands in for another.

Stored with what is kept beside functions, so that it ends with its function, version or alias. Destinations are checked
and kept: nothing is delivered to them. The rules and the words are AWS Lambda's:
docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from engine.errors import InvalidArgument, NotFound
from engine.model.events import AGE_LEAST_S, AGE_MOST_S, RETRIES_MOST, EventInvokeChange, EventInvokeConfig
from engine.model.names import FunctionRef, parse_aws_name
from engine.registry.api import Registry
from engine.registry.attached import Attached, Document

KIND = "event-invoke"
DESTINATION_CHARACTERS = 350
_DESTINATION = re.compile(r"arn:aws[a-zA-Z-]*:(lambda|sqs|sns|events|s3):.+")


class EventInvokeConfigs:
    """All of them."""

    def __init__(
        self, registry: Registry, attached: Attached, *, region: str, account: str, now: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._attached = attached
        self._here = f":lambda:{region}:{account}:"
        self._now = now

    async def put(self, ref: FunctionRef, change: EventInvokeChange) -> EventInvokeConfig:
        """Set it; nothing of what was there is kept. Raises NotFound, InvalidArgument."""
        self._registry.get(ref)
        settings = self._settings(ref, change)
        await self._attached.put(KIND, ref.name, ref.qualifier, settings)
        return _config(ref.name, ref.qualifier, settings)

    async def update(self, ref: FunctionRef, change: EventInvokeChange) -> EventInvokeConfig:
        """Change what is given. Raises NotFound, also where there is none yet, InvalidArgument."""
        self._registry.get(ref)
        settings = self._settings(ref, change)

        def changed(before: Document | None) -> Document:
            if before is None:
                raise none_of(ref)
            both = {**before.get("DestinationConfig", {}), **settings.get("DestinationConfig", {})}
            return {**before, **settings, **({"DestinationConfig": both} if both else {})}

        after = await self._attached.change(KIND, ref.name, ref.qualifier, changed)
        return _config(ref.name, ref.qualifier, after or {})

    def get(self, ref: FunctionRef) -> EventInvokeConfig:
        """Raises NotFound."""
        found = self._attached.get(KIND, ref.name, ref.qualifier)
        if found is None:
            raise none_of(ref)
        return _config(ref.name, ref.qualifier, found)

    def of(self, name: str) -> dict[str, EventInvokeConfig]:
        """Those of a function, its versions and its aliases, by qualifier. Raises NotFound."""
        self._registry.get(FunctionRef(name))
        found = self._attached.of(KIND, name)
        return {qualifier: _config(name, qualifier, settings) for qualifier, settings in sorted(found.items())}

    async def delete(self, ref: FunctionRef) -> None:
        """Raises NotFound."""
        if not await self._attached.delete(KIND, ref.name, ref.qualifier):
            raise none_of(ref)

    def limits(self, name: str, qualifier: str) -> tuple[int, int]:
        """How often a failed run is followed by another, and how old an event may get, in seconds."""
        found = self._attached.get(KIND, name, qualifier) or {}
        return (
            found.get("MaximumRetryAttempts", RETRIES_MOST),
            found.get("MaximumEventAgeInSeconds", AGE_MOST_S),
        )

    def _settings(self, ref: FunctionRef, change: EventInvokeChange) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for field, name, value, least, most in (
            ("maximum_retry_attempts", "MaximumRetryAttempts", change.maximum_retry_attempts, 0, RETRIES_MOST),
            ("maximum_event_age_s", "MaximumEventAgeInSeconds", change.maximum_event_age_s, AGE_LEAST_S, AGE_MOST_S),
        ):
            if value is None:
                continue
            if not least <= value <= most:
                raise InvalidArgument(
                    f"{field} is {value}",
                    fix=f"give {least:,} to {most:,}",
                    fields={field: f"must be {least:,} to {most:,}"},
                )
            settings[name] = value
        sides = {"OnSuccess": change.on_success, "OnFailure": change.on_failure}
        given = {side: arn for side, arn in sides.items() if arn is not None}
        for side, arn in given.items():
            if arn:
                self._check_destination(arn, side, ref)
        if given:
            settings["DestinationConfig"] = {side: {"Destination": arn} if arn else {} for side, arn in given.items()}
        if not settings:
            raise InvalidArgument(
                "You must specify at least one of error handling or destination setting.",
                fix="give retries, an age or a destination",
            )
        return {**settings, "LastModified": self._now()}

    def _check_destination(self, arn: str, side: str, ref: FunctionRef) -> None:
        field = "on_success" if side == "OnSuccess" else "on_failure"
        found = _DESTINATION.fullmatch(arn)
        if found is None or (found[1] == "s3" and side == "OnSuccess") or len(arn) > DESTINATION_CHARACTERS:
            given = {"OnSuccess": "null", "OnFailure": "null", side: f"{side}(destination={arn})"}
            raise InvalidArgument(
                f"The provided destination config DestinationConfig(onSuccess={given['OnSuccess']}, "
                f"onFailure={given['OnFailure']}) is invalid.",
                fix="give the ARN of a queue, a topic, a function or an event bus; of a bucket for failures only",
                fields={field: "is no destination"},
            )
        if found[1] != "lambda":
            return
        try:
            if self._here not in arn:
                raise NotFound(arn)
            target = parse_aws_name(arn)
            self._registry.get(target)
        except (NotFound, InvalidArgument):
            raise InvalidArgument(
                f"The destination ARN {arn} is invalid.",
                fix="give the ARN of a function that is here",
                fields={field: "no such function"},
            ) from None
        if target.name == ref.name:
            raise InvalidArgument(
                "You can't specify the function as a destination for itself.",
                fix="give another function",
                fields={field: "is the function itself"},
            )


def none_of(ref: FunctionRef) -> NotFound:
    """There is no configuration."""
    return NotFound(
        f"{ref.resource_name()} has no event-invoke configuration: its events are delivered by the defaults",
        fix="put one first",
    )


def _config(name: str, qualifier: str, settings: Document) -> EventInvokeConfig:
    destinations = settings.get("DestinationConfig", {})
    arns = {side: destinations.get(side, {}).get("Destination", "") for side in ("OnSuccess", "OnFailure")}
    return EventInvokeConfig(
        name,
        qualifier,
        settings["LastModified"],
        settings.get("MaximumRetryAttempts"),
        settings.get("MaximumEventAgeInSeconds"),
        arns["OnSuccess"],
        arns["OnFailure"],
    )
