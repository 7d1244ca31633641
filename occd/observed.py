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
from occd.health import Health
from occd.sandbox.fitness import Fitness
from occd.state import State
from occd.trouble import Trouble

FORM = CONTENT_TYPE_LATEST
_LAG_EVERY_S = 0.5


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
        self._reading = trio.Lock()
        metrics.INFO.labels(
            __version__,
            commit or "",
            config.node,
            ",".join(config.roles),
            "rabbitmq" if config.rabbitmq else "data-folder",
            "redis" if config.redis else "data-folder",
        ).set(1)

    async def run(self) -> None:
        """Measure the event loop, until cancelled."""
        while True:
            due = trio.current_time() + _LAG_EVERY_S
            await trio.sleep_until(due)
            metrics.LOOP_LAG.observe(trio.current_time() - due)

    async def text(self, patience_s: float) -> bytes:
        """All metrics. A part that does not answer in `patience_s` is down, and what it would tell keeps its
        value: the metrics of a node whose broker is away are wanted most."""
        async with self._reading, trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + patience_s
            metrics.READY.set(0)
            nursery.start_soon(self._read_health)
            for read, trouble in self._reads.items():
                nursery.start_soon(_survive, read, trouble)
        metrics.THREADS.set(threading.active_count())
        metrics.DRAINING.set(self._draining.on)
        if self._arbiter:
            _read_slots(self._arbiter)
        if self._fitness:
            metrics.JAILS_FIT.set(self._fitness.problem is None)
        return generate_latest(metrics.REGISTRY)

    async def _read_health(self) -> None:
        metrics.READY.set(not await self._health.problems())

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


async def _survive(read: Callable[[], Awaitable[None]], trouble: Trouble) -> None:
    with trouble.survived():
        await read()


def _read_slots(arbiter: Arbiter) -> None:
    metrics.SLOTS.set(arbiter.slots)
    metrics.SLOTS_USED.set(arbiter.busy)
    metrics.SEATS.set(arbiter.seats)
    metrics.SEATS_USED.set(arbiter.seated)
