"""Whether a job would run now, for `/readyz`."""

import math
from collections.abc import Awaitable, Callable

import trio

from occd import metrics
from occd.broker import Broker
from occd.draining import Draining
from occd.errors import OccdError
from occd.levels import Holds
from occd.sandbox.fitness import Fitness
from occd.state import State

PARTS = ("queue", "state")

_CHECK_S = 8.0
"""Longer than broker and state try by themselves, because their errors say more."""


class Health:
    """Ready means that a job would run: it can be recorded and queued, and on a node with execute a trial job
    ran lately."""

    def __init__(
        self,
        broker: Broker,
        state: State,
        fitness: Fitness | None,
        remedy: str | None,
        draining: Draining,
        holds: Holds | None = None,
    ) -> None:
        """`holds`: the properties of this process's sandbox, if it runs programs."""
        self.holds = holds
        self._broker = broker
        self._state = state
        self._fitness = fitness
        self._remedy = remedy
        self._draining = draining
        self._checking = trio.Lock()
        self._began_at = -math.inf
        self._found: list[str] = []
        self.answered_at = dict.fromkeys(PARTS, -math.inf)
        """When the check of each part last came to an end, good or bad."""

    async def problems(self) -> list[str]:
        """One check serves all who asked before it began: anybody may ask, and a check writes to the disk."""
        asked_at = trio.current_time()
        found = [self._remedy] if self._remedy else []
        if self._fitness and self._fitness.problem:
            found.append(self._fitness.problem)
        if self._draining.on:
            found.append("this process was told to take no more; occd drain --undo lets it")
        async with self._checking:
            if self._began_at < asked_at:
                began_at = trio.current_time()
                self._found = await self._check()
                self._began_at = began_at
        return found + self._found

    async def _check(self) -> list[str]:
        found = dict[str, str | None].fromkeys(PARTS)

        async def look(what: str, check: Callable[[], Awaitable[None]]) -> None:
            found[what] = await _problem(what, check)
            self.answered_at[what] = trio.current_time()

        async with trio.open_nursery() as nursery:
            for part, check in zip(
                PARTS, (self._broker.check, self._state.store.check), strict=True
            ):
                nursery.start_soon(look, part, check)
        # Queue and state may lie in one data folder, and say the same of it.
        return list(dict.fromkeys(problem for problem in found.values() if problem))

    async def warnings(self) -> list[str]:
        return [*await self._state.store.warnings(), *await self._state.keys.warnings()]


async def _problem(what: str, check: Callable[[], Awaitable[None]]) -> str | None:
    began_at = trio.current_time()
    try:
        with trio.fail_after(_CHECK_S):
            await check()
        metrics.UP.labels(what).set(1)
        return None
    except OccdError as error:
        problem = str(error)
    except trio.TooSlowError:
        problem = f"the {what} has not answered for {_CHECK_S:.0f} s"
    finally:
        metrics.CHECK.labels(what).set(trio.current_time() - began_at)
    metrics.UP.labels(what).set(
        0
    )  # not where whoever asked has left: that says nothing of the part
    return problem
