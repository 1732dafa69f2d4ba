"""Function URLs as AWS's clients make, read, change, list and remove them.

Who calls one is answered by engine.rest.urls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import AlreadyExists, NotFound
from engine.model.names import FunctionRef
from engine.registry.urls import MEMBERS, FunctionUrl, Urls, host_of
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

PAGE_MAX = 50


class UrlConfigs:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._urls = Urls(rooms.attached)
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
        ref, qualifier = self._target(params)
        try:
            url = await self._urls.create(ref.name, qualifier, _settings(params))
        except AlreadyExists:
            raise AlreadyExists(
                f"Failed to create function url config for [functionArn = {self._documents.arn(ref.name, qualifier)}]. "
                "Error message:  FunctionUrlConfig exists for this Lambda function"
            ) from None
        made = self._written(url, request)
        made.pop("LastModifiedTime")
        return made

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionUrlConfig."""
        name, qualifier = self._named.ref(params).name, self._named.qualifier(params)
        try:
            return self._written(self._urls.get(name, qualifier), request)
        except NotFound:
            raise _none() from None

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionUrlConfig: only what is given changes."""
        ref, qualifier = self._target(params)
        try:
            return self._written(await self._urls.update(ref.name, qualifier, _settings(params)), request)
        except NotFound:
            raise _none() from None

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctionUrlConfigs."""
        name = self._named.ref(params).name
        if self._named.find(name) is None:
            raise NotFound("Function does not exist")
        # A marker is an ARN: the qualifier of a function's own URL is empty, and an empty marker is none.
        found = {self._documents.arn(name, qualifier): url for qualifier, url in self._urls.of(name).items()}
        arns, marker = page(list(found), params, most=PAGE_MAX)
        return {"FunctionUrlConfigs": [self._written(found[arn], request) for arn in arns], **marker}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunctionUrlConfig."""
        name, qualifier = self._named.ref(params).name, self._named.qualifier(params)
        try:
            await self._urls.delete(name, qualifier)
        except NotFound:
            raise _none() from None
        return {}

    def _target(self, params: Params) -> tuple[FunctionRef, str]:
        ref = self._named.ref(params)
        try:
            self._named.function(ref)
        except NotFound:
            raise NotFound("Function does not exist") from None
        return ref, self._named.qualifier(params)

    def _written(self, url: FunctionUrl, request: Request) -> dict[str, Any]:
        port = (request.header("host") or "").rpartition(":")[2]
        host = host_of(url.url_id, self._documents.region)
        return {
            "FunctionUrl": f"http://{host}{f':{port}' if port.isdecimal() else ''}/",
            "FunctionArn": self._documents.arn(url.function_name, url.qualifier),
            **url.settings,
            "CreationTime": url.create_time,
            "LastModifiedTime": url.update_time,
        }


def _settings(params: Params) -> dict[str, Any]:
    return {name: params[name] for name in MEMBERS if params.get(name) is not None}


def _none() -> NotFound:
    return NotFound("The resource you requested does not exist.")
