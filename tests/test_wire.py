"""What is written in queues and state reads back as it was (`occd/wire.py`)."""

import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from values import events, ids, results, submissions, text

from occd import rules, wire
from occd.errors import Poisoned, Unreadable
from occd.events import Event, LogEntry, Output, Unknown
from occd.model import File, Outcome, Record, Result, Submission, Terminal, Verdict, Written
from occd.web.json import dump
from occd.web.schema import event_json, no_text, record_json

SUBMISSION = Submission("id", "python", None, "main.py", (File("main.py", b"print(1)"),))
RESULT = Result(Verdict.OK)
OUTCOME = Outcome(0, None, None, Written.of(b"out"), Written(), 0.1, 0.2, 300)


@given(submissions())
def test_a_submission_reads_back_as_it_was(submission: Submission) -> None:
    assert wire.decode_submission(wire.encode_submission(submission)) == submission


@given(st.builds(wire.ResultMessage, id=ids, attempt=st.integers(1, 3), result=results))
def test_a_result_message_reads_back_as_it_was(message: wire.ResultMessage) -> None:
    assert wire.decode_result(wire.encode_result(message)) == message


@given(results)
def test_a_stored_result_reads_back_as_it_was(result: Result) -> None:
    assert wire.load_result(wire.store_result(result)) == result


@given(events)
def test_a_stored_event_reads_back_as_it_was(event: Event) -> None:
    assert wire.load_event(wire.store_event(event)) == event


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\xed\xa0\x80", b"", bytes(range(256)) * 500])
def test_bytes_that_are_not_text_survive(data: bytes) -> None:
    event = Output("run", "stderr", data)
    assert wire.load_event(wire.store_event(event)) == event
    assert wire.store_event(event).isascii()


def test_what_is_written_is_json_with_its_version() -> None:
    assert json.loads(wire.encode_submission(SUBMISSION))["v"] == 1
    assert json.loads(wire.encode_result(wire.ResultMessage("id", 1, RESULT)))["v"] == 2


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
    "a newer version": submission_with(v=3),
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
    "a newer version": result_with(v=3),
    "an older version": result_with(v=0),
    "a submission": submission_with(),
    "no attempt": result_with(attempt=None),
    "an unknown verdict": result_with(verdict="splendid"),
    "an outcome of a wrong type": result_with(run=[]),
    "truncated": wire.encode_result(wire.ResultMessage("id", 1, RESULT))[:-1],
}


@pytest.mark.parametrize("body", BAD_SUBMISSIONS.values(), ids=BAD_SUBMISSIONS)
def test_a_poisoned_submission_is_refused_with_a_short_reason(body: bytes) -> None:
    with pytest.raises(
        Poisoned, match=r"not a message of ours|does not know the version"
    ) as refused:
        wire.decode_submission(body)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("body", BAD_RESULTS.values(), ids=BAD_RESULTS)
def test_a_poisoned_result_is_refused_with_a_short_reason(body: bytes) -> None:
    with pytest.raises(
        Poisoned, match=r"not a message of ours|does not know the version"
    ) as refused:
        wire.decode_result(body)
    assert len(str(refused.value)) < 500


@given(st.binary(max_size=100))
def test_no_bytes_at_all_do_more_than_poison(body: bytes) -> None:
    with pytest.raises(Poisoned):
        wire.decode_submission(body)
    with pytest.raises(Poisoned):
        wire.decode_result(body)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_damaged_message_is_poisoned_or_still_a_message(at: int, noise: bytes) -> None:
    body = wire.encode_submission(SUBMISSION)
    at %= len(body)
    with suppress(Poisoned):
        assert isinstance(wire.decode_submission(body[:at] + noise + body[at:]), Submission)


# What a queue or a store may hold that nobody of ours wrote


def changed(tree: Any, path: list[Any], value: Any) -> bytes:
    """A message with another value at a place in it."""
    at = tree
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return json.dumps(tree).encode()


def message() -> Any:
    return json.loads(wire.encode_submission(SUBMISSION))


S = ["submission"]
HOSTILE: dict[str, tuple[list[Any], Any]] = {
    "a name that climbs": ([*S, "files", 0, "name"], "../../x"),
    "a name that climbs from within": ([*S, "files", 0, "name"], "a/../../x"),
    "an absolute name": ([*S, "files", 0, "name"], "/etc/cron.d/x"),
    "an empty name": ([*S, "files", 0, "name"], ""),
    "an empty part": ([*S, "files", 0, "name"], "a//b"),
    "a folder": ([*S, "files", 0, "name"], "a/"),
    "a dot": ([*S, "files", 0, "name"], "./x"),
    "an option": ([*S, "files", 0, "name"], "-rf"),
    "a NUL in a name": ([*S, "files", 0, "name"], "main.py\0x"),
    "a newline in a name": ([*S, "files", 0, "name"], "main\n.py"),
    "a long name": ([*S, "files", 0, "name"], "x" * 256),
    "a deep name": ([*S, "files", 0, "name"], "/".join("abcdefghijklmnopq")),
    "a main that climbs": ([*S, "main"], "../main.py"),
    "a main that is not there": ([*S, "main"], "other.py"),
    "two files of one name": (
        [*S, "files"],
        [{"name": "main.py", "content": ""}, {"name": "main.py", "content": ""}],
    ),
    "a file that is a folder": (
        [*S, "files"],
        [{"name": "main.py", "content": ""}, {"name": "main.py/x", "content": ""}],
    ),
    "too many files": (
        [*S, "files"],
        [{"name": f"f{n}", "content": ""} for n in range(rules.FILES_MAX)]
        + [{"name": "main.py", "content": ""}],
    ),
    "more than the box holds": ([*S, "limits", "box"], 4095),
    "an id that is a path": ([*S, "id"], "../id"),
    "an id of another key": ([*S, "id"], "a}b"),
    "a long id": ([*S, "id"], "x" * 65),
    "an owner that is a key": ([*S, "owner"], "a b"),
    "an owner of an unknown kind": ([*S, "owner"], "saml:moodle"),
    "an owner with a brace": ([*S, "owner"], "oidc:https://a.test#{x}"),
    "an owner of no kind": ([*S, "owner"], ":moodle"),
    "an owner that is only a kind": ([*S, "owner"], "anon:"),
    "a long owner": ([*S, "owner"], "anon:" + "x" * 65),
    "an owner that is a number": ([*S, "owner"], 5),
    "a retry of nothing": ([*S, "retry_of"], ""),
    "no language": ([*S, "language"], ""),
    "a long language": ([*S, "language"], "x" * 65),
    "a version that is a pattern": ([*S, "version"], "3.*"),
    "too many args": ([*S, "args"], [""] * 1001),
    "long args": ([*S, "args"], ["x" * 128 * 1024]),
    "a NUL in args": ([*S, "args"], ["\0"]),
    "too many compile_args": ([*S, "compile_args"], [""] * 1001),
    "a name of env with =": ([*S, "env"], [["A=B", ""]]),
    "a NUL in env": ([*S, "env"], [["A", "\0"]]),
    "too much env": ([*S, "env"], [["A", ""]] * 44_000),
    "a long user_id": ([*S, "user_id"], "x" * 257),
    "a time that is none": ([*S, "created_at"], 1e300),
    "a time before time": ([*S, "created_at"], -1),
    "text for a number": ([*S, "created_at"], "0"),
    "text for yes": ([*S, "interactive"], "yes"),
    "a terminal without input": ([*S, "tty"], {"rows": 24, "cols": 80}),
    "a terminal that is true": ([*S, "tty"], True),
    "detached from nobody": ([*S, "detached"], True),
    "idle without input": ([*S, "limits", "idle"], 300),
    **{f"{name} is 0": ([*S, "limits", name], 0) for name in rules.MOST},
    **{f"{name} is negative": ([*S, "limits", name], -1) for name in rules.MOST},
    **{f"{name} is huge": ([*S, "limits", name], 2**62) for name in rules.MOST},
    "endless": ([*S, "limits", "wall_time"], float("inf")),
    "no number": ([*S, "limits", "cpu_time"], float("nan")),
}


@pytest.mark.parametrize(("path", "value"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_submission_is_refused_with_a_short_reason(path: list[Any], value: Any) -> None:
    with pytest.raises(Poisoned, match="not a message of ours") as refused:
        wire.decode_submission(changed(message(), path, value))
    assert len(str(refused.value)) < 300


TERMINAL = replace(SUBMISSION, interactive=True, tty=Terminal(24, 1000))


def test_a_terminal_is_written_as_a_later_field() -> None:
    body = wire.encode_submission(TERMINAL)
    assert json.loads(body)["v"] == 2
    assert json.loads(body)["submission"]["tty"] == {"rows": 24, "cols": 1000}
    assert wire.decode_submission(body) == TERMINAL
    assert wire.later_fields(TERMINAL) == ["tty", "tty.cols", "tty.rows"]


@pytest.mark.parametrize("rows", [0, -1, 1001, 10_000, True, 24.0, "24", None, 2**64])
def test_a_window_that_no_terminal_has_is_refused(rows: Any) -> None:
    tree = json.loads(wire.encode_submission(TERMINAL))
    with pytest.raises(Poisoned, match="not a message of ours"):
        wire.decode_submission(changed(tree, [*S, "tty", "rows"], rows))


UNKNOWN_FIELDS: dict[str, list[Any]] = {
    "in the message": ["later"],
    "in the submission": [*S, "tests"],
    "in a file": [*S, "files", 0, "mode"],
    "in the limits": [*S, "limits", "idle_time"],
}


@pytest.mark.parametrize("path", UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
def test_a_submission_with_an_unknown_field_is_refused_by_its_name(path: list[Any]) -> None:
    body = changed(message(), path, None)
    name = ".".join(map(str, path))
    with pytest.raises(Poisoned, match=f"does not know the field {name}"):
        wire.decode_submission(body)


def test_a_result_of_a_later_version_is_read_without_what_it_adds() -> None:
    known = replace(SUBMISSION, files=())
    sent = wire.ResultMessage("id", 2, Result(Verdict.OK, run=OUTCOME), known)
    tree = json.loads(wire.encode_result(sent))
    for at in (tree, tree["result"], tree["result"]["run"], tree["submission"]):
        at["later"] = {"a": [1]}
    assert wire.decode_result(json.dumps(tree).encode()) == sent


HOSTILE_RESULTS: dict[str, tuple[list[Any], Any]] = {
    "an id of another key": (["id"], "a}b"),
    "an attempt before the first": (["attempt"], 0),
    "an attempt that no column holds": (["attempt"], 2**63),
    "another submission": (["submission", "id"], "victim"),
    "a submission that climbs": (["submission", "main"], "../x"),
    "an end that is no time": (["result", "finished_at"], 1e300),
    "an end without end": (["result", "finished_at"], float("inf")),
    "a start that is no number": (["result", "started_at"], float("nan")),
    "CPU time without end": (["result", "run", "cpu_time"], float("inf")),
}


@pytest.mark.parametrize(("path", "value"), HOSTILE_RESULTS.values(), ids=HOSTILE_RESULTS)
def test_a_hostile_result_is_refused(path: list[Any], value: Any) -> None:
    sent = wire.ResultMessage("id", 1, Result(Verdict.OK, run=OUTCOME), SUBMISSION)
    with pytest.raises(Poisoned, match="not a message of ours"):
        wire.decode_result(changed(json.loads(wire.encode_result(sent)), path, value))


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"event": {"name": "graded", "score": 1}}',
        b'{"event": {"name": "output"}}',
    ],
)
def test_an_event_that_cannot_be_read_is_an_event_all_the_same(stored: bytes) -> None:
    assert wire.load_event(stored) == Unknown()


@pytest.mark.parametrize("stored", [b"", b"{}", b'{"result": {"verdict": "splendid"}}'])
def test_a_result_that_cannot_be_read_is_one_error(stored: bytes) -> None:
    with pytest.raises(Unreadable):
        wire.load_result(stored)


def test_a_million_faults_cost_no_more_than_a_message_of_that_size() -> None:
    """Each fault made an object of Python's: 6 s for the first of these."""
    tree = message()
    tree["submission"]["files"] = [0] * 1_000_000
    zeros = json.dumps(tree).encode()
    tree["submission"]["files"] = []
    tree["submission"] |= dict.fromkeys(map(str, range(300_000)))
    keys = json.dumps(tree).encode()
    for body in (zeros, keys):
        began = time.thread_time()
        with pytest.raises(Poisoned, match="too many parts") as refused:
            wire.decode_submission(body)
        assert time.thread_time() - began < 1
        assert len(str(refused.value)) < 200


def test_the_largest_words_are_not_too_many_parts() -> None:
    largest = replace(SUBMISSION, args=("," * 131_000,), stdin=b"," * 2**20)
    assert wire.decode_submission(wire.encode_submission(largest)) == largest


hostile_text = st.sampled_from(
    [
        "..",
        "/",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a\0b",
        "-x",
        "a//b",
        "\\",
        "x" * 300,
        "é" * 130,
        "",
        ".",
    ]
)
hostile = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | hostile_text | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def mutated(data: st.DataObject, tree: Any) -> bytes:
    """The same with up to three hostile values somewhere in it."""
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = tree
        while isinstance(at, dict | list) and at:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
                at[key] = data.draw(hostile)
                break
            at = at[key]
    return json.dumps(tree).encode()


@given(st.data())
@settings(max_examples=100)
def test_whatever_is_changed_in_a_message_what_is_read_keeps_the_rules(data: st.DataObject) -> None:
    body = mutated(data, json.loads(wire.encode_submission(data.draw(submissions()))))
    with suppress(Poisoned):
        read = wire.decode_submission(body)
        assert wire.decode_submission(wire.encode_submission(read)) == read
        for file in read.files:
            assert not file.name.startswith("/")
            assert not {"", ".", ".."} & set(file.name.split("/"))
            assert "\0" not in file.name
        assert read.main in [file.name for file in read.files] or not read.files
        assert 0 < read.limits.wall_time <= rules.MOST["wall_time"]


@given(st.data())
@settings(max_examples=60)
def test_whatever_is_changed_in_a_result_it_can_be_stored_and_shown(data: st.DataObject) -> None:
    sent = wire.ResultMessage("id", 1, data.draw(results), SUBMISSION)
    body = mutated(data, json.loads(wire.encode_result(sent)))
    with suppress(Poisoned):
        read = wire.decode_result(body).result
        assert wire.load_result(wire.store_result(read)) == read
        shown = record_json(Record("id", "python", "finished", 1, 0.0, 0.0, None, read), no_text)
        assert json.loads(dump(shown))["id"] == "id"


@given(st.data())
@settings(max_examples=60)
def test_whatever_is_changed_in_an_event_it_can_be_told(data: st.DataObject) -> None:
    event = wire.load_event(mutated(data, json.loads(wire.store_event(data.draw(events)))))
    told = json.loads(dump(event_json("id", LogEntry(1, 0.0, event), None)))
    assert told["event"]["name"] == event.name
