"""CreateCodeSigningConfig and its siblings, as AWS's clients call them.

What a configuration is, and which function has which, is engine.registry.signing's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.registry.signing import SigningConfigs
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

PAGE_MAX = 10_000


class CodeSigning:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._configs = signing_of(rooms)
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {
            "CreateCodeSigningConfig": self.create,
            "DeleteCodeSigningConfig": self.delete,
            "DeleteFunctionCodeSigningConfig": self.unset,
            "GetCodeSigningConfig": self.get,
            "GetFunctionCodeSigningConfig": self.of_function,
            "ListCodeSigningConfigs": self.list,
            "ListFunctionsByCodeSigningConfig": self.functions,
            "PutFunctionCodeSigningConfig": self.set,
            "UpdateCodeSigningConfig": self.update,
        }

    async def create(self, params: Params, request: Request) -> dict[str, Any]:
        """CreateCodeSigningConfig."""
        return {"CodeSigningConfig": dict(await self._configs.create(params, tags=params.get("Tags") or {}))}

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetCodeSigningConfig."""
        return {"CodeSigningConfig": dict(self._configs.get(params["CodeSigningConfigArn"]))}

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateCodeSigningConfig: only what is given changes."""
        return {"CodeSigningConfig": dict(await self._configs.update(params["CodeSigningConfigArn"], params))}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteCodeSigningConfig."""
        await self._configs.delete(params["CodeSigningConfigArn"])
        return {}

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListCodeSigningConfigs."""
        arns, marker = page(self._configs.arns(), params, most=PAGE_MAX)
        return {"CodeSigningConfigs": [self._configs.get(arn) for arn in arns], **marker}

    async def functions(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctionsByCodeSigningConfig."""
        names, marker = page(self._configs.functions(params["CodeSigningConfigArn"]), params, most=PAGE_MAX)
        return {"FunctionArns": [self._documents.arn(name) for name in names], **marker}

    async def set(self, params: Params, request: Request) -> dict[str, Any]:
        """PutFunctionCodeSigningConfig."""
        arn = params["CodeSigningConfigArn"]
        self._configs.check_usable(arn)
        name = self._function(params)
        await self._configs.set(name, arn)
        return {"CodeSigningConfigArn": arn, "FunctionName": name}

    async def unset(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunctionCodeSigningConfig. A function without one is no error."""
        await self._configs.unset(self._function(params))
        return {}

    async def of_function(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionCodeSigningConfig. For a function without one AWS answers with an empty document."""
        name = self._function(params)
        arn = self._configs.of_function(name)
        return {"CodeSigningConfigArn": arn, "FunctionName": name} if arn else {}

    def _function(self, params: Params) -> str:
        return self._named.check(params).name


def signing_of(rooms: Rooms) -> SigningConfigs:
    """The configurations of these rooms."""
    return SigningConfigs(rooms.attached, region=rooms.documents.region, account=rooms.documents.account)
