"""For whom an invocation runs: its tenant and its Cognito identity, checked, and what follows from a tenant.

Leaves to others: whether the caller may speak for them (the pipeline's authorize hook; whoever may invoke may, where it
asks for no more). Guarantees: a tenant's events run in sandboxes that serve this tenant and no other, and no event
without a tenant; what the engine says of them in a log in JSON names the tenant.

Source of the patterns: the service models of AWS Lambda (TenantId) and Amazon Cognito (IdentityId, IdentityPoolId).
"""

from __future__ import annotations

import re
from dataclasses import replace

from engine.errors import InvalidArgument
from engine.invoke.specs import Prepared
from engine.model.invocation import CognitoIdentity, InvokeRequest

_TENANT_ID = re.compile(r"[a-zA-Z0-9._:/=+\-@ ]{1,256}")
_IDENTITY = re.compile(r"[A-Za-z0-9_-]+:[0-9a-f-]+")
_IDENTITY_LIMIT = 55


def check_caller(request: InvokeRequest) -> None:
    """Raises InvalidArgument for a malformed tenant or identity; one that is there but empty is malformed."""
    if request.tenant_id is not None and not _TENANT_ID.fullmatch(request.tenant_id):
        raise InvalidArgument(
            f"{request.tenant_id[:300]!r} is not a tenant id",
            fix="give 1 to 256 letters, digits, blanks and . _ : / = + - @, or no tenant id at all",
            fields={"tenant_id": "must be 1 to 256 of a-z A-Z 0-9 . _ : / = + - @ and blank"},
        )
    if request.identity is not None:
        _check_identity(request.identity)


def of_tenant(prepared: Prepared, tenant_id: str) -> Prepared:
    """The same function with sandboxes of this tenant's own."""
    spec = replace(prepared.spec, key=(*prepared.spec.key, tenant_id))
    return replace(prepared, spec=spec, platform=prepared.platform.of_tenant(tenant_id))


def _check_identity(identity: CognitoIdentity) -> None:
    given = {"cognito_identity_id": identity.id, "cognito_identity_pool_id": identity.pool_id}
    wrong = [name for name, value in given.items() if len(value) > _IDENTITY_LIMIT or not _IDENTITY.fullmatch(value)]
    if wrong:
        raise InvalidArgument(
            f"not Cognito's: {', '.join(wrong)}",
            fix="give both ids as Cognito has them, such as us-east-1:<uuid>, or no identity",
            fields={f"identity.{name}": "must be region:uuid" for name in wrong},
        )
