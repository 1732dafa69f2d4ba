"""`cleave sources`, `signing` and `settings` against a real registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from engine.registry.api import ConfigChange
from tests.registries import Served, served

from .conftest import Cleave, Ran

Command = Callable[..., Awaitable[Ran]]
QUEUE = "arn:aws:sqs:us-east-1:000000000000:orders"
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/a"
KAFKA = (
    '{"Topics": ["clicks"], "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:1"]}}, '
    '"SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "s"}]}'
)


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as it:
        yield it


@pytest.fixture
def command(it: Served, run: Cleave, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in a thread, for the engine's front is on this event loop."""
    monkeypatch.setenv("CLEAVE_GRPC_ADDRESS", it.address)
    return lambda *arguments: asyncio.to_thread(run, *arguments)


async def test_sources_are_made_shown_changed_listed_and_removed(command: Command) -> None:
    assert "cleave sources create" in (await command("sources", "list")).err
    ran = await command(
        "sources",
        "create",
        "f",
        QUEUE,
        "--batch-size",
        "5",
        "--filter",
        '{"a": ["b"]}',
        "-o",
        "json",
        "--settings",
        '{"ScalingConfig": {"MaximumConcurrency": 7}}',
    )
    made = ran.document["event_source_mapping"]
    assert (made["state"], made["settings"]["batch_size"], made["function"]) == ("creating", 5, "functions/f")
    assert made["settings"]["scaling_config"] == {"maximum_concurrency": 7}
    uuid = made["name"].removeprefix("eventSourceMappings/")
    shown = (await command("sources", "get", uuid)).out
    assert "enabled" in shown
    assert QUEUE in shown
    ran = await command("sources", "update", uuid, "--disabled", "--settings", '{"ScalingConfig": {}}', "-o", "json")
    after = ran.document["event_source_mapping"]
    assert (after["state"], after["settings"]["scaling_config"]) == ("disabling", None)
    table = (await command("sources", "list", "f", "--source", QUEUE)).out.splitlines()
    assert table[1].split() == [uuid, "f", QUEUE, "disabled"]
    assert (await command("tags", "add", made["name"], "team=a", "-o", "json")).document == {"tags": {"team": "a"}}
    assert (await command("sources", "delete", uuid)).out == f"f gets no more of {QUEUE}.\n"
    assert (await command("sources", "list", "-o", "json")).document == {"event_source_mappings": []}


async def test_kafka_of_ones_own_is_a_source_without_an_arn(command: Command) -> None:
    ran = await command("sources", "create", "f", "--from", "LATEST", "--settings", KAFKA, "-o", "json")
    assert ran.document["event_source_mapping"]["settings"]["topics"] == ["clicks"]
    assert (await command("sources", "list")).out.splitlines()[1].split()[1:] == ["f", "clicks", "enabled"]


async def test_signing_is_made_given_shown_changed_taken_and_removed(command: Command) -> None:
    assert "cleave signing create" in (await command("signing", "list")).err
    ran = await command("signing", "create", PROFILE, "--description", "a", "-o", "json")
    made = ran.document["code_signing_config"]
    assert (made["untrusted_artifact"], made["signing_profile_version_arns"]) == ("warn", [PROFILE])
    config = made["name"].removeprefix("codeSigningConfigs/")
    assert PROFILE in (await command("signing", "get", made["arn"])).out
    assert (await command("signing", "functions", config)).err == "No function has it.\n"
    assert (await command("signing", "set", "f", config)).out == f"f has {config}.\n"
    assert (await command("signing", "show", "f")).out == f"f has {config}.\n"
    assert (await command("signing", "functions", config)).out == "f\n"
    assert (await command("signing", "delete", config)).code == 1
    assert (await command("signing", "unset", "f")).out == "f has none.\n"
    assert (await command("signing", "show", "f")).out == "f has none.\n"
    ran = await command("signing", "update", config, "--untrusted", "enforce", "-o", "json")
    assert ran.document["code_signing_config"]["description"] == "a"
    assert (await command("signing", "list")).out.splitlines()[1].split()[:2] == [config, "enforce"]
    assert (await command("signing", "delete", config)).out == f"{config} is gone.\n"


async def test_settings_are_set_and_shown(it: Served, command: Command) -> None:
    await it.registry.versions.publish("f")
    own = f"arn:aws:lambda:us-east-1::runtime:{it.registry.list(limit=1)[0][0].config.runtime}"
    ran = await command("settings", "set", "f", "--recursive-loop", "allow", "-o", "json")
    expected = {"recursive_loop": "allow", "update_runtime_on": "auto", "runtime_version_arn": ""}
    assert ran.document == {"settings": expected}
    ran = await command(
        "settings",
        "set",
        "f:1",
        "--update-runtime",
        "manual",
        "--runtime-version-arn",
        own,
        "--min-environments",
        "0",
        "-o",
        "json",
    )
    assert ran.document["settings"] == {
        "recursive_loop": "allow",
        "update_runtime_on": "manual",
        "runtime_version_arn": own,
        "min_execution_environments": 0,
        "max_execution_environments": None,
    }
    table = (await command("settings", "set", "f:1", "--no-scaling")).out.splitlines()
    assert [line.split()[0] for line in table[1:]] == ["recursive_loop", "update_runtime_on", "runtime_version_arn"]
    await it.registry.update("f", ConfigChange(description="other"))
    assert "auto" in (await command("settings", "get", "f")).out


async def test_what_is_refused_says_what_to_do(command: Command) -> None:
    for arguments, code, why, fix in (
        (("sources", "create", "g", QUEUE), 1, "Function not found: g", "cleave list"),
        (("sources", "create", "f", "arn"), 1, "Unrecognized event source", ""),
        (("sources", "create", "f", QUEUE, "--settings", "{"), 2, "they are no JSON", "--settings"),
        (("sources", "create", "f", QUEUE, "--settings", "[]"), 2, "no JSON object", "--settings"),
        (("sources", "create", "f", QUEUE, "--settings", '{"Colour": 1}'), 2, "Colour", "AWS's names"),
        (("sources", "update", "x"), 2, "nothing is to be changed", "--batch-size"),
        (("sources", "get", "x"), 1, "does not exist", ""),
        (("signing", "update", "csc-0"), 2, "nothing is to be changed", "--profile"),
        (("signing", "set", "f", "csc-0"), 1, "cannot be found", ""),
        (("signing", "create", "x"), 1, "AllowedPublishers", ""),
        (("settings", "set", "f"), 2, "nothing is to be changed", "--recursive-loop"),
        (("settings", "set", "f", "--max-environments", "1"), 1, "$LATEST has no scaling", "name a version"),
    ):
        ran = await command(*arguments)
        assert ran.code == code, arguments
        assert why in ran.err, arguments
        assert fix in ran.err, arguments
