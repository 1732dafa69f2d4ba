"""The control plane over gRPC, by a real client."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from engine.model.function import Egress, LogFormat, LogLevel
from engine.registry.api import ConfigChange
from engine.v1 import functions_pb2 as pb
from engine.v1.resources_pb2 import EGRESS_INTERNET, Function, FunctionConfig
from tests.unit.rpc.things import ETAG, SHA256, code, fields, front, info, refusal

BLOB = f"blobs/{SHA256}"


async def test_a_function_is_created_from_its_config_and_code() -> None:
    async with front() as it:
        config = FunctionConfig(memory_mb=256, environment={"A": "b"}, egress=EGRESS_INTERNET)
        made = await it.functions.CreateFunction(
            pb.CreateFunctionRequest(function_id="thumbs", function=Function(config=config, code_blob=BLOB))
        )
        change = ConfigChange(memory_mb=256, environment={"A": "b"}, egress=Egress.INTERNET)
        assert it.registry.created == [("thumbs", change, SHA256, False)]
        assert (made.function.name, made.function.etag) == ("functions/thumbs", ETAG)
        assert made.function.arn.endswith(":function:thumbs")


async def test_validate_only_checks_and_stores_nothing() -> None:
    async with front() as it:
        request = pb.CreateFunctionRequest(function_id="a", function=Function(code_blob=BLOB), validate_only=True)
        assert (await it.functions.CreateFunction(request)).function.name == "functions/a"
        assert it.registry.created[0][3]
        assert not it.registry.functions


async def test_a_name_that_is_taken_is_already_exists() -> None:
    async with front("thumbs") as it:
        request = pb.CreateFunctionRequest(function_id="thumbs", function=Function(code_blob=BLOB))
        status = await refusal(it.functions.CreateFunction(request))
        assert (code(status), info(status).reason) == ("ALREADY_EXISTS", "ALREADY_EXISTS")
        assert status.message == "Function already exist: thumbs; delete it first"


async def test_every_field_out_of_range_is_named() -> None:
    async with front() as it:
        function = Function(config=FunctionConfig(memory_mb=1), code_blob=BLOB)
        status = await refusal(
            it.functions.CreateFunction(pb.CreateFunctionRequest(function_id="a", function=function))
        )
        assert code(status) == "INVALID_ARGUMENT"
        assert fields(status) == {
            "config.memory_mb": "must be 128 to 10,240 MB",
            "config.timeout_ms": "must be so too",
        }


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateFunctionRequest(function_id="a b", function=Function(code_blob=BLOB)), "function_id"),
        (pb.CreateFunctionRequest(function_id="x" * 1_000_000, function=Function(code_blob=BLOB)), "function_id"),
        (pb.CreateFunctionRequest(function_id="a", function=Function(code_blob="x")), "code_blob"),
    ],
)
async def test_a_create_with_a_wrong_name_is_refused(request_: pb.CreateFunctionRequest, field: str) -> None:
    async with front() as it:
        status = await refusal(it.functions.CreateFunction(request_))
        assert code(status) == "INVALID_ARGUMENT"
        assert list(fields(status)) == [field]
        assert not it.registry.created


async def test_a_function_is_read_by_its_resource_name() -> None:
    async with front("thumbs") as it:
        read = await it.functions.GetFunction(pb.GetFunctionRequest(name="functions/thumbs"))
        assert read.function.config.handler == "app.handler"
        missing = await refusal(it.functions.GetFunction(pb.GetFunctionRequest(name="functions/other")))
        assert (code(missing), info(missing).reason) == ("NOT_FOUND", "NOT_FOUND")
        wrong = await refusal(it.functions.GetFunction(pb.GetFunctionRequest(name="thumbs")))
        assert (code(wrong), list(fields(wrong))) == ("INVALID_ARGUMENT", ["name"])


async def test_a_list_is_read_page_by_page_and_each_function_once() -> None:
    names = [f"f{number}" for number in range(7)]
    async with front(*names) as it:
        seen, token, pages = [], "", 0
        while True:
            page = await it.functions.ListFunctions(pb.ListFunctionsRequest(page_size=3, page_token=token))
            seen += [function.name for function in page.functions]
            token, pages = page.next_page_token, pages + 1
            if not token:
                break
        assert seen == [f"functions/{name}" for name in names]
        assert pages == 3


async def test_a_page_that_cannot_be_is_refused() -> None:
    async with front("a") as it:
        made_up = await refusal(it.functions.ListFunctions(pb.ListFunctionsRequest(page_token="a")))
        negative = await refusal(it.functions.ListFunctions(pb.ListFunctionsRequest(page_size=-1)))
        assert list(fields(made_up)) == ["page_token"]
        assert list(fields(negative)) == ["page_size"]


async def test_an_update_changes_what_the_mask_names() -> None:
    async with front("thumbs") as it:
        function = Function(
            name="functions/thumbs", etag=ETAG, config=FunctionConfig(memory_mb=256, timeout_ms=9_000), code_blob=BLOB
        )
        request = pb.UpdateFunctionRequest(function=function, update_mask=FieldMask(paths=["config.memory_mb"]))
        assert (await it.functions.UpdateFunction(request)).function.etag == "changed"
        await it.functions.UpdateFunction(pb.UpdateFunctionRequest(function=function))
        function.ClearField("etag")
        request = pb.UpdateFunctionRequest(function=function, update_mask=FieldMask(paths=["code_blob"]))
        await it.functions.UpdateFunction(request)
        assert it.registry.updated == [
            ("thumbs", ConfigChange(memory_mb=256), None, ETAG),
            ("thumbs", ConfigChange(memory_mb=256, timeout_ms=9_000), SHA256, ETAG),
            ("thumbs", ConfigChange(), SHA256, None),
        ]


async def test_a_star_sets_what_is_not_given_back_to_its_default() -> None:
    async with front("thumbs") as it:
        config = FunctionConfig(runtime="python3.11", handler="a.b")
        function = Function(name="functions/thumbs", config=config, code_blob=BLOB)
        await it.functions.UpdateFunction(
            pb.UpdateFunctionRequest(function=function, update_mask=FieldMask(paths=["*"]))
        )
        log = (LogFormat.TEXT, LogLevel.INFO, LogLevel.INFO)
        change = ConfigChange(
            "python3.11",
            "a.b",
            128,
            3_000,
            512,
            {},
            "",
            "",
            Egress.NONE,
            *log,
            (),
            False,
            (),
            None,
            "",
            "",
            "",
            False,
            False,
        )
        assert it.registry.updated == [("thumbs", change, SHA256, None)]


@pytest.mark.parametrize(
    ("function", "paths", "field"),
    [
        (Function(name="functions/thumbs"), ["config.memory"], "update_mask"),
        (Function(name="functions/thumbs"), ["code_blob"], "code_blob"),
        (Function(name="functions/thumbs"), ["*"], "code_blob"),
        (Function(name="functions/thumbs/versions/1"), ["config.role"], "name"),
        (Function(), ["config.role"], "name"),
    ],
)
async def test_an_update_that_cannot_be_is_refused_by_its_field(
    function: Function, paths: list[str], field: str
) -> None:
    async with front("thumbs") as it:
        request = pb.UpdateFunctionRequest(function=function, update_mask=FieldMask(paths=paths))
        status = await refusal(it.functions.UpdateFunction(request))
        assert (code(status), list(fields(status))) == ("INVALID_ARGUMENT", [field])
        assert not it.registry.updated


async def test_a_stale_etag_is_aborted() -> None:
    async with front("thumbs") as it:
        stale = Function(name="functions/thumbs", etag="old", config=FunctionConfig(memory_mb=256))
        update = await refusal(it.functions.UpdateFunction(pb.UpdateFunctionRequest(function=stale)))
        delete = await refusal(
            it.functions.DeleteFunction(pb.DeleteFunctionRequest(name="functions/thumbs", etag="old"))
        )
        assert [code(update), code(delete)] == ["ABORTED", "ABORTED"]
        assert [info(update).reason, info(delete).reason] == ["STALE_ETAG", "STALE_ETAG"]


async def test_a_function_is_deleted_whole() -> None:
    async with front("thumbs") as it:
        part = await refusal(
            it.functions.DeleteFunction(pb.DeleteFunctionRequest(name="functions/thumbs/aliases/live"))
        )
        assert list(fields(part)) == ["name"]
        await it.functions.DeleteFunction(pb.DeleteFunctionRequest(name="functions/thumbs", etag=ETAG))
        assert not it.registry.functions


async def test_what_is_no_layer_says_so() -> None:
    async with front() as it:
        function = Function(config=FunctionConfig(layers=["l"]), code_blob=BLOB)
        status = await refusal(
            it.functions.CreateFunction(pb.CreateFunctionRequest(function_id="a", function=function))
        )
        assert code(status) == "INVALID_ARGUMENT"
        assert list(fields(status)) == ["config.layers"]
