"""Versions through an unmodified boto3 client."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.compat.conftest import Create
from tests.compat.stub_rooms import CREATED, Rooms, make_zip
from tests.compat.test_functions import ARN, error_of, sha

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

STALE = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the "
    "latest Revision Id"
)


def without_metadata(answer: Any) -> Any:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def test_a_version_keeps_code_and_settings(client: LambdaClient, create: Create) -> None:
    create(Environment={"Variables": {"AB": "1"}})
    published = client.publish_version(FunctionName="thumbs", Description="the first")
    assert published["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (published["Version"], published["FunctionArn"], published["Description"]) == ("1", f"{ARN}:1", "the first")
    client.update_function_code(FunctionName="thumbs", ZipFile=make_zip("x = 1"))
    client.update_function_configuration(FunctionName="thumbs", Environment={"Variables": {"AB": "2"}})
    for name in ("thumbs:1", f"{ARN}:1", "000000000000:thumbs:1", "000000000000:function:thumbs:1"):
        assert without_metadata(client.get_function_configuration(FunctionName=name)) == without_metadata(published)
    got = client.get_function(FunctionName="thumbs", Qualifier="1")["Configuration"]
    assert (got["Environment"]["Variables"], got["CodeSha256"]) == ({"AB": "1"}, sha(make_zip()))
    assert client.get_function_configuration(FunctionName="thumbs")["Environment"]["Variables"] == {"AB": "2"}


def test_publishing_what_has_not_changed_returns_the_last_version(client: LambdaClient, create: Create) -> None:
    create()
    first = client.publish_version(FunctionName="thumbs")
    assert client.publish_version(FunctionName=ARN, Description="else")["RevisionId"] == first["RevisionId"]
    client.update_function_configuration(FunctionName="thumbs", MemorySize=256)
    assert client.publish_version(FunctionName="thumbs")["Version"] == "2"


def test_code_that_is_uploaded_again_is_a_change_that_can_be_published(
    client: LambdaClient, create: Create, rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(Publish=True)
    assert client.publish_version(FunctionName="thumbs")["Version"] == "1"
    later = iter(range(1, 100))
    monkeypatch.setattr(rooms.registry.shelf, "now", lambda: CREATED + timedelta(seconds=next(later)))
    client.update_function_code(FunctionName="thumbs", ZipFile=make_zip())
    for _ in range(2):
        assert client.publish_version(FunctionName="thumbs")["Version"] == "2"
    assert client.update_function_code(FunctionName="thumbs", ZipFile=make_zip(), Publish=True)["Version"] == "3"


def test_what_is_published_is_what_the_publisher_saw(client: LambdaClient, create: Create) -> None:
    before = create()
    latest = client.update_function_configuration(FunctionName="thumbs", MemorySize=256)
    error = error_of(client.publish_version, FunctionName="thumbs", RevisionId=before["RevisionId"])
    assert (error["Code"], error["status"], error["Message"]) == ("PreconditionFailedException", 412, STALE)
    error = error_of(client.publish_version, FunctionName="thumbs", CodeSha256="other")
    assert (error["Code"], error["status"]) == ("InvalidParameterValueException", 400)
    assert error["Message"] == (
        f"CodeSHA256 (other) is different from current CodeSHA256 in $LATEST ({latest['CodeSha256']}). Please try "
        "again with the CodeSHA256 in $LATEST."
    )
    error = error_of(client.publish_version, FunctionName="x")
    assert (error["Code"], error["Message"]) == ("ResourceNotFoundException", f"Function not found: {ARN[:-6]}x")
    error = error_of(client.publish_version, FunctionName="thumbs:1")
    assert error["Code"] == "InvalidParameterValueException"
    published = client.publish_version(
        FunctionName="thumbs", RevisionId=latest["RevisionId"], CodeSha256=latest["CodeSha256"]
    )
    assert published["Version"] == "1"


def test_versions_are_listed_with_latest_first_a_page_at_a_time(client: LambdaClient, create: Create) -> None:
    create()
    listed = client.list_versions_by_function(FunctionName="thumbs", MaxItems=1)
    assert [version["FunctionArn"] for version in listed["Versions"]] == [f"{ARN}:$LATEST"]
    assert "NextMarker" not in listed
    for memory_mb in range(200, 212):
        client.update_function_configuration(FunctionName="thumbs", MemorySize=memory_mb)
        client.publish_version(FunctionName="thumbs")
    wanted = ["$LATEST", *(str(number) for number in range(1, 13))]
    for size in (1, 5, 13):
        pages = client.get_paginator("list_versions_by_function").paginate(
            FunctionName=ARN, PaginationConfig={"PageSize": size}
        )
        found = [[version["Version"] for version in page["Versions"]] for page in pages]
        assert [version for page in found for version in page] == wanted
        assert {len(page) for page in found[:-1]} <= {size}
    assert error_of(client.list_versions_by_function, FunctionName="x")["Code"] == "ResourceNotFoundException"
    error = error_of(client.list_versions_by_function, FunctionName="thumbs", Marker="no")
    assert error["Code"] == "InvalidParameterValueException"


def test_all_versions_of_all_functions_are_listed_a_page_at_a_time(client: LambdaClient, create: Create) -> None:
    wanted = []
    for name, versions in (("a", 0), ("b", 3), ("c", 1)):
        create(name)
        wanted.append((name, "$LATEST"))
        for number in range(1, versions + 1):
            client.update_function_configuration(FunctionName=name, MemorySize=200 + number)
            client.publish_version(FunctionName=name)
            wanted.append((name, str(number)))
    for size in (1, 2, 3, 6, 7, 50):
        pages = client.get_paginator("list_functions").paginate(
            FunctionVersion="ALL", PaginationConfig={"PageSize": size}
        )
        found = [[(one["FunctionName"], one["Version"]) for one in page["Functions"]] for page in pages]
        assert [one for page in found for one in page] == wanted
        assert {len(page) for page in found[:-1]} <= {size}
    assert [one["FunctionName"] for one in client.list_functions()["Functions"]] == ["a", "b", "c"]


@pytest.mark.parametrize("publish", [True, False])
def test_a_create_and_an_update_of_code_publish_if_asked(client: LambdaClient, create: Create, publish: bool) -> None:
    made = create(Publish=publish)
    # The ARN of a CreateFunction's answer is the function's, whatever was published; that of an update the version's.
    assert (made["Version"], made["FunctionArn"]) == ("1" if publish else "$LATEST", ARN)
    changed = client.update_function_code(FunctionName="thumbs", ZipFile=make_zip("x = 2"), Publish=publish)
    assert (changed["Version"], changed["FunctionArn"]) == (("2", f"{ARN}:2") if publish else ("$LATEST", ARN))
    versions = client.list_versions_by_function(FunctionName="thumbs")["Versions"]
    assert len(versions) == (3 if publish else 1)


def test_a_version_is_deleted_alone_unless_an_alias_points_at_it(client: LambdaClient, create: Create) -> None:
    create(Publish=True)
    client.update_function_code(FunctionName="thumbs", ZipFile=make_zip("x = 2"), Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    error = error_of(client.delete_function, FunctionName="thumbs", Qualifier="1")
    assert (error["Code"], error["status"], error["Message"]) == (
        "ResourceConflictException",
        409,
        "Unable to delete version because the following aliases reference it: [live]",
    )
    for qualifier in ("live", "$LATEST"):
        error = error_of(client.delete_function, FunctionName="thumbs", Qualifier=qualifier)
        assert error["Code"] == "InvalidParameterValueException"
    for name in ("thumbs:2", "thumbs:99"):  # AWS has no word for a version that is not there
        assert client.delete_function(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert error_of(client.delete_function, FunctionName="x", Qualifier="1")["Code"] == "ResourceNotFoundException"
    versions = client.list_versions_by_function(FunctionName="thumbs")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]
    client.delete_function(FunctionName="thumbs")
    assert error_of(client.get_function, FunctionName="thumbs:1")["Code"] == "ResourceNotFoundException"


def test_a_version_or_an_alias_is_invoked_by_every_form_of_its_name(
    client: LambdaClient, create: Create, rooms: Rooms
) -> None:
    create(Publish=True)
    client.create_alias(FunctionName="thumbs", Name="live", FunctionVersion="1")
    for name, qualifier in (
        ("thumbs", "1"),
        ("thumbs:1", None),
        (f"{ARN}:1", "1"),
        ("thumbs", "live"),
        ("000000000000:function:thumbs:live", None),
        (f"{ARN}:live", None),
    ):
        if qualifier is None:
            client.invoke(FunctionName=name)
        else:
            client.invoke(FunctionName=name, Qualifier=qualifier)
        assert rooms.invoker.requests[-1].ref.qualifier == (qualifier or name.rpartition(":")[2])
    error = error_of(client.invoke, FunctionName="thumbs", Qualifier="2")
    assert (error["Code"], error["Message"]) == ("ResourceNotFoundException", f"Function not found: {ARN}:2")
    error = error_of(client.invoke, FunctionName="thumbs:1", Qualifier="2")
    assert error["Code"] == "InvalidParameterValueException"
