"""The two steps in which a submission changes both the queues and state, each as one transaction, where both
lie in one file.

Elsewhere each is several steps, of which any can be the last before a death: `roles/submit.py` and
`roles/execute.py` take them one by one. Here a result does not wait in a queue: it is stored at once, with
the last events of its attempt, and its submission's message goes with the same transaction. Each transaction
is a wake-up of two threads and, where something is promised, a wait for the disk.
"""

import sqlite3
from collections.abc import Sequence

from occd import wire
from occd.broker import Broker, Delivery
from occd.broker.embedded import EmbeddedBroker, EmbeddedDelivery
from occd.config import Config
from occd.errors import QueueFull
from occd.events import Event
from occd.model import Record, Result, Submission
from occd.quotas import Payer
from occd.sqlite import Database
from occd.state import Created, State
from occd.state.embedded.submissions import EmbeddedSubmissions


class Together:
    def __init__(
        self,
        database: Database,
        broker: EmbeddedBroker,
        submissions: EmbeddedSubmissions,
        queue: str,
    ) -> None:
        self._database = database
        self._broker = broker
        self._submissions = submissions
        self._queue = queue

    async def accept(
        self,
        submission: Submission,
        turn: str | None,
        key: str | None,
        digest: str,
        payer: Payer | None,
        stores: int,
    ) -> Created | None:
        """Record and queue a submission. When it returns, both are on the disk. None, and nothing was done:
        the queue is full. (An earlier submission under the same key may be there all the same.) Otherwise as
        `Submissions.create`."""
        body = wire.encode_submission(submission)
        try:
            publish = self._broker.publishing(
                self._queue, body, key=submission.id, owner=turn, value=submission
            )
        except QueueFull:
            return None
        create = self._submissions.creating(
            submission, body, key, digest, payer, stores, published=True
        )

        def work(db: sqlite3.Connection) -> tuple[Created, bool, int | None]:
            created, new = create.work(db)
            return created, new, publish.work(db) if new else None

        def done(found: tuple[Created, bool, int | None]) -> None:
            created, new, number = found
            create.then((created, new))
            if number is None:
                publish.undo()
            else:
                publish.then(number)

        try:
            created, _, _ = await self._database.write(work, durable=True, then=done)
        except BaseException:
            publish.undo()
            create.undo()
            raise
        return created

    async def finish(
        self, delivery: Delivery, id: str, attempt: int, result: Result, events: Sequence[Event]
    ) -> bool:
        """Store the last events of an attempt and its result, and acknowledge the delivery of its submission,
        as `Submissions.finish` and `Delivery.ack`. When it returns, all of it is on the disk."""
        assert isinstance(delivery, EmbeddedDelivery)
        finish = self._submissions.finishing(id, attempt, result, events)
        ack = delivery.acking()

        def work(db: sqlite3.Connection) -> tuple[bool, bool, Record | None]:
            found = finish.work(db)
            ack.work(db)
            return found

        def done(found: tuple[bool, bool, Record | None]) -> None:
            finish.then(found)
            ack.then(None)

        try:
            stored, _, _ = await self._database.write(work, durable=True, then=done)
        except BaseException:
            finish.undo()
            ack.undo()
            raise
        return stored


def taken(delivery: Delivery) -> Submission:
    """The submission of a delivery, which need not be read again in the process that has just accepted it.
    Raises Poisoned."""
    if isinstance(delivery, EmbeddedDelivery) and isinstance(delivery.value, Submission):
        return delivery.value
    return wire.decode_submission(delivery.body)


def together(config: Config, broker: Broker, state: State) -> Together | None:
    """None where the queues and state do not lie in one file."""
    submissions = state.submissions
    if (
        isinstance(broker, EmbeddedBroker)
        and isinstance(submissions, EmbeddedSubmissions)
        and broker.database is submissions.database
    ):
        return Together(broker.database, broker, submissions, config.submission_queue)
    return None
