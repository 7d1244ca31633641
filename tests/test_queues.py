"""What `occd queues` prints of letters that somebody else may have written (`occd/queues.py`)."""

import pytest

from occd.broker import Kept
from occd.queues import _describe


@pytest.mark.parametrize("when", [-1.0, 1e18, float("inf"), float("nan")])
def test_a_letter_of_no_time_is_listed_all_the_same(when: float) -> None:
    kept = Kept("the-id", "a \x1b[2J reason", when, b"body")
    *_, line = _describe([("submission_queue", kept)])
    assert line.split() == [
        "the-id",
        "-",
        "submission_queue",
        "4",
        "bytes",
        "a",
        r"\x1b[2J",
        "reason",
    ]
