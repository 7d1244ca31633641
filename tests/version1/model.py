"""A copy of `occd/model.py` of commit 99529c6. The words of the design as frozen values."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Stream = Literal["stdout", "stderr"]
StageName = Literal["compile", "run"]
LimitName = Literal["cpu_time", "wall_time", "memory", "output"]
Status = Literal["queued", "running", "finished"]

MAX_ATTEMPTS = 3


class Verdict(StrEnum):
    OK = "ok"
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Limits:
    cpu_time: float = 5.0
    wall_time: float = 10.0
    memory: int = 256 * 2**20
    processes: int = 64
    output: int = 2**20
    file_size: int = 10 * 2**20
    box: int = 64 * 2**20
    open_files: int = 256


@dataclass(frozen=True, slots=True)
class File:
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asks to be run, complete: `limits` are resolved, `main` names the file of
    `files` that the language's commands are given."""

    id: str
    language: str
    version: str | None
    main: str
    files: tuple[File, ...]
    stdin: bytes = b""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    compile_args: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    interactive: bool = False
    user_id: str | None = None
    created_at: float = 0.0
    owner: str | None = None
    """Whose it is: the hash of a secret that its client made, or nobody's."""
    retry_of: str | None = None
    """The submission that this one repeats, because an operator requeued it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one stage ended. `exit_code` is None exactly when `signal` names what killed it."""

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
    def succeeded(self) -> bool:
        return self.exit_code == 0 and self.limit is None


@dataclass(frozen=True, slots=True)
class Result:
    """The last word on a submission. `version` is the language version that ran, if one did."""

    verdict: Verdict
    message: str | None = None
    version: str | None = None
    compile: Outcome | None = None
    run: Outcome | None = None
    attempts: int = 0
    started_at: float | None = None
    finished_at: float = 0.0


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


@dataclass(frozen=True, slots=True)
class Stage:
    stage: StageName
    phase: Literal["start", "end"]
    outcome: Outcome | None = None
    name: Literal["stage"] = "stage"


@dataclass(frozen=True, slots=True)
class Output:
    stage: StageName
    stream: Stream
    data: bytes
    name: Literal["output"] = "output"


@dataclass(frozen=True, slots=True)
class Ended:
    """The event `finished`."""

    result: Result
    name: Literal["finished"] = "finished"


Event = Queued | Started | Stage | Output | Ended


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its place in the submission's log; `seq` counts from 1 without gaps."""

    seq: int
    time: float
    event: Event


@dataclass(frozen=True, slots=True)
class Summary:
    """A submission in a list: without what it was given and what it wrote."""

    id: str
    language: str
    status: Status
    verdict: Verdict | None
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def cursor(self) -> str:
        """Where a list goes on after this one."""
        return f"{self.created_at!r}~{self.id}"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a submission now."""

    submission: Submission
    status: Status
    attempts: int
    started_at: float | None
    result: Result | None
