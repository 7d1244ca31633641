"""Checkers that other people wrote are understood as they are (`occd/execution/protocols.py`)."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from signal import Signals

import pytest
from ended import ended

from occd.execution import protocols
from occd.execution.checked import Checked
from occd.inputs import File
from occd.judging import ProgramChecker
from occd.judging import TestVerdict as V

OK, WRONG, FAULT = V.ACCEPTED, V.WRONG_ANSWER, V.CHECKER_ERROR
NONE: tuple[str, ...] = ()


def folder(package: str, *parts: str) -> Path:
    """The sources in a package of packaging/locked/checkers.txt."""
    spec = find_spec(package)
    assert spec, f"{package} is missing: make dev"
    assert spec.origin
    return Path(spec.origin).parent.joinpath(*parts)


def with_testlib(source: str | Path) -> ProgramChecker:
    header = folder("rbx", "resources", "predownloaded", "testlib.h").read_bytes()
    content = source.read_bytes() if isinstance(source, Path) else source.encode()
    files = (File("check.cpp", content), File("testlib.h", header))
    return ProgramChecker("cpp", "check.cpp", files, "testlib")


Run = Callable[..., Checked]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ProgramChecker], Run]:
    """Compiles a checker once, and runs it as execute does, but without a jail."""
    built: dict[tuple[File, ...], Path] = {}

    def build(checker: ProgramChecker) -> Run:
        if checker.files not in built:
            built[checker.files] = place = tmp_path_factory.mktemp("checker")
            for file in checker.files:
                (place / file.name).write_bytes(file.content)
            args = protocols.compile_args(checker)
            command = ["g++", "-std=c++20", *args, checker.main, "-o", "program"]
            subprocess.run(command, cwd=place, check=True)

        def run(expected: str, output: str, weight: float = 1) -> Checked:
            return run_in(built[checker.files], checker, expected, output, weight)

        return run

    return build


def run_in(
    place: Path, checker: ProgramChecker, expected: str, output: str, weight: float
) -> Checked:
    call = protocols.call(checker, b"", expected.encode(), output.encode())
    shutil.rmtree(place / "check", ignore_errors=True)
    (place / (call.folder or "check")).mkdir(parents=True)
    for file in call.files:
        (place / file.name).write_bytes(file.content)
    done = subprocess.run(
        ["./program", *call.args], cwd=place, input=call.stdin, capture_output=True, check=False
    )
    feedback = {}
    for name in call.feedback:
        with suppress(FileNotFoundError):
            feedback[name] = place.joinpath(call.folder or "", name).read_bytes()
    signal = Signals(-done.returncode).name if done.returncode < 0 else None
    outcome = ended(done.returncode, signal=signal)
    return protocols.checked(checker.protocol, outcome, done.stdout, done.stderr, feedback, weight)


TESTLIB = [
    # a checker of testlib, the expected output, the output, and what becomes of it
    ("wcmp", "a b", " a\nb ", OK, 1, "ok 2 tokens"),
    ("wcmp", "a b", "a c", WRONG, 0, "wrong answer 2nd words differ - expected: 'b', found: 'c'"),
    ("wcmp", "a b", "a", WRONG, 0, "wrong answer Unexpected EOF in the participants output"),
    ("wcmp", "a", "a b", WRONG, 0, "wrong answer Participant output contains extra tokens"),
    ("ncmp", "1 2", "1\n2", OK, 1, 'ok 2 number(s): "1 2"'),
    ("ncmp", "1 2", "1 x", WRONG, 0, 'wrong output format Expected integer, but "x" found'),
    ("dcmp", "1.0", "1.0000001", OK, 1, "ok answer is 1.0000000000"),
    ("dcmp", "1.0", "nan", WRONG, 0, 'wrong output format Expected double, but "nan" found'),
    ("yesno", "YES", "yes", OK, 1, "ok answer is YES"),
    ("yesno", "maybe", "yes", FAULT, 0,
     "The checker reports a fault of its own or of the expected output.\nFAIL YES or NO expected in answer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "output", "verdict", "share", "start"), TESTLIB)
def test_the_checkers_of_testlib_work_unchanged(
    build: Callable[[ProgramChecker], Run],
    name: str,
    expected: str,
    output: str,
    verdict: V,
    share: float,
    start: str,
) -> None:
    source = folder("rbx", "resources", "predownloaded", "checkers", f"{name}.cpp")
    found = build(with_testlib(source))(expected, output)
    assert (found.verdict, found.share) == (verdict, share)
    assert found.message.startswith(start)


ENDS = """
#define ENABLE_UNEXPECTED_EOF
#include "testlib.h"
int main(int argc, char *argv[]) {
    registerTestlibCmd(argc, argv);
    std::string how = ans.readWord();
    if (how == "ok") quitf(_ok, "fine");
    if (how == "wa") quitf(_wa, "no");
    if (how == "pe") quitf(_pe, "strange");
    if (how == "dirt") quitf(_dirt, "more");
    if (how == "eof") quitf(_unexpected_eof, "less");
    if (how == "fail") quitf(_fail, "mine");
    if (how == "points") quitp(ans.readDouble(), "of all");
    if (how == "info") quitpi("5", "of all");
    if (how == "part") quitf(_pc(ans.readInt()), "some");
    if (how == "silent") return 0;
    abort();
}
"""

CODES = [
    ("ok", OK, 1, "ok fine"),
    ("wa", WRONG, 0, "wrong answer no"),
    ("pe", WRONG, 0, "wrong output format strange"),
    ("dirt", WRONG, 0, "wrong output format more"),
    ("eof", WRONG, 0, "unexpected eof less"),
    ("fail", FAULT, 0,
     "The checker reports a fault of its own or of the expected output.\nFAIL mine"),
    ("points 5", OK, 0.25, "points 5.0 of all"),
    ("points 20", OK, 1, "points 20.0 of all"),
    ("points 0", WRONG, 0, "points 0.0 of all"),
    ("points 6.666666666666667", OK, 1 / 3, "points 6.6666666667"),
    ("points 21", FAULT, 0, "The checker gave 21 as points, of at most 20."),
    ("points -1", FAULT, 0, "The checker reports a fault"),
    ("info", FAULT, 0, "The checker gave no number from 0 up as points"),
    ("part 0", WRONG, 0, "partially correct (0) some"),
    ("part 100", OK, 0.5, "partially correct (100) some"),
    ("part 200", OK, 1, "partially correct (200) some"),
    ("part 201", FAULT, 0, "The checker ended with exit code 251"),
    ("silent", FAULT, 0, "The checker reports a fault"),
    ("abort", FAULT, 0, "The checker was killed by SIGABRT."),
]  # fmt: skip


@pytest.mark.parametrize(("how", "verdict", "share", "start"), CODES)
def test_every_end_of_testlib_is_understood(
    build: Callable[[ProgramChecker], Run], how: str, verdict: V, share: float, start: str
) -> None:
    found = build(with_testlib(ENDS))(how, "", weight=20)
    assert found.verdict == verdict
    assert found.share == pytest.approx(share, abs=1e-10)
    assert found.message.startswith(start)


def kattis(source: bytes, *args: str) -> ProgramChecker:
    return ProgramChecker("cpp", "check.cpp", (File("check.cpp", source),), "kattis", args=args)


DEFAULT: list[tuple[str, str, tuple[str, ...], V, str]] = [
    ("1 2", "1\n2\n", NONE, OK, "ok"),
    ("Yes", "yes", NONE, OK, "ok"),
    ("Yes", "yes", ("case_sensitive",), WRONG, "Yes"),
    ("a b", "a  b", ("space_change_sensitive",), WRONG, "hitespace"),
    ("1.0", "1.00001", ("float_tolerance", "1e-4"), OK, "ok"),
    ("1.0", "1.1", ("float_tolerance", "1e-4"), WRONG, "1.1"),
    ("1 2", "1", NONE, WRONG, "2"),
    ("1", "1 2", NONE, WRONG, "2"),
]


@pytest.mark.parametrize(("expected", "output", "args", "verdict", "word"), DEFAULT)
def test_the_default_validator_of_the_kattis_format_works_unchanged(
    build: Callable[[ProgramChecker], Run],
    expected: str,
    output: str,
    args: tuple[str, ...],
    verdict: V,
    word: str,
) -> None:
    source = folder("bapctools", "resources", "support", "default_output_validator.cpp")
    found = build(kattis(source.read_bytes(), *args))(expected, output)
    assert (found.verdict, found.share) == (verdict, float(verdict == OK))
    assert word in found.message


SCORING = b"""
#include <fstream>
#include <iostream>
int main(int argc, char *argv[]) {
    std::string name, value;
    std::cin >> name >> value;
    std::ofstream(std::string(argv[3]) + "judgemessage.txt") << "As you wish.";
    std::ofstream(std::string(argv[3]) + name) << value << std::endl;
    return 42;
}
"""


@pytest.mark.parametrize(
    ("output", "verdict", "share", "message"),
    [
        ("score.txt 15", OK, 0.75, "As you wish."),
        ("score_multiplier.txt 0.75", OK, 0.75, "As you wish."),
        (
            "score.txt 21",
            FAULT,
            0,
            "The checker gave 21 as score.txt, of at most 20.\nAs you wish.",
        ),
        ("other.txt 21", OK, 1, "As you wish."),
    ],
)
def test_a_validator_of_a_scoring_problem_gives_a_share(
    build: Callable[[ProgramChecker], Run], output: str, verdict: V, share: float, message: str
) -> None:
    assert build(kattis(SCORING))("", output, weight=20) == Checked(verdict, share, message)
