"""Results and events as version 1 wrote them. Version 1 wrote a program's output into the outcome. This
version reads all of that output as heads."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, with_config

from occd.events import Finished, Stage
from occd.model import LimitName, Outcome, Result, Submission, Verdict, Written

LENIENT = ConfigDict(
    ser_json_bytes="base64",
    val_json_bytes="base64",
    strict=True,
    allow_inf_nan=False,
    extra="ignore",
)
"""How results and events of every version are read: fields that are not known are dropped."""


@dataclass(frozen=True, slots=True)
class Outcome1:
    exit_code: int | None
    signal: str | None
    limit: LimitName | None
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool
    stderr_truncated: bool
    cpu_time: float
    wall_time: float
    memory: int

    @property
    def outcome(self) -> Outcome:
        """All output is in the heads."""
        return Outcome(
            self.exit_code,
            self.signal,
            self.limit,
            Written.of(self.stdout, truncated=self.stdout_truncated),
            Written.of(self.stderr, truncated=self.stderr_truncated),
            self.cpu_time,
            self.wall_time,
            self.memory,
        )


@dataclass(frozen=True, slots=True)
class Result1:
    verdict: Verdict
    message: str | None = None
    version: str | None = None
    compile: Outcome1 | None = None
    run: Outcome1 | None = None
    attempts: int = 0
    started_at: float | None = None
    finished_at: float = 0.0

    @property
    def result(self) -> Result:
        return Result(
            self.verdict,
            self.message,
            self.version,
            self.compile.outcome if self.compile else None,
            self.run.outcome if self.run else None,
            self.attempts,
            self.started_at,
            self.finished_at,
        )


@dataclass(frozen=True, slots=True)
@with_config(LENIENT)
class ResultMessage1:
    id: str
    attempt: int
    result: Result1
    submission: Submission | None = None
    v: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Stage1:
    stage: Literal["compile", "run"]
    phase: Literal["start", "end"]
    outcome: Outcome1 | None
    name: Literal["stage"]

    @property
    def event(self) -> Stage:
        return Stage(self.stage, self.phase, self.outcome.outcome if self.outcome else None)


@dataclass(frozen=True, slots=True)
class Finished1:
    result: Result1
    name: Literal["finished"]

    @property
    def event(self) -> Finished:
        return Finished(self.result.result)


@dataclass(frozen=True, slots=True)
@with_config(LENIENT)
class EventRecord1:
    event: Annotated[Stage1 | Finished1, Field(discriminator="name")]


@dataclass(frozen=True, slots=True)
@with_config(LENIENT)
class ResultRecord1:
    result: Result1
