"""Function URLs as stored settings: made, read, changed, listed and removed.

Who calls a URL is answered by engine.rest.urls. A URL's id is random and never comes twice; it belongs to the function
or to one of its aliases, and ends with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import AlreadyExists, NotFound
from engine.model.names import FunctionRef
from engine.registry.attached import Document
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

KIND = "url"
PAGE_MAX = 50
ID_CHARACTERS = 32
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_MEMBERS = ("AuthType", "Cors", "InvokeMode")


class UrlConfigs:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "CreateFunctionUrlConfig": self.create,
            "DeleteFunctionUrlConfig": self.delete,
            "GetFunctionUrlConfig": self.get,
            "ListFunctionUrlConfigs": self.list,
            "UpdateFunctionUrlConfig": self.update,
        }

    async def create(self, params: Params, request: Request) -> dict[str, Any]:
        """CreateFunctionUrlConfig."""
        ref, key = self._target(params)
        now = _now()
        settings = {
            "Id": "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARACTERS)),
            "InvokeMode": "BUFFERED",
            **{name: params[name] for name in _MEMBERS if params.get(name) is not None},
            "CreationTime": now,
            "LastModifiedTime": now,
        }

        def change(before: Document | None) -> Document:
            if before is not None:
                raise AlreadyExists(
                    f"Failed to create function url config for [functionArn = {self._documents.arn(ref.name, key)}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            return settings

        await self._attached.change(KIND, ref.name, key, change)
        made = self._written(ref.name, key, settings, request)
        made.pop("LastModifiedTime")
        return made

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionUrlConfig."""
        name, key = self._named.ref(params).name, self._named.qualifier(params)
        found = self._attached.get(KIND, name, key)
        if found is None:
            raise _none()
        return self._written(name, key, found, request)

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionUrlConfig: only what is given changes."""
        ref, key = self._target(params)

        def change(before: Document | None) -> Document:
            if before is None:
                raise _none()
            given = {name: params[name] for name in _MEMBERS if params.get(name) is not None}
            return {**before, **given, "LastModifiedTime": _now()}

        after = await self._attached.change(KIND, ref.name, key, change)
        return self._written(ref.name, key, after or {}, request)

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctionUrlConfigs."""
        name = self._named.ref(params).name
        if self._named.find(name) is None:
            raise NotFound("Function does not exist")
        found = self._attached.of(KIND, name)
        keys, marker = page(sorted(found), params, most=PAGE_MAX)
        return {"FunctionUrlConfigs": [self._written(name, key, found[key], request) for key in keys], **marker}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunctionUrlConfig."""
        if not await self._attached.delete(KIND, self._named.ref(params).name, self._named.qualifier(params)):
            raise _none()
        return {}

    def _target(self, params: Params) -> tuple[FunctionRef, str]:
        ref = self._named.ref(params)
        try:
            self._named.function(ref)
        except NotFound:
            raise NotFound("Function does not exist") from None
        return ref, self._named.qualifier(params)

    def _written(self, name: str, key: str, settings: Document, request: Request) -> dict[str, Any]:
        port = (request.header("host") or "").rpartition(":")[2]
        host = f"{settings['Id']}.lambda-url.{self._documents.region}.localhost"
        return {
            "FunctionUrl": f"http://{host}{f':{port}' if port.isdecimal() else ''}/",
            "FunctionArn": self._documents.arn(name, key),
            **{member: value for member, value in settings.items() if member != "Id"},
        }


def _none() -> NotFound:
    return NotFound("The resource you requested does not exist.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
