"""What `occd queues` prints of letters that somebody else may have written (`occd/queues.py`)."""

from collections.abc import Mapping, Sequence

import pytest

from occd.broker import Kept
from occd.config import Config
from occd.queues import _describe, kept_letters


class OneKept:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    async def depths(self) -> Mapping[str, int]:
        return {}

    async def kept(self, queue: str) -> Sequence[Kept]:
        return [self._kept] if queue == "submission_queue" else []


@pytest.mark.parametrize("when", [-1.0, 1e18, float("inf"), float("nan")])
async def test_a_letter_of_no_time_is_listed_all_the_same(when: float) -> None:
    kept = Kept("the-id", "a \x1b[2J reason", when, 4)
    *_, line = _describe(await kept_letters(Config(), OneKept(kept)))
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
