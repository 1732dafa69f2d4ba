"""Code signing configurations, stored, and which function has which.

No signature is checked: a configuration that enforces is refused for a function, so that nobody takes its code for
checked. Guarantees that one that functions have is not deleted.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import EngineError, InvalidArgument, NotFound
from engine.model.partitions import partition_of
from engine.registry.attached import Attached, Document
from engine.registry.tags import Tags, checked

KIND = "code-signing-config"
RESOURCE_NAME = re.compile(r"codeSigningConfigs/(.+)")
"""What engine.v1 calls a configuration."""
OF_FUNCTION = "function-code-signing-config"
MEMBERS = ("Description", "AllowedPublishers", "CodeSigningPolicies")
"""The settings, by AWS's names and with AWS's values."""
PUBLISHERS = 20
DESCRIPTION_LIMIT_CHARS = 256
_PROFILE = re.compile(r"arn:aws[a-zA-Z0-9-]*:signer:[a-z0-9-]*:(\d{12})?:.+")
_POLICIES = ("Warn", "Enforce")


class SigningConfigMissing(NotFound):
    """A function is to have a configuration that is not there."""

    aws_type = "CodeSigningConfigNotFoundException"


class SigningConfigInUse(EngineError):
    """Functions still have the configuration."""

    grpc_code = "FAILED_PRECONDITION"
    http_status = 409
    aws_type = "ResourceConflictException"
    reason = "CODE_SIGNING_CONFIG_IN_USE"


class SigningConfigs:
    """All of them, by ARN. Each is a document by AWS's names, with its CodeSigningConfigId, CodeSigningConfigArn and
    LastModified (ISO 8601)."""

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

    async def create(self, settings: Mapping[str, Any], *, tags: Mapping[str, str]) -> Document:
        """Make one. Raises InvalidArgument."""
        _check(settings, need_publishers=True)
        config_id = f"csc-{secrets.token_hex(9)[:17]}"
        arn = self.arn(config_id)
        config = {
            "CodeSigningConfigId": config_id,
            "CodeSigningConfigArn": arn,
            **{name: settings[name] for name in MEMBERS if settings.get(name) is not None},
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn", **settings.get("CodeSigningPolicies", {})},
            "LastModified": self._moment(),
        }
        found = checked(dict(tags))
        await self._attached.put(KIND, "", arn, config)
        await self._tags.add(found, "", self.tag_key(arn))
        return config

    def get(self, arn: str) -> Document:
        """Raises NotFound."""
        found = self._attached.get(KIND, "", arn)
        if found is None:
            raise _missing(arn)
        return found

    def arns(self) -> list[str]:
        """Those of all, sorted."""
        return sorted(self._attached.of(KIND, ""))

    async def update(self, arn: str, settings: Mapping[str, Any]) -> Document:
        """Change what is given. Raises NotFound, InvalidArgument."""
        _check(settings)

        def change(before: Document | None) -> Document:
            if before is None:
                raise _missing(arn)
            given = {name: settings[name] for name in MEMBERS if settings.get(name) is not None}
            if "CodeSigningPolicies" in given:
                given["CodeSigningPolicies"] = {**before["CodeSigningPolicies"], **given["CodeSigningPolicies"]}
            if _enforces(given) and self._users(arn):
                raise _not_enforced()
            return {**before, **given, "LastModified": self._moment()}

        return await self._attached.change(KIND, "", arn, change) or {}

    async def delete(self, arn: str) -> None:
        """Raises NotFound, SigningConfigInUse."""

        def change(before: Document | None) -> None:
            if before is None:
                raise _missing(arn)
            if self._users(arn):
                raise SigningConfigInUse(
                    f"Cannot delete {arn}: functions have it",
                    fix="take it from them with DeleteFunctionCodeSigningConfig",
                )

        await self._attached.change(KIND, "", arn, change)
        await self._tags.forget("", self.tag_key(arn))

    def functions(self, arn: str) -> list[str]:
        """The names of those that have it, sorted. Raises NotFound."""
        self.get(arn)
        return self._users(arn)

    def check_usable(self, arn: str) -> None:
        """Raise SigningConfigMissing, or InvalidArgument, unless a function can have this configuration."""
        config = self._attached.get(KIND, "", arn)
        if config is None:
            raise SigningConfigMissing(
                "The code signing configuration cannot be found. Check that the provided configuration is not "
                f"deleted: {arn}."
            )
        if _enforces(config):
            raise _not_enforced()

    async def set(self, function_name: str, arn: str) -> None:
        """Give a function a configuration. Raises SigningConfigMissing, InvalidArgument, NotFound where it is gone."""

        def change(before: Document | None) -> Document:
            self.check_usable(arn)
            return {"CodeSigningConfigArn": arn}

        await self._attached.change(OF_FUNCTION, function_name, "", change)

    async def unset(self, function_name: str) -> None:
        """Take it from a function. One without is no error."""
        await self._attached.delete(OF_FUNCTION, function_name)

    def of_function(self, function_name: str) -> str:
        """The ARN of what a function has, "" if it has none."""
        found = self._attached.get(OF_FUNCTION, function_name)
        return "" if found is None else str(found["CodeSigningConfigArn"])

    def arn(self, config_id: str) -> str:
        """The ARN of a configuration."""
        return self._prefix + config_id

    @staticmethod
    def tag_key(arn: str) -> str:
        """Its key among the tags of resources without an owner."""
        return f"{KIND}:{arn.rpartition(':')[2]}"

    def _users(self, arn: str) -> list[str]:
        found = self._attached.all(OF_FUNCTION)
        return sorted(owner for owner, _, document in found if document["CodeSigningConfigArn"] == arn)

    def _moment(self) -> str:
        return self._now().isoformat(timespec="milliseconds").replace("+00:00", "+0000")


def _check(settings: Mapping[str, Any], *, need_publishers: bool = False) -> None:
    """Raise InvalidArgument for what the service model does not allow."""
    publishers = settings.get("AllowedPublishers")
    if publishers is not None or need_publishers:
        profiles = (publishers or {}).get("SigningProfileVersionArns", [])
        if not 1 <= len(profiles) <= PUBLISHERS or not all(_PROFILE.fullmatch(one) for one in profiles):
            raise InvalidArgument(
                f"AllowedPublishers must have 1 to {PUBLISHERS} ARNs of versions of signing profiles.",
                fields={"AllowedPublishers": "must be ARNs of signing profiles"},
            )
    if len(settings.get("Description") or "") > DESCRIPTION_LIMIT_CHARS:
        raise InvalidArgument(
            f"Description must have at most {DESCRIPTION_LIMIT_CHARS} characters.",
            fields={"Description": "is too long"},
        )
    policy = (settings.get("CodeSigningPolicies") or {}).get("UntrustedArtifactOnDeployment", "Warn")
    if policy not in _POLICIES:
        raise InvalidArgument(
            f"UntrustedArtifactOnDeployment must be Warn or Enforce, and is {policy!a}.",
            fields={"CodeSigningPolicies": "must be Warn or Enforce"},
        )


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
