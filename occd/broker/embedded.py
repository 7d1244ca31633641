"""The broker of one process: messages in SQLite, their order in memory (`waiting.py`).

A message that somebody waits for is written together with its first delivery, which saves a transaction.
Where state shares the file, a publish does not wait for the disk: a power cut that takes the message takes
the mark `published` too, and the sweep publishes again. State in Redis keeps the mark, so there a publish
waits.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from occd.broker import DEAD, DELIVERY_LIMIT, KEPT, KEPT_MAX, Delivery, Kept, Pull
from occd.broker.waiting import Message, Waiting
from occd.config import Config
from occd.datafile import explain, refuse_absent
from occd.errors import DataFolderError, QueueFull
from occd.origin import of_task, well_formed
from occd.sqlite import Database, Part, Work
from occd.trouble import Trouble

T = TypeVar("T")
_NAMES = ("request_id", "traceparent")
"""Columns."""
_RETRY_AFTER_S = 5
_RETRY_S = 0.5

_MIGRATIONS = (
    """
    CREATE TABLE messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        key TEXT NOT NULL,
        owner TEXT NOT NULL,
        body BLOB NOT NULL,
        deliveries INTEGER NOT NULL DEFAULT 0,
        reason TEXT
    )
    """,
    "ALTER TABLE messages ADD COLUMN kept_at REAL",
)
_NAMES_MIGRATIONS = (
    "ALTER TABLE messages ADD COLUMN request_id TEXT; ALTER TABLE messages ADD COLUMN traceparent TEXT",
)
"""A component of its own, so that an older version still opens the folder. It writes no names."""


@dataclass(slots=True)
class EmbeddedDelivery:
    _broker: "EmbeddedBroker"
    _queue: Waiting
    _freed: Callable[[], object]
    _number: int
    _owner: str
    body: bytes
    key: str
    reason: str | None
    again: bool
    names: Mapping[str, str]
    value: object = None
    """The decoded body of a message that this process published for a task that waited for it."""
    _acked: bool = False

    @property
    def owner(self) -> str | None:
        return self._owner or None

    async def ack(self) -> None:
        """Does nothing after `acking`."""
        if self._acked:
            return
        self._freed()  # it has ended; that it is written down, the next need not wait for
        try:
            await self._broker.delete(self._number)
        finally:
            self._queue.length -= 1

    def acking(self) -> Part[None]:
        """`ack` as a part of a transaction."""
        self._acked = True

        def acked(_: None) -> None:
            self._freed()
            self._queue.length -= 1

        def undo() -> None:
            self._acked = False

        return Part(lambda db: _delete(db, self._number), acked, undo)

    async def hand_back(self) -> None:
        try:
            await self._broker.undeliver(self._number)
        finally:
            self._put_back()

    async def reject(self, reason: str) -> None:
        await self._end(self._broker.bury(self._queue, self._number, self._owner, self.key, reason))

    async def keep(self) -> None:
        await self._end(self._broker.preserve(self._queue, self._number))

    async def _end(self, end: Awaitable[None]) -> None:
        try:
            await end
        except BaseException:
            self._put_back()
            raise
        self._freed()

    def _put_back(self) -> None:
        self._queue.put(self._number, self._owner, self.key, first=True)
        self._freed()


class EmbeddedBroker:
    def __init__(self, database: Database, length_max: int, *, durable: bool) -> None:
        """`durable`: a published message survives a power cut."""
        self.database = self._database = database
        self._length_max = length_max
        self._durable = durable
        self._queues: dict[str, Waiting] = {}
        self._trouble = Trouble("the queue waits for the data folder")

    async def load(self) -> None:
        await self._database.migrate("broker", _MIGRATIONS)
        await self._database.migrate("names", _NAMES_MIGRATIONS)
        rows = await self._database.read(
            lambda db: db.execute(
                "SELECT queue, number, owner, key FROM messages ORDER BY number"
            ).fetchall()
        )
        for queue, number, owner, key in rows:
            if queue.endswith(KEPT):  # nobody is served these
                continue
            self._queue(queue).length += 1
            self._queue(queue).put(number, owner, key)

    async def publish(self, queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        step = self.publishing(queue, body, key=key, owner=owner)
        try:
            await self._database.write(step.work, durable=self._durable, then=step.then)
        except BaseException:
            step.undo()
            raise

    def publishing(
        self, queue: str, body: bytes, *, key: str, owner: str | None, value: object = None
    ) -> Part[int]:
        """`publish` as a part of a transaction. `value` is what the body says. Raises QueueFull."""
        target = self._queue(queue)
        if target.length >= self._length_max:
            raise QueueFull(queue, _RETRY_AFTER_S)
        target.length += 1
        taker = target.reserve()
        names = of_task()
        row = (queue, key, owner or "", body, int(taker is not None), *map(names.get, _NAMES))

        def put(number: int) -> None:
            if taker:
                taker.wake(Message(number, owner or "", key, body, names, value))
            else:
                target.put(number, owner or "", key)

        def undo() -> None:
            target.length -= 1
            if taker:
                taker.wake()

        return Part(lambda db: _insert(db, row), put, undo)

    @asynccontextmanager
    async def consume(
        self, queue: str, prefetch: int
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Delivery]]:
        free = trio.Semaphore(prefetch)
        async with self._delivering(self._queue(queue), free, free.release) as deliveries:
            yield deliveries

    @asynccontextmanager
    async def pull(self, queue: str, most: int) -> AsyncIterator[Pull]:
        asked = trio.Semaphore(0, max_value=most)
        source = self._queue(queue)
        async with self._delivering(source, asked, lambda: None) as deliveries:
            yield Pull(deliveries, asked.release, lambda: source.starves)

    @asynccontextmanager
    async def _delivering(
        self, queue: Waiting, free: trio.Semaphore, freed: Callable[[], object]
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Delivery]]:
        """Deliver a message for each release of `free`. The end of each delivery calls `freed`."""
        send, receive = trio.open_memory_channel[Delivery](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, queue, free, freed, send)
            try:
                yield receive
            finally:
                nursery.cancel_scope.cancel()  # before closing, which would fail what is on its way
                receive.close()

    async def _deliver(
        self,
        queue: Waiting,
        free: trio.Semaphore,
        freed: Callable[[], object],
        send: trio.MemorySendChannel[Delivery],
    ) -> None:
        while True:
            await free.acquire()
            delivery = await self._next(queue, freed)
            try:
                await send.send(delivery)
            except BaseException:
                with trio.CancelScope(shield=True):  # one write: milliseconds
                    await delivery.hand_back()
                raise

    async def _next(self, queue: Waiting, freed: Callable[[], object]) -> EmbeddedDelivery:
        """The next message. A message that was delivered too often becomes a dead letter."""
        while True:
            message = await queue.take()
            number, owner, key = message.number, message.owner, message.key
            if (body := message.body) is not None:
                names, value = message.names, message.value
                return EmbeddedDelivery(
                    self, queue, freed, number, owner, body, key, None, False, names, value
                )
            try:
                delivery, deliveries = await self._begin(queue, freed, number)
                if deliveries <= DELIVERY_LIMIT or queue.name.endswith(DEAD):
                    return delivery
                reason = f"delivered {deliveries - 1} times without an end"
                await self.bury(queue, number, owner, key, reason)
            except BaseException:
                queue.put(number, owner, key, first=True)
                raise

    async def _begin(
        self, queue: Waiting, freed: Callable[[], object], number: int
    ) -> tuple[EmbeddedDelivery, int]:
        statement = (
            "UPDATE messages SET deliveries = deliveries + 1 WHERE number = ? "
            "RETURNING owner, body, key, reason, deliveries, request_id, traceparent"
        )
        owner, body, key, reason, deliveries, *names = await self._write(
            lambda db: db.execute(statement, [number]).fetchall()[0]
        )
        again, named = deliveries > 1, _named(*names)
        delivery = EmbeddedDelivery(
            self, queue, freed, number, owner, body, key, reason, again, named
        )
        return delivery, deliveries

    async def delete(self, number: int) -> None:
        await self._write(lambda db: _delete(db, number), hurry=False)

    async def undeliver(self, number: int) -> None:
        statement = "UPDATE messages SET deliveries = deliveries - 1 WHERE number = ?"
        with suppress(DataFolderError):  # then it counts as a delivery, and comes back all the same
            await self._database.write(lambda db: _run(db, statement, number))

    async def bury(self, queue: Waiting, number: int, owner: str, key: str, reason: str) -> None:
        dead = self._queue(queue.name + DEAD)
        statement = "UPDATE messages SET queue = ?, reason = ?, deliveries = 0 WHERE number = ?"
        await self._write(lambda db: _run(db, statement, dead.name, reason, number))
        queue.length -= 1
        dead.length += 1
        dead.put(number, owner, key)

    async def preserve(self, queue: Waiting, number: int) -> None:
        await self._write(lambda db: _keep(db, queue.name.removesuffix(DEAD) + KEPT, number))
        queue.length -= 1

    async def withdraw(self, queue: str, key: str) -> None:
        number = self._queue(queue).withdraw(key)
        if number is not None:
            with suppress(DataFolderError):  # then it comes after a restart, and is refused
                await self._database.write(lambda db: _delete(db, number), hurry=False)

    async def depths(self) -> Mapping[str, int]:
        kept = await self._database.read(_count_kept)
        return kept | {
            name: sum(map(len, queue.waiting.values())) for name, queue in self._queues.items()
        }

    async def kept(self, queue: str) -> Sequence[Kept]:
        return await self._database.read(lambda db: _kept(db, queue, _NAMES))

    async def one_kept(self, queue: str, key: str) -> tuple[Kept, bytes] | None:
        return await self._database.read(lambda db: _one_kept(db, queue, key))

    async def take_kept(self, queue: str, key: str) -> None:
        statement = "DELETE FROM messages WHERE queue = ? AND key = ?"
        await self._database.write(lambda db: _run(db, statement, queue + KEPT, key), durable=True)

    async def check(self) -> None:
        await self._database.check()

    async def _write(self, work: Work[T], *, hurry: bool = True) -> T:
        """Write what a delivery in hand needs, however long the disk is full."""
        while True:
            try:
                done = await self._database.write(work, hurry=hurry)
            except DataFolderError as error:
                self._trouble.tell(error)
                await trio.sleep(_RETRY_S)
            else:
                self._trouble.over()
                return done

    def _queue(self, name: str) -> Waiting:
        if name not in self._queues:
            self._queues[name] = Waiting(name)
        return self._queues[name]


def _insert(db: sqlite3.Connection, row: tuple[object, ...]) -> int:
    statement = (
        "INSERT INTO messages (queue, key, owner, body, deliveries, request_id, traceparent)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)"
    )
    cursor = db.execute(statement, row)
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _delete(db: sqlite3.Connection, number: int) -> None:
    db.execute("DELETE FROM messages WHERE number = ?", [number])


def _run(db: sqlite3.Connection, statement: str, *values: object) -> None:
    db.execute(statement, values)


def _keep(db: sqlite3.Connection, kept: str, number: int) -> None:
    """The newest has the highest number, so that those which go are the lowest."""
    db.execute(
        "UPDATE messages SET queue = ?, kept_at = ?, deliveries = 0,"
        " number = (SELECT max(number) + 1 FROM messages) WHERE number = ?",
        [kept, time.time(), number],
    )
    db.execute(
        "DELETE FROM messages WHERE queue = ? AND number NOT IN"
        " (SELECT number FROM messages WHERE queue = ? ORDER BY number DESC LIMIT ?)",
        [kept, kept, KEPT_MAX],
    )


def _kept(db: sqlite3.Connection, queue: str, names: Sequence[str] = ()) -> list[Kept]:
    """Tables that an older version made have no names."""
    columns = ", ".join(("key", "reason", "kept_at", "length(body)", *names))
    statement = f"SELECT {columns} FROM messages WHERE queue = ? ORDER BY number"  # noqa: S608
    rows = db.execute(statement, [queue + KEPT])
    return [
        Kept(key, reason, time, size, _named(*named)) for key, reason, time, size, *named in rows
    ]


def _named(*names: object) -> dict[str, str]:
    return well_formed(dict(zip(_NAMES, names, strict=False)))


def _one_kept(db: sqlite3.Connection, queue: str, key: str) -> tuple[Kept, bytes] | None:
    """In one look: somebody may take the letter at any moment."""
    columns = ", ".join(("reason", "kept_at", "body", *_NAMES))
    found = db.execute(
        f"SELECT {columns} FROM messages WHERE queue = ? AND key = ? ORDER BY number",  # noqa: S608
        [queue + KEPT, key],
    ).fetchone()
    if found is None:
        return None
    reason, time, body, *names = found
    return Kept(key, reason, time, len(body), _named(*names)), body


def _count_kept(db: sqlite3.Connection) -> dict[str, int]:
    return {name: count for name, count in _count(db).items() if name.endswith(KEPT)}


def _count(db: sqlite3.Connection) -> dict[str, int]:
    return dict(db.execute("SELECT queue, count(*) FROM messages GROUP BY queue").fetchall())


class EmbeddedLook:
    """Reads the file of a daemon that may be running. What is being delivered counts as waiting: only
    the daemon knows."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "occd.db"

    async def depths(self) -> Mapping[str, int]:
        return await trio.to_thread.run_sync(self._read, _count)

    async def kept(self, queue: str) -> Sequence[Kept]:
        return await trio.to_thread.run_sync(self._read, lambda db: _kept(db, queue))

    def _read(self, work: Work[T]) -> T:
        refuse_absent(self._path.parent)
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
                return work(connection)
        except sqlite3.Error as error:
            raise explain(self._path, error, "cannot be read") or error from error


@asynccontextmanager
async def open_embedded(config: Config, database: Database) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(database, config.queue.length_max, durable=config.redis is not None)
    await broker.load()
    yield broker
