"""Turns of clients at something of which there is little."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turns:
    def __init__(self, total: int) -> None:
        """So many at once, at most half of them of one client: the others need not wait for this one."""
        self._all = trio.CapacityLimiter(total)
        self._most = total // 2
        self._of: dict[str, trio.CapacityLimiter] = {}
        """By client, those that have a turn or wait for one."""

    @asynccontextmanager
    async def of(self, client: str) -> AsyncIterator[None]:
        """A client's turn."""
        mine = self._of.setdefault(client, trio.CapacityLimiter(self._most))
        try:
            async with mine, self._all:
                yield
        finally:
            if not mine.borrowed_tokens and not mine.statistics().tasks_waiting:
                self._of.pop(client, None)
