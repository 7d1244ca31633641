"""The state seam: what is known of submissions, their events, and what their programs are to be sent.

Every method is one atomic step. Waiting methods return as soon as there is something to say.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from occd.config import Config
from occd.model import Event, Record, Recorded, Result, Submission
from occd.sqlite import Database

OFFER_TTL_S = 15.0
"""What an execute node announced is believed for so long."""

STDIN_UNREAD_MAX = 2**20


@dataclass(frozen=True, slots=True)
class Created:
    """`id` is an earlier submission's when the idempotency key was seen before."""

    id: str
    published: bool


@dataclass(frozen=True, slots=True)
class Stdin:
    """What the program was sent from some offset on; `ended` after its last byte."""

    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """The languages an execute node can run, with their versions newest first."""

    node: str
    languages: Mapping[str, tuple[str, ...]]


class State(Protocol):
    async def create(self, submission: Submission, key: str | None, digest: str) -> Created:
        """Record a submission as queued and append `queued`. Idempotent per key: the same key with
        the same digest of the request gives the earlier submission, with another raises Conflict."""

    async def published(self, id: str) -> None:
        """The broker has it."""

    async def discard(self, id: str) -> None:
        """Forget a submission that the broker did not take. Does nothing when it was published."""

    async def unpublished(self, before: float) -> Sequence[Submission]:
        """Submissions created before a time that no broker confirmed: someone died in between."""

    async def begin(self, submission: Submission, version: str, node: str) -> int:
        """Count a start and append `started`; gives the attempt, from now on the only writer. Works
        also when the submission has been forgotten.

        Raises Finished, or Exhausted when all attempts are used up.
        """

    async def excuse(self, id: str, attempt: int) -> None:
        """This attempt was cut off by a drain of ours: it does not count towards the last one. Its
        number stays used, so that clients clear what it showed."""

    async def append(self, id: str, attempt: int, events: Sequence[Event]) -> None:
        """Append events in order. Raises Stale, Finished or UnknownSubmission."""

    async def finish(self, id: str, attempt: int | None, result: Result) -> bool:
        """Store the result and append `finished`, at once. False, and nothing changes, when it has
        one already or `attempt` is stale; None is any attempt."""

    async def get(self, id: str) -> Record:
        """Raises UnknownSubmission."""

    async def settled(self, id: str) -> Record:
        """Wait until it is finished. Raises UnknownSubmission."""

    async def watch(self, id: str, after: int) -> Sequence[Recorded]:
        """Wait for events with seq > `after`; gives them in order, about a megabyte at most. None are
        given exactly when the event `finished` is not after `after`: nothing follows it.

        Raises UnknownSubmission, or EventsReset when `after` lies beyond the log.
        """

    async def cancel(self, id: str) -> bool:
        """Finish it as cancelled at once if it is queued, tell its attempt if it runs. False when it
        was finished before. Raises UnknownSubmission."""

    async def cancelled(self, id: str) -> None:
        """Wait until somebody cancels it."""

    async def send_stdin(self, id: str, data: bytes, offset: int | None, *, end: bool) -> None:
        """Append to the stdin log. `offset` counts bytes, so that what is sent again is dropped.

        Raises UnknownSubmission, Finished, NotInteractive, StdinFull, or Rejected for a gap.
        """

    async def stdin(self, id: str, offset: int) -> Stdin:
        """Wait for stdin from `offset` on; what lies before it counts as read by the program."""

    async def announce(self, offer: Offer) -> None:
        """An execute node can run these languages; repeated well within OFFER_TTL_S."""

    async def withdraw(self, node: str) -> None:
        """It takes no more submissions."""

    async def offers(self) -> Sequence[Offer]: ...

    async def check(self) -> None:
        """Raises StateError or DataFolderError when a submission could not be recorded now."""


@asynccontextmanager
async def open_state(config: Config, database: Database) -> AsyncIterator[State]:
    from occd.state.embedded import open_embedded

    async with open_embedded(config, database) as state:
        yield state
