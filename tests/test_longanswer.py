"""An answer that is made of the log while it is sent (`occd/web/longanswer.py`)."""

import json
from collections.abc import Sequence

import pytest
import trio

from occd import events
from occd.events import LogEntry, Output, Stage
from occd.judging import TestVerdict as V
from occd.model import Outcome, Result, Verdict, Written
from occd.web.longanswer import pieces_of
from occd.web.schema import LogTests


@pytest.mark.parametrize("at", [-7, -1, 1])
async def test_events_of_tests_that_there_are_not_are_left_out(at: int) -> None:
    """A damaged log, or one that somebody else wrote to."""
    strange: list[events.Event] = [
        Output("run", "stdout", b"x", test=at),
        Stage("run", "end", None, test=at),
        events.Tested(at, "strange", V.WRONG_ANSWER, 0.0, "", 0.0, 0.0, 0),
    ]
    ours = events.Tested(0, "ours", V.ACCEPTED, 1.0, "", 0.0, 0.0, 0)
    log = [LogEntry(seq, 0.0, event) for seq, event in enumerate([ours, *strange], 1)]

    async def read(after: int, _: int) -> Sequence[LogEntry]:
        await trio.lowlevel.checkpoint()
        return log[after:]

    value = {"tests": LogTests((V.ACCEPTED,), 0)}
    (test,) = json.loads(b"".join([each async for each in pieces_of(value, read)]))["tests"]
    assert (test["name"], test["verdict"]) == ("ours", "accepted")


async def test_a_log_that_comes_as_a_whole_is_read_once() -> None:
    said = [f"output of {at}\n".encode() for at in range(20)]
    log: list[events.Event] = []
    for at, data in enumerate(said):
        outcome = Outcome(0, None, None, Written(len(data)), Written(), 0.0, 0.0, 0)
        log.append(Output("run", "stdout", data[:5], test=at))
        log.append(Output("run", "stdout", data[5:], test=at))
        log.append(Stage("run", "end", outcome, test=at))
    log.append(events.Finished(Result(Verdict.ACCEPTED, None, None)))
    entries = [LogEntry(seq, 0.0, event) for seq, event in enumerate(log, 1)]
    reads = 0

    async def read(after: int, _: int) -> Sequence[LogEntry]:
        nonlocal reads
        reads += 1
        await trio.lowlevel.checkpoint()
        return entries[after:]

    value = {"tests": LogTests((V.ACCEPTED,) * len(said), 0)}
    tests = json.loads(b"".join([each async for each in pieces_of(value, read)]))["tests"]
    assert [test["run"]["stdout"].encode() for test in tests] == said
    assert reads == 1
