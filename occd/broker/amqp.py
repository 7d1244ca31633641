"""One connection to RabbitMQ and the thread that owns it. `Link` keeps it up.

pika is used in the owner thread only. Two queues of calls lead in and out: `post` (from Trio) and `tell`
(from the thread). A side is woken once for all that has gathered meanwhile, since waking the other
thread costs more than most calls.
"""

import logging
import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
import trio
from pika import exceptions, spec
from pika.adapters.select_connection import IOLoop, SelectConnection

from occd.broker.login import RETRY_AFTER_S, explain
from occd.errors import BrokerUnavailable, ConfigError, OccdError
from occd.trouble import Trouble

log = structlog.get_logger()

PATIENCE_S = 5.0
"""Seconds that a caller waits for a lost connection, or for an answer."""

_BACKOFF_S = 0.25
_BACKOFF_MAX_S = 10.0
_CLOSE_S = 2.0
START_S = 30.0


class _Properties(spec.BasicProperties):  # type: ignore[misc]
    """Of a foreign message too: a table that pika cannot decode must not cost the connection, which
    would bring the same message again, for ever."""

    def decode(self, encoded: bytes, offset: int = 0) -> "_Properties":
        try:
            super().decode(encoded, offset)
        except Exception as error:
            log.warning("a message's properties cannot be read", error=str(error))
        return self


class Link:
    """Use `open_link`. `up` and `down` are called in the owner thread, `failure` is for Trio's."""

    def __init__(self, name: str, parameters: Any) -> None:
        self.up: list[Callable[[Any], None]] = []
        self.down: list[Callable[[], None]] = []
        self.connection: Any = None
        """Only for the owner thread; None while there is none."""
        self.failure: OccdError | None = BrokerUnavailable("not connected yet", RETRY_AFTER_S)
        self.changed = trio.Event()
        self.ended = trio.Event()
        self.blocked = False
        self._trouble = Trouble("no connection to RabbitMQ")
        self._short = Trouble("RabbitMQ takes no messages now")
        self._name = name
        self.parameters = parameters
        self._token = trio.lowlevel.current_trio_token()
        self._loop = IOLoop()
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._told: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._post_due = self._tell_due = self._stopping = False
        self._failures = 0
        self._ever_up = False
        self._opening: Any = None
        self.thread = threading.Thread(target=self._run, name=f"occd-{name}", daemon=True)

    @property
    def where(self) -> str:
        return f"{self.parameters.host}:{self.parameters.port}"

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Call it in the owner thread, in order."""
        self._posted.append((call, args))
        if not self._post_due:
            self._post_due = True
            self._loop.add_callback_threadsafe(self._run_posted)

    def tell(self, call: Callable[..., None], *args: Any) -> None:
        """Call it in Trio's thread, in order."""
        self._told.append((call, args))
        if not self._tell_due:
            self._tell_due = True
            try:
                self._token.run_sync_soon(self._run_told)
            except trio.RunFinishedError:
                self._loop.stop()

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call it in the owner thread, from which this is called as well."""
        self._loop.call_later(delay_s, call)

    async def wait_up(self) -> None:
        """Raises ConfigError as soon as no waiting will help."""
        while self.failure:
            if isinstance(self.failure, ConfigError):
                raise self.failure
            await self.changed.wait()

    def _run_posted(self) -> None:
        self._post_due = False  # before taking: what comes from now on wakes us again
        _run_all(self._posted)

    def _run_told(self) -> None:
        self._tell_due = False
        _run_all(self._told)

    def _run(self) -> None:
        self._connect()
        while not self._stopping:
            try:
                self._loop.start()
                break
            except Exception:  # of pika, since callbacks of ours are guarded: do not end over it
                log.exception("the connection to RabbitMQ failed", link=self._name)
                self._abort()
        self._loop.close()
        self.tell(self.ended.set)

    def _connect(self) -> None:
        if self._stopping:
            return
        self._opening = SelectConnection(
            self.parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=self._loop,
        )

    def _opened(self, connection: Any) -> None:
        self._failures, self._ever_up = 0, True
        self._trouble.over()
        self._short.over()  # else RabbitMQ says so again
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        self.connection = connection
        self.tell(self._set_failure, None)
        for call in list(self.up):
            call(connection)

    def _lost(self, _connection: Any, error: Exception) -> None:
        was_up, self.connection, self.blocked = self.connection is not None, None, False
        for call in list(self.down) if was_up else ():
            call()
        if self._stopping:
            self._loop.stop()
            return
        failure = explain(error, self.parameters)
        delay = min(_BACKOFF_MAX_S, _BACKOFF_S * 2**self._failures) * random.uniform(0.5, 1)  # noqa: S311
        told = not self._ever_up and isinstance(failure, ConfigError)  # by who opens
        if not told:
            self._trouble.tell(failure, link=self._name)
        self._failures = min(self._failures + 1, 1000)
        self.tell(self._set_failure, failure)
        self._loop.call_later(delay, self._connect)

    def _set_failure(self, failure: OccdError | None) -> None:
        self.failure = failure
        self.changed.set()
        self.changed = trio.Event()

    def _set_blocked(self, blocked: bool) -> None:
        self.blocked = blocked
        if blocked:
            self._short.tell(BrokerUnavailable("it is short of memory or disk", RETRY_AFTER_S))
        else:
            self._short.over()

    def stop(self) -> None:
        """In the owner thread: say goodbye, or end at once when there is nobody to say it to."""
        self._stopping = True
        if self.connection is not None and self.connection.is_open:
            self.connection.close()
        else:
            self._loop.stop()

    def _abort(self) -> None:
        """Drop the connection without a word, as a crash would; `_lost` follows."""
        connection = self.connection or self._opening
        if not connection.is_closed:
            connection._terminate_stream(exceptions.StreamLostError("dropped by its owner"))


@asynccontextmanager
async def open_link(name: str, parameters: Any) -> AsyncIterator[Link]:
    """Connected when it yields. Raises ConfigError at once for what only a person can mend,
    BrokerUnavailable when the server could not be reached for a while."""
    spec.props[spec.BasicProperties.INDEX] = _Properties
    # pika logs tracebacks; we log one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
    link = Link(name, parameters)
    link.thread.start()
    try:
        with trio.move_on_after(START_S):
            await link.wait_up()
        if link.failure:
            raise link.failure
        yield link
    finally:
        link.post(link.stop)
        with trio.move_on_after(_CLOSE_S, shield=True):
            await link.ended.wait()
        if not link.ended.is_set():  # a server that does not answer
            link.post(link._loop.stop)
            with trio.move_on_after(_CLOSE_S, shield=True):
                await link.ended.wait()


def _run_all(calls: deque[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    while calls:
        call, args = calls.popleft()
        try:
            call(*args)
        except exceptions.AMQPError as error:  # closed in between: its closing tells who must know
            log.debug("not done, as the connection is closing", error=repr(error))
        except Exception:
            log.exception("a call between the threads failed")
