"""The broker between processes: RabbitMQ, through pika.

Theory of operation. There are two connections, each with a thread that owns it (`amqp.Link`): one
publishes, one consumes and asks. RabbitMQ stops reading from a connection that publishes while it is
short of memory or disk; acknowledgements, which relieve it, must not wait in the same line.

*Publishing* (`publisher.py`) returns at the confirm of a persistent message that was routed to a queue;
any number are on their way at once. When the connection is lost, what is not confirmed is published
again, so that a message may be there twice but is never missing. A publisher waits for some seconds and
is then told BrokerUnavailable.

*Consuming* (`intake.py`) takes a message only when there is room for it, from lanes in turn. Each delivery is
ended by its role through the owner thread, which lives until the broker is closed: while roles drain,
acknowledgements and heartbeats flow. When the connection is lost, what was being delivered is stale: it
comes again, to whomever, and its end here changes nothing.

*Dead letters* lie in `q.dead`: moved there by RabbitMQ at the delivery limit, or by `reject`, which
publishes a copy with the reason and acknowledges the original once that is confirmed: at no moment is
the message nowhere. `keep` moves them on to `q.kept` in the same way.

Queues are declared when the broker is opened, and again after each reconnect: a server that lost its
data gets them back.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pika
import trio

from occd.broker import DEAD, DELIVERY_LIMIT, KEPT, Delivery, Kept, Pull
from occd.broker.amqp import START_S, Link, open_link
from occd.broker.intake import RETURNS_MAX, Arrival, Intake, Turn
from occd.broker.login import parameters
from occd.broker.publisher import Publisher, Unroutable
from occd.broker.talk import Talk, open_talk
from occd.broker.topology import Topology
from occd.config import Config
from occd.errors import BrokerError, BrokerUnavailable
from occd.origin import of_task, well_formed
from occd.trouble import Trouble

_REASON, _OWNER = "occd-reason", "occd-owner"
"""Headers."""
_NAMES = {"request_id": "occd-request-id", "traceparent": "traceparent"}
"""Their headers. Older versions leave them out when they move a message."""
_RETRY_S = 0.5
_ROUTE_TRIES = 3
_FLUSH_S = 2.0


@dataclass(slots=True)
class _Delivery:
    _broker: "RabbitmqBroker"
    _queue: str
    _intake: Intake
    _arrival: Arrival

    @property
    def body(self) -> bytes:
        return self._arrival.body

    @property
    def key(self) -> str:
        return _key(self._arrival.properties)

    @property
    def owner(self) -> str | None:
        return _owner(self._arrival.properties)

    @property
    def names(self) -> Mapping[str, str]:
        return _names(self._arrival.properties)

    @property
    def again(self) -> bool:
        return self._arrival.again

    @property
    def reason(self) -> str | None:
        return _reason(self._arrival.properties)

    async def ack(self) -> None:
        self._end(self._intake.ack)
        await trio.lowlevel.checkpoint()

    async def hand_back(self) -> None:
        if self._arrival.deliveries < RETURNS_MAX:
            self._end(self._intake.hand_back)
            await trio.lowlevel.checkpoint()
        else:
            await self._move(self._arrival.lane, {})

    async def reject(self, reason: str) -> None:
        await self._move(self._queue + DEAD, {_REASON: reason[:1000]})

    async def keep(self) -> None:
        reason = {_REASON: self.reason[:1000]} if self.reason else {}
        await self._move(self._queue.removesuffix(DEAD) + KEPT, reason)

    def return_soon(self) -> None:
        """It was not taken by anyone."""
        if self._arrival.deliveries < RETURNS_MAX:
            self._end(self._intake.hand_back)
        else:
            self._broker.start_soon(self.hand_back)

    async def _move(self, queue: str, headers: dict[str, str]) -> None:
        """Publish a copy, then acknowledge. However long it takes, unless it has become stale."""
        while not self._stale:
            try:
                await self._broker.copy(queue, self._arrival, headers)
                self._broker.moving.over()
                break
            except BrokerError as error:
                self._broker.moving.tell(error, key=self.key, to=queue)
                await trio.sleep(_RETRY_S)
        self._end(self._intake.ack)

    @property
    def _stale(self) -> bool:
        return not self._arrival.channel.is_open

    def _end(self, end: Any) -> None:
        self._intake.link.post(end, self._arrival)


class RabbitmqBroker:
    def __init__(
        self, topology: Topology, publishing: Link, consuming: Link, nursery: trio.Nursery
    ) -> None:
        self._topology = topology
        self._publisher = Publisher(publishing)
        self._publishing = publishing
        self._consuming = consuming
        self._nursery = nursery
        self._declared: dict[str, None] = {}
        self.moving = Trouble("a message waits to be moved")
        self._missing = trio.Event()
        self._turns: dict[str, Turn] = {}
        self._looking = trio.Lock()
        """A look at kept dead letters takes them for its time. A second look would see only the others."""

    async def publish(self, queue: str, body: bytes, *, key: str, owner: str | None) -> None:
        if queue not in self._declared:
            await self.declare(queue)
        lane = self._topology.lane(queue, owner)
        for _ in range(_ROUTE_TRIES):
            with suppress(Unroutable):
                return await self._publish(lane, body, key, owner)
            await self.declare(queue)  # somebody deleted it, and that may take a moment
            await trio.sleep(_RETRY_S)
        return await self._publish(lane, body, key, owner)

    async def _publish(self, lane: str, body: bytes, key: str, owner: str | None) -> None:
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            correlation_id=key,
            headers=_headers_of(owner, of_task()),
        )
        await self._publisher.publish(lane, body, properties)

    async def copy(self, queue: str, arrival: Arrival, headers: Mapping[str, str]) -> None:
        """Publish what came to another queue, or to the same anew."""
        old = arrival.properties
        properties = pika.BasicProperties(
            content_type=old.content_type,
            delivery_mode=2,
            correlation_id=old.correlation_id,
            headers={**_headers_of(_owner(old), _names(old)), **headers},
            timestamp=int(datetime.now(UTC).timestamp()),
        )
        await self._publisher.publish(queue, arrival.body, properties)

    @asynccontextmanager
    async def consume(
        self, queue: str, prefetch: int
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Delivery]]:
        async with self._taking(queue, prefetch, pulls=False) as (deliveries, _):
            yield deliveries

    @asynccontextmanager
    async def pull(self, queue: str, most: int) -> AsyncIterator[Pull]:
        async with self._taking(queue, most, pulls=True) as (deliveries, intake):
            yield Pull(deliveries, lambda: self._consuming.post(intake.ask), lambda: intake.starves)

    @asynccontextmanager
    async def _taking(
        self, queue: str, most: int, *, pulls: bool
    ) -> AsyncIterator[tuple[trio.MemoryReceiveChannel[Delivery], Intake]]:
        """`most` messages are not ended, at most."""
        if queue not in self._declared:
            await self.declare(queue)
        send, receive = trio.open_memory_channel[Delivery](most)  # never full
        turn = self._turns.setdefault(queue, Turn(self._topology.lanes(queue)))

        def deliver(intake: Intake, arrival: Arrival) -> None:
            delivery = _Delivery(self, queue, intake, arrival)
            try:
                send.send_nowait(delivery)
            except trio.BrokenResourceError:  # it was on its way when the consumer left
                delivery.return_soon()

        def renew(intake: Intake, arrival: Arrival) -> None:
            _Delivery(self, queue, intake, arrival).return_soon()

        intake = Intake(self._consuming, turn, most, deliver, renew, self._missing_one, pulls=pulls)
        self._consuming.post(intake.start)
        try:
            yield receive, intake
        finally:
            self._consuming.post(intake.stop)  # first, or what goes back would be taken again
            with suppress(trio.WouldBlock, trio.ClosedResourceError):
                while True:
                    delivery = receive.receive_nowait()
                    assert isinstance(delivery, _Delivery)
                    delivery.return_soon()
            receive.close()

    async def depths(self) -> Mapping[str, int]:
        of: dict[str, str] = {}  # queue by lane, each once
        for queue in self._declared:
            for name in self._topology.declarations(queue):
                of[name] = queue if name in self._topology.lanes(queue) else name
        found = dict.fromkeys(of.values(), 0)
        async with open_talk(self._consuming) as talk:
            for name, queue in of.items():
                found[queue] += await talk.depth(name)
        return found

    async def kept(self, queue: str) -> Sequence[Kept]:
        found: list[Kept] = []
        async with self._looking, open_talk(self._consuming) as talk:
            while got := await _next_kept(talk, queue):
                _, kept, _ = got
                found.append(kept)
        return found

    async def one_kept(self, queue: str, key: str) -> tuple[Kept, bytes] | None:
        async with self._looking, open_talk(self._consuming) as talk:
            while got := await _next_kept(talk, queue):
                _, kept, body = got
                if kept.key == key:
                    return kept, body
        return None

    async def withdraw(self, queue: str, key: str) -> None:
        """It keeps its place until its turn, when `begin` refuses it."""

    async def take_kept(self, queue: str, key: str) -> None:
        async with self._looking, open_talk(self._consuming) as talk:
            while got := await _next_kept(talk, queue):
                tag, kept, _ = got
                if kept.key == key:
                    talk.ack(tag)

    async def check(self) -> None:
        """RabbitMQ answers no question on a connection that it blocks."""
        self._refuse_when_blocked()
        async with open_talk(self._publishing) as talk:
            await talk.depth(self._topology.queues[0])
        self._refuse_when_blocked()

    def _refuse_when_blocked(self) -> None:
        if self._publishing.blocked:
            raise BrokerError(
                f"RabbitMQ at {self._publishing.where} takes no messages now: it is short of memory or disk"
            )

    async def declare(self, *queues: str) -> None:
        """With their lanes, dead letters and kept ones."""
        async with open_talk(self._consuming) as talk:
            for queue in queues:
                for name, arguments in self._topology.declarations(queue).items():
                    await talk.declare(name, arguments)
                self._declared[queue] = None

    async def keep_declared(self) -> None:
        """After each reconnect, and when a queue turned out to be missing."""
        trouble = Trouble("the queues cannot be declared")
        while True:
            await self._missing.wait()
            self._missing = trio.Event()
            with trouble.survived():
                await self.declare(*self._declared)

    async def settle(self) -> None:
        await self._publisher.settle()

    def start_soon(self, call: Any) -> None:
        with suppress(RuntimeError):  # closing: it goes back with the connection
            self._nursery.start_soon(call)

    def _missing_one(self) -> None:
        self._missing.set()

    def watch_reconnects(self) -> None:
        def tell(_connection: Any) -> None:
            self._consuming.tell(self._missing_one)

        self._consuming.post(self._consuming.up.append, tell)


async def _next_kept(talk: Talk, queue: str) -> tuple[int, Kept, bytes] | None:
    """With its tag and its body. It goes back when the talk ends."""
    got = await talk.get(queue + KEPT)
    if got is None:
        return None
    tag, properties, body = got
    time = float(properties.timestamp or 0)
    kept = Kept(_key(properties), _reason(properties), time, len(body), _names(properties))
    return tag, kept, body


def _key(properties: Any) -> str:
    """The submission's id, or whatever a foreign message has there."""
    key = properties.correlation_id
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else str(key or "")


def _headers_of(owner: str | None, names: Mapping[str, str]) -> dict[str, str]:
    headers = {_NAMES[name]: text for name, text in names.items()}
    return headers | ({_OWNER: owner.encode(errors="replace").decode()} if owner else {})


def _names(properties: Any) -> dict[str, str]:
    headers = properties.headers if isinstance(properties.headers, dict) else {}
    return well_formed({name: headers.get(header) for name, header in _NAMES.items()})


def _owner(properties: Any) -> str | None:
    found = properties.headers.get(_OWNER) if isinstance(properties.headers, dict) else None
    return found if isinstance(found, str) else None


def _reason(properties: Any) -> str | None:
    """Why a dead letter is one: what we wrote, or what RabbitMQ did."""
    headers = properties.headers if isinstance(properties.headers, dict) else {}
    if isinstance(headers.get(_REASON), str):
        return str(headers[_REASON])
    match headers.get("x-death"):
        case [{"reason": "delivery_limit"}, *_]:
            return f"delivered {DELIVERY_LIMIT} times without an end"
        case [{"reason": reason}, *_]:
            return str(reason)
    return None


@asynccontextmanager
async def open_rabbitmq(config: Config) -> AsyncIterator[RabbitmqBroker]:
    """Raises ConfigError or BrokerUnavailable, each with what to do."""
    assert config.rabbitmq
    where = parameters(config.rabbitmq)
    async with (
        open_link("publishing", where) as publishing,
        open_link("consuming", where) as consuming,
        trio.open_nursery() as nursery,
    ):
        topology = Topology.of(config)
        broker = RabbitmqBroker(topology, publishing, consuming, nursery)
        await _declare_at_start(broker, topology.queues)
        broker.watch_reconnects()
        nursery.start_soon(broker.keep_declared)
        try:
            yield broker
        finally:
            with trio.move_on_after(_FLUSH_S, shield=True):
                await broker.settle()
            nursery.cancel_scope.cancel()


async def _declare_at_start(broker: RabbitmqBroker, queues: Sequence[str]) -> None:
    """A server that has just started may take connections before it can declare quorum queues."""
    deadline = trio.current_time() + START_S
    while True:
        try:
            return await broker.declare(*queues)
        except BrokerUnavailable:
            if trio.current_time() > deadline:
                raise
        await trio.sleep(_RETRY_S)
