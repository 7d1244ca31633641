"""The broker seam: queues between the roles."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from occd.config import Config
from occd.sqlite import Database

DELIVERY_LIMIT = 50
"""After so many deliveries without an acknowledgement a message is dead-lettered: it kills us."""

DEAD = ".dead"
"""The queue `q` has its dead letters in `q.dead`."""


class Delivery(Protocol):
    """A message in our hands. Exactly one of the three ends it; after a crash it comes again."""

    @property
    def body(self) -> bytes: ...

    @property
    def key(self) -> str: ...

    @property
    def reason(self) -> str | None:
        """Why a dead letter is one."""

    async def ack(self) -> None: ...

    async def hand_back(self) -> None:
        """Return it to the head of its queue, as if it had not been delivered."""

    async def reject(self, reason: str) -> None:
        """Move it to the dead letters."""


class Broker(Protocol):
    async def publish(self, queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        """Return when the message would survive a crash of every process of ours. `key` is the
        submission's id; owners take turns.

        Raises QueueFull when the queue is at its bound.
        """

    def consume(
        self, queue: str, prefetch: int
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Delivery]]:
        """Deliver messages, at most `prefetch` at once unended. Leaving the context ends the intake;
        what was not taken goes back, and what was taken can still be ended."""


@asynccontextmanager
async def open_broker(config: Config, database: Database) -> AsyncIterator[Broker]:
    from occd.broker.embedded import open_embedded

    async with open_embedded(config, database) as broker:
        yield broker
