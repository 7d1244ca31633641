"""notify: stores results, which wakes all waiting clients, and ends submissions that nobody could run."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
import trio
from structlog.contextvars import bind_contextvars

from occd import metrics, wire
from occd.broker import DEAD, Broker, Delivery
from occd.config import Config
from occd.errors import (
    DataFolderError,
    OccdError,
    Poisoned,
    StateUnavailable,
    Unreadable,
    in_words,
    leaves,
)
from occd.model import Result, Verdict
from occd.roles.heartbeat import announce
from occd.state import Node, State
from occd.trouble import Trouble

log = structlog.get_logger()

_PREFETCH = 32
_RETRY_S = 0.5
_DRAIN_S = 0.1
_DEAD = "The server gave up on this submission. That is our fault, not yours."


class Notify:
    def __init__(self, config: Config, broker: Broker, state: State) -> None:
        self._config = config
        self._broker = broker
        self._state = state
        self._taken = 0
        self._trouble = Trouble("a result waits for state")
        self._started_at = time.time()
        self.stopping = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Store results until `stopping` is set and all queued results are stored."""
        submissions, results = self._config.submission_queue, self._config.execution_queue
        async with trio.open_nursery() as background:
            await background.start(announce, self._state.nodes, self._describe)
            async with trio.open_nursery() as nursery:
                await nursery.start(self._consume, results, self._store)
                for queue in (submissions, results):
                    await nursery.start(self._consume, queue + DEAD, self._give_up)
                task_status.started()
            background.cancel_scope.cancel()

    def _describe(self) -> Node:
        return Node(self._config.node, ("notify",), started_at=self._started_at)

    async def _consume(
        self,
        queue: str,
        handle: Callable[[Delivery], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        async with (
            trio.open_nursery() as handlers,
            self._broker.consume(queue, _PREFETCH) as deliveries,
            trio.open_nursery() as intake,
        ):
            intake.start_soon(self._end_intake, intake.cancel_scope)
            task_status.started()
            async for delivery in deliveries:
                self._taken += 1
                handlers.start_soon(self._handle, handle, delivery)

    async def _end_intake(self, scope: trio.CancelScope) -> None:
        """When stopping, wait until no result has come for a moment, then end the intake."""
        await self.stopping.wait()
        before = -1
        while before != self._taken:
            before = self._taken
            await trio.sleep(_DRAIN_S)
        scope.cancel()

    async def _handle(
        self, handle: Callable[[Delivery], Awaitable[None]], delivery: Delivery
    ) -> None:
        bind_contextvars(submission=delivery.key, **delivery.names)
        try:
            await self._patiently(handle, delivery)
        except Poisoned as error:
            log.warning("poisoned message", reason=str(error))
            await delivery.reject(str(error))
        except Unreadable as error:  # no repetition mends what is stored; the dead letter tells it
            await delivery.reject(str(error))
        except Exception as error:
            known = all(isinstance(each, OccdError) for each in leaves(error))
            log.error(  # a known failure needs no traceback
                "a result waits for state",
                error=in_words(error),
                exc_info=not known,
            )
            await trio.sleep(_RETRY_S)
            await delivery.hand_back()

    async def _patiently(
        self, handle: Callable[[Delivery], Awaitable[None]], delivery: Delivery
    ) -> None:
        """Repeat while state is away. Handing back would count as a delivery with some brokers."""
        while True:
            try:
                await handle(delivery)
            except (StateUnavailable, DataFolderError) as error:
                self._trouble.tell(error)
                await trio.sleep(_RETRY_S)
            else:
                self._trouble.over()
                return

    async def _store(self, delivery: Delivery) -> None:
        message = wire.decode_result(delivery.body)
        await self._state.submissions.finish(
            message.id, message.attempt, message.result, message.submission
        )
        if message.result.finished_at:
            metrics.STORED.observe(max(0.0, time.time() - message.result.finished_at))
        log.debug("a result is stored", attempt=message.attempt)
        await delivery.ack()

    async def _give_up(self, delivery: Delivery) -> None:
        result = Result(Verdict.INTERNAL_ERROR, _DEAD, finished_at=time.time())
        with suppress(Unreadable):  # its clients get the same error
            await self._state.submissions.finish(delivery.key, None, result)
        metrics.DEAD_LETTERS.inc()
        log.error("dead letter", reason=delivery.reason)
        await delivery.keep()  # for `occd queues`
