"""What a client asks for, as a plain value: the gate (`occd/admission.py`) makes a `Submission` of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from occd.judging import FloatChecker, Group, Protocol, TextChecker
from occd.model import File, Terminal

Asked = Mapping[str, float]
"""Limits that were asked for, by their names in `Limits`."""


@dataclass(frozen=True, slots=True)
class ProgramRequest:
    """A program that checks. `source` and `files` are as in `Request`."""

    language: str
    protocol: Protocol
    version: str | None = None
    source: bytes | None = None
    files: tuple[File, ...] = ()
    args: tuple[str, ...] = ()
    compile_args: tuple[str, ...] = ()
    limits: Asked = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return len(self.source or b"") + sum(len(file.content) for file in self.files)


CheckerRequest = TextChecker | FloatChecker | ProgramRequest


@dataclass(frozen=True, slots=True)
class TestRequest:
    """The fields of `judging.Test`. A test without a name is called by its number, from 1."""

    name: str | None = None
    stdin: bytes | None = None
    args: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    expected_stdout: bytes | None = None
    checker: CheckerRequest | None = None
    limits: Asked = field(default_factory=dict)
    group: str | None = None
    weight: float = 1.0

    @property
    def bytes(self) -> int:
        files = sum(len(file.content) for file in self.files)
        return len(self.stdin or b"") + len(self.expected_stdout or b"") + files


@dataclass(frozen=True, slots=True)
class Request:
    """A program to be run. `language` is an id, a name or an alias. `source` is the text of the main file;
    without it the main file is one of `files`. With tests the program runs once for each."""

    language: str
    version: str | None = None
    source: bytes | None = None
    files: tuple[File, ...] = ()
    stdin: bytes = b""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    compile_args: tuple[str, ...] = ()
    limits: Asked = field(default_factory=dict)
    interactive: bool = False
    user_id: str | None = None
    tests: tuple[TestRequest, ...] = ()
    groups: tuple[Group, ...] = ()
    checker: CheckerRequest | None = None
    stop_on_failure: bool = False
    artifacts: tuple[str, ...] = ()
    """Patterns of the files that are kept."""
    tty: Terminal | None = None
    """The program is interactive, too."""
    detached: bool = False
    format: bool = False
    """The program is formatted instead of run."""
    trace: bool = False
    cache: bool = True

    @property
    def sources_bytes(self) -> int:
        return len(self.source or b"") + sum(len(file.content) for file in self.files)

    @property
    def bytes(self) -> int:
        checkers = [self.checker, *(test.checker for test in self.tests)]
        return (
            self.sources_bytes
            + len(self.stdin)
            + sum(test.bytes for test in self.tests)
            + sum(each.bytes for each in checkers if isinstance(each, ProgramRequest))
        )
