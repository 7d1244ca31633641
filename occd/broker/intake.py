"""Consuming from RabbitMQ: one `Intake` for each consumer, on a channel of its own.

An intake has `slots`, and takes no message that it has no slot for: a message in the hands of a busy node
is lost to an idle one. Over one queue RabbitMQ sees to that, by the consumer's prefetch. Over lanes it
is in one of two moods:

*hungry*: a slot is free and nothing was there. Each lane has a consumer, so that whatever comes is here
at once. What comes for the last slot together with others sends those back.

*fetching*: as soon as no slot is free, the consumers are cancelled. When one becomes free, messages are
got one by one from the lanes in turn; when all are empty it is hungry again. A busy node stays here, one
`basic.get` for each message.

Quorum queues count every return as a delivery, whyever it came back. A message goes back unserved only
where a hungry node turns busy, hence about once a node while it waits; what was returned very often is
published anew instead, which starts its count again.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import structlog
from pika import spec

from occd.broker import DELIVERY_LIMIT
from occd.broker.amqp import Link

log = structlog.get_logger()

_EMPTY_S = 0.05
"""For so long a lane that was found empty is not asked again."""

_REOPEN_S = 0.5

RETURNS_MAX = DELIVERY_LIMIT // 2
"""What was returned so often is published anew: RabbitMQ counts a return as a delivery."""


class Arrival:
    """A message as it came. Ended by the functions of its Intake, in the owner thread."""

    __slots__ = ("body", "channel", "deliveries", "lane", "properties", "tag")

    def __init__(self, lane: str, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.lane = lane
        self.channel = channel
        self.tag: int = method.delivery_tag
        self.properties = properties
        self.body = body
        headers = properties.headers or {}
        found = headers.get("x-delivery-count") if isinstance(headers, dict) else None
        self.deliveries = int(found) if isinstance(found, int) else 0
        """How often it had been delivered before; classic queues do not tell."""


class Turn:
    """Whose turn it is among the lanes; lasts longer than an intake."""

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
    """Calls in Trio's thread `deliver` with what came, `renew` with what should be published anew and
    acknowledged, `missing` when a queue is not there."""

    def __init__(
        self,
        link: Link,
        turn: Turn,
        slots: int,
        deliver: Callable[["Intake", Arrival], None],
        renew: Callable[["Intake", Arrival], None],
        missing: Callable[[], None],
    ) -> None:
        self.link = link
        self._turn = turn
        self._slots = slots
        self._deliver = deliver
        self._renew = renew
        self._missing = missing
        self._free = slots
        self._held: deque[Arrival] = deque()  # over one queue, after a reconnect
        self._channel: Any = None
        self._out = 0  # of this channel, not ended
        self._tags = count(1)
        self._consumers: list[str] = []  # tags, which end with the number of the lane
        self._hungry = self._getting = self._ended = False
        self._empty_until: dict[str, float] = {}

    # What Trio asks for, called in the owner thread.

    def start(self) -> None:
        self.link.up.append(self._up)
        self.link.down.append(self._down)
        if self.link.connection is not None:
            self._up(self.link.connection)

    def stop(self) -> None:
        """Take no more. What is out can still be ended."""
        self._ended = True
        self.link.up.remove(self._up)
        self._starve()
        while self._held:
            self._return(self._held.popleft())
        self._close_when_done()

    def ack(self, arrival: Arrival) -> None:
        if self._ours(arrival):
            self._channel.basic_ack(arrival.tag)
        self._freed()

    def hand_back(self, arrival: Arrival) -> None:
        self._turn.give_back(arrival.lane)
        self._empty_until.pop(arrival.lane, None)
        if self._ours(arrival):
            self._channel.basic_nack(arrival.tag, requeue=True)
        self._freed()

    # What the connection brings.

    def _up(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        if self._ended:
            channel.close()
            return
        self._channel, self._out = channel, 0
        # A quorum queue may deliver after it said that the consumer is cancelled. pika would drop that,
        # which then belonged to this channel for ever; so all that comes is ours to end.
        channel._on_deliver = self._came
        channel.add_on_close_callback(self._closed)
        channel.add_on_cancel_callback(lambda _: self._cancelled(channel))
        channel.add_callback(lambda _: self._got_none(), [spec.Basic.GetEmpty], False)
        channel.basic_qos(prefetch_count=self._slots, callback=lambda _: self._go_on())

    def _down(self) -> None:
        self._forget_channel()

    def _cancelled(self, channel: Any) -> None:
        """By RabbitMQ: a queue was deleted. Start again, once for all lanes."""
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
        """What is out comes again. Its slots are not free: its work goes on until its end."""
        self._channel, self._out = None, 0
        self._consumers.clear()
        self._empty_until.clear()
        self._hungry = self._getting = False
        self._free += len(self._held)
        self._held.clear()

    def _came(self, frame: Any, header: Any, body: bytes) -> None:
        lane = self._turn.lanes[int(frame.method.consumer_tag.rpartition(".")[2])]
        self._take(Arrival(lane, self._channel, frame.method, header.properties, body))

    def _got(self, lane: str, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._getting = False
        self._take(Arrival(lane, channel, method, properties, body))
        self._close_when_done()
        self._go_on()

    def _got_none(self) -> None:
        self._getting = False
        self._close_when_done()
        self._go_on()

    # The moods.

    def _take(self, arrival: Arrival) -> None:
        self._out += 1
        self._empty_until.pop(arrival.lane, None)
        if self._ended or (self._free <= 0 and len(self._turn.lanes) > 1):
            self._return(arrival)
            return
        self._free -= 1
        if self._free < 0:
            self._held.append(arrival)
            return
        self.link.tell(self._deliver, self, arrival)
        if self._free == 0 and len(self._turn.lanes) > 1:
            self._starve()

    def _freed(self) -> None:
        self._free += 1
        if self._held:
            self.link.tell(self._deliver, self, self._held.popleft())
        self._close_when_done()
        self._go_on()

    def _go_on(self) -> None:
        if self._ended or self._channel is None or not self._channel.is_open or self._hungry:
            return
        if len(self._turn.lanes) == 1:
            self._feed()
        elif self._free > 0 and not self._getting:
            lane = self._turn.take(self._is_empty)
            if lane is None:
                self._feed()
            else:
                self._getting = True
                self._empty_until[lane] = time.monotonic() + _EMPTY_S  # unless something comes
                self._channel.basic_get(lane, lambda *found, lane=lane: self._got(lane, *found))

    def _feed(self) -> None:
        self._hungry = True
        for number, lane in enumerate(self._turn.lanes):
            tag = f"occd.{next(self._tags)}.{number}"
            self._consumers.append(tag)
            self._channel.basic_consume(lane, _never, consumer_tag=tag)

    def _starve(self) -> None:
        """Cancel the consumers. What is already on its way from them is handed back."""
        self._hungry = False
        tags, self._consumers = self._consumers, []
        if self._channel is not None and self._channel.is_open:
            for tag in tags:
                self._channel.basic_cancel(tag)

    # Ends.

    def _ours(self, arrival: Arrival) -> bool:
        """Whether it can still be ended: a message of a lost connection comes again."""
        if arrival.channel is not self._channel or not arrival.channel.is_open:
            log.debug("stale delivery", key=str(arrival.properties.correlation_id))
            return False
        self._out -= 1
        return True

    def _return(self, arrival: Arrival) -> None:
        """It was not served, nor has it taken a slot."""
        self._turn.give_back(arrival.lane)
        if arrival.deliveries >= RETURNS_MAX:
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
