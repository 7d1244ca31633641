"""Questions to RabbitMQ, from Trio: declare, count, get."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from pika import spec

from occd.broker.amqp import PATIENCE_S, Link
from occd.broker.login import RETRY_AFTER_S, explain, unavailable
from occd.errors import BrokerUnavailable


class Talk:
    """A channel for questions, one at a time. Each raises BrokerError: Unavailable when no answer
    came, or what the server said."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: Any = None
        self._asked: _Asked | None = None

    async def declare(self, queue: str, arguments: dict[str, Any]) -> None:
        await self._ask(
            lambda channel, answer: channel.queue_declare(
                queue, durable=True, arguments=arguments, callback=answer
            )
        )

    async def depth(self, queue: str) -> int:
        """How many messages wait there."""
        (frame,) = await self._ask(
            lambda channel, answer: channel.queue_declare(queue, passive=True, callback=answer)
        )
        return int(frame.method.message_count)

    async def get(self, queue: str) -> tuple[int, Any, bytes] | None:
        """The next message's tag, properties and body. It goes back when the talk ends."""
        found = await self._ask(lambda channel, answer: channel.basic_get(queue, answer))
        if len(found) == 1:  # only the frame that says that there is none
            return None
        _, method, properties, body = found
        return method.delivery_tag, properties, body

    def ack(self, tag: int) -> None:
        self._link.post(lambda: self._channel.basic_ack(tag))

    async def _ask(self, question: Callable[[Any, Callable[..., None]], Any]) -> tuple[Any, ...]:
        asked = _Asked(self._link)
        self._link.post(self._start, asked, question)
        with trio.move_on_after(PATIENCE_S):
            await asked.done.wait()
        if asked.error:
            raise asked.error
        if not asked.done.is_set():
            raise BrokerUnavailable(
                f"RabbitMQ at {self._link.where} does not answer", RETRY_AFTER_S
            )
        return asked.answer

    def _start(self, asked: "_Asked", question: Callable[[Any, Callable[..., None]], Any]) -> None:
        connection, self._asked = self._link.connection, asked
        if connection is None or not connection.is_open:
            asked.fail(self._link.failure or unavailable(self._link.where))
        elif self._channel is None:

            def opened(channel: Any) -> None:
                channel.add_callback(
                    lambda frame: self._answer(frame), [spec.Basic.GetEmpty], False
                )
                question(channel, self._answer)

            self._channel = connection.channel(on_open_callback=opened)
            self._channel.add_on_close_callback(self._closed)
        elif self._channel.is_open:
            question(self._channel, self._answer)
        else:
            asked.fail(unavailable(self._link.where))

    def _answer(self, *answer: Any) -> None:
        if self._asked:
            self._asked.succeed(answer)

    def _closed(self, _channel: Any, reason: Exception) -> None:
        if self._asked:
            self._asked.fail(explain(reason, self._link.parameters))

    def close(self) -> None:
        """In the owner thread."""
        self._asked = None
        if self._channel is not None and self._channel.is_open:
            self._channel.close()


class _Asked:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.done = trio.Event()
        self.answer: tuple[Any, ...] = ()
        self.error: Exception | None = None

    def succeed(self, answer: tuple[Any, ...]) -> None:
        self.answer = answer
        self._link.tell(self.done.set)

    def fail(self, error: Exception) -> None:
        self.error = error
        self._link.tell(self.done.set)


@asynccontextmanager
async def open_talk(link: Link) -> AsyncIterator[Talk]:
    """Waits a little for a connection that is lost."""
    talk = Talk(link)
    with trio.move_on_after(PATIENCE_S):
        await link.wait_up()
    try:
        yield talk
    finally:
        link.post(talk.close)
