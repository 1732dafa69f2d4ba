"""Resource policies: who may invoke a function, one of its versions or one of its aliases, stored as AWS's documents.

Nothing here decides about a call: that is authorization's. Finding what a policy is for is the caller's work.
Guarantees that no two statements of a policy have one id, that a policy is never over LIMIT_BYTES, and that its
revision changes with it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from engine.errors import AlreadyExists, EngineError, InvalidArgument, NotFound, StaleEtag
from engine.registry.attached import Attached, Document

KIND = "policy"
LIMIT_BYTES = 20_480
"""Of one policy: docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html."""
CONDITIONS = (
    ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
    ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
    ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
    ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
    ("SourceArn", "ArnLike", "AWS:SourceArn"),
    ("InvokedViaFunctionUrl", "Bool", "lambda:InvokedViaFunctionUrl"),
)
"""The parameters that are conditions of a statement, by AWS's names: their operators and keys."""
GET_LAYER = "lambda:GetLayerVersion"
"""The only action of a layer's policy."""

_SID = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_ACTION = re.compile(r"lambda:[*]|lambda:[a-zA-Z]+|[*]")
_READER = re.compile(r"\d{12}|\*|arn:aws[a-zA-Z-]*:iam::\d{12}:root")
"""Who may have a layer: of botocore's service model, as the two above."""
_ACCOUNT = re.compile(r"\d{12}")
_ROLE = re.compile(r"arn:aws[a-zA-Z-]*:(iam|sts)::\d{12}:.+")
_SERVICE = re.compile(r"[a-z0-9.-]+\.(amazonaws\.com(\.cn)?|amazon\.com)")


class PolicyTooLong(EngineError):
    """A policy over its limit."""

    grpc_code = "INVALID_ARGUMENT"
    http_status = 400
    aws_type = "PolicyLengthExceededException"
    reason = "POLICY_TOO_LONG"


class Policies:
    """Every policy, by the function's name and the qualifier: "" for the function as a whole."""

    def __init__(self, attached: Attached) -> None:
        self._attached = attached

    def get(self, name: str, qualifier: str) -> Document:
        """Its `Statement` and its `RevisionId`. Raises NotFound."""
        found = self._attached.get(KIND, name, qualifier)
        if found is None:
            raise none()
        return found

    async def add(
        self,
        name: str,
        qualifier: str,
        statement: Mapping[str, Any],
        *,
        revision: str = "",
        others: Collection[str] = (),
    ) -> Document:
        """Add a statement. `revision`, if given, has to be the policy's or one of `others`. Raises AlreadyExists,
        StaleEtag, PolicyTooLong, NotFound where the function is gone."""

        def change(before: Document | None) -> Document:
            _check_revision(revision, before, others, qualifier)
            return with_statement(before, statement)

        return await self._attached.change(KIND, name, qualifier, change) or {}

    async def remove(
        self, name: str, qualifier: str, sid: str, *, revision: str = "", others: Collection[str] = ()
    ) -> None:
        """Take a statement away, and with the last one the policy. Raises NotFound, StaleEtag."""

        def change(before: Document | None) -> Document | None:
            if before is None:
                raise NotFound("No policy is associated with the given resource.")
            _check_revision(revision, before, others, qualifier)
            return without_statement(before, sid)

        await self._attached.change(KIND, name, qualifier, change)

    async def replace(self, name: str, qualifier: str, text: str, *, revision: str = "") -> Document:
        """Put a whole policy, a JSON document, in place of what there is. Raises InvalidArgument, PolicyTooLong,
        StaleEtag, NotFound where the function is gone."""
        statements = _statements(text)

        def change(before: Document | None) -> Document:
            _check_whole(revision, before)
            return _policy(statements)

        return await self._attached.change(KIND, name, qualifier, change) or {}

    async def delete(self, name: str, qualifier: str, *, revision: str = "") -> None:
        """Remove a policy with all of its statements. Raises NotFound, StaleEtag."""

        def change(before: Document | None) -> None:
            if before is None:
                raise none()
            _check_whole(revision, before)

        await self._attached.change(KIND, name, qualifier, change)


def with_statement(policy: Document | None, statement: Mapping[str, Any]) -> Document:
    """A policy with one statement more. Raises AlreadyExists, PolicyTooLong."""
    sid = statement["Sid"]
    statements = [] if policy is None else policy["Statement"]
    if any(one["Sid"] == sid for one in statements):
        raise AlreadyExists(
            f"The statement id ({sid}) provided already exists. Please provide a new statement id, or remove "
            "the existing statement."
        )
    return _policy([*statements, dict(statement)])


def without_statement(policy: Document, sid: str) -> Document | None:
    """What is left of a policy without a statement; None: nothing. Raises NotFound."""
    left = [one for one in policy["Statement"] if one["Sid"] != sid]
    if len(left) == len(policy["Statement"]):
        raise NotFound(f"Statement {sid} is not found in resource policy.")
    return _policy(left) if left else None


def document(policy: Document) -> str:
    """A policy as AWS writes it."""
    whole = {"Version": "2012-10-17", "Id": "default", "Statement": policy["Statement"]}
    return orjson.dumps(whole).decode()


def statement_of(sid: str, action: str, principal: str, resource: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A statement as AWS writes it; `given` has the parameters of CONDITIONS. Raises InvalidArgument for a principal
    that is none."""
    conditions: dict[str, dict[str, str]] = {}
    for member, operator, name in CONDITIONS:
        value = given.get(member)
        if value is not None:
            conditions.setdefault(operator, {})[name] = str(value).lower() if operator == "Bool" else value
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": _principal(principal, resource.split(":")[1]),
        "Action": action,
        "Resource": resource,
    }
    return {**statement, "Condition": conditions} if conditions else statement


def function_statement(
    sid: str, action: str, principal: str, resource: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """One of a function's policy. Raises InvalidArgument for an id, an action or a principal that is none."""
    _check_sid(sid)
    if not _ACTION.fullmatch(action):
        raise wrong("action", "must be one such as lambda:InvokeFunction")
    return statement_of(sid, action, principal, resource, given)


def layer_statement(sid: str, action: str, principal: str, resource: str, organization: str) -> dict[str, Any]:
    """One of a layer's policy; `action` "": the only one that there is. Raises InvalidArgument."""
    _check_sid(sid)
    if action not in ("", GET_LAYER):
        raise wrong("action", f"must be {GET_LAYER}")
    if not _READER.fullmatch(principal):
        raise wrong("principal", "must be *, an account, or an ARN such as arn:aws:iam::000000000000:root")
    return statement_of(sid, GET_LAYER, principal, resource, {"PrincipalOrgID": organization or None})


def wrong(field: str, what: str) -> InvalidArgument:
    """The error for a field of a call."""
    return InvalidArgument(f"{field} {what}", fix=f"correct {field} and try again", fields={field: what})


def none() -> NotFound:
    """The error for a policy that is not there."""
    return NotFound("The resource you requested does not exist.")


def _check_sid(sid: str) -> None:
    if not _SID.fullmatch(sid):
        raise wrong("statement_id", "must be 1 to 100 letters, digits, - and _")


def _policy(statements: Sequence[Any]) -> Document:
    size = len(orjson.dumps(statements))
    if size > LIMIT_BYTES:
        raise PolicyTooLong(f"The final policy size ({size}) is bigger than the limit ({LIMIT_BYTES}).")
    return {"Statement": list(statements), "RevisionId": str(uuid.uuid4())}


def _check_revision(given: str, before: Document | None, others: Collection[str], qualifier: str) -> None:
    """Raise StaleEtag unless the revision given, if one is, is that of the policy or of what it is for."""
    if given and given not in others and (before is None or given != before["RevisionId"]):
        call = "GetPolicy" if qualifier else "GetFunction/GetAlias"
        raise StaleEtag(
            f"The Revision Id provided does not match the latest Revision Id. Call the {call} API to retrieve the "
            "latest Revision Id"
        )


def _check_whole(given: str, before: Document | None) -> None:
    if given and (before is None or given != before["RevisionId"]):
        raise StaleEtag(
            "The Revision Id provided does not match the latest Revision Id. Call the GetResourcePolicy API to "
            "retrieve the latest Revision Id"
        )


def _statements(text: str) -> list[Any]:
    """The statements of a policy. Raises InvalidArgument for what is none."""
    try:
        policy = orjson.loads(text)
    except orjson.JSONDecodeError:
        policy = None
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise _no_policy("it must be a JSON document with a Statement")
    sids: set[str] = set()
    for number, one in enumerate(statements):
        if not isinstance(one, dict) or one.get("Effect") not in ("Allow", "Deny"):
            raise _no_policy("each Statement must have an Effect, Allow or Deny")
        missing = [name for name in ("Principal", "Action") if not one.get(name)]
        if missing:
            raise _no_policy(f"each Statement must have {' and '.join(missing)}")
        sid = one.setdefault("Sid", f"statement{number}")
        if not isinstance(sid, str) or sid in sids:
            raise _no_policy("the Sid of each Statement must be text that no other has")
        sids.add(sid)
    return statements


def _no_policy(why: str) -> InvalidArgument:
    return InvalidArgument(f"The policy is not valid: {why}.", fields={"policy": why})


def _principal(text: str, partition: str) -> str | dict[str, str]:
    if text == "*":
        return text
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:{partition}:iam::{text}:root"}
    if _ROLE.fullmatch(text):
        return {"AWS": text}
    if _SERVICE.fullmatch(text):
        return {"Service": text}
    raise InvalidArgument(
        "The provided principal was invalid. Please check the principal and try again.",
        fields={"principal": "must be *, an account, an ARN of IAM or a service such as s3.amazonaws.com"},
    )
