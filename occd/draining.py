"""Whether this process takes no more, because `occd drain` told it so, and what it still holds."""

from collections.abc import Callable

import trio


class Draining:
    def __init__(self) -> None:
        self.on = False
        self.changed = trio.Event()
        """Set when `on` changes; another one then takes its place."""
        self._held: list[Callable[[], int]] = []

    def counts(self, held: Callable[[], int]) -> None:
        """`held` tells how many submissions one role has in hand."""
        self._held.append(held)

    @property
    def held(self) -> int:
        """How many submissions this process has in hand. 0 while `on`: it may be stopped, and nothing is cut
        off."""
        return sum(each() for each in self._held)

    def tell(self, *, on: bool) -> None:
        self.on = on
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, *, on: bool) -> None:
        while self.on != on:
            await self.changed.wait()
