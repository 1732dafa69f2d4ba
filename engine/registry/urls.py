"""Function URLs: which function or alias has one, its id, who may call it and how it answers.

Answering calls is a front's work. An id is random and never comes twice; a URL ends with its function.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.errors import AlreadyExists, InvalidArgument, NotFound
from engine.model.names import FunctionRef
from engine.registry.attached import Attached, Document

KIND = "url"
ID_CHARACTERS = 32
MEMBERS = ("AuthType", "Cors", "InvokeMode")
"""The settings, by AWS's names and with AWS's values."""
MOST_VALUES = {"AllowHeaders": 100, "AllowMethods": 6, "AllowOrigins": 100, "ExposeHeaders": 100}
MAX_AGE_S = 86_400
"""How long a browser may keep what Cors says."""

_CHOICES = {"AuthType": ("NONE", "AWS_IAM"), "InvokeMode": ("BUFFERED", "RESPONSE_STREAM")}
_CORS_MEMBERS = {"AllowCredentials", "MaxAge", *MOST_VALUES}
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """One URL. `qualifier` is an alias, or "" for the function itself; times are ISO 8601 in UTC."""

    function_name: str
    qualifier: str
    url_id: str
    settings: Mapping[str, Any]
    create_time: str
    update_time: str


class Urls:
    """All of them."""

    def __init__(self, attached: Attached, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._attached = attached
        self._now = now
        self._seen = object()
        self._by_id: dict[str, FunctionUrl] = {}

    async def create(self, name: str, qualifier: str, settings: Mapping[str, Any]) -> FunctionUrl:
        """Raises AlreadyExists, NotFound where the function is gone. `settings` are those of MEMBERS that are given."""
        now = self._moment()
        made = {
            "Id": "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARACTERS)),
            "InvokeMode": "BUFFERED",
            **settings,
            "CreationTime": now,
            "LastModifiedTime": now,
        }

        def change(before: Document | None) -> Document:
            if before is not None:
                raise AlreadyExists(f"{_shown(name, qualifier)} has a URL", fix="change that one, or delete it first")
            return made

        await self._attached.change(KIND, name, qualifier, change)
        return _url(name, qualifier, made)

    def get(self, name: str, qualifier: str) -> FunctionUrl:
        """Raises NotFound."""
        found = self._attached.get(KIND, name, qualifier)
        if found is None:
            raise _none(name, qualifier)
        return _url(name, qualifier, found)

    def of(self, name: str) -> dict[str, FunctionUrl]:
        """Those of a function and its aliases, by qualifier."""
        return {key: _url(name, key, one) for key, one in sorted(self._attached.of(KIND, name).items())}

    def find(self, url_id: str) -> FunctionUrl | None:
        """The one with this id."""
        if self._seen is not self._attached.revision:
            self._seen = self._attached.revision
            found = (_url(*one) for one in self._attached.all(KIND))
            self._by_id = {one.url_id: one for one in found}
        return self._by_id.get(url_id)

    async def update(self, name: str, qualifier: str, settings: Mapping[str, Any]) -> FunctionUrl:
        """Change the settings that are given. Raises NotFound."""

        def change(before: Document | None) -> Document:
            if before is None:
                raise _none(name, qualifier)
            return {**before, **settings, "LastModifiedTime": self._moment()}

        return _url(name, qualifier, await self._attached.change(KIND, name, qualifier, change) or {})

    async def delete(self, name: str, qualifier: str) -> None:
        """Raises NotFound."""
        if not await self._attached.delete(KIND, name, qualifier):
            raise _none(name, qualifier)

    def _moment(self) -> str:
        return self._now().isoformat(timespec="microseconds").replace("+00:00", "Z")


def checked(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings by AWS's names, as MEMBERS has them. Raises InvalidArgument for values that none of them has."""
    wrong: dict[str, str] = {}
    for name, values in _CHOICES.items():
        if settings.get(name, values[0]) not in values:
            wrong[name] = f"must be {' or '.join(values)}"
    cors = settings.get("Cors", {})
    if unknown := sorted(cors.keys() - _CORS_MEMBERS):
        wrong["Cors"] = f"has no {', '.join(unknown)}"
    for name, most in MOST_VALUES.items():
        if len(cors.get(name, ())) > most:
            wrong[f"Cors.{name}"] = f"must have at most {most} values"
    if not 0 <= cors.get("MaxAge", 0) <= MAX_AGE_S:
        wrong["Cors.MaxAge"] = f"must be 0 to {MAX_AGE_S} seconds"
    if wrong:
        raise InvalidArgument("the settings of a URL cannot be used", fix="correct what is named", fields=wrong)
    return settings


def host_of(url_id: str, region: str) -> str:
    """The name under which a URL is called on the engine's machine."""
    return f"{url_id}.lambda-url.{region}.localhost"


def path_of(url_id: str) -> str:
    """The path under which a URL is called where that name means nothing."""
    return f"/lambda-url/{url_id}/"


def _url(name: str, qualifier: str, document: Document) -> FunctionUrl:
    settings = {member: document[member] for member in MEMBERS if member in document}
    return FunctionUrl(
        name, qualifier, document["Id"], settings, document["CreationTime"], document["LastModifiedTime"]
    )


def _shown(name: str, qualifier: str) -> str:
    return FunctionRef(name, qualifier).resource_name() if qualifier else f"functions/{name}"


def _none(name: str, qualifier: str) -> NotFound:
    return NotFound(f"{_shown(name, qualifier)} has no URL", fix="make one first")
