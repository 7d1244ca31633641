"""What this node has compiled: no program is compiled twice, and none by two at the same time.

What is kept is named by all that it was made from, so nobody can put another program in its place, and by its
owner, unless the configuration says that all owners share it.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar, TypeVarTuple, Unpack

import structlog
import trio

from occd import __version__, metrics
from occd.config import CacheConfig
from occd.execution.arbiter import Turn
from occd.execution.entry import LONG, Damaged, Entry, decode
from occd.execution.flight import Flight, Waiter
from occd.execution.program import Program
from occd.execution.shelf import MEMORY_MOST, MOST, Folder, Memory, Shelf
from occd.model import Step
from occd.sandbox import Sandbox

log = structlog.get_logger()

Args = TypeVarTuple("Args")
R = TypeVar("R")

EACH_MAX = 16 * 2**20
"""Bytes of a tree that is kept."""

_MORE_S = 10.0
"""A compiler ends by its limit of time. Whoever is not done so much later hangs: another one compiles."""


class Claim:
    """What came of asking for a compiled program: it is `known`, or has to be compiled (then others may wait
    for it), or the submission was stopped before it knew. Use as a context."""

    def __init__(self, built: "Built", name: str = "", flight: Flight[Entry] | None = None) -> None:
        self._built = built
        self._name = name
        self._flight = flight
        self.known: Entry | None = None
        self.stopped = False

    @property
    def is_for_others(self) -> bool:
        """Whether what is compiled is to be kept."""
        return self._flight is not None

    def begin(self) -> None:
        """The compiler starts."""
        if self._flight:
            self._flight.begin()

    async def keep(self, entry: Entry | None) -> None:
        """Tell the others what was made, or that nothing of it can be kept."""
        flight, self._flight = self._flight, None
        if flight:
            await self._built.keep(self._name, flight, entry)

    def give_up(self) -> None:
        """It was cut off, which says nothing of the program: another one shall compile it."""
        flight, self._flight = self._flight, None
        if flight:
            self._built.give_up(self._name, flight)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_up()


class Built:
    def __init__(self, config: CacheConfig, folder: Path | None, sandbox: Sandbox) -> None:
        """Without a folder all is kept in memory."""
        usual = MOST if folder else MEMORY_MOST
        most = usual if config.bytes is None else config.bytes
        self._shelf = Shelf(most, Folder(folder) if folder else Memory())
        self._is_on = most > 0
        self._is_shared = config.shared == "all"
        self._sandbox = sandbox
        self._flights: dict[str, Flight[Entry]] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        if self._is_on:
            await trio.to_thread.run_sync(self._look_at_machine)
        await self._shelf.open()
        try:
            yield
        finally:
            self._shelf.close()

    def _look_at_machine(self) -> None:
        """So that nobody waits for it later."""
        for versions in self._sandbox.available.values():
            for installed in versions:
                self._sandbox.identity(installed)

    async def claim(
        self,
        program: Program,
        step: Step,
        box: int,
        owner: str | None,
        stop: trio.Event,
        turn: Turn | None = None,
    ) -> Claim:
        """Wait for the program if another one compiles it. `turn` steps aside meanwhile."""
        if not self._is_on:
            return Claim(self)
        long = sum(len(file.content) for file in program.files) > LONG
        name = await _in_thread_if(long, self._name, program, step, box, owner)
        claim = await self._claim(name, program.language.compile_limits.wall_time, stop, turn)
        if claim.known:
            metrics.CACHE_HITS.inc()
        elif not claim.stopped:
            metrics.CACHE_MISSES.inc()
        return claim

    async def _claim(
        self, name: str, wall_time: float, stop: trio.Event, turn: Turn | None
    ) -> Claim:
        claim = Claim(self, name)
        while name in self._shelf:
            if entry := await self._read(name):
                claim.known = entry
                return claim
        flight = self._flights.get(name)
        if flight is None:
            claim._flight = self._flights[name] = Flight(wall_time + _MORE_S)
            return claim
        if flight.result:
            claim.known = flight.result
            return claim
        waiter: Waiter[Entry] = Waiter(turn)
        try:
            await flight.wait(waiter, stop)
        except BaseException:
            if waiter.leads:
                self.give_up(name, flight)
            raise
        claim.known = waiter.result
        claim.stopped = stop.is_set()
        if waiter.leads:
            if claim.stopped:
                self.give_up(name, flight)
            else:
                claim._flight = flight
        return claim

    async def _read(self, name: str) -> Entry | None:
        data = await self._shelf.get(name)
        if data is None:
            return None
        try:
            entry = await _in_thread_if(len(data) > LONG, decode, data)
        except (Damaged, ValueError, KeyError, TypeError) as error:
            log.warning(
                "a program that was compiled is damaged, and compiled anew", reason=str(error)
            )
            await self._shelf.remove(name)
            return None
        if entry.is_old:
            await self._shelf.remove(name)
            return None
        return entry

    async def keep(self, name: str, flight: Flight[Entry], entry: Entry | None) -> None:
        if entry:
            flight.land(entry)  # who waits now needs no disk
            try:
                await self._shelf.put(name, await _in_thread_if(entry.is_long, entry.encode))
            finally:
                self._forget(name, flight)
        else:
            self._forget(name, flight)
            flight.land(None)

    def give_up(self, name: str, flight: Flight[Entry]) -> None:
        if not flight.hand_over():
            self._forget(name, flight)

    def _forget(self, name: str, flight: Flight[Entry]) -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]

    def _name(self, program: Program, step: Step, box: int, owner: str | None) -> str:
        command = program.to_compile()
        made_from = (
            __version__,
            program.language.id,
            program.installed,
            self._sandbox.identity(program.installed),
            step.program,
            (command.argv, command.env, command.limits, box),
            None if self._is_shared else owner or "",
            [
                (each.name, each.executable, hashlib.sha256(each.content).digest())
                for each in program.language.readable(program.files)
            ],
        )
        return hashlib.sha256(repr(made_from).encode(errors="surrogateescape")).hexdigest()


async def _in_thread_if(long: bool, work: Callable[[Unpack[Args]], R], *args: *Args) -> R:
    return await trio.to_thread.run_sync(work, *args) if long else work(*args)
