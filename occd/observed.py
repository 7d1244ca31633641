"""What of this process can be asked for at any time, read into the metrics when somebody scrapes them."""

import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from occd import __version__, metrics
from occd.broker import Broker
from occd.config import ROLES, Config
from occd.draining import Draining
from occd.execution.arbiter import Arbiter
from occd.health import Health
from occd.sandbox.fitness import Fitness
from occd.state import State
from occd.trouble import Trouble

FORM = CONTENT_TYPE_LATEST
_LAG_EVERY_S = 0.5
_PATIENCE_S = 5.0
"""Prometheus gives up after 10 s: the metrics of a node whose broker is away are wanted most."""


class Observed:
    """`arbiter` and `fitness` are None where no program is run."""

    def __init__(
        self,
        config: Config,
        broker: Broker,
        state: State,
        health: Health,
        draining: Draining,
        arbiter: Arbiter | None,
        fitness: Fitness | None,
    ) -> None:
        self._broker = broker
        self._state = state
        self._health = health
        self._draining = draining
        self._arbiter = arbiter
        self._fitness = fitness
        self._trouble = Trouble("the metrics lack what did not answer")
        self._reading = trio.Lock()
        metrics.INFO.labels(__version__, config.node, ",".join(config.roles)).set(1)

    async def run(self) -> None:
        """Measure the event loop, until cancelled."""
        while True:
            due = trio.current_time() + _LAG_EVERY_S
            await trio.sleep_until(due)
            metrics.LOOP_LAG.observe(trio.current_time() - due)

    async def text(self) -> bytes:
        """All metrics. A part that does not answer in time keeps the values that it had."""
        async with self._reading:
            with trio.move_on_after(_PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    for read in (self._read_health, self._read_queue, self._read_nodes):
                        nursery.start_soon(self._survive, read)
            metrics.THREADS.set(threading.active_count())
            metrics.DRAINING.set(self._draining.on)
            if self._arbiter:
                _read_slots(self._arbiter)
            if self._fitness:
                metrics.JAILS_FIT.set(self._fitness.problem is None)
        return generate_latest(metrics.REGISTRY)

    async def _survive(self, read: Callable[[], Awaitable[None]]) -> None:
        with self._trouble.survived():
            await read()

    async def _read_health(self) -> None:
        metrics.READY.set(not await self._health.problems())

    async def _read_queue(self) -> None:
        for queue, length in (await self._broker.depths()).items():
            metrics.QUEUE.labels(queue).set(length)
        oldest = await self._state.submissions.oldest()
        metrics.OLDEST.set(0 if oldest is None else max(0.0, time.time() - oldest))

    async def _read_nodes(self) -> None:
        roles = Counter(role for node in await self._state.nodes.live() for role in node.roles)
        for role in ROLES:
            metrics.NODES.labels(role).set(roles[role])


def _read_slots(arbiter: Arbiter) -> None:
    metrics.SLOTS.set(arbiter.slots)
    metrics.SLOTS_USED.set(arbiter.busy)
    metrics.SEATS.set(arbiter.seats)
    metrics.SEATS_USED.set(arbiter.seated)
