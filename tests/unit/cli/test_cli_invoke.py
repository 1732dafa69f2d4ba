"""invoke: events in, results and reports out, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.v1 import invocations_pb2, reports_pb2

from .conftest import Cleave, StubEngine, report


@pytest.fixture(autouse=True)
def hello(engine: StubEngine) -> None:
    engine.add("hello")


def failed() -> invocations_pb2.InvokeResponse:
    error = invocations_pb2.FunctionError(type="ValueError", document=b'{"errorType": "ValueError"}')
    return invocations_pb2.InvokeResponse(function_error=error, report=report())


def test_the_result_is_all_of_standard_output_and_the_report_is_on_standard_error(cleave: Cleave) -> None:
    ran = cleave("invoke", "hello")
    assert (ran.code, ran.out) == (0, '{"n": 1.10}\n')
    assert "REPORT RequestId: 11111111-2222-3333-4444-555555555555\tStart: fork\t" in ran.err
    assert "\tDuration: 1.23 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 10 MB\t" in ran.err
    assert "\tInit Duration: 2.50 ms" in ran.err


def test_a_warm_report_has_no_init(cleave: Cleave, engine: StubEngine) -> None:
    engine.answer.report.CopyFrom(report(reports_pb2.START_KIND_WARM))
    err = cleave("invoke", "hello").err
    assert "Start: warm" in err
    assert "Init Duration" not in err


def test_what_went_over_the_network_is_in_the_report_where_there_was_any(cleave: Cleave, engine: StubEngine) -> None:
    assert "Network:" not in cleave("invoke", "hello").err
    engine.answer.report.network_in_bytes, engine.answer.report.network_out_bytes = 52_000, 700
    assert "\tNetwork: 52000 B in, 700 B out\t" in cleave("invoke", "hello").err
    assert cleave("invoke", "hello", "-o", "json").document["report"]["network_in_bytes"] == 52_000


def test_an_event_comes_from_the_argument_a_file_or_standard_input(
    cleave: Cleave, engine: StubEngine, tmp_path: Path
) -> None:
    (tmp_path / "event.json").write_bytes(b'{"from": "file"}')
    cleave("invoke", "hello", "-d", '{"from": "argument"}')
    cleave("invoke", "hello", "-d", f"@{tmp_path / 'event.json'}")
    cleave("invoke", "hello", "-d", "-", stdin=b'{"from": "stdin"}')
    cleave("invoke", "hello")
    events = [request.payload for request in engine.invoked]
    assert events == [b'{"from": "argument"}', b'{"from": "file"}', b'{"from": "stdin"}', b""]


def test_a_tenant_is_named_only_if_it_is_given(cleave: Cleave, engine: StubEngine) -> None:
    for flags in (("--tenant", "blue"), ("--tenant", ""), ()):
        cleave("invoke", "hello", *flags)
    named = [(request.HasField("tenant_id"), request.tenant_id) for request in engine.invoked]
    assert named == [(True, "blue"), (True, ""), (False, "")], "an empty one is the engine's to refuse"


def test_a_client_context_is_sent_as_it_is_written(cleave: Cleave, engine: StubEngine, tmp_path: Path) -> None:
    (tmp_path / "context.json").write_bytes(b'{"custom": {"from": "file"}}')
    cleave("invoke", "hello", "--client-context", '{"custom": {}}')
    cleave("invoke", "hello", "--client-context", f"@{tmp_path / 'context.json'}")
    cleave("invoke", "hello")
    contexts = [request.client_context for request in engine.invoked]
    missing = cleave("invoke", "hello", "--client-context", "@nowhere.json")
    assert missing.code == 2
    assert "give --client-context JSON" in missing.err
    assert contexts == [b'{"custom": {}}', b'{"custom": {"from": "file"}}', b""]


def test_raw_bytes_go_in_and_come_out_byte_for_byte(cleave: Cleave, engine: StubEngine) -> None:
    engine.answer.payload = "no JSON, no line end, ä".encode()
    assert cleave("invoke", "hello", "--raw", "-d", "-", stdin=b"\x00\xff").out == "no JSON, no line end, ä"
    cleave("invoke", "hello")
    raw, plain = engine.invoked
    assert (raw.payload, raw.payload_encoding) == (b"\x00\xff", invocations_pb2.PAYLOAD_ENCODING_RAW)
    assert plain.payload_encoding == invocations_pb2.PAYLOAD_ENCODING_JSON


def test_a_missing_event_file_is_a_usage_error(cleave: Cleave, engine: StubEngine) -> None:
    ran = cleave("invoke", "hello", "-d", "@/nowhere/event.json")
    assert ran.code == 2
    assert "/nowhere/event.json" in ran.err
    assert engine.invoked == []


def test_a_failing_function_prints_its_document_and_exits_with_3(cleave: Cleave, engine: StubEngine) -> None:
    engine.answer = failed()
    ran = cleave("invoke", "hello")
    assert (ran.code, ran.out) == (3, '{"errorType": "ValueError"}\n')
    assert "ValueError" in ran.err
    assert "Fix: cleave logs hello --request-id 11111111" in ran.err


def test_the_log_and_the_timeline_are_shown_when_asked_for(cleave: Cleave, engine: StubEngine) -> None:
    engine.answer.log_tail = b"START\nhi\nEND\n"
    engine.functions["functions/hello/aliases/live"] = engine.functions["functions/hello"]
    ran = cleave("invoke", "hello", "--log", "--timeline", "--request-id", "abc", "--qualifier", "live")
    assert ran.out == '{"n": 1.10}\n'
    assert "hi\n" in ran.err
    assert "answered" in ran.err
    (request,) = engine.invoked
    assert request.log_mode == invocations_pb2.LOG_MODE_TAIL
    assert (request.timeline, request.request_id, request.name) == (True, "abc", "functions/hello/aliases/live")


def test_the_timeline_is_a_picture_with_a_bar_for_each_step_of_each_actor(cleave: Cleave, engine: StubEngine) -> None:
    marks = [("checked", 100), ("descriptors", 1_000), ("box_cloned", 1_500), ("forked", 2_000)]
    marks += [("box_mounts", 3_000), ("booted", 4_000), ("guest_read", 4_500), ("answered", 8_000)]
    told = engine.answer.report
    del told.timeline[:]
    for phase, offset_us in marks:
        told.timeline.add(phase=phase, offset_us=offset_us)
    told.cost.CopyFrom(reports_pb2.Cost(init_minor_faults=123, init_major_faults=2, private_bytes=3 << 20))
    lines = cleave("invoke", "hello", "--timeline").err.splitlines()
    assert lines[0] == "A fork start: where 8.000 ms went"
    assert lines[1].endswith("8.000 ms")
    rows = [(line.split()[:4], line) for line in lines[2:10]]
    assert [tuple(words) for words, _ in rows] == [
        ("0.100", "0.100", "engine", "checked"),
        ("1.000", "0.900", "engine", "descriptors"),
        ("1.500", "0.500", "sandbox", "cloned"),  # since the engine's last step
        ("2.000", "1.000", "engine", "forked"),  # beside the sandbox's own
        ("3.000", "1.500", "sandbox", "mounts"),
        ("4.000", "2.000", "engine", "booted"),
        ("4.500", "0.500", "guest", "read"),
        ("8.000", "4.000", "engine", "answered"),
    ]
    at = lines[1].index("0 ")
    bars = [line[at:] for _, line in rows]
    assert all(bar.strip() for bar in bars)
    assert len(bars[-1].strip()) > 3 * len(bars[2].strip())
    assert max(len(line) for line in lines[:10]) <= 80
    assert "Page faults: 0 until it had the event, 123 in the init phase (2 from disk), 0 in the handler" in lines
    assert "Memory: 3.0 MiB of its own" in lines


def test_a_picture_of_a_warm_call_is_of_its_handler_alone(cleave: Cleave, engine: StubEngine) -> None:
    engine.answer.report.start_kind = reports_pb2.START_KIND_WARM
    engine.answer.report.cost.handler_minor_faults = 7
    err = cleave("invoke", "hello", "--timeline").err
    assert "A warm start" in err
    assert "Page faults: 7 in the handler\n" in err


def test_json_holds_the_result_verbatim_and_the_whole_report(cleave: Cleave) -> None:
    ran = cleave("--output", "json", "invoke", "hello")
    assert ran.err == ""
    assert '"result":{"n": 1.10}' in ran.out
    document = ran.document
    assert document["outcome"] == "ok"
    assert document["report"]["start_kind"] == "fork"
    assert document["report"]["handler_us"] == 1234
    assert document["report"]["timeline"][1] == {"phase": "answered", "offset_us": 5900}


def test_json_of_a_failure_has_the_error_document_and_the_same_exit_code(cleave: Cleave, engine: StubEngine) -> None:
    engine.answer = failed()
    ran = cleave("invoke", "hello", "--output", "json")
    assert ran.code == 3
    assert ran.document["function_error"] == {"type": "ValueError", "document": {"errorType": "ValueError"}}
    assert "result" not in ran.document


@pytest.mark.parametrize(("payload", "shown"), [(b"NaN", "NaN"), (b"plain", "plain"), (b"\xff", "/w==")])
def test_json_holds_even_a_result_that_is_not_json(
    cleave: Cleave, engine: StubEngine, payload: bytes, shown: str
) -> None:
    engine.answer.payload = payload
    assert cleave("invoke", "hello", "-o", "json").document["result"] == shown


def test_a_result_of_six_megabytes_arrives(cleave: Cleave, engine: StubEngine) -> None:
    engine.answer.payload = b'"' + b"x" * 6_000_000 + b'"'
    assert len(cleave("invoke", "hello").out) == 6_000_003


def test_arns_and_resource_names_name_functions_too(cleave: Cleave, engine: StubEngine) -> None:
    for name in ("arn:aws:lambda:us-east-1:000000000000:function:hello", "functions/hello", "hello:$LATEST"):
        assert cleave("invoke", name).code == 0
    assert {request.name for request in engine.invoked} == {"functions/hello"}


Frame = invocations_pb2.InvokeStreamResponse


def streamed(engine: StubEngine, *, failing: bool = False) -> None:
    """Have the engine answer a stream of two chunks, with a line of the log between them."""
    finished = invocations_pb2.Finished(report=report())
    if failing:
        finished.function_error.CopyFrom(failed().function_error)
    engine.frames = [
        Frame(started=invocations_pb2.Started(request_id="r")),
        Frame(chunk=b"one\x00"),
        Frame(log=invocations_pb2.LogLine(text=b"a line")),
        Frame(chunk=b"two"),
        Frame(finished=finished),
    ]


def test_a_stream_is_printed_byte_for_byte_and_its_log_on_standard_error(cleave: Cleave, engine: StubEngine) -> None:
    streamed(engine)
    ran = cleave("invoke", "hello", "--stream", "--log")
    assert (ran.code, ran.out) == (0, "one\x00two")
    assert ran.err.startswith("a line\n")
    assert "REPORT RequestId: 1111" in ran.err


def test_a_stream_that_fails_keeps_its_document_off_standard_output(cleave: Cleave, engine: StubEngine) -> None:
    streamed(engine, failing=True)
    ran = cleave("invoke", "hello", "--stream")
    assert (ran.code, ran.out) == (3, "one\x00two")
    assert '{"errorType": "ValueError"}\n' in ran.err


def test_json_of_a_stream_holds_the_whole(cleave: Cleave, engine: StubEngine) -> None:
    streamed(engine)
    ran = cleave("invoke", "hello", "--stream", "-o", "json")
    assert ran.document["result"] == "one\x00two"
    assert ran.document["log"] == "a line\n"


def test_a_stream_that_is_refused_exits_as_any_refusal(cleave: Cleave, engine: StubEngine) -> None:
    assert cleave("invoke", "helo", "--stream").code == 1
