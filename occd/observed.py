"""Reads the queue, the state and the slots of this process into the metrics when somebody scrapes them."""

import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from occd import __version__, metrics
from occd.broker import Broker
from occd.config import ROLES, Config
from occd.draining import Draining
from occd.execution.arbiter import Arbiter
from occd.health import PARTS, Health
from occd.sandbox.fitness import Fitness
from occd.state import State
from occd.trouble import Trouble

FORM = CONTENT_TYPE_LATEST
_LAG_EVERY_S = 0.5
_LOOK_S = 4.0
"""Shorter than the half of Prometheus's time (10 s) in which it is answered."""


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
        commit: str | None,
    ) -> None:
        self._broker = broker
        self._state = state
        self._health = health
        self._draining = draining
        self._arbiter = arbiter
        self._fitness = fitness
        self._data_dir = config.data_dir
        self._reads = {
            read: Trouble("the metrics lack what did not answer")
            for read in (self._read_queue, self._read_oldest, self._read_nodes, self._read_disk)
        }
        self._wanted = trio.Event()
        self._looked = trio.Event()
        metrics.INFO.labels(
            __version__,
            commit or "",
            config.node,
            ",".join(config.roles),
            "rabbitmq" if config.rabbitmq else "data-folder",
            "redis" if config.redis else "data-folder",
        ).set(1)

    async def run(self) -> None:
        """Look when somebody scrapes, and measure the event loop, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_measure_lag)
            while True:
                await self._wanted.wait()
                await self._look()
                self._wanted = trio.Event()
                self._looked.set()
                self._looked = trio.Event()

    async def text(self, patience_s: float) -> bytes:
        """All metrics, after a look that serves all who ask meanwhile, so that two do not wait for two looks.
        A part that has not answered in `patience_s` is told as the last look found it."""
        self._wanted.set()
        with trio.move_on_after(patience_s):
            await self._looked.wait()
        metrics.THREADS.set(threading.active_count())
        metrics.DRAINING.set(self._draining.on)
        if self._arbiter:
            _read_slots(self._arbiter)
        if self._fitness:
            metrics.JAILS_FIT.set(self._fitness.problem is None)
        return generate_latest(metrics.REGISTRY)

    async def _look(self) -> None:
        """A part that does not answer in time is down, and what it would tell keeps its value: the metrics of
        a node whose broker is away are wanted most. How long it has is not for those to say who ask."""
        began_at, problems = trio.current_time(), ["no answer"]

        async def health() -> None:
            nonlocal problems
            problems = await self._health.problems()

        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = began_at + _LOOK_S
            nursery.start_soon(health)
            for read, trouble in self._reads.items():
                nursery.start_soon(_survive, read, trouble)
        metrics.READY.set(not problems)
        for part in PARTS:
            if self._health.answered_at[part] < began_at:
                metrics.UP.labels(part).set(0)

    async def _read_queue(self) -> None:
        for queue, length in (await self._broker.depths()).items():
            metrics.QUEUE.labels(queue).set(length)

    async def _read_oldest(self) -> None:
        oldest = await self._state.submissions.oldest()
        metrics.OLDEST.set(0 if oldest is None else max(0.0, time.time() - oldest))

    async def _read_nodes(self) -> None:
        roles = Counter(role for node in await self._state.nodes.live() for role in node.roles)
        for role in ROLES:
            metrics.NODES.labels(role).set(roles[role])

    async def _read_disk(self) -> None:
        with suppress(OSError):  # `occd_up` tells that the folder is gone
            disk = await trio.to_thread.run_sync(os.statvfs, self._data_dir, abandon_on_cancel=True)
            metrics.DISK_FREE.set(disk.f_bavail * disk.f_frsize)
            metrics.DISK.set(disk.f_blocks * disk.f_frsize)


async def _measure_lag() -> None:
    while True:
        due = trio.current_time() + _LAG_EVERY_S
        await trio.sleep_until(due)
        metrics.LOOP_LAG.observe(trio.current_time() - due)


async def _survive(read: Callable[[], Awaitable[None]], trouble: Trouble) -> None:
    with trouble.survived():
        await read()


def _read_slots(arbiter: Arbiter) -> None:
    metrics.SLOTS.set(arbiter.slots)
    metrics.SLOTS_USED.set(arbiter.busy)
    metrics.SEATS.set(arbiter.seats)
    metrics.SEATS_USED.set(arbiter.seated)
