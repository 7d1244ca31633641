"""How programs of authors check outputs: what such a program is given, and what its end means.

Sources: `plain` is ours. `kattis`: the problem package format (legacy and 2025-09), "Output validator", and
what problemtools does. `testlib`: testlib.h 0.9.45, `resultExitCode` and `InStream::quit`.

Whatever a protocol does not know is a fault of the checker, never of the solution.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from occd.execution.checked import Checked, accepted, excerpt, failed, readable, wrong
from occd.execution.numbers import number
from occd.inputs import File
from occd.judging import ProgramChecker, Protocol
from occd.model import Outcome

_SCORE, _MULTIPLIER, _JUDGE_MESSAGE = "score.txt", "score_multiplier.txt", "judgemessage.txt"
_FEEDBACK = (_SCORE, _MULTIPLIER, _JUDGE_MESSAGE)
FEEDBACK_BYTES = 64 * 1024
_UNREAD = f"is no regular file of at most {FEEDBACK_BYTES} bytes."

_POINTS = re.compile(rb"^points +(\S+)", re.MULTILINE)
_PARTLY, _PARTS = 50, 200
"""testlib's exit codes for `_pc(0)` to `_pc(200)` begin at 50."""

_SLACK = 1e-9
"""Relative; testlib prints ten digits behind the point."""


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a checker. Its arguments follow the language's command. All paths are relative to the folder
    in which the checker is compiled and run."""

    args: tuple[str, ...]
    stdin: bytes
    files: tuple[File, ...]
    folder: str | None
    """An empty folder that the checker may write to."""
    feedback: tuple[str, ...]
    """The files in `folder` that mean something, each up to FEEDBACK_BYTES."""


def call(checker: ProgramChecker, stdin: bytes, expected: bytes, output: bytes) -> Call:
    """`stdin` and `expected` are those of the test, `output` is what the solution wrote."""
    folder = _free_name(checker)
    given = File(f"{folder}/input", stdin)
    answer = File(f"{folder}/expected", expected)
    written = File(f"{folder}/output", output)
    match checker.protocol:
        case "plain":
            return _reading(checker, given, answer, written)
        case "testlib":
            return _reading(checker, given, written, answer)
        case "kattis":
            feedback = f"{folder}/feedback"
            args = (given.name, answer.name, f"{feedback}/", *checker.args)
            return Call(args, output, (given, answer), feedback, _FEEDBACK)


def _reading(checker: ProgramChecker, *files: File) -> Call:
    """The checker opens the files that its arguments name."""
    return Call((*(file.name for file in files), *checker.args), b"", files, None, ())


def compile_args(checker: ProgramChecker) -> tuple[str, ...]:
    """Without TESTSYS, testlib.h ends a checker that says `_pc(0)` with exit code 0."""
    if checker.protocol == "testlib" and checker.language in ("c", "cpp"):
        return ("-DTESTSYS", *checker.compile_args)
    return checker.compile_args


def not_compiled(said: bytes) -> Checked:
    """`said` is what the compiler wrote."""
    return failed("The checker does not compile.", said)


def checked(
    checker: Protocol,
    outcome: Outcome,
    stdout: bytes,
    stderr: bytes,
    feedback: Mapping[str, bytes | None],
    points_max: float,
) -> Checked:
    """What the end of a checker means. `feedback` has the files of `Call.feedback` that it left, and None for
    one that is no regular file, or is longer than FEEDBACK_BYTES.

    `points_max` is the weight of the test. A test without weight earns no points, so they count for nothing
    there.
    """
    if outcome.limit:
        return failed(f"The checker met its limit {outcome.limit}.", stderr)
    if outcome.exit_code is None:
        return failed(f"The checker was killed by {outcome.signal}.", stderr)
    match checker:
        case "plain":
            return _plain(outcome.exit_code, stdout, stderr)
        case "kattis":
            return _kattis(outcome.exit_code, stderr, feedback, points_max)
        case "testlib":
            return _testlib(outcome.exit_code, stderr, points_max)


def _plain(code: int, stdout: bytes, stderr: bytes) -> Checked:
    match code:
        case 0:
            return accepted(message=readable(stdout))
        case 1:  # also an exception that a Python program does not catch, which stderr tells
            return wrong(readable(stdout or stderr))
    return _unknown("plain", code, stdout + stderr)


def _kattis(
    code: int, stderr: bytes, feedback: Mapping[str, bytes | None], points_max: float
) -> Checked:
    unread = [f"{name} {_UNREAD}" for name in _FEEDBACK if feedback.get(name, b"") is None]
    said = feedback.get(_JUDGE_MESSAGE) or stderr or "\n".join(unread).encode()
    match code:
        case 42:
            pass
        case 43:  # a validator for the legacy format may write score.txt here, too
            return wrong(readable(said))
        case _:
            return _unknown("kattis", code, said)
    scores = {name: feedback[name] for name in (_SCORE, _MULTIPLIER) if name in feedback}
    if None in scores.values():
        return failed("The checker left a score that cannot be read.", said)
    if len(scores) == 2:
        return failed(f"The checker left both {_SCORE} and {_MULTIPLIER}.", said)
    for name, word in scores.items():
        return _partly(name, (word or b"").strip(), points_max if name == _SCORE else 1.0, said)
    return accepted(message=readable(said))


def _testlib(code: int, stderr: bytes, points_max: float) -> Checked:
    match code:
        case 0:
            return accepted(message=readable(stderr))
        case 1 | 2 | 4 | 8:  # wrong answer, wrong format, more than was asked for, too early an end
            return wrong(readable(stderr))
        case 3:
            return failed(
                "The checker reports a fault of its own or of the expected output.", stderr
            )
        case 7:
            found = _POINTS.findall(stderr)
            return _partly("points", found[-1] if found else b"", points_max, stderr)
    if 0 <= code - _PARTLY <= _PARTS:
        return accepted((code - _PARTLY) / _PARTS, readable(stderr))
    return _unknown("testlib", code, stderr)


def _partly(name: str, word: bytes, most: float, said: bytes) -> Checked:
    points = number(word)
    if points is None or points < 0:
        return failed(f"The checker gave no number from 0 up as {name}: {excerpt(word)}.", said)
    if most == 0:
        return accepted(message=readable(said))
    if points > most * (1 + _SLACK):
        return failed(f"The checker gave {points:.15g} as {name}, of at most {most:.15g}.", said)
    return accepted(min(1.0, points / most), readable(said))


def _unknown(protocol: Protocol, code: int, said: bytes) -> Checked:
    return failed(
        f"The checker ended with exit code {code}, unknown to the protocol {protocol}.", said
    )


def _free_name(checker: ProgramChecker) -> str:
    """The name for a folder that none of the checker's own files lies in."""
    taken = {file.name.split("/")[0] for file in checker.files}
    name = "check"
    while name in taken:
        name += "_"
    return name
