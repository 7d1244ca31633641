"""The followers of this process: they get the news of submissions, and state is told that they are there."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from occd import metrics
from occd.model import Record
from occd.state import State
from occd.state.presence import RENEW_S
from occd.trouble import Trouble

NEW_S = 1.0
"""State is told within this time that somebody came or left. A program may be ended 65 s after its last
follower has left, so whoever comes back within the 60 s that are promised must be known before."""


class Following:
    def __init__(self, state: State) -> None:
        self._state = state
        self._here: Counter[str] = Counter()
        """By submission: its followers."""
        self._lately: set[str] = set()
        """Submissions that somebody left since state was told last, before they had finished. Such a client
        often comes again."""
        self._trouble = Trouble("state is not told who is followed")

    @property
    def count(self) -> int:
        """How many there are."""
        return self._here.total()

    async def run(self) -> None:
        """Tell state, until cancelled."""
        told: set[str] = set()
        """Since all were told."""
        due = trio.current_time()
        while True:
            await trio.sleep(NEW_S)
            if trio.current_time() >= due:  # however long state took to answer, or not
                told.clear()
                due = trio.current_time() + RENEW_S
            followed = (self._here.keys() - told) | self._lately
            told |= self._here.keys()
            self._lately.clear()
            if followed:
                with self._trouble.survived():
                    await self._state.presence.touch(followed)

    @contextmanager
    def following(self, id: str) -> Iterator[None]:
        """For as long as somebody waits for news, or reads them: a slow client reads for minutes. Without an
        exception this ends only when the submission has finished."""
        self._here[id] += 1
        metrics.FOLLOWERS.inc()
        try:
            yield
        except BaseException:
            self._lately.add(id)
            raise
        finally:
            self._here[id] -= 1
            metrics.FOLLOWERS.dec()
            if not self._here[id]:
                del self._here[id]

    async def settled(self, id: str, output_max: int) -> Record:
        """As `Submissions.settled`."""
        with self.following(id):
            return await self._state.submissions.settled(id, output_max)
