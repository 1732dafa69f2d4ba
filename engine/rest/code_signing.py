"""Code signing configurations, stored, and which function has which.

No signature is checked: a configuration that enforces is refused for a function, so that nobody takes its code for
checked. One that functions have is not deleted.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import EngineError, InvalidArgument, NotFound
from engine.registry.attached import Attached, Document
from engine.rest import tags
from engine.rest.messages import Request
from engine.rest.paging import page
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

KIND = "code-signing-config"
OF_FUNCTION = "function-code-signing-config"
PAGE_MAX = 10_000
_MEMBERS = ("Description", "AllowedPublishers", "CodeSigningPolicies")


class SigningConfigMissing(NotFound):
    """A function is to have a configuration that is not there."""

    aws_type = "CodeSigningConfigNotFoundException"


class SigningConfigInUse(EngineError):
    """Functions still have the configuration."""

    grpc_code = "FAILED_PRECONDITION"
    http_status = 409
    aws_type = "ResourceConflictException"
    reason = "CODE_SIGNING_CONFIG_IN_USE"


class CodeSigning:
    """The operations on them."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
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
        config_id = f"csc-{secrets.token_hex(9)[:17]}"
        arn = f"arn:aws:lambda:{self._documents.region}:{self._documents.account}:code-signing-config:{config_id}"
        policies = {"UntrustedArtifactOnDeployment": "Warn", **params.get("CodeSigningPolicies", {})}
        config = {
            "CodeSigningConfigId": config_id,
            "CodeSigningConfigArn": arn,
            **{name: params[name] for name in _MEMBERS if params.get(name) is not None},
            "CodeSigningPolicies": policies,
            "LastModified": _now(),
        }
        found = tags.checked(params.get("Tags") or {})
        await self._attached.put(KIND, "", arn, config)
        await tags.set_tags(self._attached, found, "", f"{KIND}:{config_id}")
        return {"CodeSigningConfig": config}

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetCodeSigningConfig."""
        return {"CodeSigningConfig": dict(self._config(params["CodeSigningConfigArn"]))}

    async def update(self, params: Params, request: Request) -> dict[str, Any]:
        """UpdateCodeSigningConfig: only what is given changes."""
        arn = params["CodeSigningConfigArn"]
        self._config(arn)

        def change(before: Document | None) -> Document:
            if before is None:
                raise _missing(arn)
            given = {name: params[name] for name in _MEMBERS if params.get(name) is not None}
            if "CodeSigningPolicies" in given:
                given["CodeSigningPolicies"] = {**before["CodeSigningPolicies"], **given["CodeSigningPolicies"]}
            if _enforces(given) and _users(self._attached, arn):
                raise _not_enforced()
            return {**before, **given, "LastModified": _now()}

        return {"CodeSigningConfig": dict(await self._attached.change(KIND, "", arn, change) or {})}

    async def delete(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteCodeSigningConfig."""
        arn = params["CodeSigningConfigArn"]

        def change(before: Document | None) -> None:
            if before is None:
                raise _missing(arn)
            if _users(self._attached, arn):
                raise SigningConfigInUse(
                    f"Cannot delete {arn}: functions have it",
                    fix="take it from them with DeleteFunctionCodeSigningConfig",
                )

        await self._attached.change(KIND, "", arn, change)
        await self._attached.delete(tags.KIND, "", f"{KIND}:{arn.rpartition(':')[2]}")
        return {}

    async def list(self, params: Params, request: Request) -> dict[str, Any]:
        """ListCodeSigningConfigs."""
        found = self._attached.of(KIND, "")
        keys, marker = page(sorted(found), params, most=PAGE_MAX)
        return {"CodeSigningConfigs": [found[key] for key in keys], **marker}

    async def functions(self, params: Params, request: Request) -> dict[str, Any]:
        """ListFunctionsByCodeSigningConfig."""
        arn = params["CodeSigningConfigArn"]
        self._config(arn)
        names, marker = page(_users(self._attached, arn), params, most=PAGE_MAX)
        return {"FunctionArns": [self._documents.arn(name) for name in names], **marker}

    async def set(self, params: Params, request: Request) -> dict[str, Any]:
        """PutFunctionCodeSigningConfig."""
        arn = params["CodeSigningConfigArn"]
        config = self._attached.get(KIND, "", arn)
        if config is None:
            raise SigningConfigMissing(
                "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
                f"{arn}."
            )
        if _enforces(config):
            raise _not_enforced()
        name = self._function(params)
        await self._attached.put(OF_FUNCTION, name, "", {"CodeSigningConfigArn": arn})
        return {"CodeSigningConfigArn": arn, "FunctionName": name}

    async def unset(self, params: Params, request: Request) -> dict[str, Any]:
        """DeleteFunctionCodeSigningConfig. A function without one is no error."""
        await self._attached.delete(OF_FUNCTION, self._function(params))
        return {}

    async def of_function(self, params: Params, request: Request) -> dict[str, Any]:
        """GetFunctionCodeSigningConfig. For a function without one AWS answers with an empty document."""
        name = self._function(params)
        found = self._attached.get(OF_FUNCTION, name)
        return {} if found is None else {**found, "FunctionName": name}

    def _function(self, params: Params) -> str:
        return self._named.check(params).name

    def _config(self, arn: str) -> Document:
        found = self._attached.get(KIND, "", arn)
        if found is None:
            raise _missing(arn)
        return found


def _users(attached: Attached, arn: str) -> list[str]:
    """The functions that have a configuration, by name."""
    found = attached.all(OF_FUNCTION)
    return sorted(owner for owner, _, document in found if document["CodeSigningConfigArn"] == arn)


def _enforces(config: Document) -> bool:
    return bool(config.get("CodeSigningPolicies", {}).get("UntrustedArtifactOnDeployment") == "Enforce")


def _not_enforced() -> InvalidArgument:
    return InvalidArgument(
        "Signatures of code are not checked by this release, so a code signing configuration with Enforce cannot be a "
        "function's",
        fix="use UntrustedArtifactOnDeployment=Warn",
    )


def _missing(arn: str) -> NotFound:
    return NotFound(f"The Lambda code signing configuration {arn} can not be found.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")
