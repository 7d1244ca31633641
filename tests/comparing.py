"""A comparison by a checker that is built in, all steps at once."""

from occd.execution.checked import Checked
from occd.execution.compare import comparison
from occd.judging import FloatChecker, TextChecker


def check(checker: TextChecker | FloatChecker, expected: bytes, output: bytes) -> Checked:
    steps = comparison(checker, expected, output)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            checked: Checked = end.value
            return checked
