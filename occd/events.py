"""The events of a submission: its log tells by them what happens to it."""

from dataclasses import dataclass
from typing import Literal

from occd.judging import TestVerdict
from occd.model import (
    Account,
    Artifact,
    Outcome,
    Program,
    Result,
    StageName,
    Step,
    Stream,
    account_of,
)


class _OfStep:
    """An event of a step. The step's fields stand in the event itself, where version 1 has its `stage`."""

    __slots__ = ()
    stage: StageName
    program: Program
    test: int | None

    @property
    def step(self) -> Step:
        return Step(self.stage, self.program, self.test)


@dataclass(frozen=True, slots=True)
class Queued:
    position: int
    estimate_s: float | None
    name: Literal["queued"] = "queued"


@dataclass(frozen=True, slots=True)
class Started:
    attempt: int
    version: str | None
    node: str
    name: Literal["started"] = "started"
    wall_time: float | None = None
    """The limits of the run, in seconds, for those who show a clock."""
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class Stage(_OfStep):
    stage: StageName
    phase: Literal["start", "end"]
    outcome: Outcome | None = None
    name: Literal["stage"] = "stage"
    program: Program = "solution"
    test: int | None = None


@dataclass(frozen=True, slots=True)
class Output(_OfStep):
    stage: StageName
    stream: Stream
    data: bytes
    name: Literal["output"] = "output"
    program: Program = "solution"
    test: int | None = None

    @property
    def account(self) -> Account:
        return account_of(self.stream)


@dataclass(frozen=True, slots=True)
class Left(_OfStep):
    """The event `artifact`: a program left a file."""

    artifact: Artifact
    stage: StageName
    name: Literal["artifact"] = "artifact"
    program: Program = "solution"
    test: int | None = None


@dataclass(frozen=True, slots=True)
class Tested:
    """The event `test`: a test is over, or is left out. `share` is what the test earns of its weight. A
    failure of an earlier test may still leave out a test that is over."""

    test: int
    title: str
    verdict: TestVerdict
    share: float
    message: str
    cpu_time: float
    wall_time: float
    memory: int
    name: Literal["test"] = "test"


@dataclass(frozen=True, slots=True)
class Finished:
    """The event `finished`."""

    result: Result
    name: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event that this version of occd cannot read: a later one wrote it, or it was damaged."""

    name: Literal["unknown"] = "unknown"


Event = Queued | Started | Stage | Output | Left | Tested | Finished | Unknown


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An event with its place in the submission's log; `seq` counts from 1 without gaps."""

    seq: int
    time: float
    event: Event
