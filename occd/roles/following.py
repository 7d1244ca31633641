"""The followers of this process: they get the news of submissions, and state is told that they are there."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from occd.model import Record
from occd.state import State
from occd.state.presence import RENEW_S
from occd.trouble import Trouble


class Following:
    def __init__(self, state: State) -> None:
        self._state = state
        self._here: Counter[str] = Counter()
        """By submission: its followers."""
        self._lately: set[str] = set()
        """Submissions that did not finish while somebody waited for it, since state was told last. Such a
        client asks again."""
        self._trouble = Trouble("state is not told who is followed")

    @property
    def count(self) -> int:
        """How many there are."""
        return self._here.total()

    async def run(self) -> None:
        """Tell state, until cancelled."""
        due = trio.current_time()
        while True:
            due = max(
                due + RENEW_S, trio.current_time()
            )  # however long state took to answer, or not
            await trio.sleep_until(due)
            followed = {*self._here, *self._lately}
            self._lately.clear()
            if followed:
                with self._trouble.survived():
                    await self._state.presence.touch(followed)

    @contextmanager
    def following(self, id: str) -> Iterator[None]:
        """For as long as somebody waits for news, or reads them: a slow client reads for minutes."""
        self._here[id] += 1
        try:
            yield
        finally:
            self._here[id] -= 1
            if not self._here[id]:
                del self._here[id]

    async def settled(self, id: str, output_max: int) -> Record:
        """As `Submissions.settled`."""
        with self.following(id):
            try:
                return await self._state.submissions.settled(id, output_max)
            except trio.Cancelled:
                self._lately.add(id)
                raise
