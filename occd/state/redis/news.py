"""Messages that Redis publishes: one thread listens on one connection, for all waiting callers.

Theory of operation. While somebody follows a submission this process is subscribed to its channel, and
always to an inbox of its own, where it is told what concerns the attempts that it runs. Whoever waits
subscribes first, looks second, and then waits; messages carry the events, so that a follower who is up
to date needs no look. When the connection was lost nothing is known any more: on its return every topic
is subscribed to again and everybody looks again.
"""

import queue
import random
import select
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio

from occd.errors import OccdError
from occd.events import LogEntry
from occd.state.redis.connect import Command, Connection, Lost, Redis
from occd.state.wakeups import Wakeups

log = structlog.get_logger()

_PAUSES_S = (0.02, 0.1, 0.3, 0.8)
_SILENCE_S = 10.0
"""After so long without a word the connection is asked whether it lives."""

_ANSWER_S = 3.0
_LINGER_S = 1.0
"""Seconds for which a topic is kept after its last follower left. A follower most often returns at once."""

_RECENT_BYTES = 65_536
_AT_ONCE = 500

Decode = Callable[[int, bytes], LogEntry]
Message = tuple[bytes, bytes]


@dataclass(slots=True, eq=False)
class Topic:
    """The end of a submission's log, as far as it was told or seen."""

    channel: bytes
    followers: int = 0
    session: int = 0
    """Not 0 while everything that is appended will be told; another number after each interruption."""
    log: int = 0
    """Which log this is; another number when it began anew; 0 is unknown."""
    tail: int = -1
    """The number of the last event that is known; -1 is unknown."""
    ended: bool = False
    recent: deque[LogEntry] = field(default_factory=deque)
    recent_bytes: int = 0
    idle: int = 0
    """Sweeps since something happened."""
    _changed: trio.Event = field(default_factory=trio.Event)

    def beyond(self, after: int) -> list[LogEntry] | None:
        """The events beyond `after`, if they are known here: none when the log has ended there."""
        if self.ended and self.current(after):
            return []
        if self.recent and self.recent[0].seq <= after + 1 <= self.recent[-1].seq:
            return [each for each in self.recent if each.seq > after]
        return None

    def current(self, after: int) -> bool:
        """Whether somebody who knows the log up to `after` has nothing to look for."""
        return self.session > 0 and self.tail == after

    def seen(self, session: int, tail: int, log: int, last: int, *, ended: bool) -> None:
        """Somebody looked; `session` and `tail` are what they were before."""
        self._learn(log)
        if session and session == self.session:
            self.tail = last if self.tail == tail else max(self.tail, last)
            self.ended = self.ended or ended

    def told(self, text: bytes, decode: Decode) -> None:
        head, _, body = text.partition(b"\n")
        log, first, ended, count, *lengths = map(int, head.split())
        self._learn(log)
        if first <= self.tail or not lengths:  # somebody looked before we were told; or fetch it
            self.forget()
        for number, length in enumerate(lengths):
            self.recent.append(decode(first + number, body[:length]))
            body = body[length:]
        self.recent_bytes += len(text)
        if self.recent_bytes > _RECENT_BYTES:
            while len(self.recent) > len(lengths):
                self.recent.popleft()
            self.recent_bytes = len(text)
        self.tail, self.ended, self.idle = first + count - 1, bool(ended), 0
        self.wake()

    def _learn(self, log: int) -> None:
        if log != self.log:
            self.log, self.tail, self.ended = log, -1, False
            self.forget()

    def forget(self) -> None:
        self.recent.clear()
        self.recent_bytes = 0

    def wake(self) -> None:
        if self.followers:
            self._changed.set()
            self._changed = trio.Event()

    async def changed(self) -> None:
        await self._changed.wait()


class News:
    """Use `open_news`. `inbox` wakes those who wait for what this process is told: keys are the text
    of its messages."""

    def __init__(self, redis: Redis, inbox: str, decode: Decode) -> None:
        self.inbox = Wakeups()
        self._redis = redis
        self._channel = inbox.encode()
        self._decode = decode
        self._topics: dict[bytes, Topic] = {}
        self._sessions = 0
        self._token = trio.lowlevel.current_trio_token()
        self._asked: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._alarm, self._alarmed = socket.socketpair()
        self._alarm.setblocking(False)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="occd-redis-news", daemon=True)
        # The thread's:
        self._subscribed = {self._channel}
        self._down = False

    @contextmanager
    def topic(self, channel: str) -> Iterator[Topic]:
        """The topic of a channel, with a session as soon as Redis has confirmed that we listen."""
        key = channel.encode()
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(key)
            self._ask("SUBSCRIBE", key)
        topic.followers += 1
        try:
            yield topic
        finally:
            topic.followers -= 1
            topic.idle = 0

    def _ask(self, what: str, channel: bytes) -> None:
        self._asked.put((what, channel))
        with suppress(BlockingIOError):  # it is ringing already
            self._alarm.send(b"!")

    async def _sweep(self) -> None:
        """Leave the channels that nobody has followed for a while; let go of what nobody read."""
        while True:
            await trio.sleep(_LINGER_S)
            for key, topic in list(self._topics.items()):
                topic.idle += 1
                if topic.idle > 1:
                    topic.forget()
                    # One that is not confirmed yet stays: its confirmation must not meet a successor.
                    if not topic.followers and topic.session:
                        del self._topics[key]
                        self._ask("UNSUBSCRIBE", key)

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                connection = self._redis.connect()
                failures = 0
                try:
                    self._listen(connection)
                finally:
                    connection.close()
            except (Lost, OccdError) as error:
                self._trouble(error)
            except Exception as error:
                if not self._down:
                    log.exception("a mistake of ours in listening to Redis")
                self._trouble(error)
            pause = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
            failures += 1
            self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311

    def _trouble(self, error: Exception) -> None:
        if not self._closing.is_set():
            if not self._down:
                log.warning("Redis tells nothing", reason=str(error))
            self._down = True
            self._token.run_sync_soon(self._lost)

    def _listen(self, connection: Connection) -> None:
        """Until the connection is lost (raises) or it is time to end."""
        with self._redis.answering():
            self._take_asked()
            everything = sorted(self._subscribed, key=lambda each: each != self._channel)
            for at in range(0, len(everything), _AT_ONCE):
                connection.send([("SUBSCRIBE", *everything[at : at + _AT_ONCE])])
            poller = select.poll()  # not select(), which fails for descriptors from 1024 on
            poller.register(connection.socket, select.POLLIN)
            poller.register(self._alarmed, select.POLLIN)
            asked_life = False
            while not self._closing.is_set():
                messages = self._read(connection)
                if messages:
                    asked_life = False
                    self._token.run_sync_soon(self._deliver, messages)
                timeout = _ANSWER_S if asked_life else _SILENCE_S
                timeout = 0 if len(messages) == _AT_ONCE else timeout  # more may be in hand
                ready = [descriptor for descriptor, _ in poller.poll(1000 * timeout)]
                if not ready and timeout:
                    if asked_life:
                        raise Lost(f"Redis at {self._redis.at} is silent")
                    connection.send([("PING",)])
                    asked_life = True
                if self._alarmed.fileno() in ready:
                    self._alarmed.recv(4096)
                    connection.send(self._take_asked())

    def _read(self, connection: Connection) -> list[list[Any]]:
        """All that has come."""
        messages: list[list[Any]] = []
        while len(messages) < _AT_ONCE and connection.pending():
            reply = connection.read()
            if isinstance(reply, Exception):
                raise reply
            messages.append(reply)
        return messages

    def _take_asked(self) -> list[Command]:
        """The commands for the requests, grouped by kind."""
        commands: list[tuple[str, list[bytes]]] = []
        while not self._asked.empty():
            what, channel = self._asked.get()
            if what == "SUBSCRIBE":
                self._subscribed.add(channel)
            else:
                self._subscribed.discard(channel)
            if not commands or commands[-1][0] != what or len(commands[-1][1]) >= _AT_ONCE:
                commands.append((what, []))
            commands[-1][1].append(channel)
        return [(what, *channels) for what, channels in commands]

    def _deliver(self, messages: list[list[Any]]) -> None:
        for kind, channel, *rest in messages:
            if kind == b"message":
                text = rest[0]
                if channel == self._channel:
                    self.inbox.send(text.decode(errors="replace"))
                elif topic := self._topics.get(channel):
                    self._tell(topic, text)
            elif kind == b"subscribe":
                self._confirmed(channel)

    def _tell(self, topic: Topic, text: bytes) -> None:
        """Everybody who may use Redis can publish: after words that are not ours, followers look."""
        try:
            topic.told(text, self._decode)
        except ValueError as error:
            log.warning("Redis told something that occd did not write", reason=str(error)[:200])
            topic.tail, topic.ended = -1, False
            topic.forget()
            topic.wake()

    def _confirmed(self, channel: bytes) -> None:
        if channel == self._channel:
            if self._down:
                self._down = False
                log.info("it works again", after="Redis tells nothing")
            self.inbox.send_all()
        elif topic := self._topics.get(channel):
            self._sessions += 1
            topic.session = self._sessions
            topic.wake()

    def _lost(self) -> None:
        for topic in self._topics.values():
            topic.session, topic.tail, topic.ended = 0, -1, False
            topic.forget()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._thread.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            self._closing.set()
            self._ask("UNSUBSCRIBE", b"")
            try:
                with trio.CancelScope(shield=True):  # it ends after the time-outs of one attempt
                    await trio.to_thread.run_sync(self._thread.join)
            finally:
                self._alarm.close()
                self._alarmed.close()


@asynccontextmanager
async def open_news(redis: Redis, inbox: str, decode: Decode) -> AsyncIterator[News]:
    news = News(redis, inbox, decode)
    async with news._running():
        yield news
