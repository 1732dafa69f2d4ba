"""Event source mappings, stored: created, read, changed, listed, deleted, with their states.

Which settings a kind of source takes is engine.registry.sources', whether a function is there the caller's to know; a
mapping outlives its function, as on AWS. Nothing polls a source: whoever does reads the mappings here, and until then a
change has settled as soon as it is stored. So a mapping is Creating, Enabling, Disabling, Updating or Deleting in the
answer to the change, and what that leads to from the next read on. Guarantees that one function is not given the same
events twice, and that a state follows another only as TRANSITIONS has it.
"""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from engine.errors import AlreadyExists, EngineError, InvalidArgument, NotFound
from engine.model.partitions import partition_of
from engine.registry.attached import Attached, Document
from engine.registry.source_checks import check, completed, without_empty
from engine.registry.sources import BY_NAME, UNCHANGEABLE, duplicate_text, is_same, source_of
from engine.registry.tags import Tags, checked

KIND = "event-source-mapping"
RESOURCE_NAME = re.compile(r"eventSourceMappings/(.+)")
"""What engine.v1 calls a mapping."""
_OWN = ("Source", "FunctionArn", "State", "LastModified", "LastProcessingResult")


class MappingState(enum.Enum):
    """What becomes of a source's events. The values are AWS's."""

    CREATING = "Creating"  # it was just made
    ENABLING = "Enabling"
    ENABLED = "Enabled"  # whoever polls may poll
    DISABLING = "Disabling"
    DISABLED = "Disabled"  # nobody may
    UPDATING = "Updating"  # other settings, as enabled as before
    DELETING = "Deleting"  # the next read finds nothing


TRANSITIONS: Mapping[MappingState, frozenset[MappingState]] = {
    MappingState.CREATING: frozenset({MappingState.ENABLED, MappingState.DISABLED}),
    MappingState.ENABLING: frozenset({MappingState.ENABLED}),
    MappingState.DISABLING: frozenset({MappingState.DISABLED}),
    MappingState.UPDATING: frozenset({MappingState.ENABLED, MappingState.DISABLED}),
    MappingState.ENABLED: frozenset(
        {MappingState.ENABLING, MappingState.DISABLING, MappingState.UPDATING, MappingState.DELETING}
    ),
    MappingState.DISABLED: frozenset(
        {MappingState.ENABLING, MappingState.DISABLING, MappingState.UPDATING, MappingState.DELETING}
    ),
    MappingState.DELETING: frozenset(),
}
"""What may follow a state. A mapping is found, between two changes, in one that is settled: Enabled or Disabled."""


class MappingInUse(EngineError):
    """A change of a mapping whose last one has not settled."""

    grpc_code = "FAILED_PRECONDITION"
    http_status = 400
    aws_type = "ResourceInUseException"
    reason = "EVENT_SOURCE_MAPPING_IN_USE"


@dataclass(frozen=True, slots=True)
class EventSourceMapping:
    """One mapping. `settings` are by AWS's names and as JSON has them, a StartingPositionTimestamp in seconds since the
    epoch; times are in UTC."""

    mapping_id: str  # a UUID
    arn: str
    function_arn: str  # as the client qualified it
    source: str  # a name of engine.registry.sources.BY_NAME
    state: MappingState
    state_reason: str
    update_time: datetime
    last_result: str  # AWS's LastProcessingResult; "" for sources that have none
    settings: Mapping[str, Any]


def moved(mapping: EventSourceMapping, state: MappingState) -> EventSourceMapping:
    """The mapping in its next state. Raises MappingInUse where that cannot follow."""
    if state not in TRANSITIONS[mapping.state]:
        raise MappingInUse(
            f"Cannot update the event source mapping because it is in use: it is {mapping.state.value}",
            fix="read it until it is Enabled or Disabled, and try again",
        )
    return replace(mapping, state=state)


class EventSourceMappings:
    """All of them."""

    def __init__(
        self,
        attached: Attached,
        *,
        region: str,
        account: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._attached = attached
        self._tags = Tags(attached)
        self._prefix = f"arn:{partition_of(region)}:lambda:{region}:{account}:{KIND}:"
        self._now = now

    async def create(
        self, function_arn: str, settings: Mapping[str, Any], *, enabled: bool = True, tags: Mapping[str, str]
    ) -> EventSourceMapping:
        """A mapping of which the state is Creating; Enabled or Disabled from then on. `settings` have AWS's names.
        Raises InvalidArgument, AlreadyExists."""
        source = source_of(settings)
        mapping_id = str(uuid.uuid4())
        now = self._now()
        found_tags = checked(dict(tags))
        made = {
            **_plain(completed(source, settings, mapping_id, now)),
            "FunctionArn": function_arn,
            "State": (MappingState.ENABLED if enabled else MappingState.DISABLED).value,
            "Source": source.name,
            "LastModified": now.timestamp(),
        }

        def change(before: Document | None) -> Document:
            # Inside of the write, so that of two at once one is the duplicate.
            for _, key, other in self._attached.all(KIND):
                if is_same(made, other):
                    raise AlreadyExists(duplicate_text(source, made, key))
            return made

        await self._attached.change(KIND, "", mapping_id, change)
        await self._tags.add(found_tags, "", self.tag_key(mapping_id))
        return replace(self._mapping(mapping_id, made), state=MappingState.CREATING)

    def get(self, mapping_id: str) -> EventSourceMapping:
        """Raises NotFound."""
        return self._mapping(mapping_id, self._document(mapping_id))

    def ids(self, *, source_arn: str = "", function_arn: str = "") -> list[str]:
        """The ids of all, sorted, or of those of one source, of one function."""
        return sorted(
            key
            for key, found in self._attached.of(KIND, "").items()
            if (not source_arn or found.get("EventSourceArn") == source_arn)
            and (not function_arn or found["FunctionArn"] == function_arn)
        )

    async def update(
        self, mapping_id: str, settings: Mapping[str, Any], *, enabled: bool | None = None, function_arn: str = ""
    ) -> EventSourceMapping:
        """Change what is given. The state is Enabling, Disabling or Updating; then what it leads to. Raises NotFound,
        InvalidArgument, AlreadyExists."""

        way = {True: MappingState.ENABLING, False: MappingState.DISABLING, None: MappingState.UPDATING}[enabled]

        def change(before: Document | None) -> Document:
            if before is None:
                raise _none()
            changing = moved(self._mapping(mapping_id, before), way)
            for name in UNCHANGEABLE:
                if name in settings:
                    raise InvalidArgument(
                        f"{name} cannot be changed: make another mapping", fields={name: "cannot be changed"}
                    )
            source = BY_NAME[before["Source"]]
            given = _plain(settings)
            check(source, {**before, **given}, given)
            after = {**without_empty({**before, **given}), "LastModified": self._now().timestamp()}
            after["FunctionArn"] = function_arn or before["FunctionArn"]
            if enabled is not None:
                after["State"] = (MappingState.ENABLED if enabled else MappingState.DISABLED).value
            moved(changing, MappingState(after["State"]))
            for _, key, other in self._attached.all(KIND):
                if key != mapping_id and is_same(after, other):
                    raise AlreadyExists(duplicate_text(source, after, key))
            return after

        after = await self._attached.change(KIND, "", mapping_id, change) or {}
        return replace(self._mapping(mapping_id, after), state=way)

    async def delete(self, mapping_id: str) -> EventSourceMapping:
        """What it was, with the state Deleting; nothing is left of it. Raises NotFound."""
        mapping = moved(self.get(mapping_id), MappingState.DELETING)
        if not await self._attached.delete(KIND, "", mapping_id):
            raise _none()
        await self._tags.forget("", self.tag_key(mapping_id))
        return mapping

    @staticmethod
    def tag_key(mapping_id: str) -> str:
        """Its key among the tags of resources without an owner."""
        return f"{KIND}:{mapping_id}"

    def _document(self, mapping_id: str) -> Document:
        found = self._attached.get(KIND, "", mapping_id)
        if found is None:
            raise _none()
        return found

    def _mapping(self, mapping_id: str, document: Document) -> EventSourceMapping:
        return EventSourceMapping(
            mapping_id=mapping_id,
            arn=self._prefix + mapping_id,
            function_arn=document["FunctionArn"],
            source=document["Source"],
            state=MappingState(document["State"]),
            state_reason=BY_NAME[document["Source"]].reason,
            update_time=datetime.fromtimestamp(document["LastModified"], UTC),
            last_result=document.get("LastProcessingResult", ""),
            settings={name: value for name, value in document.items() if name not in _OWN},
        )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them."""
    return {name: value.timestamp() if isinstance(value, datetime) else value for name, value in settings.items()}


def _none() -> NotFound:
    return NotFound("The resource you requested does not exist.")
