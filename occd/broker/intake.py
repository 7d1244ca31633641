"""Consuming from RabbitMQ: one `Intake` for each consumer, on a channel of its own.

An intake takes a message only while it has room: an idle node cannot have a message that a busy one holds.
An intake that *pulls* has no room at first, and room for one more message after each `ask`. Another intake
has room for `most` messages at first, and for one more after the end of each. When such an intake has one
queue only, the consumer's prefetch is enough. Every other intake is in one of two states:

*waiting*: there is room, and every lane was empty. Each lane has a consumer, so that a new message arrives at
once. If several messages arrive for the last room, the intake returns all but the first.

*fetching*: the consumers are cancelled as soon as there is no room. When there is room again, the intake
gets one message with `basic.get`, from the lanes in turn; if all lanes are empty, the intake waits again. A
busy node stays in this state.

The prefetch of each consumer is `most`. With a smaller one, messages of a lane could wait although there is
room: RabbitMQ counts each message until it ends, also when the node has asked for more.

A quorum queue counts every return as a delivery. An intake returns a message unserved only when it turns from
waiting to fetching, so about once per node. A message that was returned RETURNS_MAX times is published anew,
which starts its count again.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

import structlog
from pika import spec

from occd.broker import DELIVERY_LIMIT
from occd.broker.amqp import Link

log = structlog.get_logger()

_EMPTY_S = 0.05
"""Seconds for which a lane that was empty is not asked again."""

_REOPEN_S = 0.5

RETURNS_MAX = DELIVERY_LIMIT // 2
"""The number of returns after which a message is published anew: RabbitMQ counts a return as a delivery."""


class Arrival:
    """A message as RabbitMQ delivered it. Its Intake ends it, in the owner thread."""

    __slots__ = ("again", "body", "channel", "deliveries", "lane", "properties", "tag")

    def __init__(self, lane: str, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.lane = lane
        self.channel = channel
        self.tag: int = method.delivery_tag
        self.properties = properties
        self.body = body
        headers = properties.headers or {}
        found = headers.get("x-delivery-count") if isinstance(headers, dict) else None
        self.deliveries = int(found) if isinstance(found, int) else 0
        """The number of earlier deliveries; 0 with classic queues, which do not count them."""
        self.again: bool = self.deliveries > 0 or method.redelivered


class Turn:
    """The lane whose turn it is. A new intake goes on with the turn of the last one."""

    def __init__(self, lanes: Sequence[str]) -> None:
        self.lanes = lanes
        self._next = 0

    def take(self, empty: Callable[[str], bool]) -> str | None:
        """The next lane that is not known to be empty."""
        for _ in self.lanes:
            lane = self.lanes[self._next]
            self._next = (self._next + 1) % len(self.lanes)
            if not empty(lane):
                return lane
        return None

    def give_back(self, lane: str) -> None:
        self._next = self.lanes.index(lane)


class Intake:
    """Calls three functions in Trio's thread: `deliver` with a message, `renew` with a message to publish
    anew and acknowledge, `missing` when a queue does not exist."""

    def __init__(
        self,
        link: Link,
        turn: Turn,
        most: int,
        deliver: Callable[["Intake", Arrival], None],
        renew: Callable[["Intake", Arrival], None],
        missing: Callable[[], None],
        *,
        pulls: bool,
    ) -> None:
        self.link = link
        self._turn = turn
        self._most = most
        self._pulls = pulls
        self._bounded_by_prefetch = len(turn.lanes) == 1 and not pulls
        self._deliver = deliver
        self._renew = renew
        self._missing = missing
        self._free = 0 if pulls else most
        self._held: deque[Arrival] = deque()  # over one queue, after a reconnect
        self._channel: Any = None
        self._out = 0  # of this channel, not ended
        self._tags = count(1)
        self._consumers: list[str] = []  # tags, which end with the number of the lane
        self._waiting = self._getting = self._ended = False
        self._empty_until: dict[str, float] = {}

    # Called for Trio, in the owner thread.

    def start(self) -> None:
        self.link.up.append(self._up)
        self.link.down.append(self._down)
        if self.link.connection is not None:
            self._up(self.link.connection)

    def stop(self) -> None:
        """Take no more messages. Those that were delivered can still be ended."""
        self._ended = True
        self.link.up.remove(self._up)
        self._cancel_consumers()
        while self._held:
            self._return(self._held.popleft())
        self._close_when_done()

    def ask(self) -> None:
        """There is room for one more message."""
        self._free += 1
        self._go_on()

    @property
    def starves(self) -> bool:
        """Whether there is room, and every lane was empty. May be read in any thread."""
        return self._waiting and self._free > 0

    def ack(self, arrival: Arrival) -> None:
        if self._ours(arrival):
            self._channel.basic_ack(arrival.tag)
        self._done()

    def hand_back(self, arrival: Arrival) -> None:
        self._turn.give_back(arrival.lane)
        self._empty_until.pop(arrival.lane, None)
        if self._ours(arrival):
            self._channel.basic_nack(arrival.tag, requeue=True)
        self._done()

    # Called by the connection.

    def _up(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        if self._ended:
            channel.close()
            return
        self._channel, self._out = channel, 0
        # A quorum queue may deliver a message after it confirmed the consumer's cancellation. pika would
        # drop that message, which would then belong to this channel for ever.
        channel._on_deliver = partial(self._came, channel)
        channel.add_on_close_callback(self._closed)
        channel.add_on_cancel_callback(lambda _: self._cancelled(channel))
        channel.add_callback(lambda _: self._got_none(), [spec.Basic.GetEmpty], False)
        channel.basic_qos(prefetch_count=self._most, callback=lambda _: self._go_on())

    def _down(self) -> None:
        self._forget_channel()

    def _cancelled(self, channel: Any) -> None:
        """RabbitMQ cancelled a consumer because its queue was deleted. Start again, once for all lanes."""
        if channel.is_open:
            channel.close()

    def _closed(self, channel: Any, reason: Exception) -> None:
        if channel is not self._channel:
            return
        self._forget_channel()
        connection = self.link.connection
        if self._ended or connection is None or not connection.is_open:
            return
        log.warning("consuming will be tried again", queue=self._turn.lanes[0], reason=str(reason))
        self.link.tell(self._missing)
        self.link.later(_REOPEN_S, self._reopen)

    def _reopen(self) -> None:
        if self._channel is None and not self._ended and self.link.connection is not None:
            self._up(self.link.connection)

    def _forget_channel(self) -> None:
        """RabbitMQ delivers again what was not ended. Those messages still take their room, since their work
        goes on."""
        self._channel, self._out = None, 0
        self._consumers.clear()
        self._empty_until.clear()
        self._waiting = self._getting = False
        self._free += len(self._held)
        self._held.clear()

    def _came(self, channel: Any, frame: Any, header: Any, body: bytes) -> None:
        lane = self._turn.lanes[int(frame.method.consumer_tag.rpartition(".")[2])]
        self._take(Arrival(lane, channel, frame.method, header.properties, body))

    def _got(self, lane: str, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._getting = False
        self._take(Arrival(lane, channel, method, properties, body))
        self._close_when_done()
        self._go_on()

    def _got_none(self) -> None:
        self._getting = False
        self._close_when_done()
        self._go_on()

    # The two states.

    def _take(self, arrival: Arrival) -> None:
        if arrival.channel is not self._channel:  # it goes back when that channel is closed
            return
        self._out += 1
        self._empty_until.pop(arrival.lane, None)
        if self._ended or (self._free <= 0 and not self._bounded_by_prefetch):
            self._return(arrival)
            return
        self._free -= 1
        if self._free < 0:
            self._held.append(arrival)
            return
        self.link.tell(self._deliver, self, arrival)
        if self._free == 0 and not self._bounded_by_prefetch:
            self._cancel_consumers()

    def _done(self) -> None:
        """A message has ended, perhaps one that was delivered over another connection."""
        if not self._pulls:
            self._free += 1
        if self._held:
            self.link.tell(self._deliver, self, self._held.popleft())
        self._close_when_done()
        self._go_on()

    def _go_on(self) -> None:
        if self._ended or self._channel is None or not self._channel.is_open or self._waiting:
            return
        if self._bounded_by_prefetch:
            self._start_consumers()
        elif self._free > 0 and not self._getting:
            lane = self._turn.take(self._is_empty)
            if lane is None:
                self._start_consumers()
            else:
                self._getting = True
                self._empty_until[lane] = time.monotonic() + _EMPTY_S  # unless something comes
                self._channel.basic_get(lane, lambda *found, lane=lane: self._got(lane, *found))

    def _start_consumers(self) -> None:
        self._waiting = True
        for number, lane in enumerate(self._turn.lanes):
            tag = f"occd.{next(self._tags)}.{number}"
            self._consumers.append(tag)
            self._channel.basic_consume(lane, _never, consumer_tag=tag)

    def _cancel_consumers(self) -> None:
        """Cancel the consumers. Messages that are already on their way are handed back."""
        self._waiting = False
        tags, self._consumers = self._consumers, []
        if self._channel is not None and self._channel.is_open:
            for tag in tags:
                self._channel.basic_cancel(tag)

    # Ending a message.

    def _ours(self, arrival: Arrival) -> bool:
        """Whether the message can still be ended. One of a lost connection is delivered again."""
        if arrival.channel is not self._channel or not arrival.channel.is_open:
            log.debug("stale delivery", key=str(arrival.properties.correlation_id))
            return False
        self._out -= 1
        return True

    def _return(self, arrival: Arrival) -> None:
        """Return a message that was not served and has taken no room."""
        self._turn.give_back(arrival.lane)
        if arrival.deliveries >= RETURNS_MAX:
            if not self._pulls:
                self._free -= 1  # until it is ended
            self.link.tell(self._renew, self, arrival)
        elif self._ours(arrival):
            self._channel.basic_nack(arrival.tag, requeue=True)

    def _close_when_done(self) -> None:
        if self._ended and self._out == 0 and not self._getting:
            channel, self._channel = self._channel, None
            if self._down in self.link.down:
                self.link.down.remove(self._down)
            if channel is not None and channel.is_open:
                channel.close()

    def _is_empty(self, lane: str) -> bool:
        return self._empty_until.get(lane, 0.0) > time.monotonic()


def _never(*_delivery: Any) -> None:
    """All deliveries go to `Intake._came`."""
