"""The broker seam: queues between the roles."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from occd.config import Config
from occd.sqlite import Database

DELIVERY_LIMIT = 50
"""After so many deliveries without an acknowledgement a message is dead-lettered: it kills us."""

DEAD = ".dead"
"""The queue `q` has its dead letters in `q.dead`."""

KEPT = ".kept"
"""Those that were dealt with are kept in `q.kept`, for `occd queues`."""

KEPT_MAX = 1000
"""So many, the last ones."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter that was dealt with; `time` is when."""

    key: str
    reason: str | None
    time: float
    body: bytes


class Delivery(Protocol):
    """A message in our hands. Exactly one of the four ends it; after a crash it comes again. So it does
    when the connection to the server of queues was lost: then its end changes nothing."""

    @property
    def body(self) -> bytes: ...

    @property
    def key(self) -> str: ...

    @property
    def reason(self) -> str | None:
        """Why a dead letter is one."""

    async def ack(self) -> None: ...

    async def hand_back(self) -> None:
        """Return it to the head of its queue, as if it had not been delivered. RabbitMQ, which counts
        every return, gets it anew at the tail when half of the delivery limit is used up."""

    async def reject(self, reason: str) -> None:
        """Move it to the dead letters."""

    async def keep(self) -> None:
        """This dead letter is dealt with: keep it among the last KEPT_MAX of its kind."""


class Look(Protocol):
    """What can be seen without taking part."""

    async def depths(self) -> Mapping[str, int]:
        """How many messages wait, by queue. Dead and kept ones have queues of their own."""

    async def kept(self, queue: str) -> Sequence[Kept]:
        """The dead letters of `queue` that were dealt with, oldest first."""


class Broker(Look, Protocol):
    async def publish(self, queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        """Return when the message would survive a crash of every process of ours. `key` is the
        submission's id; owners take turns.

        Raises QueueFull when the queue is at its bound, BrokerUnavailable when nobody confirmed it
        within some seconds (then it may have been queued all the same), MessageTooLarge. May be
        cancelled, with the same doubt.
        """

    def consume(
        self, queue: str, prefetch: int
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Delivery]]:
        """Deliver messages, at most `prefetch` at once unended. Leaving the context ends the intake;
        what was not taken goes back, and what was taken can still be ended."""

    async def withdraw(self, queue: str, key: str) -> None:
        """Nobody wants this message any more: give its place in the queue free, where that can be done.
        RabbitMQ gives nothing out of turn; there, as in a race, it is delivered all the same."""

    async def take_kept(self, queue: str, key: str) -> None:
        """Forget the kept dead letters of this key. Nothing happens when there are none."""

    async def check(self) -> None:
        """Raises BrokerError when nothing could be queued now. A queue that is full passes: that is
        for the client to hear, and for this process to mend by working on."""


@asynccontextmanager
async def open_broker(config: Config, database: Database | None) -> AsyncIterator[Broker]:
    """`database` is for the embedded one. Raises ConfigError, or BrokerUnavailable when RabbitMQ could
    not be reached for half a minute."""
    if config.rabbitmq:
        from occd.broker.rabbitmq import open_rabbitmq

        async with open_rabbitmq(config) as remote:
            yield remote
    else:
        from occd.broker.embedded import open_embedded

        assert database is not None, "the embedded broker needs the data folder"
        async with open_embedded(config, database) as embedded:
            yield embedded


@asynccontextmanager
async def open_look(config: Config) -> AsyncIterator[Look]:
    """For a look at the queues of a daemon that runs, or does not."""
    if config.rabbitmq:
        async with open_broker(config, None) as broker:
            yield broker
    else:
        from occd.broker.embedded import EmbeddedLook

        yield EmbeddedLook(config.data_dir)
