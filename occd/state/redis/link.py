"""Commands to Redis: one thread and one connection for all of them.

Theory of operation. The thread takes all calls that wait, sends their commands at once, reads the
replies, and wakes all callers at once: a hop to a thread and back costs more than most commands. When
the connection is lost the outcome of what was under way is unknown; the thread sends it again, in its
order, with growing pauses, which is why every command here must be safe to repeat. After a few seconds
it gives up what waits (StateUnavailable) and goes on trying with what comes next.
"""

import queue
import random
import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import outcome
import structlog
import trio

from occd.errors import OccdError, StateUnavailable
from occd.state.redis.connect import (
    RETRY_AFTER_S,
    Command,
    Connection,
    Forgotten,
    Lost,
    Redis,
    Reply,
)

log = structlog.get_logger()

_BATCH = 500
_PATIENCE_S = 5.0
_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(slots=True, eq=False)
class _Call:
    commands: Sequence[Command]
    certain: bool
    """Whether its caller is to know how it ended, even when cancelled meanwhile."""
    task: trio.lowlevel.Task | None = field(default_factory=trio.lowlevel.current_task)
    raise_cancel: Any = None
    result: outcome.Outcome[list[Reply]] | None = None


class Link:
    """Use `open_link`."""

    def __init__(self, redis: Redis, scripts: Iterable[str]) -> None:
        self._redis = redis
        self._scripts = tuple(scripts)
        self._calls: queue.SimpleQueue[list[_Call]] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._connection: Connection | None = None
        self._closing = threading.Event()
        self._down_since: float | None = None  # the thread's
        self._in_trouble = False  # the loop's
        self._to_cancel: set[_Call] = set()
        self._thread = threading.Thread(target=self._run, name="occd-redis", daemon=True)

    async def run(self, *commands: Command, certain: bool = True) -> list[Reply]:
        """The replies, in order. Every command must be safe to repeat.

        A `certain` call is not cut off by cancelling while Redis answers, so that a caller knows: when it
        raises Cancelled the outcome is unknown, as after StateUnavailable.
        """
        call = _Call(commands, certain)
        self._calls.put([call])

        def abort(raise_cancel: Any) -> trio.lowlevel.Abort:
            if call.certain and not self._in_trouble:
                call.raise_cancel = raise_cancel
                self._to_cancel.add(call)
                return trio.lowlevel.Abort.FAILED
            call.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        assert call.result is not None
        return call.result.unwrap()

    def _run(self) -> None:
        while calls := self._take():
            for pause in (*_PAUSES_S, *[_PAUSES_S[-1]] * 10_000):
                calls = self._try(calls)
                if not calls:
                    break
                self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
        self._disconnect()

    def _take(self) -> list[_Call]:
        """The waiting commands, at least one; empty when it is time to end."""
        calls = self._calls.get()
        while calls and len(calls) < _BATCH and not self._calls.empty():
            more = self._calls.get()
            if not more:
                self._calls.put(more)  # the end, which comes last
                break
            calls += more
        return calls

    def _try(self, calls: list[_Call]) -> list[_Call]:
        """Gives those that are to be tried again."""
        began = time.monotonic()
        try:
            connection = self._connected()
            reason = self._exchange(connection, calls)
        except (Lost, OccdError) as error:
            self._disconnect()
            reason = error
        except Exception as error:  # nobody may wait for ever for a thread that died
            log.exception("a mistake of ours in the link to Redis")
            self._disconnect()
            reason = StateUnavailable(str(error), RETRY_AFTER_S)
        waiting = [call for call in calls if not call.result]
        if waiting:
            waiting = self._endure(waiting, reason, began)
        elif self._down_since is not None:
            self._down_since = None
            self._token.run_sync_soon(self._set_trouble, False)
            log.info("it works again", after="Redis does not answer")
        if answered := [call for call in calls if call.result]:
            self._token.run_sync_soon(self._deliver, answered)
        return waiting

    def _endure(self, waiting: list[_Call], reason: Exception | None, began: float) -> list[_Call]:
        """Keep those calls, or give them up when there has been no answer for too long."""
        if self._down_since is None:
            self._down_since = began
            self._token.run_sync_soon(self._set_trouble, True)
            log.warning("Redis does not answer", reason=str(reason))
        refused = isinstance(reason, OccdError)  # waiting a moment would not help
        late = time.monotonic() - self._down_since > _PATIENCE_S
        if not (refused or late or self._closing.is_set()):
            return waiting
        failed = StateUnavailable(str(reason), RETRY_AFTER_S)
        if isinstance(reason, StateUnavailable):
            failed = reason
        for call in waiting:
            call.result = outcome.Error(failed)
        return []

    def _exchange(self, connection: Connection, calls: list[_Call]) -> Exception | None:
        """Send the calls and give each its result; some may be left without, for the reason given."""
        commands = [command for call in calls for command in call.commands]
        reason: Exception | None = None
        forgotten = False
        with self._redis.answering():
            connection.send(commands)
            for call in calls:
                replies = [connection.read() for _ in call.commands]
                refused = next((each for each in replies if isinstance(each, Exception)), None)
                if refused is None:
                    call.result = outcome.Value(replies)
                    continue
                match self._redis.refusal(refused):
                    case Forgotten():
                        forgotten = True
                    case Lost() as reason:
                        pass
                    case error:
                        call.result = outcome.Error(error)
        if reason:
            raise reason  # another server may be the right one: look anew
        if forgotten:
            self._teach(connection)
            left = [call for call in calls if not call.result]
            return self._exchange(connection, left)
        return None

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._redis.connect()
            try:
                self._teach(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _teach(self, connection: Connection) -> None:
        commands = [("SCRIPT", "LOAD", text) for text in self._scripts]
        with self._redis.answering():
            for reply in connection.exchange(commands):
                if isinstance(reply, Exception):
                    raise reply

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _deliver(self, calls: list[_Call]) -> None:
        for call in calls:
            self._to_cancel.discard(call)
            if call.task:
                trio.lowlevel.reschedule(call.task)

    def _set_trouble(self, trouble: bool) -> None:
        """In an outage nobody is kept from being cancelled: nobody knows the outcome anyway."""
        self._in_trouble = trouble
        if trouble:
            for call in self._to_cancel:
                if call.task:
                    trio.lowlevel.reschedule(call.task, outcome.capture(call.raise_cancel))
                    call.task = None
            self._to_cancel.clear()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._closing.set()
            self._calls.put([])  # the end
            with trio.CancelScope(
                shield=True
            ):  # it ends after the time-outs of one attempt at most
                await trio.to_thread.run_sync(self._thread.join)


@asynccontextmanager
async def open_link(redis: Redis, scripts: Iterable[str]) -> AsyncIterator[Link]:
    """`scripts` are the texts of all scripts that commands call by name."""
    link = Link(redis, scripts)
    async with link._running():
        yield link
