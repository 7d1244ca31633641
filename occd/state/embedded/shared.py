"""What the parts of the embedded state share: the file, and the memory of the process beside it."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from occd.errors import DataFolderError
from occd.model import Record
from occd.sqlite import Database
from occd.state.wakeups import Answers, Wakeups
from occd.trouble import Trouble

T = TypeVar("T")

_RETRY_S = 0.5
_RATE_WINDOW_S = 60.0


class Shared:
    """The memory changes in the order of the file's log (`then` of `Database.write`)."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queued = 0
        self.unfinished: set[str] = set()
        self.followed: set[str] = set()
        """Those of them for whose events somebody has waited."""
        self.controls: dict[str, int] = {}
        """The number of the last control, by subject that has not ended."""
        self.grown = Wakeups()
        self.ended = Answers[Record]()
        self.sent = Wakeups()
        self._finishes: deque[float] = deque()
        self._trouble = Trouble("programs and their output wait for the data folder")

    async def surely(self, step: Callable[[], Awaitable[T]]) -> T:
        """Repeat while the data folder is away: a program that runs must not feel it."""
        while True:
            try:
                done = await step()
            except DataFolderError as error:
                self._trouble.tell(error)
                await trio.sleep(_RETRY_S)
            else:
                self._trouble.over()
                return done

    def end(self, id: str, record: Record | None = None) -> None:
        """A submission has a result, or was forgotten before it had one. Whoever waits for this gets the
        record, if it is known, and need not read it."""
        self.unfinished.discard(id)
        self.followed.discard(id)
        self.controls.pop(id, None)
        self.grown.send(id)
        self.ended.send(id, record)

    def control(self, subject: str, number: int) -> None:
        """A control was appended."""
        self.controls[subject] = number
        self.sent.send(subject)

    def count_finish(self) -> None:
        self._finishes.append(time.monotonic())

    def estimate(self) -> float | None:
        """Seconds until a new submission starts, by the rate of the last minute."""
        now = time.monotonic()
        while self._finishes and self._finishes[0] < now - _RATE_WINDOW_S:
            self._finishes.popleft()
        if not self.queued:
            return 0.0
        if not self._finishes:
            return None
        rate = len(self._finishes) / max(now - self._finishes[0], 1.0)
        return round(self.queued / rate, 1)
