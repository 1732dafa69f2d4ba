"""The settings: defaults, sources and their order, what is refused, what a reload may change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import config
from engine.config import FIELDS, Settings, changed, load, reloaded
from engine.config_address import is_loopback, join_address, split_address
from engine.config_docs import page
from engine.errors import InvalidArgument

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the host's /etc holds is not this test's."""
    monkeypatch.setattr(config, "SYSTEM_CONFIG", tmp_path / "etc" / "cleave.toml")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(
    path: Path | None = None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        load(path, environ or {}, flags or {})
    assert caught.value.fix
    return caught.value


def test_defaults_are_complete() -> None:
    settings = load(None, {}, {}, euid=0)
    assert settings == Settings(data_dir="/var/lib/cleave")
    assert (settings.grpc_address, settings.http_address) == ("127.0.0.1:50051", "127.0.0.1:9000")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_DATA_HOME": "/data", "HOME": "/h"}, "/data/cleave"),
        ({"HOME": "/h"}, "/h/.local/share/cleave"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/cleave"),
    ],
)
def test_without_root_the_data_is_in_the_users_own_place(environ: dict[str, str], expected: str) -> None:
    assert load(None, environ, {}, euid=1000).data_dir == expected


def test_the_file_yields_to_the_environment_and_that_to_the_flag(tmp_path: Path) -> None:
    file = write(tmp_path / "cleave.toml", 'region = "eu-west-1"\nmax_concurrency = 1\nkeep_alive_s = 1\n')
    environ = {"CLEAVE_MAX_CONCURRENCY": "2", "CLEAVE_KEEP_ALIVE_S": "2"}
    settings = load(file, environ, {"keep_alive_s": "3.5", "max_sandboxes": None})
    assert (settings.region, settings.max_concurrency, settings.keep_alive_s) == ("eu-west-1", 2, 3.5)
    assert settings.max_sandboxes == 1000


def test_the_file_is_what_the_flag_names_else_the_variable_else_the_systems_else_the_users(tmp_path: Path) -> None:
    files = {
        name: write(tmp_path / name / "cleave.toml", f'region = "{name}-x-1"\n') for name in ("flag", "env", "etc")
    }
    user = write(tmp_path / "user" / "cleave" / "cleave.toml", 'region = "user-x-1"\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "user")}
    named = environ | {"CLEAVE_CONFIG": str(files["env"])}
    assert load(files["flag"], named, {}).region == "flag-x-1"
    assert load(None, named, {}).region == "env-x-1"
    assert load(None, environ, {}).region == "etc-x-1"
    files["etc"].unlink()
    assert load(None, environ, {}).region == "user-x-1"
    user.unlink()
    assert load(None, environ, {}).region == "us-east-1"


def test_every_setting_is_taken_from_file_environment_and_flag(tmp_path: Path) -> None:
    other: dict[str, tuple[str, Any]] = {
        "data_dir": ('"/d"', "/d"),
        "grpc_address": ('"127.0.0.1:0"', "127.0.0.1:0"),
        "grpc_front": ('"grpcio"', "grpcio"),
        "http_address": ('"[::1]:8000"', "[::1]:8000"),
        "account": ('"123456789012"', "123456789012"),
        "region": ('"eu-central-1"', "eu-central-1"),
        "max_concurrency": ("7", 7),
        "requests_per_concurrency": ("5", 5),
        "burst_sandboxes": ("50", 50),
        "max_sandboxes": ("8", 8),
        "keep_alive_s": ("0.5", 0.5),
        "drain_s": ("9", 9),
        "init_timeout_ms": ("500", 500),
        "provisioned_init_timeout_ms": ("60000", 60_000),
        "shutdown_grace_ms": ("300", 300),
        "event_limit_bytes": ("2048", 2_048),
        "result_limit_bytes": ("4096", 4_096),
        "stream_limit_mb": ("9", 9),
        "stream_mb_per_s": ("2.5", 2.5),
        "stop_on_disconnect": ("true", True),
        "http_workers": ("2", 2),
        "uid_base": ("300000", 300_000),
        "parked_floor": ("1", 1),
        "parked_ceiling": ("2", 2),
        "parked_memory_mb": ("64", 64),
        "parked_free_mb": ("32", 32),
        "parked_rate": ("7.5", 7.5),
        "zygote_max_age_s": ("60.5", 60.5),
        "zygote_max_forks": ("5", 5),
        "zygote_limit": ("3", 3),
        "tmp_pool_size": ("0", 0),
        "tmp_backend": ('"project"', "project"),
        "leaf_pool_size": ("0", 0),
        "tmp_encryption": ("false", False),
        "tmp_reserve": ("true", True),
        "janitors": ("2", 2),
        "network_pool_size": ("3", 3),
        "egress_subnet": ('"100.64.0.0/12"', "100.64.0.0/12"),
        "egress_resolvers": ('["9.9.9.9", "10.0.0.2"]', ("9.9.9.9", "10.0.0.2")),
        "compile_ahead": ("false", False),
        "init_cpu": ("false", False),
        "cpu_burst": ("true", True),
        "accept_weaker": ('["cpu=none", "tmp=tmpfs"]', ("cpu=none", "tmp=tmpfs")),
        "log_level": ('"debug"', "debug"),
        "log_format": ('"text"', "text"),
        "function_log_days": ("2.5", 2.5),
        "function_log_mb": ("5", 5),
        "function_logs_mb": ("50", 50),
        "function_log_mb_per_s": ("7.5", 7.5),
        "metrics_functions": ("9", 9),
        "recent_mb": ("3", 3),
        "s3_endpoint": ('"http://127.0.0.1:9090"', "http://127.0.0.1:9090"),
        "s3_region": ('"eu-west-3"', "eu-west-3"),
        "s3_timeout_s": ("7", 7),
        "interpreters": ('["/a", "/b"]', ("/a", "/b")),
        "async_event_limit_bytes": ("2048", 2_048),
        "async_concurrency": ("9", 9),
        "async_queue_events": ("8", 8),
        "async_queue_mb": ("7", 7),
        "async_retry_s": ("0.5", 0.5),
        "async_backoff_s": ("0.25", 0.25),
    }
    assert other.keys() == FIELDS.keys()
    expected = Settings(**{name: value for name, (_, value) in other.items()})
    file = write(tmp_path / "cleave.toml", "".join(f"{name} = {toml}\n" for name, (toml, _) in other.items()))
    plain = {
        name: ",".join(value) if isinstance(value, tuple) else str(value).lower() for name, (_, value) in other.items()
    }
    assert load(file, {}, {}) == expected
    assert load(None, {FIELDS[name].variable: text for name, text in plain.items()}, {}) == expected
    flags = {name: list(value) if isinstance(value, tuple) else plain[name] for name, (_, value) in other.items()}
    assert load(None, {}, flags) == expected


def test_where_objects_are_may_be_said_as_to_awss_own_tools() -> None:
    usual = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_DEFAULT_REGION": "a-1", "AWS_REGION": "b-1"}
    settings = load(None, usual, {})
    assert (settings.s3_endpoint, settings.s3_region) == ("http://127.0.0.1:1", "b-1")
    assert settings.region == "us-east-1"
    own = load(None, {**usual, "CLEAVE_S3_ENDPOINT": "http://127.0.0.1:2"}, {"s3_region": "c-1"})
    assert (own.s3_endpoint, own.s3_region) == ("http://127.0.0.1:2", "c-1")


BAD = [
    ("s3_endpoint", '"127.0.0.1:9090"', "127.0.0.1:9090"),
    ("s3_endpoint", '"http://a:b@127.0.0.1"', "http://a:b@127.0.0.1"),
    ("s3_endpoint", '"http://127.0.0.1/?a=b"', "http://127.0.0.1/?a=b"),
    ("s3_timeout_s", "0", "0"),
    ("data_dir", '""', ""),
    ("grpc_address", '"127.0.0.1"', "127.0.0.1"),
    ("grpc_address", '"0.0.0.0:50051"', "0.0.0.0:50051"),
    ("http_address", '"127.0.0.1:70000"', "127.0.0.1:70000"),
    ("http_address", '"example.com:80"', "example.com:80"),
    ("account", '"12"', "12"),
    ("region", '"Europe"', "Europe"),
    ("max_concurrency", "0", "0"),
    ("max_concurrency", "1.5", "1.5"),
    ("max_sandboxes", "100001", "100001"),
    ("keep_alive_s", "-1", "-1"),
    ("keep_alive_s", "nan", "nan"),
    ("drain_s", "inf", "inf"),
    ("init_timeout_ms", '"soon"', "soon"),
    ("uid_base", "1", "1"),
    ("uid_base", "99999", "99999"),
    ("uid_base", "2147483647", "2147483647"),
    ("parked_floor", "-1", "-1"),
    ("parked_ceiling", "10001", "10001"),
    ("parked_memory_mb", '"much"', "much"),
    ("parked_rate", "0", "0"),
    ("tmp_pool_size", "-1", "-1"),
    ("tmp_backend", '"floppy"', "floppy"),
    ("leaf_pool_size", "-1", "-1"),
    ("tmp_encryption", '"perhaps"', "perhaps"),
    ("tmp_reserve", '"maybe"', "maybe"),
    ("janitors", "0", "0"),
    ("network_pool_size", "-1", "-1"),
    ("egress_subnet", '"10.213.0.0"', "10.213.0.0"),
    ("egress_subnet", '"10.213.0.1/16"', "10.213.0.1/16"),
    ("egress_subnet", '"8.8.0.0/16"', "8.8.0.0/16"),
    ("egress_resolvers", '["127.0.0.53"]', "127.0.0.53"),
    ("egress_resolvers", '["dns.example"]', "dns.example"),
    ("init_cpu", '"maybe"', "maybe"),
    ("cpu_burst", '"maybe"', "maybe"),
    ("accept_weaker", '["cpu"]', "cpu"),
    ("log_level", '"loud"', "loud"),
    ("log_format", '"xml"', "xml"),
    ("interpreters", '["python3"]', "python3"),
]


@pytest.mark.parametrize(("name", "toml", "text"), BAD)
def test_a_bad_value_is_refused_with_its_source_its_field_and_a_fix(
    tmp_path: Path, name: str, toml: str, text: str
) -> None:
    file = write(tmp_path / "cleave.toml", f"{name} = {toml}\n")
    for error, source in (
        (refusal(file), str(file)),
        (refusal(environ={FIELDS[name].variable: text}), FIELDS[name].variable),
        (refusal(flags={name: text}), FIELDS[name].flag),
    ):
        assert list(error.fields) == [f"{source}: {name}"]
        assert name in error.fix
        assert source in error.message


def test_a_string_where_the_file_should_hold_a_number_is_refused(tmp_path: Path) -> None:
    assert "max_concurrency" in refusal(write(tmp_path / "c.toml", 'max_concurrency = "5"\n')).message


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", 'regoin = "x"\nmax_sandboxes = 0\n')
    error = refusal(file, {"CLEAVE_DRAIN_S": "x"}, {"account": "1"})
    assert set(error.fields) == {
        f"{file}: regoin", f"{file}: max_sandboxes", "CLEAVE_DRAIN_S: drain_s", "--account: account",
    }  # fmt: skip


def test_an_unknown_name_is_refused_and_the_nearest_suggested(tmp_path: Path) -> None:
    assert "did you mean max_concurrency?" in refusal(write(tmp_path / "c.toml", "max_concurency = 5\n")).fix
    assert "docs/settings.md" in refusal(write(tmp_path / "c.toml", "[qqq]\nx = 1\n")).fix
    assert "did you mean CLEAVE_MAX_CONCURRENCY?" in refusal(environ={"CLEAVE_MAX_CONCURENCY": "5"}).fix


def test_a_variable_that_is_nobodys_misspelling_is_left_alone() -> None:
    environ = {"CLEAVE_SERVICE_HOST": "10.0.0.1", "CLEAVE_SANITIZE": "address"}
    assert load(None, environ, {}) == load(None, {}, {})


@pytest.mark.parametrize("text", ["region = \n", "\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(text.encode("latin-1"))
    assert str(file) in refusal(file).message


@pytest.mark.parametrize("where", ["flag", "variable"])
def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path, where: str) -> None:
    missing = tmp_path / "missing.toml"
    error = refusal(missing) if where == "flag" else refusal(environ={"CLEAVE_CONFIG": str(missing)})
    assert str(missing) in error.message


def test_two_listeners_cannot_share_a_port_but_may_both_choose_one() -> None:
    refusal(flags={"grpc_address": "127.0.0.1:9000"})
    both = load(None, {}, {"grpc_address": "127.0.0.1:0", "http_address": "127.0.0.1:0"})
    assert both.grpc_address == both.http_address


def test_a_relative_data_directory_means_where_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}, {"data_dir": "data"}).data_dir == str(tmp_path / "data")
    assert "absolute" in refusal(write(tmp_path / "c.toml", 'data_dir = "data"\n')).message


def test_a_change_is_told_apart_from_one_that_needs_a_restart() -> None:
    old = Settings(data_dir="/d")
    new = msgspec.structs.replace(old, keep_alive_s=1, log_level="debug", region="eu-west-1", data_dir="/e")
    assert changed(old, new) == (["keep_alive_s", "log_level"], ["data_dir", "region"])
    assert changed(old, old) == ([], [])
    assert reloaded(old, new) == msgspec.structs.replace(old, keep_alive_s=1, log_level="debug")


def test_what_can_change_while_the_engine_runs() -> None:
    reloadable = {name for name, field in FIELDS.items() if field.reloadable}
    limits = {"max_concurrency", "requests_per_concurrency", "burst_sandboxes"}
    assert reloadable == limits | {"async_concurrency", "keep_alive_s", "drain_s", "log_level"}


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        Settings(data_dir="/d").region = "x"  # type: ignore[misc]


def test_the_page_is_what_the_settings_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "run python -m engine.config_docs > docs/settings.md"
    written = subprocess.run(
        [sys.executable, "-m", "engine.config_docs"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert written.stdout == page()


def test_the_defaults_shown_as_a_file_are_the_defaults(tmp_path: Path) -> None:
    toml = page().partition("```toml\n")[2].partition("```")[0]
    assert load(write(tmp_path / "c.toml", toml), {}, {}, euid=0) == Settings(data_dir="/var/lib/cleave")


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_an_address_comes_apart_and_together_again(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize("text", ["", ":1", "host", "host:", "host:65536", "host:-1", "::1:80", "host:²", "host:1 "])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|host"):
        split_address(text)


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.evil.com", "")))
