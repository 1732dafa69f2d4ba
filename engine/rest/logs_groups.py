"""Log groups: DescribeLogGroups, CreateLogGroup, DeleteLogGroup, retention and tags.

A group is there while a function that logs to it has lines, or since somebody created it. What is kept of a group
itself outlives its functions, as on AWS. Leaves to others: which functions log to a group (engine.rest.logs_writers),
removing lines that are too old (engine.observe.function_logs).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson

from engine.errors import AlreadyExists, InvalidArgument, NotFound
from engine.model.partitions import partition_of
from engine.observe.log_index import Span
from engine.observe.log_search import Page, Search
from engine.registry.api import Registry
from engine.registry.attached import Attached, Document
from engine.registry.tags import Tags
from engine.rest.configuration import Documents
from engine.rest.logs_writers import LogWriters
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation

KIND = "log-group"
PAGE = 50
RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
"""docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""
DAY_US = 86_400_000_000

T = TypeVar("T")


class Logs(Protocol):
    """What this front asks of engine.observe.function_logs.FunctionLogs."""

    @property
    def age_us(self) -> int:
        """For how long lines are kept."""

    async def search(self, function_names: Collection[str], query: Search) -> Page:
        """A page of the events in the logs of these functions, by their times."""

    async def streams(self, function_names: Collection[str]) -> Mapping[str, Span]:
        """The streams of these functions that have lines yet."""

    async def sizes(self) -> Mapping[str, int]:
        """The functions of which lines are kept, and how many bytes they are on the disk."""

    def forget(self, function_name: str) -> None:
        """Drop the lines kept."""

    def retain(self, ages_us: Callable[[], Mapping[str, int]]) -> None:
        """Keep the lines of functions for no longer than `ages_us` says."""


@dataclass(frozen=True, slots=True)
class Group:
    """A log group that is there. `functions` log to it; `bytes` of theirs are kept."""

    name: str
    arn: str
    functions: tuple[str, ...]
    created_ms: int
    bytes: int
    retention_days: int


class LogGroups:
    """The groups, and the operations on them."""

    def __init__(
        self,
        logs: Logs,
        registry: Registry,
        attached: Attached,
        documents: Documents,
        *,
        wall_ms: Callable[[], int],
    ) -> None:
        self._logs = logs
        self._writers = LogWriters(registry)
        self._attached = attached
        self._tags = Tags(attached)
        self._arn = f"arn:{partition_of(documents.region)}:logs:{documents.region}:{documents.account}:log-group:"
        self._account = documents.account
        self._wall_ms = wall_ms

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "CreateLogGroup": self.create,
            "DeleteLogGroup": self.delete,
            "DeleteRetentionPolicy": self.delete_retention,
            "DescribeLogGroups": self.describe,
            "ListTagsForResource": self.list_tags,
            "PutRetentionPolicy": self.put_retention,
            "TagResource": self.tag,
            "UntagResource": self.untag,
        }

    async def named(self, params: Params) -> Group:
        """The group that logGroupName or logGroupIdentifier means. Raises InvalidArgument, NotFound."""
        if ("logGroupName" in params) == ("logGroupIdentifier" in params):
            raise InvalidArgument(
                "Exactly one of logGroupName and logGroupIdentifier has to be given",
                fields={"logGroupName": "must be given without logGroupIdentifier"},
            )
        text: str = params.get("logGroupName") or params["logGroupIdentifier"]
        return await self._get(text.removeprefix(self._arn) if text.startswith("arn:") else text)

    def ages_us(self) -> Mapping[str, int]:
        """For how long the lines of functions are kept whose groups say so."""
        days = {group: kept["days"] for _, group, kept in self._attached.all(KIND) if "days" in kept}
        return {name: days[group] * DAY_US for group in days for name in self._writers.of(group)}

    async def describe(self, params: Params, request: Request) -> dict[str, Any]:
        """DescribeLogGroups."""
        prefix, part = params.get("logGroupNamePrefix", ""), params.get("logGroupNamePattern", "")
        if prefix and part:
            raise InvalidArgument("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        wanted = {one.removeprefix(self._arn) for one in params.get("logGroupIdentifiers", ())}
        sizes, kept = await self._logs.sizes(), self._attached.of(KIND, "")
        names = {its for name in sizes if (its := self._writers.group(name)) is not None}.union(kept)
        if prefix or part or wanted:
            names = {one for one in names if one.startswith(prefix) and part in one and (not wanted or one in wanted)}
        if params.get("logGroupClass", "STANDARD") != "STANDARD" or self._account not in params.get(
            "accountIdentifiers", [self._account]
        ):
            names = set()
        some, token = page_of(sorted(names), params, key=lambda name: [name])
        return {"logGroups": [_document(group) for one in some if (group := self._find(one, sizes))], **token}

    async def create(self, params: Params, request: Request) -> dict[str, Any]:
        """CreateLogGroup."""
        name = params["logGroupName"]
        for member, only in (("kmsKeyId", None), ("logGroupClass", "STANDARD"), ("deletionProtectionEnabled", False)):
            if params.get(member, only) != only:
                raise InvalidArgument(
                    f"{member} {params[member]} cannot be honoured",
                    fix="leave it out",
                    fields={member: "is not served"},
                )
        if self._find(name, await self._logs.sizes()) is not None:
            raise AlreadyExists("The specified log group already exists")
        await self._attached.put(KIND, "", name, {"created_ms": self._wall_ms()})
        if params.get("tags"):
            await self._tags.add(params["tags"], "", _tagged(name))
        return {}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteLogGroup. A function that logs to it makes it anew with its next line."""
        group = await self._get(params["logGroupName"])
        await self._attached.delete(KIND, "", group.name)
        await self._tags.forget("", _tagged(group.name))
        for name in group.functions:
            self._logs.forget(name)
        return {}

    async def put_retention(self, params: Params, request: Request) -> dict[str, Any]:
        """PutRetentionPolicy."""
        group, days = await self._get(params["logGroupName"]), params["retentionInDays"]
        if days not in RETENTION_DAYS:
            raise InvalidArgument(
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(map(str, RETENTION_DAYS))}]",
                fields={"retentionInDays": "is none that CloudWatch Logs knows"},
            )
        if days * DAY_US > self._logs.age_us:
            raise InvalidArgument(
                f"Lines are kept for {self._logs.age_us / DAY_US:g} days, and cannot be for {days}",
                fix="set function_log_days of the engine to as many",
                fields={"retentionInDays": "is more than this engine keeps"},
            )
        await self._keep(group, {"days": days})
        return {}

    async def delete_retention(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteRetentionPolicy."""
        await self._keep(await self._get(params["logGroupName"]), {"days": None})
        return {}

    async def tag(self, params: Params, request: Request) -> dict[str, Any]:
        """TagResource."""
        await self._tags.add(params["tags"], "", await self._resource(params))
        return {}

    async def untag(self, params: Params, request: Request) -> dict[str, Any]:
        """UntagResource."""
        await self._tags.remove(set(params["tagKeys"]), "", await self._resource(params))
        return {}

    async def list_tags(self, params: Params, request: Request) -> dict[str, Any]:
        """ListTagsForResource."""
        return {"tags": self._tags.of("", await self._resource(params))}

    async def _resource(self, params: Params) -> str:
        """The key of the tags of what resourceArn means."""
        arn: str = params["resourceArn"]
        if not arn.startswith(self._arn):
            raise NotFound(f"The specified resource does not exist: {arn}")
        return _tagged((await self._get(arn.removeprefix(self._arn))).name)

    async def _keep(self, group: Group, change: Document) -> None:
        def changed(before: Document | None) -> Document:
            after = {**(before or {"created_ms": group.created_ms}), **change}
            return {name: value for name, value in after.items() if value is not None}

        await self._attached.change(KIND, "", group.name, changed)

    async def _get(self, name: str) -> Group:
        group = self._find(name, await self._logs.sizes())
        if group is None:
            raise NotFound("The specified log group does not exist.")
        return group

    def _find(self, name: str, sizes: Mapping[str, int]) -> Group | None:
        """The group, None if it is not there; `sizes` is what is kept of each function."""
        writers, kept = self._writers.of(name), self._attached.get(KIND, "", name)
        size = sum(sizes.get(writer, 0) for writer in writers)
        if kept is None:
            if not size:
                return None
            kept = {"created_ms": min(writers.values())}
        return Group(name, self._arn + name, tuple(writers), kept["created_ms"], size, kept.get("days", 0))


def page_of(
    items: list[T], params: Params, *, key: Callable[[T], list[Any]], descending: bool = False
) -> tuple[list[T], dict[str, str]]:
    """The items, which are sorted by `key`, that nextToken and limit ask for, and nextToken if there are more."""
    after = token_of(params.get("nextToken"))
    if after is not None:
        try:
            items = [one for one in items if (key(one) < after if descending else key(one) > after)]
        except TypeError:
            raise invalid_token() from None
    found = items[: params.get("limit", PAGE)]
    return found, {"nextToken": token_for(key(found[-1]))} if len(found) < len(items) else {}


def token_for(place: list[Any]) -> str:
    """A token that stands for a place."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode()


def token_of(token: str | None) -> list[Any] | None:
    """The place that a token stands for; None without one. Raises InvalidArgument."""
    if token is None:
        return None
    try:
        place = orjson.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, list):
        raise invalid_token()
    return place


def invalid_token() -> InvalidArgument:
    """The error for a token that this front has not given."""
    return InvalidArgument("The specified nextToken is invalid.", fields={"nextToken": "is none of this engine's"})


def _tagged(name: str) -> str:
    return f"{KIND}:{name}"


def _document(group: Group) -> dict[str, Any]:
    return {
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        **({"retentionInDays": group.retention_days} if group.retention_days else {}),
        "metricFilterCount": 0,
        "arn": f"{group.arn}:*",
        "storedBytes": group.bytes,
        "logGroupClass": "STANDARD",
        "logGroupArn": group.arn,
    }
