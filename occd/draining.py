"""Whether this process takes no more, because `occd drain` told it so, and what it still holds."""

from collections.abc import Callable

import trio


class Draining:
    def __init__(self) -> None:
        self.on = False
        self.changed = trio.Event()
        """Set when `on` changes; another one then takes its place."""
        self._held: list[Callable[[], int]] = []
        self._coming: list[Callable[[], bool]] = []

    def counts(self, held: Callable[[], int], coming: Callable[[], bool] = lambda: False) -> None:
        """`held` tells how many submissions one role has in hand, `coming` whether more may come."""
        self._held.append(held)
        self._coming.append(coming)

    @property
    def held(self) -> int:
        """How many submissions this process has in hand."""
        return sum(each() for each in self._held)

    @property
    def done(self) -> bool:
        """Whether this process may be stopped, and nothing is cut off."""
        return self.on and not self.held and not any(each() for each in self._coming)

    def tell(self, *, on: bool) -> None:
        self.on = on
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, *, on: bool) -> None:
        while self.on != on:
            await self.changed.wait()
