"""The followers of this process: they wait for news of submissions, and state is told that they are there."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from occd.events import LogEntry
from occd.model import Record
from occd.state import State
from occd.state.presence import RENEW_S
from occd.trouble import Trouble


class Following:
    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: Counter[str] = Counter()
        """By submission: how many wait for its news."""
        self._lately: set[str] = set()
        """Those whose news are on their way to a follower, since state was told last."""
        self._trouble = Trouble("state is not told who is followed")

    @property
    def count(self) -> int:
        """How many wait."""
        return self._waiting.total()

    async def run(self) -> None:
        """Tell state, until cancelled."""
        while True:
            await trio.sleep(RENEW_S)
            followed = {*self._waiting, *self._lately}
            self._lately.clear()
            if followed:
                with self._trouble.survived():
                    await self._state.presence.touch(followed)

    @contextmanager
    def _counted(self, id: str) -> Iterator[None]:
        self._waiting[id] += 1
        try:
            yield
        finally:
            self._waiting[id] -= 1
            if not self._waiting[id]:
                del self._waiting[id]

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]:
        """As `Log.watch`."""
        with self._counted(id):
            found = await self._state.log.watch(id, after)
        if found and found[-1].event.name != "finished":
            self._lately.add(id)
        return found

    async def settled(self, id: str, output_max: int) -> Record:
        """As `Submissions.settled`."""
        with self._counted(id):
            return await self._state.submissions.settled(id, output_max)
