"""Which function a request names: FunctionName and Qualifier in every form that clients use, and what AWS says where
there is none.

Taking a name apart is engine.model.names'. Guarantees that a name of another account or region reaches nothing here.
"""

from __future__ import annotations

import re

from engine.errors import InvalidArgument, NotFound, PermissionDenied
from engine.model.function import LATEST, Function
from engine.model.names import FunctionRef, parse_aws_name
from engine.model.partitions import partition_of
from engine.registry.api import Registry
from engine.rest.configuration import Documents
from engine.rest.constraints import problem, refusal
from engine.rest.shapes import Params

NAME_LIMIT_CHARACTERS = 64
_PREFIXED = re.compile(
    r"(?:arn:[^:]+:lambda:)?(?:(?P<region>[a-z]{2}[a-z-]*-\d):)?(?:(?P<account>\d{12}):)?(?P<rest>.*)"
)
UNQUALIFIED_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please "
    "specify either a function name or an unqualified function ARN."
)


class Named:
    """Finds functions by what requests say."""

    def __init__(self, registry: Registry, documents: Documents) -> None:
        self._registry = registry
        self._documents = documents

    def ref(self, params: Params) -> FunctionRef:
        """The function that FunctionName and Qualifier mean, there or not. Raises InvalidArgument, NotFound for
        another region, PermissionDenied for another account."""
        text: str = params["FunctionName"]
        qualifier = params.get("Qualifier")
        found = _PREFIXED.fullmatch(text)
        # Twelve digits alone may be a function's name: an account has a colon behind it.
        if found is not None:
            region, account = self._documents.region, self._documents.account
            if found["region"] not in (None, region):
                raise NotFound(f"Functions from '{found['region']}' are not reachable in this region ('{region}')")
            if found["account"] not in (None, account):
                raise PermissionDenied(
                    f"User: arn:{partition_of(region)}:iam::{account}:root is not authorized to perform this operation "
                    f"on resource: {text} because no resource-based policy allows it"
                )
            if found["region"] and not text.startswith("arn:"):
                text = text.removeprefix(f"{found['region']}:")
        _check_length(text)
        try:
            return parse_aws_name(text, qualifier)
        except InvalidArgument as error:  # in AWS's words, to which nothing is added
            raise InvalidArgument(error.message, fields=error.fields) from None

    def unqualified(self, params: Params) -> str:
        """The name of a function that is to be changed. Raises InvalidArgument for a version or an alias of it."""
        ref = self.ref(params)
        if ref.qualifier != LATEST:
            raise InvalidArgument(UNQUALIFIED_ONLY, fields={"FunctionName": "must have no qualifier"})
        return ref.name

    def with_qualifier(self, params: Params) -> tuple[Function, str]:
        """A function, and the qualifier that the client gave. Raises NotFound."""
        ref, qualifier = self.ref(params), self.qualifier(params)
        try:
            return self._registry.get(ref), qualifier
        except NotFound:
            raise NotFound(f"Function not found: {self._documents.arn(ref.name, qualifier)}") from None

    def qualifier(self, params: Params) -> str:
        """The qualifier that the client gave, "" if none."""
        ref = self.ref(params)
        explicit = params.get("Qualifier") or params["FunctionName"].endswith(f":{ref.qualifier}")
        return ref.qualifier if explicit else ""

    def find(self, name: str) -> Function | None:
        """The function itself, None if it is not there."""
        try:
            return self._registry.get(FunctionRef(name))
        except NotFound:
            return None

    def function(self, ref: FunctionRef) -> Function:
        """Raises NotFound in AWS's words."""
        try:
            return self._registry.get(ref)
        except NotFound:
            raise self.missing(ref) from None

    def check(self, params: Params) -> FunctionRef:
        """What a request names. Raises NotFound if it is not there."""
        ref = self.ref(params)
        self.function(ref)
        return ref

    def invoked(self, params: Params) -> FunctionRef:
        """What an invocation names. Raises NotFound, which says $LATEST too, if it is not there."""
        ref = self.ref(params)
        try:
            self._registry.get(ref)
        except NotFound:
            raise NotFound(f"Function not found: {self._documents.arn(ref.name, ref.qualifier)}") from None
        return ref

    def missing(self, ref: FunctionRef) -> NotFound:
        """The error for a function, a version or an alias that is not there."""
        qualifier = "" if ref.qualifier == LATEST else ref.qualifier
        return NotFound(f"Function not found: {self._documents.arn(ref.name, qualifier)}")


def _check_length(text: str) -> None:
    """Raise InvalidArgument with AWS's sentence for a name that is too long."""
    name = text.split(":function:")[-1].removeprefix("function:").split(":")[0]
    if len(name) > NAME_LIMIT_CHARACTERS:
        said = f"Member must have length less than or equal to {NAME_LIMIT_CHARACTERS}"
        raise refusal([("functionName", problem(None, "functionName", name, said))])
