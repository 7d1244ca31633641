"""The broker of one process: messages in SQLite, their order in memory.

Within a queue owners take turns, the one served least recently first; each owner's own messages are
served in the order in which they came.
"""

import sqlite3
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
import trio

from occd.broker import DEAD, DELIVERY_LIMIT, Delivery
from occd.config import Config
from occd.errors import DataFolderError, QueueFull
from occd.sqlite import Database, Work

T = TypeVar("T")
log = structlog.get_logger()

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
)


@dataclass(slots=True)
class _Queue:
    """The numbers of the messages that wait, by owner; the first owner is the next to be served.

    `length` also counts what is being delivered and what is being written.
    """

    name: str
    waiting: OrderedDict[str, deque[int]] = field(default_factory=OrderedDict)
    length: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    def put(self, number: int, owner: str, *, first: bool = False) -> None:
        numbers = self.waiting.setdefault(owner, deque())
        if first:
            numbers.appendleft(number)
            self.waiting.move_to_end(owner, last=False)
        else:
            numbers.append(number)
        self.changed.set()
        self.changed = trio.Event()

    async def take(self) -> tuple[int, str]:
        while not self.waiting:
            await self.changed.wait()
        owner, numbers = self.waiting.popitem(last=False)
        number = numbers.popleft()
        if numbers:
            self.waiting[owner] = numbers
        return number, owner


@dataclass(slots=True)
class _Delivery:
    _broker: "EmbeddedBroker"
    _queue: _Queue
    _free: trio.Semaphore
    _number: int
    _owner: str
    body: bytes
    key: str
    reason: str | None

    async def ack(self) -> None:
        self._free.release()  # it has ended; that it is written down, the next need not wait for
        await self._broker.delete(self._number)
        self._queue.length -= 1

    async def hand_back(self) -> None:
        await self._broker.undeliver(self._number)
        self._queue.put(self._number, self._owner, first=True)
        self._free.release()

    async def reject(self, reason: str) -> None:
        await self._broker.bury(self._queue, self._number, self._owner, reason)
        self._free.release()


class EmbeddedBroker:
    def __init__(self, database: Database, length_max: int) -> None:
        self._database = database
        self._length_max = length_max
        self._queues: dict[str, _Queue] = {}

    async def load(self) -> None:
        await self._database.migrate("broker", _MIGRATIONS)
        rows = await self._database.read(
            lambda db: db.execute(
                "SELECT queue, number, owner FROM messages ORDER BY number"
            ).fetchall()
        )
        for queue, number, owner in rows:
            self._queue(queue).length += 1
            self._queue(queue).put(number, owner)

    async def publish(self, queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        target = self._queue(queue)
        if target.length >= self._length_max:
            raise QueueFull(queue, _RETRY_AFTER_S)
        target.length += 1
        row = (queue, key, owner or "", body)
        try:
            number = await self._database.write(lambda db: _insert(db, row))
        except BaseException:
            target.length -= 1
            raise
        target.put(number, owner or "")

    @asynccontextmanager
    async def consume(
        self, queue: str, prefetch: int
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Delivery]]:
        send, receive = trio.open_memory_channel[Delivery](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, self._queue(queue), prefetch, send)
            try:
                yield receive
            finally:
                nursery.cancel_scope.cancel()  # before closing, which would fail what is on its way
                receive.close()

    async def _deliver(
        self, queue: _Queue, prefetch: int, send: trio.MemorySendChannel[Delivery]
    ) -> None:
        free = trio.Semaphore(prefetch)
        while True:
            await free.acquire()
            number, owner = await queue.take()
            try:
                delivery, deliveries = await self._begin(queue, free, number)
            except BaseException:
                queue.put(number, owner, first=True)
                raise
            if deliveries > DELIVERY_LIMIT and not queue.name.endswith(DEAD):
                await delivery.reject(f"delivered {deliveries - 1} times without an end")
                continue
            try:
                await send.send(delivery)
            except BaseException:
                with trio.CancelScope(shield=True):  # one write: milliseconds
                    await delivery.hand_back()
                raise

    async def _begin(
        self, queue: _Queue, free: trio.Semaphore, number: int
    ) -> tuple[_Delivery, int]:
        statement = (
            "UPDATE messages SET deliveries = deliveries + 1 WHERE number = ? "
            "RETURNING owner, body, key, reason, deliveries"
        )
        owner, body, key, reason, deliveries = await self._write(
            lambda db: db.execute(statement, [number]).fetchall()[0]
        )
        return _Delivery(self, queue, free, number, owner, body, key, reason), deliveries

    async def delete(self, number: int) -> None:
        statement = "DELETE FROM messages WHERE number = ?"
        await self._write(lambda db: _run(db, statement, number), hurry=False)

    async def undeliver(self, number: int) -> None:
        statement = "UPDATE messages SET deliveries = deliveries - 1 WHERE number = ?"
        with suppress(DataFolderError):  # then it counts as a delivery, and comes back all the same
            await self._database.write(lambda db: _run(db, statement, number))

    async def bury(self, queue: _Queue, number: int, owner: str, reason: str) -> None:
        dead = self._queue(queue.name + DEAD)
        statement = "UPDATE messages SET queue = ?, reason = ?, deliveries = 0 WHERE number = ?"
        await self._write(lambda db: _run(db, statement, dead.name, reason, number))
        queue.length -= 1
        dead.length += 1
        dead.put(number, owner)

    async def _write(self, work: Work[T], *, hurry: bool = True) -> T:
        """Write what a delivery in hand needs, however long the disk is full."""
        while True:
            try:
                return await self._database.write(work, hurry=hurry)
            except DataFolderError as error:
                log.warning("the queue waits for the data folder", error=str(error))
                await trio.sleep(_RETRY_S)

    def _queue(self, name: str) -> _Queue:
        return self._queues.setdefault(name, _Queue(name))


def _insert(db: sqlite3.Connection, row: tuple[str, str, str, bytes]) -> int:
    cursor = db.execute("INSERT INTO messages (queue, key, owner, body) VALUES (?, ?, ?, ?)", row)
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _run(db: sqlite3.Connection, statement: str, *values: object) -> None:
    db.execute(statement, values)


@asynccontextmanager
async def open_embedded(config: Config, database: Database) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(database, config.queue.length_max)
    await broker.load()
    yield broker
