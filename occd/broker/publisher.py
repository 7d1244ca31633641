"""Publishing with pipelined confirms: many messages are on their way at once, each has its answer."""

import re
from collections.abc import Iterator
from itertools import count, takewhile
from typing import Any

import pika
import structlog
import trio

from occd.broker.amqp import PATIENCE_S, Link
from occd.broker.login import RETRY_AFTER_S, explain
from occd.errors import BrokerError, BrokerUnavailable, MessageTooLarge, QueueFull

log = structlog.get_logger()

_TRIES = 3
_REOPEN_S = 0.5
_TOO_LARGE = re.compile(r"larger than (?:configured )?max size (\d+)")


class Unroutable(BrokerError):
    """The queue is not there (any more)."""


class Message:
    """A message on its way. Everything but `done` belongs to the owner thread until `done` is set."""

    __slots__ = ("body", "done", "error", "properties", "queue", "serial", "tries")

    def __init__(self, serial: int, queue: str, body: bytes, properties: Any) -> None:
        self.serial = serial
        self.queue = queue
        self.body = body
        self.properties = properties
        self.done = trio.Event()
        self.error: BrokerError | None = None
        self.tries = 0


class Publisher:
    """Publishes messages. A message that was not confirmed before the connection was lost is published again
    afterwards, unless its caller has stopped waiting."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._serials = count(1)
        self._channel: Any = None
        self._waiting: dict[int, Message] = {}  # by serial, in order
        self._sent: dict[int, Message] = {}  # by delivery tag of this channel, in order
        self._tags: Iterator[int] = count(1)
        link.post(self._start)

    async def publish(self, queue: str, body: bytes, properties: Any) -> None:
        """Raises QueueFull, Unroutable, BrokerUnavailable, MessageTooLarge, or BrokerError for what
        else RabbitMQ never takes. `properties` are ours from now on."""
        message = Message(next(self._serials), queue, body, properties)
        properties.message_id = str(message.serial)  # a message that is returned is known by it
        self._link.post(self._take, message)
        with trio.move_on_after(PATIENCE_S):
            try:
                await message.done.wait()
            finally:
                if not message.done.is_set():
                    self._link.post(self._forget, message)
        if message.done.is_set():
            if message.error:
                raise message.error
        elif self._link.failure:
            raise BrokerUnavailable(str(self._link.failure), RETRY_AFTER_S)
        else:
            reason = "takes no messages now" if self._link.blocked else "does not confirm messages"
            raise BrokerUnavailable(f"RabbitMQ at {self._link.where} {reason}", RETRY_AFTER_S)

    async def settle(self) -> None:
        """Wait until everything is confirmed that was published before."""
        settled = trio.Event()
        while not (settled.is_set() or self._link.ended.is_set()):
            self._link.post(lambda: None if self._waiting else self._link.tell(settled.set))
            with trio.move_on_after(0.02):
                await settled.wait()

    def _start(self) -> None:
        self._link.up.append(self._up)
        self._link.down.append(self._down)
        if self._link.connection is not None:
            self._up(self._link.connection)

    def _take(self, message: Message) -> None:
        self._waiting[message.serial] = message
        if self._channel is not None:
            self._send(message)

    def _forget(self, message: Message) -> None:
        self._waiting.pop(message.serial, None)

    def _send(self, message: Message) -> None:
        message.error = None
        try:
            self._channel.basic_publish(
                "", message.queue, message.body, message.properties, mandatory=True
            )
        except (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError):
            return  # it is closing; this one is sent again with the others
        except Exception as error:  # properties of a foreign message that pika cannot encode
            message.error = BrokerError(f"this message cannot be sent: {error}")
            self._end(message)
            return
        self._sent[next(self._tags)] = message

    def _up(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._opened)

    def _down(self) -> None:
        self._channel = None
        self._sent.clear()

    def _opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, lambda _: self._ready(channel))

    def _ready(self, channel: Any) -> None:
        self._channel, self._tags = channel, count(1)
        self._sent.clear()
        for message in list(self._waiting.values()):
            self._send(message)

    def _closed(self, channel: Any, reason: Exception) -> None:
        """By RabbitMQ, and one of those that were sent is the reason: too large, above all."""
        self._channel = None
        self._sent.clear()
        if self._link.connection is None or not self._link.connection.is_open:
            return
        log.warning("RabbitMQ closed the channel for publishing", reason=str(reason))
        kind = MessageTooLarge if _TOO_LARGE.search(str(reason)) else BrokerError
        refused = kind(str(explain(reason, self._link.parameters)))
        for message in self._guilty(str(reason)):
            message.error = refused
            self._end(message)
        self._link.later(_REOPEN_S, self._reopen)

    def _guilty(self, reason: str) -> list[Message]:
        """Those that it was about, as far as can be told. What has been tried often enough, otherwise:
        one of them would close the channel again and again."""
        waiting = list(self._waiting.values())
        if too_large := _TOO_LARGE.search(reason):
            return [each for each in waiting if len(each.body) > int(too_large[1])]
        for message in waiting:
            message.tries += 1
        return [each for each in waiting if each.tries >= _TRIES]

    def _reopen(self) -> None:
        if self._channel is None and self._link.connection is not None:
            self._up(self._link.connection)

    def _returned(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        """Its confirm follows."""
        message = self._waiting.get(int(properties.message_id))
        if message:
            message.error = Unroutable(
                f"RabbitMQ has no queue {message.queue} ({method.reply_text})"
            )

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        taken = method.NAME == "Basic.Ack"
        tags = (
            list(takewhile(lambda tag: tag <= method.delivery_tag, self._sent))
            if method.multiple
            else [method.delivery_tag]
        )
        for tag in tags:
            message = self._sent.pop(tag, None)
            if message:
                if not taken:  # it is full, or just being deleted
                    message.error = QueueFull(message.queue, RETRY_AFTER_S)
                self._end(message)

    def _end(self, message: Message) -> None:
        if self._waiting.pop(message.serial, None):
            self._link.tell(message.done.set)
