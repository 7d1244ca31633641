"""What an author's checker is given, and what its end means (`occd/execution/protocols.py`)."""

from typing import Any

import pytest
from ended import ended
from hypothesis import given
from hypothesis import strategies as st

from occd.execution import protocols
from occd.execution.checked import Checked
from occd.execution.protocols import Call
from occd.inputs import File
from occd.judging import ProgramChecker, Protocol
from occd.judging import TestVerdict as V

OK, WRONG, FAULT = V.ACCEPTED, V.WRONG_ANSWER, V.CHECKER_ERROR


def checker(protocol: Protocol, *names: str, **fields: Any) -> ProgramChecker:
    files = tuple(File(name, b"") for name in ("main.cpp", *names))
    return ProgramChecker("cpp", "main.cpp", files, protocol, **fields)


def call(checker: ProgramChecker) -> Call:
    return protocols.call(checker, b"in", b"expected", b"out")


INPUT, EXPECTED, OUTPUT = (
    File("check/input", b"in"),
    File("check/expected", b"expected"),
    File("check/output", b"out"),
)


def test_a_plain_checker_reads_three_files() -> None:
    assert call(checker("plain", args=("-x",))) == Call(
        ("check/input", "check/expected", "check/output", "-x"),
        b"",
        (INPUT, EXPECTED, OUTPUT),
        None,
        (),
    )


def test_a_testlib_checker_has_the_output_before_the_expected_output() -> None:
    assert call(checker("testlib")) == Call(
        ("check/input", "check/output", "check/expected"),
        b"",
        (INPUT, OUTPUT, EXPECTED),
        None,
        (),
    )


def test_a_kattis_checker_reads_the_output_from_stdin_and_has_a_feedback_folder() -> None:
    assert call(checker("kattis", args=("case_sensitive",))) == Call(
        ("check/input", "check/expected", "check/feedback/", "case_sensitive"),
        b"out",
        (INPUT, EXPECTED),
        "check/feedback",
        ("score.txt", "score_multiplier.txt", "judgemessage.txt"),
    )


def test_the_checkers_own_files_are_never_in_the_way() -> None:
    assert call(checker("plain", "check/input", "check_")).args[0] == "check__/input"


@pytest.mark.parametrize(
    ("made", "args"),
    [
        (checker("testlib"), ("-DTESTSYS",)),
        (checker("testlib", compile_args=("-O1",)), ("-DTESTSYS", "-O1")),
        (checker("kattis", compile_args=("-O1",)), ("-O1",)),
        (ProgramChecker("python", "a.py", (File("a.py", b""),), "testlib"), ()),
    ],
)
def test_testlib_is_compiled_so_that_it_tells_parts(
    made: ProgramChecker, args: tuple[str, ...]
) -> None:
    assert protocols.compile_args(made) == args


def checked(protocol: Protocol, code: int, said: str = "", **files: str) -> Checked:
    """Of a test of weight 20. `files` are the checker's feedback."""
    feedback = {f"{name}.txt": text.encode() for name, text in files.items()}
    stdout, stderr = ("", said) if protocol != "plain" else (said, "noise")
    return protocols.checked(
        protocol, ended(code), stdout.encode(), stderr.encode(), feedback, points_max=20
    )


PLAIN: list[tuple[int, V]] = [(0, OK), (1, WRONG), (2, FAULT), (42, FAULT), (139, FAULT)]


@pytest.mark.parametrize(("code", "verdict"), PLAIN)
def test_plain_accepts_with_0_and_rejects_with_1(code: int, verdict: V) -> None:
    found = checked("plain", code, "so it is\n")
    assert (found.verdict, found.share) == (verdict, float(verdict == OK))
    assert found.message == (
        "so it is"
        if verdict != FAULT
        else f"The checker ended with exit code {code}, unknown to the protocol plain.\nso it is\nnoise"
    )


def test_a_plain_checker_that_rejects_without_a_word_is_told_by_its_stderr() -> None:
    assert checked("plain", 1).message == "noise"


KATTIS: list[tuple[int, dict[str, str], V, float, str]] = [
    (42, {}, OK, 1, "debug"),
    (43, {}, WRONG, 0, "debug"),
    (42, {"judgemessage": "fine\n"}, OK, 1, "fine"),
    (43, {"judgemessage": "Wrong\n"}, WRONG, 0, "Wrong"),
    (43, {"score": "3"}, WRONG, 0, "debug"),
    (42, {"score": "20\n"}, OK, 1, "debug"),
    (42, {"score": "5"}, OK, 0.25, "debug"),
    (42, {"score": "5e-1"}, OK, 0.025, "debug"),
    (42, {"score": "20.00000001"}, OK, 1, "debug"),
    (42, {"score": "0"}, WRONG, 0, "debug"),
    (42, {"score_multiplier": "0.5"}, OK, 0.5, "debug"),
    (42, {"score": "20.1"}, FAULT, 0, "The checker gave 20.1 as score.txt, of at most 20.\ndebug"),
    (42, {"score_multiplier": "1.5"}, FAULT, 0,
     "The checker gave 1.5 as score_multiplier.txt, of at most 1.\ndebug"),
    (42, {"score": "-1"}, FAULT, 0, 'The checker gave no number from 0 up as score.txt: "-1".\ndebug'),
    (42, {"score": "nan"}, FAULT, 0, 'The checker gave no number from 0 up as score.txt: "nan".\ndebug'),
    (42, {"score": "inf"}, FAULT, 0, 'The checker gave no number from 0 up as score.txt: "inf".\ndebug'),
    (42, {"score": "1e999"}, FAULT, 0, 'The checker gave no number from 0 up as score.txt: "1e999".\ndebug'),
    (42, {"score": ""}, FAULT, 0, 'The checker gave no number from 0 up as score.txt: "".\ndebug'),
    (42, {"score": "1 2"}, FAULT, 0, 'The checker gave no number from 0 up as score.txt: "1 2".\ndebug'),
    (42, {"score": "1", "score_multiplier": "1"}, FAULT, 0,
     "The checker left both score.txt and score_multiplier.txt.\ndebug"),
    (0, {}, FAULT, 0, "The checker ended with exit code 0, unknown to the protocol kattis.\ndebug"),
    (1, {"judgemessage": "assert"}, FAULT, 0,
     "The checker ended with exit code 1, unknown to the protocol kattis.\nassert"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "files", "verdict", "share", "message"), KATTIS)
def test_kattis_accepts_with_42_and_rejects_with_43(
    code: int, files: dict[str, str], verdict: V, share: float, message: str
) -> None:
    assert checked("kattis", code, "debug\n", **files) == Checked(verdict, share, message)


NO_POINTS = "The checker gave no number from 0 up as points: "
TESTLIB: list[tuple[int, str, V, float, str]] = [
    (0, "ok 3 tokens\n", OK, 1, "ok 3 tokens"),
    (1, "wrong answer 1st", WRONG, 0, "wrong answer 1st"),
    (2, "wrong output format", WRONG, 0, "wrong output format"),
    (4, "wrong output format", WRONG, 0, "wrong output format"),
    (8, "unexpected eof", WRONG, 0, "unexpected eof"),
    (3, "FAIL jury", FAULT, 0,
     "The checker reports a fault of its own or of the expected output.\nFAIL jury"),
    (7, "points 5 a quarter\n", OK, 0.25, "points 5 a quarter"),
    (7, "debug\npoints 1\npoints 5.0 x", OK, 0.25, "debug\npoints 1\npoints 5.0 x"),
    (7, "points 20", OK, 1, "points 20"),
    (7, "points 0 none", WRONG, 0, "points 0 none"),
    (7, "points 21", FAULT, 0, "The checker gave 21 as points, of at most 20.\npoints 21"),
    (7, "points -1", FAULT, 0, NO_POINTS + '"-1".\npoints -1'),
    (7, "points nan", FAULT, 0, NO_POINTS + '"nan".\npoints nan'),
    (7, "points inf", FAULT, 0, NO_POINTS + '"inf".\npoints inf'),
    (7, "points_info=5", FAULT, 0, NO_POINTS + '"".\npoints_info=5'),
    (7, "", FAULT, 0, NO_POINTS + '"".'),
    (50, "partially correct (0)", WRONG, 0, "partially correct (0)"),
    (51, "", OK, 0.005, ""),
    (150, "partially correct (100)", OK, 0.5, "partially correct (100)"),
    (250, "partially correct (200)", OK, 1, "partially correct (200)"),
    (251, "", FAULT, 0, "The checker ended with exit code 251, unknown to the protocol testlib."),
    (49, "", FAULT, 0, "The checker ended with exit code 49, unknown to the protocol testlib."),
    (5, "", FAULT, 0, "The checker ended with exit code 5, unknown to the protocol testlib."),
    (42, "", FAULT, 0, "The checker ended with exit code 42, unknown to the protocol testlib."),
]  # fmt: skip


@pytest.mark.parametrize(("code", "said", "verdict", "share", "message"), TESTLIB)
def test_testlib_tells_its_verdict_by_the_exit_code(
    code: int, said: str, verdict: V, share: float, message: str
) -> None:
    assert checked("testlib", code, said) == Checked(verdict, share, message)


@pytest.mark.parametrize("protocol", ["plain", "kattis", "testlib"])
def test_a_checker_that_crashes_or_meets_a_limit_is_its_authors_fault(protocol: Protocol) -> None:
    for outcome, message in (
        (ended(signal="SIGSEGV"), "The checker was killed by SIGSEGV.\nhelp"),
        (ended(signal="SIGKILL", limit="cpu_time"), "The checker met its limit cpu_time.\nhelp"),
        (ended(0, limit="wall_time"), "The checker met its limit wall_time.\nhelp"),
        (ended(42, limit="memory"), "The checker met its limit memory.\nhelp"),
        (ended(signal="SIGKILL", limit="output"), "The checker met its limit output.\nhelp"),
    ):
        found = protocols.checked(protocol, outcome, b"", b"help", {"score.txt": b"1"}, 1)
        assert found == Checked(FAULT, 0.0, message)


def test_a_checker_that_does_not_compile_is_its_authors_fault() -> None:
    found = protocols.not_compiled(b"main.cpp:1: error\n")
    assert found == Checked(FAULT, 0.0, "The checker does not compile.\nmain.cpp:1: error")


def test_a_test_without_weight_earns_no_points_and_is_accepted_all_the_same() -> None:
    for protocol, code, said, files in (
        ("kattis", 42, b"", {"score.txt": b"57"}),
        ("testlib", 7, b"points 57", {}),
    ):
        found = protocols.checked(protocol, ended(code), b"", said, files, points_max=0)  # type: ignore[arg-type]
        assert (found.verdict, found.share) == (OK, 1.0)


feedback = st.dictionaries(
    st.sampled_from(["score.txt", "score_multiplier.txt", "judgemessage.txt"]),
    st.binary(max_size=20) | st.floats().map(repr).map(str.encode),
)
points = st.binary(max_size=20) | st.floats().map(lambda each: f"points {each!r}".encode())


@given(
    st.sampled_from(["plain", "kattis", "testlib"]),
    st.integers(0, 255),
    points,
    feedback,
    st.floats(0, 1e9),
)
def test_whatever_a_checker_does_means_one_of_three_things(
    protocol: Any, code: int, said: bytes, files: dict[str, bytes], weight: float
) -> None:
    found = protocols.checked(protocol, ended(code), said, said, files, weight)
    assert found.verdict in (OK, WRONG, FAULT)
    assert 0 <= found.share <= 1
    assert (found.share > 0) == (found.verdict == OK)
