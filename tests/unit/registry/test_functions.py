"""The registry: what it keeps, refuses and tells."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from engine.errors import AlreadyExists, HostUnfit, InvalidArgument, NotFound, NotServed, StaleEtag, StoreUnusable
from engine.fabric.sqlite import Sqlite
from engine.model.function import Egress, Function, FunctionState
from engine.model.names import FunctionRef
from engine.registry.api import CodeStore, ConfigChange, Registry
from engine.registry.code import LocalCodeStore
from engine.registry.functions import FunctionRegistry
from tests.unit.registry.zips import ordinary, pieces

NOTHING = ConfigChange()
RICH = ConfigChange(
    runtime="python3.12",
    handler="src/app.main",
    memory_mb=1769,
    timeout_ms=1_500,
    tmp_mb=1_024,
    environment={"B": "zwei ü", "A": ""},
    description="thumbnails",
    role="arn:aws:iam::000000000000:role/thumbs",
    egress=Egress.NONE,
    preload=("xml.sax", "json"),
    own_layout=True,
)


async def reopened(store: Sqlite, code: CodeStore) -> FunctionRegistry:
    return await FunctionRegistry.open(store, code, runtimes=["python3.11"])


def test_it_is_a_registry_and_a_code_store(registry: FunctionRegistry, code: LocalCodeStore) -> None:
    _registry: Registry = registry
    _code: CodeStore = code


async def test_a_created_function_has_defaults_for_what_was_left_out(registry: FunctionRegistry, sha256: str) -> None:
    function = await registry.create("thumbs", NOTHING, sha256)
    config = function.config
    assert (config.runtime, config.handler) == ("python3.11", "app.handler")
    assert (config.memory_mb, config.timeout_ms, config.tmp_mb) == (128, 3_000, 512)
    assert (config.egress, dict(config.environment)) == (Egress.NONE, {})
    assert (function.state, function.version) == (FunctionState.ACTIVE, "$LATEST")
    assert function.create_time == function.update_time
    assert function.create_time.tzinfo is UTC
    assert str(uuid.UUID(function.etag)) == function.etag


async def test_a_reopened_registry_has_every_function_as_it_was(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    made = [await registry.create("rich", RICH, sha256), await registry.create("plain", NOTHING, sha256)]
    made[1] = await registry.update("plain", ConfigChange(timeout_ms=900_000))
    again = await reopened(store, code)
    assert [again.get(FunctionRef(function.name)) for function in made] == made
    assert again.list(limit=10) == registry.list(limit=10)


async def test_a_wrong_create_names_every_wrong_field_and_stores_nothing(registry: FunctionRegistry) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await registry.create("no spaces", ConfigChange(runtime="cobol", memory_mb=1, environment={"1": ""}), "")
    fields = {"name", "config.runtime", "config.memory_mb", "config.environment['1']", "code_blob"}
    assert set(caught.value.fields) == fields
    assert registry.list(limit=10) == ([], "")


async def test_a_registry_without_a_default_runtime_asks_for_one(
    store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    with pytest.raises(InvalidArgument, match=r"config.runtime is required: python3.11"):
        await (await reopened(store, code)).create("f", NOTHING, sha256)


async def test_a_name_is_taken_once_and_two_creates_at_a_time_make_one(registry: FunctionRegistry, sha256: str) -> None:
    ended = await asyncio.gather(
        *(registry.create("thumbs", NOTHING, sha256) for _ in range(5)), return_exceptions=True
    )
    assert sorted(type(end).__name__ for end in ended) == ["AlreadyExists"] * 4 + ["Function"]
    with pytest.raises(AlreadyExists, match="thumbs") as caught:
        await registry.create("thumbs", NOTHING, sha256)
    assert "cleave delete thumbs" in caught.value.fix


async def test_code_that_is_not_in_the_store_is_not_found(registry: FunctionRegistry, sha256: str) -> None:
    with pytest.raises(NotFound, match="no code"):
        await registry.create("thumbs", NOTHING, "0" * 64)
    await registry.create("thumbs", NOTHING, sha256)
    with pytest.raises(NotFound, match="no code"):
        await registry.update("thumbs", NOTHING, code_sha256="../../etc")


async def test_validate_only_checks_everything_and_stores_nothing(registry: FunctionRegistry, sha256: str) -> None:
    assert (await registry.create("thumbs", RICH, sha256, validate_only=True)).name == "thumbs"
    assert registry.list(limit=10) == ([], "")
    await registry.create("thumbs", NOTHING, sha256)
    with pytest.raises(AlreadyExists):
        await registry.create("thumbs", RICH, sha256, validate_only=True)


async def test_egress_to_the_internet_is_refused_on_create_and_update(registry: FunctionRegistry, sha256: str) -> None:
    internet = ConfigChange(egress=Egress.INTERNET)
    with pytest.raises(NotServed):
        await registry.create("thumbs", internet, sha256)
    await registry.create("thumbs", NOTHING, sha256)
    with pytest.raises(NotServed):
        await registry.update("thumbs", internet)


async def test_egress_to_the_internet_is_what_the_host_says_of_it_and_stays_with_a_function_that_has_it(
    store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    unfit = [False]

    def refuse(egress: Egress) -> None:
        if unfit[0] and egress is Egress.INTERNET:
            raise HostUnfit("no forwarding", fix="turn it on")

    registry = await FunctionRegistry.open(
        store, code, runtimes=["python3.11"], default_runtime="python3.11", refuse_egress=refuse
    )
    internet = ConfigChange(egress=Egress.INTERNET)
    assert (await registry.create("thumbs", internet, sha256)).config.egress is Egress.INTERNET
    unfit[0] = True
    with pytest.raises(HostUnfit):
        await registry.create("others", internet, sha256)
    assert (await registry.update("thumbs", ConfigChange(memory_mb=256))).config.egress is Egress.INTERNET
    assert (await registry.update("thumbs", ConfigChange(egress=Egress.NONE))).config.egress is Egress.NONE
    with pytest.raises(HostUnfit):
        await registry.update("thumbs", internet)
    await registry.close()


async def test_an_update_changes_what_it_names_the_etag_and_the_time(
    store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    ticks = count()
    registry = await FunctionRegistry.open(
        store,
        code,
        runtimes=["python3.12"],
        now=lambda: datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=next(ticks)),
    )
    before = await registry.create("thumbs", RICH, sha256)
    other = await code.add(pieces(ordinary({"app.py": "other"})))
    after = await registry.update("thumbs", ConfigChange(memory_mb=256), code_sha256=other.sha256, etag=before.etag)
    assert (after.config.memory_mb, after.config.environment) == (256, before.config.environment)
    assert (after.code_sha256, after.code_size_bytes) == (other.sha256, other.size_bytes)
    assert after.etag != before.etag
    assert (after.create_time, after.update_time) == (
        before.create_time,
        before.create_time + timedelta(microseconds=1),
    )
    assert registry.get(FunctionRef("thumbs")) == after


async def test_a_stale_etag_is_refused_and_changes_nothing(registry: FunctionRegistry, sha256: str) -> None:
    first = await registry.create("thumbs", NOTHING, sha256)
    second = await registry.update("thumbs", ConfigChange(memory_mb=256), etag=first.etag)
    with pytest.raises(StaleEtag, match="changed by somebody else"):
        await registry.update("thumbs", ConfigChange(memory_mb=512), etag=first.etag)
    with pytest.raises(StaleEtag):
        await registry.delete("thumbs", etag=first.etag)
    assert registry.get(FunctionRef("thumbs")) == second


async def test_of_updates_with_one_etag_exactly_one_goes_through(registry: FunctionRegistry, sha256: str) -> None:
    etag = (await registry.create("thumbs", NOTHING, sha256)).etag
    ended = await asyncio.gather(
        *(registry.update("thumbs", ConfigChange(memory_mb=128 + n), etag=etag) for n in range(8)),
        return_exceptions=True,
    )
    assert sorted(type(end).__name__ for end in ended) == ["Function"] + ["StaleEtag"] * 7


async def test_an_update_is_checked_as_the_whole_that_it_makes(registry: FunctionRegistry, sha256: str) -> None:
    await registry.create("thumbs", RICH, sha256)
    with pytest.raises(InvalidArgument) as caught:
        await registry.update("thumbs", ConfigChange(runtime="cobol", tmp_mb=1))
    assert set(caught.value.fields) == {"config.runtime", "config.tmp_mb"}


async def test_a_function_whose_runtime_the_host_lost_can_still_be_changed(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    await registry.create("old", ConfigChange(runtime="python3.12"), sha256)
    again = await reopened(store, code)
    assert (await again.update("old", ConfigChange(runtime="python3.12", memory_mb=256))).config.memory_mb == 256


async def test_a_deleted_function_is_gone_for_good_and_its_name_free(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    etag = (await registry.create("thumbs", NOTHING, sha256)).etag
    await registry.delete("thumbs", etag=etag)
    for gone in (registry, await reopened(store, code)):
        with pytest.raises(NotFound, match="Function not found: thumbs"):
            gone.get(FunctionRef("thumbs"))
    for act in (registry.delete("thumbs"), registry.update("thumbs", NOTHING)):
        with pytest.raises(NotFound):
            await act
    await registry.create("thumbs", NOTHING, sha256)


async def test_a_version_or_an_alias_that_is_not_there_is_not_found(registry: FunctionRegistry, sha256: str) -> None:
    await registry.create("thumbs", NOTHING, sha256)
    for qualifier in ("1", "prod"):
        with pytest.raises(NotFound, match=f"thumbs:{qualifier}"):
            registry.get(FunctionRef("thumbs", qualifier))


async def test_functions_are_listed_by_name_a_page_at_a_time(registry: FunctionRegistry, sha256: str) -> None:
    for name in ("b", "a", "C", "d", "a-1"):
        await registry.create(name, NOTHING, sha256)
    await registry.delete("d")
    pages, after = [], ""
    while True:
        page, after = registry.list(limit=3, after=after)
        pages.append([function.name for function in page])
        if not after:
            break
    assert pages == [["C", "a", "a-1"], ["b"]]
    assert registry.list(limit=4)[1] == ""
    assert [function.name for function in registry.list(limit=9, after="a-0-deleted")[0]] == ["a-1", "b"]


async def test_listeners_hear_of_every_write_in_order_and_of_no_refusal(
    registry: FunctionRegistry, sha256: str
) -> None:
    heard: list[tuple[str, Function | None]] = []
    registry.subscribe(lambda name, function: heard.append((name, function)))
    created = await registry.create("thumbs", NOTHING, sha256)
    updated = await registry.update("thumbs", ConfigChange(memory_mb=256))
    with pytest.raises(AlreadyExists):
        await registry.create("thumbs", NOTHING, sha256)
    await registry.create("other", NOTHING, sha256, validate_only=True)
    await registry.delete("thumbs")
    assert heard == [("thumbs", created), ("thumbs", updated), ("thumbs", None)]


async def test_a_listener_that_fails_hinders_neither_the_write_nor_the_next_listener(
    registry: FunctionRegistry, sha256: str
) -> None:
    def fail(name: str, function: Function | None) -> None:
        raise ValueError(name)

    heard, reported = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    registry.subscribe(fail)
    registry.subscribe(lambda name, _: heard.append(name))
    await registry.create("thumbs", NOTHING, sha256)
    assert heard == ["thumbs"]
    assert [str(error) for error in reported] == ["thumbs"]


async def test_memory_follows_the_disk_also_when_the_caller_goes_away_in_the_middle(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    for name in ("a", "b", "c"):
        task = asyncio.create_task(registry.create(name, NOTHING, sha256))
        await asyncio.sleep(0)  # it has begun
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await registry.close()
    assert registry.list(limit=10) == (await reopened(store, code)).list(limit=10)
    assert len(registry.list(limit=10)[0]) == 3


async def test_a_row_that_no_release_wrote_is_refused_with_what_to_do(
    registry: FunctionRegistry, store: Sqlite, code: LocalCodeStore, sha256: str
) -> None:
    await registry.create("thumbs", NOTHING, sha256)
    await store.run(lambda c: c.execute("UPDATE functions SET egress = 'moon'").fetchall())
    with pytest.raises(StoreUnusable, match="moon") as caught:
        await reopened(store, code)
    assert caught.value.fix
