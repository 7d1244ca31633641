"""The containers of one engine: those that stand ready, and those that are in use.

A container that is taken is replaced, so each image keeps as many as it is used. The number of the machine's
users for programs bounds the number of containers: those that stand ready make room for one that is needed.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import trio

from occd.errors import SandboxFailed
from occd.images.users import AT_ONCE
from occd.sandbox.container import SHARES, Container
from occd.sandbox.engine import Engine, Wall
from occd.sandbox.init import INIT
from occd.sandbox.pulse import Pulse
from occd.sandbox.waits import Waits

_USERS_LEFT = 16
"""So many users are left for containers that are needed at once: none is made to stand ready meanwhile."""
_SHARES_MIN = 2
"""The kernel's least."""
_CLOSE_S = 10.0
_LONG_S = 15.0
_PAUSE_S = 0.15
"""The engine works for tenths of a second, and on the disk, to make a container, and to remove one. So it
begins when a program has had its start, and when whoever waits for the result has it."""


class Containers:
    def __init__(self, engine: Engine, keep: int, nursery: trio.Nursery) -> None:
        """`keep` containers stand ready, and at least one of each image."""
        self._engine = engine
        self._keep = keep
        self._nursery = nursery
        self.pulse = Pulse(engine, self._prune)
        self._waits = Waits(_LONG_S, "Docker's engine may be overloaded, or stuck: look at its log")
        self._ready: list[tuple[str, Container]] = []
        """With the name of its root. The first has been waiting for the longest time."""
        self._making = 0
        self._users = trio.Semaphore(AT_ONCE)
        """Those that no container of ours has."""
        self._closing = False
        self._interactive: set[Container] = set()
        self._weighing = trio.Lock()

    @property
    def stuck(self) -> str | None:
        """Why programs wait, in plain words."""
        return self.pulse.problem or self._waits.too_long

    @asynccontextmanager
    async def ready(self, root: str, wall: Wall) -> AsyncIterator[Container]:
        """One that stands ready, if one does, and else a new one."""
        with self.pulse.needed():
            container = self._take(root) or await self._make(wall)
            self._nursery.start_soon(self._prepare, root, wall)
            with self._ended(container):
                yield container

    @asynccontextmanager
    async def made(self, wall: Wall) -> AsyncIterator[Container]:
        """A new one, whose wall no other has."""
        with self.pulse.needed():
            container = await self._make(wall)
            with self._ended(container):
                yield container

    @asynccontextmanager
    async def interactive(self, container: Container) -> AsyncIterator[None]:
        """All interactive programs together get as much of the processors as one other program, or half of
        that: their weights change when their number has doubled or halved."""
        self._interactive.add(container)
        try:
            await self._weigh()
            yield
        finally:
            self._interactive.remove(container)
            self._nursery.start_soon(self._weigh)

    async def close(self, label: str) -> None:
        """Remove all containers with this label. They end in any case."""
        self._closing = True
        while self._ready:
            self._ready.pop()[1].close()
        if not self.pulse.problem:
            with suppress(SandboxFailed):
                await self._engine.settled()
                for number in await self._engine.of(label):
                    with suppress(SandboxFailed):  # the others need not stay for this one
                        await self._engine.remove(number)

    async def _weigh(self) -> None:
        async with self._weighing:
            many = max(0, len(self._interactive) - 1)
            shares = max(_SHARES_MIN, SHARES >> many.bit_length())
            for each in tuple(self._interactive):
                if each.shares != shares:
                    with suppress(SandboxFailed):  # it has ended
                        await self._engine.share(each.id, shares)
                        each.shares = shares

    @contextmanager
    def _ended(self, container: Container) -> Iterator[None]:
        """End it after the block: at once when the block failed, and else soon, because no process of the
        program is left."""
        try:
            yield
        except BaseException:
            container.hang_up()
            self._nursery.start_soon(self._end, container)
            raise
        self._nursery.start_soon(self._end_soon, container)

    def _prune(self) -> None:
        """Somebody may have killed a container that stood ready, or the engine have died."""
        for each in [each for each in self._ready if not each[1].waits]:
            self._ready.remove(each)
            self._nursery.start_soon(self._end, each[1])

    async def _end_soon(self, container: Container) -> None:
        try:
            await trio.sleep(_PAUSE_S)
        finally:
            self._nursery.start_soon(self._end, container)

    async def _end(self, container: Container) -> None:
        container.close()
        try:
            if not self.pulse.problem:
                with trio.move_on_after(_CLOSE_S, shield=True), suppress(SandboxFailed):
                    await self._engine.remove(container.id)
        finally:
            self._users.release()

    def _take(self, root: str) -> Container | None:
        self._prune()
        for each in self._ready:
            if each[0] == root:
                self._ready.remove(each)
                return each[1]
        return None

    async def _make(self, wall: Wall) -> Container:
        with self._waits.one_more():
            await self._take_user()
            try:
                made = await self._engine.start(wall, [INIT, "relay"])
            except BaseException:
                self._users.release()
                raise
            container = Container(self._engine, made, wall.bounds)
            try:
                await container.ready()
            except BaseException:
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await self._end(container)
                raise
            self._nursery.start_soon(container.beat)
            return container

    async def _take_user(self) -> None:
        """Those that stand ready, of another image or with another box, make room for who needs one now."""
        if not self._users.value and self._ready:
            self._nursery.start_soon(self._end, self._ready.pop(0)[1])
        await self._users.acquire()

    async def _prepare(self, root: str, wall: Wall) -> None:
        """Replace a container that was taken. When none had stood ready, there is one more of this image now,
        and one fewer of an image that is used less."""
        await trio.sleep(_PAUSE_S)
        if self._users.value <= _USERS_LEFT:
            return
        if len(self._ready) + self._making >= self._keep:
            spare = self._spare(root)
            if not spare:
                return
            self._ready.remove(spare)
            self._nursery.start_soon(self._end, spare[1])
        self._making += 1
        try:
            with (
                suppress(SandboxFailed),
                self.pulse.needed(),
            ):  # who needs one will find out and tell
                container = await self._make(wall)
                if self._closing:  # it was ready just before this was cancelled
                    container.close()
                else:
                    self._ready.append((root, container))
        finally:
            self._making -= 1

    def _spare(self, root: str) -> tuple[str, Container] | None:
        """The one that has been waiting for the longest time, of the other images with more than one."""
        counts = Counter(each for each, _ in self._ready)
        return next((each for each in self._ready if each[0] != root and counts[each[0]] > 1), None)
