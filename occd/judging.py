"""What a submission is judged by: tests, their checkers, and groups of tests. `docs/judging.md` says what
the words mean to an author.

Values from outside keep the rules of `occd/rules.py`: making a value that breaks a rule raises
`rules.Broken`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Literal

from occd import rules
from occd.inputs import File, Limits

TESTS_MAX = 1000
GROUPS_MAX = 200
GROUP_DEPTH_MAX = 16
PROGRAMS_MAX = 4
"""Each checker program is compiled, and has a box and a jail that stands ready until all tests are over."""
BYTES_MAX = 64 * 2**20
ARGS_MAX = 20_000
FILES_MAX = 5_000
"""All tests together."""

CHECKER_LIMITS = Limits(cpu_time=10.0, wall_time=20.0, memory=512 * 2**20)
"""The box grows by what the checker is given to compare."""

Protocol = Literal["plain", "kattis", "testlib"]
Rule = Literal["sum", "min", "all"]


class TestVerdict(StrEnum):
    ACCEPTED = "accepted"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    CHECKER_ERROR = "checker_error"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class TextChecker:
    """Compares the output with the expected output, byte by byte, line by line or word by word."""

    kind: Literal["exact", "lines", "tokens"] = "lines"


@dataclass(frozen=True, slots=True)
class FloatChecker:
    """Compares word by word. A number is right within either tolerance."""

    absolute: float = 0.0
    relative: float = 0.0
    kind: Literal["float"] = "float"

    def __post_init__(self) -> None:
        rules.check("abs", rules.tolerance, self.absolute)
        rules.check("rel", rules.tolerance, self.relative)


@dataclass(frozen=True, slots=True)
class ProgramChecker:
    """A program of the author. `main` names the file of `files` that the language's commands are given."""

    language: str
    main: str
    files: tuple[File, ...]
    protocol: Protocol
    version: str | None = None
    args: tuple[str, ...] = ()
    compile_args: tuple[str, ...] = ()
    limits: Limits = CHECKER_LIMITS
    kind: Literal["program"] = "program"

    def __post_init__(self) -> None:
        rules.check("language", rules.language, self.language)
        rules.check("version", rules.version, self.version)
        rules.check("main", rules.file_name, self.main)
        rules.file_names([file.name for file in self.files])
        if all(file.name != self.main for file in self.files):
            raise rules.Broken("is none of the files", "main")
        rules.fits((len(file.content) for file in self.files), self.limits.box)
        rules.words(args=self.args, compile_args=self.compile_args)


Checker = TextChecker | FloatChecker | ProgramChecker


@dataclass(frozen=True, slots=True)
class Test:
    """One run of the solution. `files` are seen by this run alone, beside those of the submission."""

    name: str
    stdin: bytes | None = None
    """None for that of the submission."""
    args: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    expected_stdout: bytes | None = None
    checker: Checker | None = None
    """None for the checker of all tests."""
    limits: Limits | None = None
    """None for the limits of the submission."""
    group: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        rules.check("name", rules.title, self.name)
        rules.words(args=self.args)
        rules.file_names([file.name for file in self.files])
        rules.check("group", rules.title, self.group)
        rules.check("weight", rules.weight, self.weight)


@dataclass(frozen=True, slots=True)
class Group:
    """Tests and groups that earn `points` together."""

    name: str
    points: float
    rule: Rule = "sum"
    needs: tuple[str, ...] = ()
    """Names of groups. All tests of these groups must be accepted, else the tests of this one are skipped."""
    group: str | None = None
    """The group that this one lies in."""

    def __post_init__(self) -> None:
        rules.check("name", rules.title, self.name)
        rules.check("points", rules.weight, self.points)
        rules.check("group", rules.title, self.group)
        if len(self.needs) > GROUPS_MAX:
            raise rules.Broken(f"must be at most {GROUPS_MAX}", "needs")


@dataclass(frozen=True, slots=True)
class Judging:
    """All of a submission's tests, in the order that counts for `stop_on_failure` and for the verdict."""

    tests: tuple[Test, ...]
    groups: tuple[Group, ...] = ()
    checker: Checker = field(default_factory=TextChecker)
    stop_on_failure: bool = False

    def __post_init__(self) -> None:
        _unique("tests", TESTS_MAX, [test.name for test in self.tests])
        _unique("groups", GROUPS_MAX, [group.name for group in self.groups])
        self._check_groups()
        self._check_sizes()
        for at, test in enumerate(self.tests):
            if test.expected_stdout is None and self.checker_of(test).kind != "program":
                raise rules.Broken(
                    "is missing: the checker compares the output with it",
                    f"tests.{at}.expected_stdout",
                )

    def checker_of(self, test: Test) -> Checker:
        return test.checker or self.checker

    @property
    def programs(self) -> tuple[ProgramChecker, ...]:
        """The checkers to compile, each once."""
        checkers = map(self.checker_of, self.tests)
        return tuple(dict.fromkeys(each for each in checkers if isinstance(each, ProgramChecker)))

    @property
    def paths(self) -> Mapping[str | None, tuple[Group, ...]]:
        """For the name of each group: this group, the group that it lies in, and so on. For None, which is
        the group of a test that has none: nothing.

        Raises Broken for groups that lie nowhere.
        """
        by_name = {group.name: group for group in self.groups}
        return {None: ()} | {name: tuple(_path(group, by_name)) for name, group in by_name.items()}

    def fits(self, files: Iterable[File], box: int) -> None:
        """Raises Broken when the files of a test do not go together with those of the submission."""
        common = list(files)
        names = rules.file_names([file.name for file in common])
        taken = rules.room(len(file.content) for file in common)
        for at, test in enumerate(self.tests):
            if test.files:
                try:
                    rules.file_names([file.name for file in test.files], names)
                    rules.fits((len(file.content) for file in test.files), box, taken)
                except rules.Broken as error:
                    raise rules.Broken(error.message, f"tests.{at}.files") from None

    def _check_groups(self) -> None:
        paths = self.paths
        spans: dict[str, tuple[int, int]] = {}
        """The first and the last test within each group."""
        for at, test in enumerate(self.tests):
            if test.group not in paths:
                raise rules.Broken("is not one of the groups", f"tests.{at}.group")
            for group in paths[test.group]:
                first, _ = spans.get(group.name, (at, at))
                spans[group.name] = first, at
        for group in self.groups:
            if group.name not in spans:
                raise rules.Broken(f"{group.name} has no tests", "groups")
        for group in self.groups:
            for need in group.needs:
                _check_need(group, need, spans)
        self._check_weights()

    def _check_weights(self) -> None:
        """What shares out points by weight must hold a weight."""
        weighty = {test.group for test in self.tests if test.weight}
        weighty |= {group.group for group in self.groups if group.points}
        if self.tests and None not in weighty:
            raise rules.Broken("have only weights, or groups with points, that are 0", "tests")
        for group in self.groups:
            if group.rule == "sum" and group.name not in weighty:
                raise rules.Broken(f"{group.name} has only weights that are 0", "groups")

    def _check_sizes(self) -> None:
        if sum(len(test.args) for test in self.tests) > ARGS_MAX:
            raise rules.Broken(f"have more than {ARGS_MAX} args together", "tests")
        if sum(len(test.files) for test in self.tests) > FILES_MAX:
            raise rules.Broken(f"have more than {FILES_MAX} files together", "tests")
        if len(self.programs) > PROGRAMS_MAX:
            raise rules.Broken(f"have more than {PROGRAMS_MAX} programs as checkers", "tests")
        checkers = (self.checker, *(test.checker for test in self.tests))
        programs = [each for each in checkers if isinstance(each, ProgramChecker)]
        files = chain(*(test.files for test in self.tests), *(each.files for each in programs))
        size = sum(map(_data, self.tests)) + sum(len(file.content) for file in files)
        if size > BYTES_MAX:
            raise rules.Broken(f"and their checkers exceed {BYTES_MAX} bytes together", "tests")


def _data(test: Test) -> int:
    args = sum(map(len, test.args))
    return len(test.name) + len(test.stdin or b"") + len(test.expected_stdout or b"") + args


def _unique(field: str, most: int, names: list[str]) -> None:
    if len(names) > most:
        raise rules.Broken(f"must be at most {most}", field)
    if len(set(names)) < len(names):
        at, name = next((at, name) for at, name in enumerate(names) if name in names[:at])
        raise rules.Broken(f"{name} is the name of an earlier one, too", f"{field}.{at}.name")


def _path(group: Group, by_name: Mapping[str, Group]) -> Iterator[Group]:
    seen = {group.name}
    yield group
    while group.group is not None:
        if group.group not in by_name:
            raise rules.Broken(f"{group.name} lies in a group that is not there", "groups")
        group = by_name[group.group]
        if group.name in seen:
            raise rules.Broken(f"{group.name} lies within itself", "groups")
        if len(seen) == GROUP_DEPTH_MAX:
            raise rules.Broken(f"lie more than {GROUP_DEPTH_MAX} deep", "groups")
        seen.add(group.name)
        yield group


def _check_need(group: Group, need: str, spans: Mapping[str, tuple[int, int]]) -> None:
    """A group needs only what was before, so no two can need each other, and one pass over the tests in
    their order tells which are skipped."""
    if need == group.name:
        raise rules.Broken(f"{need} needs itself", "groups")
    if need not in spans:
        raise rules.Broken(f"{group.name} needs a group that is not there", "groups")
    if spans[need][1] >= spans[group.name][0]:
        raise rules.Broken(
            f"{group.name} needs {need}, whose tests must all come before its own", "groups"
        )
