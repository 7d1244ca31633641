"""The parts that the logs of all states share: the start of an attempt, the output of a result's steps, and
the log that can be made of a result."""

from collections.abc import Iterable
from dataclasses import replace

from occd.events import Event, Output, Started
from occd.model import ACCOUNTS, Account, Outcome, Result, Step, Submission, Written


def started(submission: Submission, attempt: int, version: str, node: str) -> Started:
    """With the limits of an interactive run."""
    if not submission.interactive:
        return Started(attempt, version, node)
    limits = submission.limits
    return Started(attempt, version, node, wall_time=limits.wall_time, idle=limits.idle)


def joined(result: Result, events: Iterable[Event]) -> dict[tuple[Step, Account], bytes]:
    """The output of the result's steps, from the events of its attempt."""
    found: dict[tuple[Step, Account], bytearray] = {}
    for event in events:
        if isinstance(event, Output):
            found.setdefault((event.step, event.account), bytearray()).extend(event.data)
    return {
        (step, account): bytes(found.get((step, account), b""))
        for step in result.outcomes
        for account in ACCOUNTS
    }


def rebuilt(result: Result) -> tuple[Result, list[Event]]:
    """A log from the heads of a result, for a state that has lost the log. The result counts what this log
    holds, and says that the rest is missing."""
    events: list[Event] = [
        Output(step.stage, outcome.stream(account), head, program=step.program, test=step.test)
        for step, outcome in result.outcomes.items()
        for account in ACCOUNTS
        if (head := outcome.written(account).head)
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
