"""Which operation a request is for."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from engine.errors import InvalidArgument
from engine.rest.errors import MethodNotAllowed, UnknownOperation
from engine.rest.model import load_model
from engine.rest.routes import Route, Routes

ROUTES = Routes(load_model())
ARN = "arn:aws:lambda:us-east-1:000000000000:function:thumbs"


@pytest.mark.parametrize("route", ROUTES.all, ids=lambda route: route.name)
def test_every_operation_is_found_at_its_own_place(route: Route) -> None:
    path = re.sub(r"\{\w+\}", quote(f"{ARN}/é %/", safe=""), route.operation.path)
    match = ROUTES.match(route.operation.method, path, route.operation.query)
    assert match.route is route
    assert all(value == f"{ARN}/é %/" for value in match.labels.values())
    assert len(match.labels) == route.operation.path.count("{")


def test_there_are_91_operations() -> None:
    assert len(ROUTES.all) == 91


def test_a_label_may_hold_an_arn_whose_colons_are_not_encoded() -> None:
    match = ROUTES.match("POST", f"/2015-03-31/functions/{ARN}:live/invocations", ())
    assert (match.route.name, match.labels) == ("Invoke", {"FunctionName": f"{ARN}:live"})


def test_an_encoded_slash_stays_in_its_label() -> None:
    match = ROUTES.match("GET", "/2017-03-31/tags/a%2Ffunctions%2Fb", ())
    assert match.labels == {"Resource": "a/functions/b"}


def test_a_slash_at_the_end_changes_nothing() -> None:
    assert ROUTES.match("GET", "/2015-03-31/functions/", ()).route.name == "ListFunctions"
    assert ROUTES.match("POST", "/2014-11-13/functions/f/invoke-async/", ()).route.name == "InvokeAsync"


def test_the_query_tells_operations_of_one_path_apart() -> None:
    path = "/2019-09-30/functions/f/provisioned-concurrency"
    assert ROUTES.match("GET", path, (("Qualifier", "1"),)).route.name == "GetProvisionedConcurrencyConfig"
    listing = ROUTES.match("GET", path, (("MaxItems", "1"), ("List", "ALL")))
    assert listing.route.name == "ListProvisionedConcurrencyConfigs"
    assert ROUTES.match("GET", "/2018-10-31/layers", ()).route.name == "ListLayers"
    assert ROUTES.match("GET", "/2018-10-31/layers", (("find", "LayerVersion"),)).route.name == "GetLayerVersionByArn"


@pytest.mark.parametrize(
    "path",
    ["", "/nothing", "/2015-03-31", "/2015-03-31/functions/f/x", "/2015-03-31/functions//invocations", "//", "/../etc"],
)
def test_a_path_that_no_operation_has_is_an_unknown_operation(path: str) -> None:
    with pytest.raises(UnknownOperation) as caught:
        ROUTES.match("GET", path, ())
    assert (caught.value.http_status, caught.value.aws_type) == (403, "AccessDeniedException")
    assert caught.value.message == "Unable to determine service/operation name to be authorized"


def test_a_method_that_a_path_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        ROUTES.match("PATCH", "/2015-03-31/functions/f", ())
    assert caught.value.allowed == ("DELETE", "GET")
    assert caught.value.http_status == 403


def test_a_label_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        ROUTES.match("GET", "/2015-03-31/functions/%ff", ())
