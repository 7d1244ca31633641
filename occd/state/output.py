"""The output of a result's steps in a log, and the log that can be made of a result."""

from collections.abc import Iterable
from dataclasses import replace

from occd.events import Event, Output
from occd.model import STREAMS, Outcome, Result, Step, Stream, Written


def joined(result: Result, events: Iterable[Event]) -> dict[tuple[Step, Stream], bytes]:
    """The output of the result's steps, from the events of its attempt."""
    found: dict[tuple[Step, Stream], bytearray] = {}
    for event in events:
        if isinstance(event, Output):
            found.setdefault((event.step, event.stream), bytearray()).extend(event.data)
    return {
        (step, stream): bytes(found.get((step, stream), b""))
        for step in result.outcomes
        for stream in STREAMS
    }


def rebuilt(result: Result) -> tuple[Result, list[Event]]:
    """A log from the heads of a result, for a state that has lost the log. The result counts what this log
    holds, and says that the rest is missing."""
    events: list[Event] = [
        Output(step.stage, stream, head, program=step.program, test=step.test)
        for step, outcome in result.outcomes.items()
        for stream in STREAMS
        if (head := outcome.written(stream).head)
    ]
    shortened = replace(
        result,
        compile=result.compile and _shortened(result.compile),
        run=result.run and _shortened(result.run),
    )
    return shortened, events


def _shortened(outcome: Outcome) -> Outcome:
    def of_head(written: Written) -> Written:
        lost = written.size > len(written.head)
        return Written.of(written.head, truncated=written.truncated or lost)

    return replace(outcome, stdout=of_head(outcome.stdout), stderr=of_head(outcome.stderr))
