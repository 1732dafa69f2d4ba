"""Log streams and events: DescribeLogStreams, GetLogEvents, FilterLogEvents.

Searching is engine.observe.log_search's work, patterns engine.observe.log_patterns'. A token is a place among the ids
of events. Guarantees, as AWS documents them: GetLogEvents gives back the token that it got where there is nothing
beyond it; a page has up to 10,000 events and 1 MB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import InvalidArgument, NotFound
from engine.observe.log_index import Span
from engine.observe.log_patterns import parse_pattern
from engine.observe.log_search import ID_DIGITS, NEWEST_ID, Search, StoredEvent
from engine.rest.logs_groups import Group, LogGroups, Logs, invalid_token, page_of, token_for, token_of
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation

PAGE_EVENTS = 10_000
PAGE_BYTES = 1_048_576
"""docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html"""
_TOKEN = re.compile(rf"([fb])/(\d{{{ID_DIGITS}}})/s")


class LogEvents:
    """The operations on streams and events."""

    def __init__(self, logs: Logs, groups: LogGroups) -> None:
        self._logs = logs
        self._groups = groups

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {"DescribeLogStreams": self.streams, "FilterLogEvents": self.filter, "GetLogEvents": self.get}

    async def streams(self, params: Params, request: Request) -> dict[str, Any]:
        """DescribeLogStreams."""
        group = await self._groups.named(params)
        prefix, by_time = params.get("logStreamNamePrefix", ""), params.get("orderBy") == "LastEventTime"
        if prefix and by_time:
            raise InvalidArgument("Cannot order by LastEventTime with a logStreamNamePrefix.")
        descending = params.get("descending", False)

        def key(one: tuple[str, Span]) -> list[Any]:
            return [one[1].last_us, one[0]] if by_time else [one[0]]

        found = [one for one in (await self._logs.streams(group.functions)).items() if one[0].startswith(prefix)]
        found.sort(key=key, reverse=descending)
        some, token = page_of(found, params, key=key, descending=descending)
        return {"logStreams": [_stream(group, name, span) for name, span in some], **token}

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetLogEvents."""
        group, stream = await self._groups.named(params), params["logStreamName"]
        forward, beyond = params.get("startFromHead", False), -1
        if "nextToken" in params:
            token = _TOKEN.fullmatch(params["nextToken"])
            if token is None:
                raise invalid_token()
            forward, beyond = token[1] == "f", int(token[2])
        if stream not in await self._logs.streams(group.functions):
            raise NotFound("The specified log stream does not exist.")
        since_ms, until_ms = _times(params, params.get("endTime"))
        query = Search(
            params.get("limit", PAGE_EVENTS),
            PAGE_BYTES,
            since_ms=since_ms,
            until_ms=until_ms,
            newest_first=not forward,
            beyond=beyond,
            wants_stream=lambda name: name == stream,
        )
        page = await self._logs.search(group.functions, query)
        events = page.events if forward else page.events[::-1]
        # Where a token leads to nothing, its like is given back, and the other one comes back to where it began.
        began = max(beyond, 0)
        if forward:
            last = page.beyond or (events[-1].id if events else began)
            first = events[0].id if events else min(beyond + 1, NEWEST_ID)
        else:
            first = page.beyond or (events[0].id if events else began)
            last = events[-1].id if events else max((began or first) - 1, 0)
        return {
            "events": [_event(one) for one in events],
            "nextForwardToken": f"f/{last:0{ID_DIGITS}d}/s",
            "nextBackwardToken": f"b/{first:0{ID_DIGITS}d}/s",
        }

    async def filter(self, params: Params, request: Request) -> dict[str, Any]:
        """FilterLogEvents."""
        group = await self._groups.named(params)
        newest_first, beyond = not params.get("startFromHead", True), -1
        if (place := token_of(params.get("nextToken"))) is not None:
            newest_first, beyond = _place(place)
        until_ms = params.get("endTime")
        since_ms, until_ms = _times(params, None if until_ms is None else until_ms + 1)
        query = Search(
            params.get("limit", PAGE_EVENTS),
            PAGE_BYTES,
            since_ms=since_ms,
            until_ms=until_ms,
            newest_first=newest_first,
            beyond=beyond,
            wants_stream=_wanted_streams(params),
            matches=parse_pattern(params.get("filterPattern", "")),
        )
        page = await self._logs.search(group.functions, query)
        more = {} if page.beyond is None else {"nextToken": token_for([newest_first, str(page.beyond)])}
        return {
            "events": [
                {"logStreamName": one.stream, **_event(one), "eventId": f"{one.id:0{ID_DIGITS}d}"}
                for one in page.events
            ],
            "searchedLogStreams": [],
            **more,
        }


def _times(params: Params, until_ms: int | None) -> tuple[int, int]:
    """The first moment wanted and the first no more wanted, in milliseconds. Raises InvalidArgument."""
    since_ms = params.get("startTime", 0)
    if until_ms is not None and until_ms <= since_ms and "startTime" in params:
        raise InvalidArgument(
            "The endTime must be greater than startTime", fields={"endTime": "must be after startTime"}
        )
    return since_ms, NEWEST_ID if until_ms is None else until_ms


def _wanted_streams(params: Params) -> Callable[[str], bool] | None:
    names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix")
    if names is not None and prefix is not None:
        raise InvalidArgument(
            "logStreamNames and logStreamNamePrefix are mutually exclusive parameters.",
            fields={"logStreamNamePrefix": "must be given without logStreamNames"},
        )
    if names is not None:
        return frozenset(names).__contains__
    return None if prefix is None else lambda name: name.startswith(prefix)


def _place(place: list[Any]) -> tuple[bool, int]:
    match place:
        case [bool(newest_first), str(text)] if text.isascii() and text.isdigit() and len(text) <= ID_DIGITS:
            return newest_first, int(text)
    raise invalid_token()


def _stream(group: Group, name: str, span: Span) -> dict[str, Any]:
    return {
        "logStreamName": name,
        "creationTime": span.first_us // 1_000,
        "firstEventTimestamp": span.first_us // 1_000,
        "lastEventTimestamp": span.last_us // 1_000,
        "lastIngestionTime": span.stored_us // 1_000,
        "arn": f"{group.arn}:log-stream:{name}",
        "storedBytes": 0,
    }


def _event(event: StoredEvent) -> dict[str, Any]:
    return {
        "timestamp": event.time_us // 1_000,
        "message": event.text.decode(errors="replace") + "\n",
        "ingestionTime": event.stored_us // 1_000,
    }
