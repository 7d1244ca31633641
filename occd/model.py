"""The words of the design as frozen values. Times are seconds since the epoch, durations seconds,
sizes bytes. Nothing here knows JSON: `occd/wire.py` does.

Values from outside (requests, messages of queues, values in Redis) keep the rules of `occd/rules.py`:
making a value that breaks a rule raises `rules.Broken`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from occd import rules
from occd.inputs import File as File
from occd.inputs import Limits as Limits
from occd.inputs import Terminal as Terminal
from occd.judging import Judging, TestVerdict
from occd.principal import Owner, as_version_1
from occd.quotas import Quota
from occd.trace import Trace

Account = Literal["stdout", "stderr"]
"""A part of an outcome that accounts for output."""
Stream = Account | Literal["tty"]
"""A stream that a program writes to. A program at a terminal has one, which its `stdout` accounts for."""
StageName = Literal["compile", "run", "check", "interact"]
Program = Literal["solution", "checker", "interactor"]
LimitName = Literal["cpu_time", "wall_time", "memory", "output", "idle"]
Status = Literal["queued", "running", "finished"]

ACCOUNTS: tuple[Account, ...] = ("stdout", "stderr")

MAX_ATTEMPTS = 3

_SPENT_S_MAX = 1e8
_SPENT_BYTES_MAX = 2**50

HEAD_BYTES = 16 * 1024
HEADS_BYTES = 3 * HEAD_BYTES
"""Of one stream, and of all streams of a result together."""


class Verdict(StrEnum):
    """Of a submission. With tests `accepted`, `wrong_answer` and `checker_error` may stand in place of
    `ok`."""

    OK = "ok"
    ACCEPTED = "accepted"
    WRONG_ANSWER = "wrong_answer"
    CHECKER_ERROR = "checker_error"
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that nothing could be done with, and that an operator may try again."""

    id: str
    queue: str
    time: float | None
    size: int
    """Of its body, in bytes."""
    reason: str | None


def known_verdict(word: str | None) -> Verdict | None:
    """None also for one that a later version of occd gave."""
    return next((each for each in Verdict if each == word), None)


@dataclass(frozen=True, slots=True)
class Submission:
    """A complete request to run a program: `limits` are resolved, `main` names the file of
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
    owner: Owner | None = None
    """With its kind: `anon:SHA256`. None when the submission belongs to nobody."""
    retry_of: str | None = None
    """The submission that this one repeats: a client asked for it, or an operator requeued it."""
    judging: Judging | None = None
    """The tests, each of which is a run. Without tests the program runs once."""
    artifacts: tuple[str, ...] = ()
    """Patterns of the files that are kept when the program has ended."""
    tty: Terminal | None = None
    """The program runs at a terminal with this window. The program is interactive then."""
    detached: bool = False
    """An interactive program goes on when nobody follows it."""
    format: bool = False
    """The language's formatter runs over the main file, instead of the program."""
    trace: bool = False
    """The system calls of the program are listed."""
    cache: bool = True
    """What was compiled before may be used, and what is compiled may be kept."""

    def __post_init__(self) -> None:
        rules.check("id", rules.id, self.id)
        rules.check("language", rules.language, self.language)
        rules.check("version", rules.version, self.version)
        rules.check("main", rules.file_name, self.main)
        rules.file_names([file.name for file in self.files])
        if self.files and all(file.name != self.main for file in self.files):
            raise rules.Broken("is none of the files", "main")
        rules.fits((len(file.content) for file in self.files), self.limits.box)
        if len(self.stdin) > rules.BYTES_MAX:
            raise rules.Broken(f"exceeds {rules.BYTES_MAX} bytes", "stdin")
        for name, _ in self.env:
            rules.check("env", rules.env_name, name)
        env = [word for pair in self.env for word in pair]
        rules.words(args=self.args, env=env, compile_args=self.compile_args)
        rules.check("user_id", rules.user_id, self.user_id)
        rules.check("created_at", rules.moment, self.created_at)
        rules.check("owner", rules.owner, self.owner)
        rules.check("retry_of", rules.id, self.retry_of)
        if self.judging:
            self.judging.fits(self.files, self.limits.box)
            for name in ("tty", "interactive", "artifacts", "trace"):
                if getattr(self, name):
                    raise rules.Broken("cannot go together with tests", name)
        if self.format:
            for name, given in {
                "stdin": self.stdin,
                "args": self.args,
                "env": self.env,
                "compile_args": self.compile_args,
                "tty": self.tty,
                "interactive": self.interactive,
                "tests": self.judging,
                "artifacts": self.artifacts,
                "trace": self.trace,
            }.items():
                if given:
                    raise rules.Broken("cannot go together with format", name)
        for name, asks in {
            "tty": self.tty,
            "detached": self.detached,
            "limits.idle": self.limits.idle,
        }.items():
            if asks and not self.interactive:
                raise rules.Broken("needs interactive: true", name)
        rules.check("artifacts", rules.patterns, self.artifacts)

    @property
    def turn(self) -> str | None:
        """Who takes turns in the queue with others: the owner, else the label that the client gave. In the
        form of version 1, so that an owner keeps the same lane in all versions."""
        return as_version_1(self.owner) if self.owner else self.user_id


@dataclass(frozen=True, slots=True)
class Step:
    """One run of one program. `test` is the index of the test that the run is for."""

    stage: StageName
    program: Program = "solution"
    test: int | None = None


COMPILE, RUN = Step("compile"), Step("run")


@dataclass(frozen=True, slots=True)
class Written:
    """An account of one stream of a step. The log of the submission holds the output itself."""

    size: int = 0
    """In bytes."""
    utf8: bool = True
    """Whether all of the output is UTF-8."""
    truncated: bool = False
    """Whether the program wrote more than the log holds."""
    head: bytes = b""
    """The beginning of the output, for a state that has lost the log."""

    def __post_init__(self) -> None:
        if not len(self.head) <= self.size <= rules.MOST["output"]:
            raise rules.Broken(f"must be between its head and {rules.MOST['output']}", "size")

    @classmethod
    def of(cls, data: bytes, *, truncated: bool = False) -> "Written":
        """The account of `data`, all of which is its head."""
        try:
            data.decode()
        except UnicodeDecodeError:
            return cls(len(data), False, truncated, data)
        return cls(len(data), True, truncated, data)

    def without_head(self) -> "Written":
        return replace(self, head=b"") if self.head else self


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step ended. `exit_code` is None exactly when `signal` names what killed the program. `tty`: the
    program ran at a terminal. All that the terminal showed counts as stdout then, and stderr is empty."""

    exit_code: int | None
    signal: str | None
    limit: LimitName | None
    stdout: Written
    stderr: Written
    cpu_time: float
    wall_time: float
    memory: int
    tty: bool = False
    cached: bool = False
    """It was not run: it was before, and would end the same way."""

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and self.limit is None

    def written(self, account: Account) -> Written:
        return self.stdout if account == "stdout" else self.stderr

    def stream(self, account: Account) -> Stream:
        """The stream whose output this account counts."""
        return "tty" if self.tty and account == "stdout" else account

    def without_heads(self) -> "Outcome":
        return replace(self, stdout=self.stdout.without_head(), stderr=self.stderr.without_head())


@dataclass(frozen=True, slots=True)
class GroupScore:
    name: str
    points: float
    points_max: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """The tests of a submission together. `score` is a share between 0 and 1. The log tells more of each
    test."""

    tests: tuple[TestVerdict, ...]
    score: float
    points: float
    points_max: float
    groups: tuple[GroupScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a program left. State has the bytes, by their SHA-256."""

    name: str
    size: int
    sha256: str
    type: str
    """A media type."""

    def __post_init__(self) -> None:
        rules.check("name", rules.file_name, self.name)
        rules.check("sha256", rules.sha256, self.sha256)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that matches a pattern and was not kept. `name` ends with a slash for a folder, and is empty for
    the box. Bytes that are not UTF-8 are written as backslashes. A name of more than 1,024 characters is cut,
    and ends with `…`. `reason` is a `Reason` of the sandbox, perhaps of a later version."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Artifacts:
    kept: tuple[Artifact, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    """The first 100."""
    left_out_count: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What all steps of an attempt took together, also those of tests and checkers."""

    cpu_time: float = 0.0
    output: int = 0
    """Bytes in the log."""

    def __post_init__(self) -> None:
        if not 0 <= self.cpu_time <= _SPENT_S_MAX:
            raise rules.Broken(f"must be between 0 and {_SPENT_S_MAX:g}", "cpu_time")
        if not 0 <= self.output <= _SPENT_BYTES_MAX:
            raise rules.Broken(f"must be between 0 and {_SPENT_BYTES_MAX}", "output")


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
    judgement: Judgement | None = None
    artifacts: Artifacts | None = None
    spent: Spent | None = None
    """None: nothing ran, or an older version made the result."""
    trace: Trace | None = None

    def __post_init__(self) -> None:
        rules.check("started_at", rules.moment, self.started_at)
        rules.check("finished_at", rules.moment, self.finished_at)

    def with_short_heads(self) -> "Result":
        """All heads together have at most HEADS_BYTES: those of the run come first."""
        run, left = _with_short_heads(self.run, HEADS_BYTES)
        compiled, _ = _with_short_heads(self.compile, left)
        return replace(self, compile=compiled, run=run)

    @property
    def outcomes(self) -> Mapping[Step, Outcome]:
        """By step, in the order of the steps."""
        both = {COMPILE: self.compile, RUN: self.run}
        return {step: outcome for step, outcome in both.items() if outcome}

    def without_heads(self) -> "Result":
        return replace(
            self,
            compile=self.compile and self.compile.without_heads(),
            run=self.run and self.run.without_heads(),
        )


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

    def __post_init__(self) -> None:
        for name in ("created_at", "started_at", "finished_at"):
            rules.check(name, rules.moment, getattr(self, name))

    @property
    def cursor(self) -> str:
        """The place in a list behind this submission."""
        return f"{self.created_at!r}~{self.id}"


@dataclass(frozen=True, slots=True)
class Record:
    """The present state of a submission, without its sources and its stdin."""

    id: str
    language: str
    status: Status
    attempts: int
    created_at: float
    started_at: float | None = None
    retry_of: str | None = None
    result: Result | None = None
    log_from: int = 0
    """The number in the log behind which the result's output lies."""
    output: Mapping[tuple[Step, Account], bytes] | None = None
    """What the steps of the result wrote, if it was asked for and is short enough."""

    @property
    def tests(self) -> int:
        """How many the result has."""
        return len(self.result.judgement.tests) if self.result and self.result.judgement else 0

    @property
    def output_size(self) -> int:
        """In bytes, of all steps."""
        outcomes = self.result.outcomes.values() if self.result else ()
        return sum(outcome.stdout.size + outcome.stderr.size for outcome in outcomes)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that was accepted, and the quotas of its payer, with it counted. An earlier submission,
    which a repeated request gets, has none."""

    record: Record
    quotas: tuple[Quota, ...] = ()

    @property
    def id(self) -> str:
        return self.record.id


def _with_short_heads(outcome: Outcome | None, left: int) -> tuple[Outcome | None, int]:
    if outcome is None:
        return None, left
    heads = len(outcome.stdout.head) + len(outcome.stderr.head)
    if heads <= left:
        return outcome, left - heads
    shortened = []
    for written in (outcome.stdout, outcome.stderr):
        kept = written if len(written.head) <= left else written.without_head()
        left -= len(kept.head)
        shortened.append(kept)
    return replace(outcome, stdout=shortened[0], stderr=shortened[1]), left


def account_of(stream: Stream) -> Account:
    """The part of an outcome that counts what was written to a stream."""
    return "stdout" if stream == "tty" else stream


def new_id() -> str:
    """128 random bits: knowing an id is the right to read its submission. To a command
    an id that begins with "-" would be an option."""
    while (id := secrets.token_urlsafe(16)).startswith("-"):
        pass
    return id


def judge(compiled: Outcome | None, run: Outcome | None, *, cancelled: bool) -> Verdict:
    """The verdict, by the first rule that holds."""
    if cancelled:
        return Verdict.CANCELLED
    last = run if run is not None else compiled
    assert last is not None
    match last.limit:
        case "memory":
            return Verdict.MEMORY_LIMIT
        case "output" if run is not None:  # a compiler that is stopped so had too many complaints
            return Verdict.OUTPUT_LIMIT
        case "cpu_time" | "wall_time" | "idle":
            return Verdict.TIME_LIMIT
    if last.succeeded:
        return Verdict.OK
    return Verdict.RUNTIME_ERROR if run is not None else Verdict.COMPILE_ERROR
