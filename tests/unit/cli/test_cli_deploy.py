"""deploy, and what it packs."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.client.packing import Unpackable, pack

from .conftest import Cleave, StubEngine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "hello"
    (folder / "lib").mkdir(parents=True)
    (folder / "app.py").write_text("def handler(event, context): return event\n")
    (folder / "lib" / "b.py").write_text("B = 1\n")
    (folder / "lib" / "a.py").write_text("A = 1\n")
    return folder


def packed(folder: Path) -> bytes:
    target = io.BytesIO()
    pack(folder, target)
    return target.getvalue()


def names(folder: Path) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(packed(folder))).namelist()


def test_a_folder_is_created_as_a_function_and_the_command_that_invokes_it_is_printed(
    cleave: Cleave, engine: StubEngine, folder: Path, unpacked: Callable[[bytes], dict[str, bytes]]
) -> None:
    ran = cleave("deploy", str(folder), "--memory", "256", "--timeout", "2.5", "--env", "A=b=c", "--tmp", "1024")
    assert ran.code == 0, ran.err
    assert ran.out.rstrip().splitlines()[-1].strip() == "cleave invoke hello -d '{}'"
    function = engine.functions["functions/hello"]
    assert (function.config.memory_mb, function.config.timeout_ms, function.config.tmp_mb) == (256, 2500, 1024)
    assert dict(function.config.environment) == {"A": "b=c"}
    files = unpacked(engine.blobs[function.code_blob.removeprefix("blobs/")])
    assert list(files) == ["app.py", "lib/a.py", "lib/b.py"]


def test_a_zip_is_uploaded_as_it_is(cleave: Cleave, engine: StubEngine, folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "thing.zip"
    archive.write_bytes(packed(folder))
    assert cleave("deploy", str(archive)).code == 0
    assert list(engine.functions) == ["functions/thing"]
    assert list(engine.blobs.values()) == [archive.read_bytes()]


@pytest.mark.parametrize("place", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key", "s3://b/k?versionId="])
def test_a_place_in_s3_that_names_no_object_is_refused(cleave: Cleave, engine: StubEngine, place: str) -> None:
    ran = cleave("deploy", place)
    assert ran.code == 2
    assert "s3://BUCKET/KEY.zip" in ran.err
    assert engine.functions == {}


def test_a_large_zip_arrives_whole(cleave: Cleave, engine: StubEngine, folder: Path) -> None:
    (folder / "model.bin").write_bytes(os.urandom(3_000_000))
    assert cleave("deploy", str(folder)).code == 0
    assert len(next(iter(engine.blobs.values()))) > 3_000_000


def test_an_update_names_only_what_was_given(cleave: Cleave, engine: StubEngine, folder: Path) -> None:
    engine.add("hello")
    ran = cleave("deploy", str(folder), "--memory", "512", "--output", "json")
    assert ran.document["action"] == "updated"
    assert engine.masks == [["code_blob", "config.memory_mb"]]
    config = engine.functions["functions/hello"].config
    assert (config.memory_mb, config.timeout_ms, dict(config.environment)) == (512, 3000, {"A": "b"})


def test_an_address_given_as_a_flag_is_in_the_printed_command(run: Cleave, address: str, folder: Path) -> None:
    ran = run("--address", address, "deploy", str(folder))
    assert f"cleave invoke --address {address} hello -d '{{}}'" in ran.out


def test_a_refused_setting_is_told_with_its_field(cleave: Cleave, folder: Path) -> None:
    ran = cleave("deploy", str(folder), "--memory", "99999")
    assert ran.code == 1
    assert "config.memory_mb: over 10240" in ran.err
    assert "Fix: use less" in ran.err
    document = cleave("deploy", str(folder), "--memory", "99999", "-o", "json").document
    assert document["error"]["fields"] == {"config.memory_mb": "over 10240"}


def test_a_handler_whose_module_is_not_there_is_warned_of(cleave: Cleave, folder: Path) -> None:
    ran = cleave("deploy", str(folder), "--handler", "main.handler")
    assert ran.code == 0
    assert "Warning: the handler main.handler" in ran.err
    assert cleave("deploy", str(folder), "--handler", "lib/a.handler").err == ""


def test_a_logs_format_and_levels_are_given_by_name(cleave: Cleave, engine: StubEngine, folder: Path) -> None:
    given = ["--log-format", "JSON", "--log-level", "warn", "--system-log-level", "debug", "--log-group", "/own"]
    config = cleave("deploy", str(folder), *given, "-o", "json").document["function"]["config"]
    assert (config["log_format"], config["log_level"], config["system_log_level"]) == ("json", "warn", "debug")
    assert config["log_group"] == "/own"


def test_settings_that_are_only_kept_are_given_too(cleave: Cleave, engine: StubEngine, folder: Path) -> None:
    queue, key = "arn:aws:sqs:us-east-1:000000000000:failed", "arn:aws:kms:us-east-1:000000000000:key/1"
    given = ["--dead-letters", queue, "--kms-key", key, "--tracing", "--snap-start"]
    config = cleave("deploy", str(folder), *given, "-o", "json").document["function"]["config"]
    assert (config["dead_letter_arn"], config["kms_key_arn"]) == (queue, key)
    assert (config["tracing"], config["snap_start"]) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["nowhere"], "cleave init"),
        (["hello", "--env", "SECRET"], "--env NAME=value"),
        (["hello", "--egress", "all"], "--egress none"),
        (["hello", "--log-format", "xml"], "--log-format text"),
        (["hello", "--log-level", "loud"], "--log-level trace"),
        (["hello", "--system-log-level", "unspecified"], "--system-log-level trace"),
        (["hello", "--name", "no way"], "cleave list"),
        (["hello", "--memory", "99999999999"], "cleave deploy --help"),
        (["hello", "--memory", "much"], "cleave deploy --help"),
        (["hello/app.py"], "cleave deploy FOLDER"),
        (["my.app"], "--name my-app"),
        (["empty"], "cleave init"),
    ],
)
def test_each_wrong_argument_is_a_usage_error_with_a_fix(
    cleave: Cleave, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], fix: str
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "my.app").mkdir()
    (folder.parent / "empty").mkdir()
    ran = cleave("deploy", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert fix in ran.err.partition("Fix:")[2]
    document = cleave("deploy", *arguments, "--output", "json").document
    assert document["error"]["exit_code"] == 2
    assert fix in document["error"]["fix"]


def test_the_same_files_give_the_same_zip_whatever_their_times_modes_and_order(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "lib").mkdir(parents=True)
    for name in ("lib/a.py", "lib/b.py", "app.py"):
        (other / name).write_bytes((folder / name).read_bytes())
        (other / name).chmod(0o600)
        os.utime(other / name, (1, 1))
    assert packed(folder) == packed(other)
    (other / "app.py").chmod(0o755)
    assert packed(folder) != packed(other)


def test_files_are_readable_by_all_and_executable_only_if_they_were(folder: Path) -> None:
    (folder / "bootstrap").write_text("#!/bin/sh\n")
    (folder / "bootstrap").chmod(0o700)
    archive = zipfile.ZipFile(io.BytesIO(packed(folder)))
    modes = {info.filename: stat.S_IMODE(info.external_attr >> 16) for info in archive.infolist()}
    assert (modes["bootstrap"], modes["app.py"]) == (0o755, 0o644)


def test_what_no_function_needs_and_what_cleaveignore_lists_stays_out(folder: Path) -> None:
    for name in (
        ".git/x",
        "lib/__pycache__/x",
        ".venv/x",
        "node_modules/x",
        "a.csv",
        "lib/b.csv",
        "data/raw/x",
        "logs/x",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / "data" / "kept").write_text("")
    (folder / "lib" / "logs").write_text("a file, which logs/ does not mean")
    (folder / ".cleaveignore").write_text("# comment\n\n*.csv\ndata/raw\nlogs/\n/lib/b.py\n")
    assert names(folder) == ["app.py", "data/kept", "lib/a.py", "lib/logs"]


def test_links_are_followed_and_loops_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c.py").write_text("C = 1\n")
    (folder / "linked").symlink_to(outside)
    (folder / "alias.py").symlink_to("app.py")
    assert names(folder) == ["alias.py", "app.py", "lib/a.py", "lib/b.py", "linked/c.py"]
    (folder / "lib" / "loop").symlink_to(folder)
    with pytest.raises(Unpackable, match="leads back"):
        packed(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/nowhere/at/all", path)])
def test_what_cannot_be_packed_is_named_and_can_be_ignored(folder: Path, make: Callable[[str], None]) -> None:
    make(str(folder / "odd"))
    with pytest.raises(Unpackable, match="odd"):
        packed(folder)
    (folder / ".cleaveignore").write_text("odd\n")
    assert "odd" not in names(folder)
