"""The broker seam: queues between the roles."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from occd.config import Config
from occd.sqlite import Database

DELIVERY_LIMIT = 50
"""The number of deliveries without an acknowledgement after which a message becomes a dead letter. Such
a message kills the process that takes it."""

DEAD = ".dead"
"""The dead letters of the queue `q` lie in the queue `q.dead`."""

KEPT = ".kept"
"""notify moves each dead letter of `q` that it has dealt with to `q.kept`, where `occd queues` shows it."""

KEPT_MAX = 1000
"""The number of dead letters that `q.kept` holds. A further one pushes out the oldest."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter that notify has dealt with at `time`, without its body of `size` bytes: all bodies
    together may be larger than the memory."""

    key: str
    reason: str | None
    time: float
    size: int
    names: Mapping[str, str] = field(default_factory=dict)
    """Those of a Delivery. A `Look` does not tell them."""


class Delivery(Protocol):
    """A message that this process has taken and not ended. Call exactly one of `ack`, `hand_back`,
    `reject` and `keep`. After a crash or a lost connection the broker delivers the message again, and a
    late call does nothing."""

    @property
    def body(self) -> bytes: ...

    @property
    def key(self) -> str: ...

    @property
    def owner(self) -> str | None:
        """The owner that takes turns with others, as published. None: nobody, or version 1 published it to
        RabbitMQ."""

    @property
    def names(self) -> Mapping[str, str]:
        """Those that the publishing task had (`occd/origin.py`)."""

    @property
    def again(self) -> bool:
        """Whether it was delivered before, as far as the broker knows."""

    @property
    def reason(self) -> str | None:
        """Why the message became a dead letter; None for other messages."""

    async def ack(self) -> None: ...

    async def hand_back(self) -> None:
        """Return the message to the head of its queue, as if it had not been delivered. RabbitMQ counts
        each return as a delivery: when half of the delivery limit is used up, the message is published
        anew at the tail of the queue."""

    async def reject(self, reason: str) -> None:
        """Move the message to the dead letters."""

    async def keep(self) -> None:
        """Move a dead letter that was dealt with to `q.kept`, which holds the last KEPT_MAX."""


@dataclass(frozen=True, slots=True)
class Pull:
    """Messages on request. Each call of `ask` asks for one more message, which comes as soon as the queue has
    one. The end of a delivery asks for nothing. `starves` says whether a request waits for the next message
    to be queued, because no message is left."""

    deliveries: trio.MemoryReceiveChannel[Delivery]
    ask: Callable[[], None]
    starves: Callable[[], bool]


class Look(Protocol):
    """Reads the queues and changes nothing."""

    async def depths(self) -> Mapping[str, int]:
        """The number of messages that wait in each queue, the queues of dead and kept ones included."""

    async def kept(self, queue: str) -> Sequence[Kept]:
        """The kept dead letters of `queue`, oldest first."""


class Broker(Look, Protocol):
    async def publish(self, queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        """Return once the message would survive a crash of every process of ours. `key` is the
        submission's id; owners take turns. The message takes along the names of this task (`occd/origin.py`).

        Raises QueueFull when the queue is at its bound, MessageTooLarge, and BrokerUnavailable when no
        confirmation came within some seconds. After BrokerUnavailable or a cancellation the message may
        be in the queue all the same.
        """

    def consume(
        self, queue: str, prefetch: int
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Delivery]]:
        """Deliver messages; at most `prefetch` of them are not ended at any time. Leaving the context
        stops delivery. Messages that nobody received from the channel go back to the queue; the others
        can still be ended."""

    def pull(self, queue: str, most: int) -> AbstractAsyncContextManager[Pull]:
        """Deliver a message for each request only, so that all other messages stay in the queue for other
        nodes. The caller promises that at most `most` messages are asked for or not ended at any time.
        Leaving the context withdraws the requests; the messages fare as with `consume`."""

    async def withdraw(self, queue: str, key: str) -> None:
        """Nobody wants this message any more: give its place in the queue free, where that can be done.
        RabbitMQ gives nothing out of turn; there, as in a race, it is delivered all the same."""

    async def one_kept(self, queue: str, key: str) -> tuple[Kept, bytes] | None:
        """The oldest kept dead letter of this key, with its body. None: there is none."""

    async def take_kept(self, queue: str, key: str) -> None:
        """Delete the kept dead letters of this key, if there are any."""

    async def check(self) -> None:
        """Raises BrokerError when no message could be queued now. A full queue is no error here: its
        clients are told so, and this process empties it by working on."""


def check_broker_settings(config: Config) -> None:
    """Raises ConfigError for what can be told without a server."""
    if config.rabbitmq:
        from occd.broker.login import parameters

        parameters(config.rabbitmq)


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
    """Reads the queues whether a daemon runs or not."""
    if config.rabbitmq:
        async with open_broker(config, None) as broker:
            yield broker
    else:
        from occd.broker.embedded import EmbeddedLook

        yield EmbeddedLook(config.data_dir)
