"""docs/judging.md says what is so."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from comparing import check
from pages import Page

from occd import judging as j
from occd.execution import verdicts
from occd.execution.score import earned
from occd.judging import TestVerdict as V

PAGE = Page("judging.md")


def checker(value: Any) -> j.TextChecker | j.FloatChecker:
    match value:
        case {"float": dict(tolerances)}:
            return j.FloatChecker(tolerances.get("abs", 0.0), tolerances.get("rel", 0.0))
        case {"float": both}:
            return j.FloatChecker(both, both)
    return j.TextChecker(value)


COMPARED = [
    [cell.strip("|` ") for cell in row] for row in PAGE.rows("checker | expected | output |")
]


@pytest.mark.parametrize(("how", "expected", "output", "said"), COMPARED)
def test_the_examples_of_checkers(how: str, expected: str, output: str, said: str) -> None:
    expect, out = (json.loads(text).encode() for text in (expected, output))
    assert (check(checker(json.loads(how)), expect, out).message or "accepted") == said


def example() -> j.Judging:
    (text,) = [block for block in PAGE.blocks("json") if '"groups"' in block]
    asked = json.loads(text)
    tests = (j.Test(**test, expected_stdout=b"") for test in asked["tests"])
    groups = (
        j.Group(name, **group | {"needs": tuple(group.get("needs", ()))})
        for name, group in asked["groups"].items()
    )
    return j.Judging(tuple(tests), tuple(groups))


@pytest.mark.parametrize("row", PAGE.rows("what the five tests come to"))
def test_the_example_of_groups(row: list[str]) -> None:
    judging = example()
    what, points = row[0].strip("| "), float(re.match(r"[\d.]+", row[1])[0])  # type: ignore[index]
    wrong = re.match(r"(\d) is wrong", what)
    over = {
        at: V.WRONG_ANSWER if wrong and test.name == wrong[1] else V.ACCEPTED
        for at, test in enumerate(judging.tests)
    }
    found = verdicts.of_tests(judging, over, cancelled=False)
    skipped = {
        test.name
        for test, verdict in zip(judging.tests, found, strict=True)
        if verdict == V.SKIPPED
    }
    told = what.partition("so ")[2]
    others = {test.name for test in judging.tests if not wrong or test.name != wrong[1]}
    assert skipped == (others if "all others" in told else set(re.findall(r"\d", told)))
    total = earned(judging, found, {}).total
    assert total.points_max == 100
    assert total.points == pytest.approx(points)


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [("4\n", 0, "Even.\n"), ("5", 1, "Odd.\n"), ("x", 1, "That is no whole number.\n")],
)
def test_the_example_of_a_program(output: str, code: int, said: str, tmp_path: Path) -> None:
    (source,) = PAGE.blocks("python")
    paths = [tmp_path / name for name in ("input", "expected", "output")]
    for path in paths:
        path.write_text(output if path.name == "output" else "")
    done = subprocess.run(
        [sys.executable, "-c", source, *paths], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, said)
