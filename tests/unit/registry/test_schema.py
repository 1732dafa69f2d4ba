"""Every schema that was released opens, with all that is in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from engine.fabric.sqlite import Sqlite
from engine.model.alias import Alias
from engine.model.concurrency import ProvisionedConfig
from engine.model.function import Egress, Function, FunctionConfig, FunctionState
from engine.model.layer import LayerRef, LayerVersion
from engine.registry import layer_rows, more_rows, rows
from engine.registry.schema import MIGRATIONS

WITH_VERSIONS = 4
WITH_LAYERS = 6
SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = range(1, len(MIGRATIONS) + 1)


def kept(number: int, name: str, config: FunctionConfig, state: FunctionState, reason: str) -> Function:
    moment = datetime(2026, 11, 23, 4, 5, 6, 789_000 + number, tzinfo=UTC)
    return Function(
        name=name,
        config=config,
        code_sha256=str(number) * 64,
        code_size_bytes=1_000 + number,
        etag=f"00000000-0000-4000-8000-00000000000{number}",
        create_time=moment,
        update_time=moment,
        state=state,
        state_reason=reason,
    )


# What each schemas/v*.sql holds; a later schema's new fields have the values that its migration gives them.
FUNCTIONS = [
    kept(
        3,
        "Waiting_1",
        FunctionConfig(runtime="python3.11", handler="nodot", egress=Egress.INTERNET),
        FunctionState.FAILED,
        "its runtime is gone",
    ),
    kept(1, "plain", FunctionConfig(runtime="python3.11", handler="app.handler"), FunctionState.ACTIVE, ""),
    kept(
        2,
        "thumbs",
        FunctionConfig(
            runtime="python3.12",
            handler="src/app.main",
            memory_mb=1_769,
            timeout_ms=900_000,
            tmp_mb=1_024,
            environment={"B": "zwei 'ü'", "A": ""},
            description='it\'s "quoted"\nand broken',
            role="arn:aws:iam::000000000000:role/thumbs",
        ),
        FunctionState.ACTIVE,
        "",
    ),
]


def released(path: Path, version: int) -> Path:
    connection = apsw.Connection(str(path))
    connection.execute((SCHEMAS / f"v{version}.sql").read_text())
    connection.close()
    return path


def tables(connection: apsw.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_each_schema_has_a_database_as_its_release_wrote_it() -> None:
    assert sorted(file.name for file in SCHEMAS.iterdir()) == sorted(f"v{version}.sql" for version in VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_released_schema_opens_with_every_function(tmp_path: Path, version: int) -> None:
    store = await Sqlite.open(released(tmp_path / "registry.db", version), MIGRATIONS)
    assert await store.run(lambda c: list(rows.read_all(c))) == FUNCTIONS
    assert await store.run(lambda c: c.pragma("user_version")) == len(MIGRATIONS)
    await store.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_released_schema_opens_with_what_belongs_to_functions(tmp_path: Path, version: int) -> None:
    moments = [datetime(2026, 11, 23, 4, 5, 6, 789_000 + number, tzinfo=UTC) for number in range(4)]
    etag = "00000000-0000-4000-8000-00000000000"
    store = await Sqlite.open(released(tmp_path / "registry.db", version), MIGRATIONS)
    versions = await store.run(lambda c: list(rows.read_versions(c)))
    numbers = await store.run(more_rows.read_last_versions)
    aliases = await store.run(lambda c: list(more_rows.read_aliases(c)))
    reserved = await store.run(more_rows.read_reserved)
    provisioned = await store.run(lambda c: list(more_rows.read_provisioned(c)))
    await store.close()
    if version < WITH_VERSIONS:
        assert not versions
        assert not numbers
        assert not aliases
        assert not reserved
        assert not provisioned
        return
    latest = FUNCTIONS[-1]
    third = replace(latest, version="3", config=replace(latest.config, description="third"))
    was = latest.config.description
    assert versions == [(third, was), (replace(latest, version="4"), was)]
    assert numbers == {"thumbs": 4, "gone": 7}
    assert aliases == [
        Alias("thumbs", "live", "3", f"{etag}a", moments[1], moments[2], "what is used"),
        Alias("thumbs", "split", "4", f"{etag}b", moments[1], moments[1], "", (("3", 0.25),)),
    ]
    assert reserved == {"thumbs": 10}
    assert provisioned == [ProvisionedConfig("thumbs", "live", 2, moments[3])]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_released_schema_opens_with_its_layers(tmp_path: Path, version: int) -> None:
    moments = [datetime(2026, 11, 23, 4, 5, 6, 789_000 + number, tzinfo=UTC) for number in range(3)]
    store = await Sqlite.open(released(tmp_path / "registry.db", version), MIGRATIONS)
    layers = await store.run(lambda c: list(layer_rows.read(c)))
    numbers = await store.run(layer_rows.read_numbers)
    await store.close()
    if version < WITH_LAYERS:
        assert (layers, numbers) == ([], {})
        return
    second = LayerVersion(
        LayerRef("deps", 2),
        "4" * 64,
        1_004,
        2_004,
        moments[1],
        "what 'all' need",
        "MIT",
        ("python3.11", "python3.12"),
        ("x86_64",),
    )
    policy = {"Statement": [{"Sid": "all", "Effect": "Allow"}], "RevisionId": "00000000-0000-4000-8000-00000000000c"}
    tenth = LayerVersion(LayerRef("deps", 10), "5" * 64, 1_005, 2_005, moments[2])
    assert layers == [(second, policy), (tenth, None)]
    assert numbers == {"deps": 10, "gone": 3}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_released_migration_still_makes_the_schema_that_it_made_then(tmp_path: Path, version: int) -> None:
    then = await Sqlite.open(released(tmp_path / "then.db", version), MIGRATIONS[:version])
    today = await Sqlite.open(tmp_path / "today.db", MIGRATIONS[:version])
    assert await today.run(tables) == await then.run(tables)
    await then.close()
    await today.close()
