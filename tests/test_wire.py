"""What is written in queues and state reads back as it was (`occd/wire.py`)."""

import json
from contextlib import suppress
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occd import wire
from occd.errors import Poisoned
from occd.model import Event, Outcome, Output, Result, Submission, Verdict

number = st.floats(0, 1e12, allow_nan=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
outcomes = st.builds(
    Outcome,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.just("SIGSEGV"),
    stdout=st.binary(),
    stderr=st.binary(),
    cpu_time=number,
    wall_time=number,
    memory=st.integers(0, 2**50),
)
results = st.builds(
    Result,
    message=st.none() | text,
    version=st.none() | text,
    compile=st.none() | outcomes,
    run=st.none() | outcomes,
    attempts=st.integers(0, 3),
    started_at=st.none() | number,
    finished_at=number,
)
st.register_type_strategy(float, number)
st.register_type_strategy(str, text)
st.register_type_strategy(Outcome, outcomes)
st.register_type_strategy(Result, results)
events = st.one_of([st.from_type(kind) for kind in get_args(Event)])

SUBMISSION = Submission("id", "python", None, "main.py", ())
RESULT = Result(Verdict.OK)


@given(st.from_type(Submission))
@settings(deadline=None)
def test_a_submission_reads_back_as_it_was(submission: Submission) -> None:
    assert wire.decode_submission(wire.encode_submission(submission)) == submission


@given(st.builds(wire.ResultMessage, id=text, attempt=st.integers(1, 3), result=results))
@settings(deadline=None)
def test_a_result_message_reads_back_as_it_was(message: wire.ResultMessage) -> None:
    assert wire.decode_result(wire.encode_result(message)) == message


@given(results)
@settings(deadline=None)
def test_a_stored_result_reads_back_as_it_was(result: Result) -> None:
    assert wire.load_result(wire.store_result(result)) == result


@given(events)
@settings(deadline=None)
def test_a_stored_event_reads_back_as_it_was(event: Event) -> None:
    assert wire.load_event(wire.store_event(event)) == event


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\xed\xa0\x80", b"", bytes(range(256)) * 500])
def test_bytes_that_are_not_text_survive(data: bytes) -> None:
    event = Output("run", "stderr", data)
    assert wire.load_event(wire.store_event(event)) == event
    assert wire.store_event(event).isascii()


def test_what_is_written_is_json_with_its_version() -> None:
    assert json.loads(wire.encode_submission(SUBMISSION))["v"] == 1
    assert json.loads(wire.encode_result(wire.ResultMessage("id", 1, RESULT)))["v"] == 1


def submission_with(**changes: Any) -> bytes:
    message = json.loads(wire.encode_submission(SUBMISSION))
    for name, value in changes.items():
        (message if name == "v" else message["submission"])[name] = value
    return json.dumps(message).encode()


def result_with(**changes: Any) -> bytes:
    message = json.loads(wire.encode_result(wire.ResultMessage("id", 1, RESULT)))
    for name, value in changes.items():
        (message["result"] if name in message["result"] else message)[name] = value
    return json.dumps(message).encode()


NOT_MESSAGES = {
    "empty": b"",
    "not JSON": b"hello",
    "not UTF-8": b'{"v": 1, "x": "\xff"}',
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    "deep": b"[" * 100_000,
}
BAD_SUBMISSIONS = NOT_MESSAGES | {
    "a newer version": submission_with(v=2),
    "an older version": submission_with(v=0),
    "a version that is text": submission_with(v="1.0"),
    "a result": result_with(),
    "no id": submission_with(id=None),
    "an id of a wrong type": submission_with(id=5),
    "files of a wrong type": submission_with(files="main.py"),
    "content that is not base64": submission_with(files=[{"name": "a", "content": "%%"}]),
    "a limit of a wrong type": submission_with(limits={"cpu_time": "much"}),
    "truncated": wire.encode_submission(SUBMISSION)[:-1],
    "half": wire.encode_submission(SUBMISSION)[:40],
}
BAD_RESULTS = NOT_MESSAGES | {
    "a newer version": result_with(v=2),
    "an older version": result_with(v=0),
    "a submission": submission_with(),
    "no attempt": result_with(attempt=None),
    "an unknown verdict": result_with(verdict="splendid"),
    "an outcome of a wrong type": result_with(run=[]),
    "truncated": wire.encode_result(wire.ResultMessage("id", 1, RESULT))[:-1],
}


@pytest.mark.parametrize("body", BAD_SUBMISSIONS.values(), ids=BAD_SUBMISSIONS)
def test_a_poisoned_submission_is_refused_with_a_short_reason(body: bytes) -> None:
    with pytest.raises(Poisoned, match="not a message of ours") as refused:
        wire.decode_submission(body)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("body", BAD_RESULTS.values(), ids=BAD_RESULTS)
def test_a_poisoned_result_is_refused_with_a_short_reason(body: bytes) -> None:
    with pytest.raises(Poisoned, match="not a message of ours") as refused:
        wire.decode_result(body)
    assert len(str(refused.value)) < 500


@given(st.binary(max_size=100))
def test_no_bytes_at_all_do_more_than_poison(body: bytes) -> None:
    with pytest.raises(Poisoned):
        wire.decode_submission(body)
    with pytest.raises(Poisoned):
        wire.decode_result(body)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
@settings(deadline=None)
def test_a_damaged_message_is_poisoned_or_still_a_message(at: int, noise: bytes) -> None:
    body = wire.encode_submission(SUBMISSION)
    at %= len(body)
    with suppress(Poisoned):
        assert isinstance(wire.decode_submission(body[:at] + noise + body[at:]), Submission)
