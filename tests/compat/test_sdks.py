"""AWS's SDKs of other languages, unmodified, against a running engine. A program of each (tests/compat/js,
tests/compat/go) does what its users do and prints what it saw; here is what it has to have seen, the same for each.

`.ci/sdks` makes the programs ready. Where one is not, its tests are skipped, and fail under CI.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CI
from tests.doors import REGION, ROLE, RUNTIME, zip_of
from tests.engines import engine

pytestmark = [pytest.mark.privileged, pytest.mark.time_limit(120)]

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "build/sdks"
PROGRAMS = {"js": ["node", str(HERE / "js/promises.mjs")], "go": [str(BUILT / "from-go")]}
NEEDED = {"js": HERE / "js/node_modules/@aws-sdk/client-lambda", "go": BUILT / "from-go"}
LIMIT_S = 110.0

CODE = zip_of("""
    import time

    def handler(event, context):
        if event["do"] == "fail":
            raise ValueError("no good")
        if event["do"] == "context":
            return {"custom": context.client_context.custom, "title": context.client_context.client.app_title}
        print("a line")
        return event

    def stream(event, context):
        for n in range(event["count"]):
            yield f"{n};"
        if event.get("then") == "fail":
            raise ValueError("half way")
        if event.get("then") == "hold":
            time.sleep(45)
""")
CHANGED = zip_of("""
    def handler(event, context):
        return context.memory_limit_in_mb if event["do"] == "memory" else "changed"
""")


async def run(kind: str, folder: Path) -> dict[str, Any]:
    """All that the program of an SDK saw, against an engine of its own."""
    given = {
        "runtime": RUNTIME,
        "role": ROLE,
        "code": base64.b64encode(CODE).decode(),
        "changed": base64.b64encode(CHANGED).decode(),
    }
    # A stream whose client leaves is not to keep the engine from its end.
    async with engine(folder / "data", stop_on_disconnect=True) as one:
        program = await asyncio.create_subprocess_exec(
            *PROGRAMS[kind],
            # Without the settings of whoever runs the tests.
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{one.service.http_port}",
                "AWS_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "any",
                "AWS_SECRET_ACCESS_KEY": "any",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, said = await asyncio.wait_for(program.communicate(json.dumps(given).encode()), LIMIT_S)
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
        assert program.returncode == 0, said.decode()
        seen: dict[str, Any] = json.loads(out)
        return seen


@pytest.fixture(scope="module", params=PROGRAMS)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was observed, by the names that the programs have in common."""
    kind = request.param
    if shutil.which(PROGRAMS[kind][0]) is None or not NEEDED[kind].exists():
        reason = f"the {kind} program is not ready: run .ci/sdks, which says what to install"
        if CI:
            pytest.fail(f"{reason}; under CI it may not be skipped", pytrace=False)
        pytest.skip(reason)
    return asyncio.run(run(kind, tmp_path_factory.mktemp(kind)))


def test_a_function_is_created_from_a_zip_and_waited_for(seen: dict[str, Any]) -> None:
    made = seen["create"]
    assert made["sha256"] == base64.b64encode(hashlib.sha256(CODE).digest()).decode()
    assert (made["waited"], made["state_then"]) == ("SUCCESS", "Active")
    assert made["environment"] == {"GREETING": "Ahoy – «world»"}
    assert made["tags"] == {"team": "a b/ü"}


def test_the_code_is_behind_its_location(seen: dict[str, Any]) -> None:
    assert seen["create"]["code_is_what_was_sent"] is True


def test_a_payload_goes_both_ways_unchanged(seen: dict[str, Any]) -> None:
    answer = seen["payload"]
    assert answer["value"] == answer["sent"]
    assert (answer["status"], answer["version"], answer["error"]) == (200, "$LATEST", None)
    assert seen["large_payload"] == {"same": True}


def test_a_payload_over_the_limit_is_an_error_of_its_class(seen: dict[str, Any]) -> None:
    told = seen["too_large_payload"]
    assert (told["class"], told["status"]) == ("RequestTooLargeException", 413)
    assert told["message"] == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"


def test_a_failure_of_the_function_is_an_answer_with_its_document(seen: dict[str, Any]) -> None:
    answer = seen["function_error"]
    assert (answer["status"], answer["error"]) == (200, "Unhandled")
    assert (answer["document"]["errorType"], answer["document"]["errorMessage"]) == ("ValueError", "no good")
    assert 'raise ValueError("no good")' in answer["document"]["stackTrace"][-1]


def test_the_tail_of_the_log_comes_where_it_is_asked_for(seen: dict[str, Any]) -> None:
    told = seen["log_tail"]
    kinds = [line.split()[0] for line in told["log"].splitlines()]
    assert kinds == ["START", "a", "END", "REPORT"]
    assert told["without"] is None


def test_a_client_context_reaches_the_function(seen: dict[str, Any]) -> None:
    assert seen["client_context"] == {"custom": {"key": "välue"}, "title": "a"}


def test_events_are_accepted_and_dry_runs_answered(seen: dict[str, Any]) -> None:
    assert seen["other_types"] == {"event": 202, "dry": 204}


def test_calls_at_once_get_their_own_answers(seen: dict[str, Any]) -> None:
    assert seen["at_once"] == list(range(12))


def test_a_stream_comes_in_order_and_ends_once(seen: dict[str, Any]) -> None:
    answer = seen["stream"]
    assert "".join(answer["chunks"]) == "".join(f"{n};" for n in range(50))
    assert (answer["status"], answer["type"]) == (200, "application/vnd.amazon.eventstream")
    assert (answer["end"], answer["after_end"]) == ({"code": None, "details": None, "log": None}, 0)


def test_a_chunk_comes_before_the_function_has_ended(seen: dict[str, Any]) -> None:
    assert seen["stream_as_made"] == "0;"


def test_the_tail_of_the_log_comes_with_the_end_of_a_stream(seen: dict[str, Any]) -> None:
    log = base64.b64decode(seen["stream_log"]["log"]).decode()
    assert [line.split()[0] for line in log.splitlines()] == ["START", "END", "REPORT"]


def test_a_failure_in_the_middle_of_a_stream_comes_after_what_was_made(seen: dict[str, Any]) -> None:
    answer = seen["stream_failure"]
    assert "".join(answer["chunks"]) == "0;1;2;"
    assert answer["end"]["code"] == "ValueError"
    assert json.loads(answer["end"]["details"])["errorMessage"] == "half way"


def test_a_function_that_is_not_there_is_an_error_of_its_class(seen: dict[str, Any]) -> None:
    for call in ("absent", "stream_of_nobody"):
        assert (seen[call]["class"], seen[call]["status"]) == ("ResourceNotFoundException", 404)
        arn = f"arn:aws:lambda:{REGION}:000000000000:function:nobody:$LATEST"
        assert seen[call]["message"] == f"Function not found: {arn}"


def test_a_refused_setting_says_what_it_may_be(seen: dict[str, Any]) -> None:
    assert (seen["invalid"]["name"], seen["invalid"]["status"]) == ("ValidationException", 400)
    assert "'memorySize' failed to satisfy constraint" in seen["invalid"]["message"]


def test_a_name_that_is_taken_is_an_error_of_its_class(seen: dict[str, Any]) -> None:
    assert (seen["conflict"]["class"], seen["conflict"]["status"]) == ("ResourceConflictException", 409)


def test_a_throttled_call_is_tried_again_and_then_an_error_of_its_class(seen: dict[str, Any]) -> None:
    told = seen["throttle"]
    assert (told["class"], told["status"], told["attempts"]) == ("TooManyRequestsException", 429, 2)
    assert told["reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert int(told["retry_after"]) >= 1
    assert told["afterwards"] == 1


def test_settings_and_code_are_updated_and_waited_for(seen: dict[str, Any]) -> None:
    told = seen["update"]
    assert (told["waited"], told["memory_mb"], told["value"]) == ("SUCCESS", "256", "changed")
    assert told["stale"] == "PreconditionFailedException"


def test_a_version_runs_by_every_form_of_its_name(seen: dict[str, Any]) -> None:
    told = seen["publish"]
    assert re.fullmatch(rf"arn:aws:lambda:{REGION}:000000000000:function:[\w-]+:live", told["arn"])
    assert (told["version"], told["ran"]) == ("1", ["1"] * 5)


def test_a_timestamp_is_one(seen: dict[str, Any]) -> None:
    assert abs(seen["timestamp"]["ms"] / 1_000 - time.time()) < 3_600
    assert seen["timestamp"]["state"] == "Deleting"


def test_a_paginator_finds_all_functions(seen: dict[str, Any]) -> None:
    pages = seen["pages"]
    assert [len(page) for page in pages] == [2, 2, 1]
    names = [name for page in pages for name in page]
    assert sorted(names) == names
    assert len(set(names)) == 5


def test_a_deleted_function_is_gone(seen: dict[str, Any]) -> None:
    assert seen["delete"]["left"] == []
    assert seen["delete"]["then"]["class"] == "ResourceNotFoundException"
