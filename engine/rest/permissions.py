"""AddPermission, RemovePermission, GetPolicy: who may invoke a function, stored as AWS's policy documents.

Nothing here decides about a call: that is authorization's. Each of a function, its versions and its aliases has a
policy of its own, with a revision that changes with it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from engine.errors import AlreadyExists, EngineError, InvalidArgument, NotFound, StaleEtag
from engine.model.function import LATEST
from engine.model.names import FunctionRef
from engine.registry.attached import Document
from engine.rest.messages import Request
from engine.rest.shapes import Params
from engine.rest.table import Operation, Rooms

KIND = "policy"
LIMIT_BYTES = 20_480
"""Of one policy: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
_ACCOUNT = re.compile(r"\d{12}")
_ROLE = re.compile(r"arn:aws[a-zA-Z-]*:(iam|sts)::\d{12}:.+")
_SERVICE = re.compile(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com)")
_CONDITIONS = (
    ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
    ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
    ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
    ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
    ("SourceArn", "ArnLike", "AWS:SourceArn"),
    ("InvokedViaFunctionUrl", "Bool", "lambda:InvokedViaFunctionUrl"),
)
"""The parameters that are conditions of a statement: their operators and keys."""


class PolicyTooLong(EngineError):
    """A policy over its limit."""

    grpc_code = "INVALID_ARGUMENT"
    http_status = 400
    aws_type = "PolicyLengthExceededException"
    reason = "POLICY_TOO_LONG"


class Permissions:
    """The operations on a function's policy."""

    def __init__(self, rooms: Rooms) -> None:
        self._attached = rooms.attached
        self._documents = rooms.documents
        self._named = rooms.named

    def operations(self) -> Mapping[str, Operation]:
        """See engine.rest.table.Handlers."""
        return {"AddPermission": self.add, "GetPolicy": self.get, "RemovePermission": self.remove}

    async def add(self, params: Params, request: Request) -> dict[str, Any]:
        """AddPermission."""
        ref, key = self._target(params)
        if key == LATEST:
            raise InvalidArgument("We currently do not support adding policies for $LATEST.")
        function = self._there(ref, key)
        sid = params["StatementId"]
        statement = _statement(params, self._documents.arn(ref.name, key))

        def change(before: Document | None) -> Document:
            self._check_revision(params, before, key, function.etag)
            statements = [] if before is None else before["Statement"]
            if any(one["Sid"] == sid for one in statements):
                raise AlreadyExists(
                    f"The statement id ({sid}) provided already exists. Please provide a new statement id, or remove "
                    "the existing statement."
                )
            return _policy([*statements, statement])

        await self._attached.change(KIND, ref.name, key, change)
        return {"Statement": orjson.dumps(statement).decode()}

    async def remove(self, params: Params, request: Request) -> dict[str, Any]:
        """RemovePermission."""
        ref, key = self._target(params)
        if self._named.find(ref.name) is None:
            raise NotFound(f"No policy found for: {self._documents.arn(ref.name, key)}")
        function = self._there(ref, key)
        sid = params["StatementId"]

        def change(before: Document | None) -> Document | None:
            if before is None:
                raise NotFound("No policy is associated with the given resource.")
            self._check_revision(params, before, key, function.etag)
            left = [one for one in before["Statement"] if one["Sid"] != sid]
            if len(left) == len(before["Statement"]):
                raise NotFound(f"Statement {sid} is not found in resource policy.")
            return _policy(left) if left else None

        await self._attached.change(KIND, ref.name, key, change)
        return {}

    async def get(self, params: Params, request: Request) -> dict[str, Any]:
        """GetPolicy."""
        ref, key = self._target(params)
        found = self._attached.get(KIND, ref.name, key)
        if found is None:
            raise NotFound("The resource you requested does not exist.")
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": found["Statement"]}
        return {"Policy": orjson.dumps(policy).decode(), "RevisionId": found["RevisionId"]}

    def _target(self, params: Params) -> tuple[FunctionRef, str]:
        return self._named.ref(params), self._named.qualifier(params)

    def _there(self, ref: FunctionRef, key: str) -> Any:
        """What the policy is for. Raises NotFound."""
        self._named.function(FunctionRef(ref.name))
        try:
            return self._named.function(ref)
        except NotFound:
            if key.isdigit() or "$" in key:
                raise
            raise NotFound(f"Cannot find alias arn: {self._documents.arn(ref.name, key)}") from None

    def _check_revision(self, params: Params, before: Document | None, key: str, etag: str) -> None:
        """Raise StaleEtag unless the revision given, if one is, is that of the policy or of what it is for."""
        given = params.get("RevisionId")
        if given and given != etag and (before is None or given != before["RevisionId"]):
            call = "GetPolicy" if key else "GetFunction/GetAlias"
            raise StaleEtag(
                f"The Revision Id provided does not match the latest Revision Id. Call the {call} API to retrieve the "
                "latest Revision Id"
            )


def _policy(statements: list[Any]) -> Document:
    size = len(orjson.dumps(statements))
    if size > LIMIT_BYTES:
        raise PolicyTooLong(f"The final policy size ({size}) is bigger than the limit ({LIMIT_BYTES}).")
    return {"Statement": statements, "RevisionId": str(uuid.uuid4())}


def _statement(params: Params, resource: str) -> dict[str, Any]:
    """A statement as AWS writes it."""
    statement: dict[str, Any] = {
        "Sid": params["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(params["Principal"]),
        "Action": params["Action"],
        "Resource": resource,
    }
    conditions: dict[str, dict[str, str]] = {}
    for member, operator, name in _CONDITIONS:
        value = params.get(member)
        if value is not None:
            conditions.setdefault(operator, {})[name] = str(value).lower() if operator == "Bool" else value
    return {**statement, "Condition": conditions} if conditions else statement


def _principal(text: str) -> str | dict[str, str]:
    if text == "*":
        return text
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:aws:iam::{text}:root"}
    if _ROLE.fullmatch(text):
        return {"AWS": text}
    if _SERVICE.fullmatch(text):
        return {"Service": text}
    raise InvalidArgument("The provided principal was invalid. Please check the principal and try again.")
