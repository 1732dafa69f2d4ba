"""Layers between the registry's names and AWS's ARNs, both ways.

Guarantees AWS's own words for a layer that a function may not have.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from engine.errors import InvalidArgument, NotFound, PermissionDenied
from engine.model.layer import LayerRef, layer_arn, parse_arn
from engine.rest.configuration import Documents
from engine.rest.shapes import Params

_RESOURCE = re.compile(r"layers/([a-zA-Z0-9_-]+)/versions/([0-9]+)")


def layers_of(params: Params, documents: Documents) -> tuple[LayerRef, ...] | None:
    """The layers that a create or an update names; None where it names none. Raises as ref_of."""
    given = params.get("Layers")
    return None if given is None else tuple(ref_of(arn, documents) for arn in given)


def ref_of(arn: str, documents: Documents) -> LayerRef:
    """The layer version with this ARN. Raises InvalidArgument for one that cannot be here, PermissionDenied for one of
    another account."""
    found = parse_arn(arn)
    if found is None or not found.version:
        raise InvalidArgument(f"Layer version {arn} does not exist.", fields={"Layers": "is no layer version's ARN"})
    check_place(arn, found.region, found.account, documents)
    return LayerRef(found.name, found.version)


def check_place(arn: str, region: str, account: str, documents: Documents) -> None:
    """Raise as ref_of for a layer of another region or account."""
    if region != documents.region:
        raise InvalidArgument(
            "Layers are not in the same region as the function. Layers are expected to be in region "
            f"{documents.region}.",
            fields={"Layers": f"{arn} is in {region}"},
        )
    if account != documents.account:
        raise PermissionDenied(
            f"The engine's account {documents.account} is not authorized to perform: lambda:GetLayerVersion on "
            f"resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion action",
            fix="publish the layer in this engine, and use the ARN that it has here",
        )


@contextlib.contextmanager
def in_arns(documents: Documents) -> Iterator[None]:
    """Refusals of the registry with ARNs in place of the names of engine.v1."""

    def arn(match: re.Match[str]) -> str:
        return layer_arn(documents.region, documents.account, match[1], int(match[2]))

    try:
        yield
    except NotFound as error:
        raise NotFound(_RESOURCE.sub(arn, error.message), fix=error.fix) from None
    except InvalidArgument as error:
        if list(error.fields) != ["config.layers"]:
            raise
        raise InvalidArgument(_RESOURCE.sub(arn, error.message), fields={"Layers": "cannot be used"}) from None
