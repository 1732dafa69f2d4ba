"""The operations on functions, as AWS's clients call them, over the registry and the code store.

Invoking is engine.rest.invocations'. Guarantees AWS's own texts where clients and tools look for them: a function that
is not there, a name that is taken, a stale RevisionId.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator
from typing import Any

from engine.errors import AlreadyExists, InvalidArgument, NotFound, StaleEtag
from engine.model.function import LATEST, CodeBlob, Function
from engine.model.names import FUNCTION_NAME, FunctionRef, parse_aws_name
from engine.registry.api import CodeStore, Registry
from engine.rest.configuration import Documents, change_of, check_levels, in_aws_words
from engine.rest.messages import Request
from engine.rest.shapes import Params

LIST_PAGE_MAX = 50
"""A page of ListFunctions: docs.aws.amazon.com/lambda/latest/api/API_ListFunctions.html."""
CODE_PIECE_BYTES = 2**20
_ACCOUNT = re.compile(r"\d{12}")


class Functions:
    """CreateFunction, GetFunction and their siblings."""

    def __init__(self, registry: Registry, code: CodeStore, documents: Documents) -> None:
        self._registry = registry
        self._code = code
        self._documents = documents

    async def create(self, params: Params, request: Request) -> dict[str, Any]:
        """CreateFunction."""
        name = self._unqualified(params)
        self._documents.check_honoured(params)
        if not params.get("Runtime") or not params.get("Handler"):
            raise InvalidArgument(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
                fields={"Runtime": "is required with Handler", "Handler": "is required with Runtime"},
            )
        zip_file = params["Code"].get("ZipFile")
        if zip_file is None:
            raise InvalidArgument("Please provide a source for function code.", fields={"Code.ZipFile": "is missing"})
        check_levels(params, None)
        if self._find(name) is not None:
            raise AlreadyExists(f"Function already exist: {name}")
        blob = await self._store(zip_file)
        try:
            function = await self._registry.create(name, change_of(params), blob.sha256)
        except AlreadyExists:
            raise AlreadyExists(f"Function already exist: {name}") from None
        except InvalidArgument as error:
            raise in_aws_words(error, params) from None
        return self._documents.configuration(function)

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunction."""
        function, qualifier = self._named(params)
        location = f"http://{request.header('host')}{code_path(function.code_sha256)}"
        return {
            "Configuration": self._documents.configuration(function, qualifier),
            "Code": {"RepositoryType": "S3", "Location": location},
            "Tags": {},
        }

    async def get_configuration(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionConfiguration."""
        return self._documents.configuration(*self._named(params))

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctions. The marker is the name of the last function of the page before."""
        after = params.get("Marker", "")
        if after and not FUNCTION_NAME.fullmatch(after):
            raise InvalidArgument("Invalid Marker.", fix="use NextMarker of the page before", fields={"Marker": "?"})
        region = params.get("MasterRegion", "ALL")
        if region not in ("ALL", self._documents.region):
            return {"Functions": []}
        limit = min(params.get("MaxItems", LIST_PAGE_MAX), LIST_PAGE_MAX)
        functions, marker = self._registry.list(limit=limit, after=after)
        qualifier = LATEST if params.get("FunctionVersion") == "ALL" else ""
        listed = {"Functions": [self._documents.configuration(function, qualifier) for function in functions]}
        return {**listed, "NextMarker": marker} if marker else listed

    async def update_code(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionCode. A DryRun checks the zip and answers with its hash."""
        name = self._unqualified(params)
        self._documents.check_honoured(params)
        function = self._function(FunctionRef(name))
        zip_file = params.get("ZipFile")
        if zip_file is None:
            raise InvalidArgument("Please provide a source for function code.", fields={"ZipFile": "is missing"})
        revision = params.get("RevisionId")
        if revision and revision != function.etag:
            raise _stale()
        blob = await self._store(zip_file)
        if params.get("DryRun"):
            tried = dataclasses.replace(function, code_sha256=blob.sha256, code_size_bytes=blob.size_bytes)
            return self._documents.configuration(tried)
        return await self._update(name, params, code_sha256=blob.sha256)

    async def update_configuration(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateFunctionConfiguration."""
        name = self._unqualified(params)
        self._documents.check_honoured(params)
        check_levels(params, self._find(name))
        return await self._update(name, params)

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunction."""
        ref = self._ref(params)
        if params.get("Qualifier") == LATEST:
            raise InvalidArgument(
                "$LATEST version cannot be deleted without deleting the function.",
                fix="leave the Qualifier out",
                fields={"Qualifier": "must not be $LATEST"},
            )
        self._function(ref)
        try:
            await self._registry.delete(ref.name)
        except NotFound:
            raise self._missing(ref) from None
        return {"StatusCode": 200}

    def check(self, params: Params) -> FunctionRef:
        """The function that an invocation names. Raises NotFound if it is not there."""
        ref = self._ref(params)
        self._function(ref)
        return ref

    async def _update(self, name: str, params: Params, *, code_sha256: str | None = None) -> dict[str, Any]:
        change = change_of(params)
        try:
            function = await self._registry.update(
                name, change, code_sha256=code_sha256, etag=params.get("RevisionId") or None
            )
        except NotFound:
            raise self._missing(FunctionRef(name)) from None
        except StaleEtag:
            raise _stale() from None
        except InvalidArgument as error:
            raise in_aws_words(error, params) from None
        return self._documents.configuration(function)

    async def _store(self, zip_file: bytes) -> CodeBlob:
        return await self._code.add(_pieces(zip_file), size_bytes=len(zip_file))

    def _ref(self, params: Params) -> FunctionRef:
        """Take apart FunctionName and Qualifier. Raises InvalidArgument, NotFound for another region or account."""
        name: str = params["FunctionName"]
        ref = parse_aws_name(name, params.get("Qualifier"))
        parts = name.split(":")
        if parts[0] == "arn":
            elsewhere = parts[3:5] != [self._documents.region, self._documents.account]
        else:
            # Twelve digits alone may be a function's name.
            account = parts[0] if len(parts) > 1 and _ACCOUNT.fullmatch(parts[0]) else self._documents.account
            elsewhere = account != self._documents.account
        if elsewhere:
            raise NotFound(f"Function not found: {name}")
        return ref

    def _unqualified(self, params: Params) -> str:
        """The name of a function that is to be changed. Raises InvalidArgument for a version or an alias of it."""
        ref = self._ref(params)
        if ref.qualifier != LATEST:
            raise InvalidArgument(
                f"{ref.qualifier} of {ref.name} cannot be changed: only the function itself can",
                fix="leave the qualifier out",
                fields={"FunctionName": "must have no qualifier"},
            )
        return ref.name

    def _named(self, params: Params) -> tuple[Function, str]:
        """A function, and the qualifier that the client gave."""
        ref = self._ref(params)
        explicit = params.get("Qualifier") or params["FunctionName"].endswith(f":{ref.qualifier}")
        return self._function(ref), ref.qualifier if explicit else ""

    def _find(self, name: str) -> Function | None:
        try:
            return self._registry.get(FunctionRef(name))
        except NotFound:
            return None

    def _function(self, ref: FunctionRef) -> Function:
        try:
            return self._registry.get(ref)
        except NotFound:
            raise self._missing(ref) from None

    def _missing(self, ref: FunctionRef) -> NotFound:
        qualifier = "" if ref.qualifier == LATEST else ref.qualifier
        return NotFound(f"Function not found: {self._documents.arn(ref.name, qualifier)}")


def code_path(sha256: str) -> str:
    """Where this front has a function's zip."""
    return f"/code/{sha256}.zip"


def _stale() -> StaleEtag:
    return StaleEtag(
        "The RevisionId provided does not match the latest RevisionId. Call the GetFunction/GetAlias API to retrieve "
        "the latest RevisionId."
    )


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CODE_PIECE_BYTES):
        yield data[start : start + CODE_PIECE_BYTES]
