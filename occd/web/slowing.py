"""Slows those who try keys that do not hold. Whoever comes with a key that holds is not asked for here, also
from the same address."""

from collections import Counter
from dataclasses import dataclass

import trio

from occd.errors import Rejected

FREE = 10
"""So many failures of one client in WINDOW_S are answered at once."""

WINDOW_S = 60.0
WAIT_S = 2.0
WAITING_MAX = 100
"""How many answers wait at once. A waiting answer holds its connection."""

WAITING_OF_ONE = 4
CLIENTS_MAX = 10_000


@dataclass(slots=True)
class _Level:
    """Rises by 1 with each failure, and falls by FREE in WINDOW_S."""

    value: float
    at: float

    def now(self, now: float) -> float:
        return max(0.0, self.value - (now - self.at) * FREE / WINDOW_S)


class Failures:
    def __init__(self) -> None:
        self._levels: dict[str, _Level] = {}
        """By client, whoever failed last at the end."""
        self._waiting: Counter[str] = Counter()

    async def slow(self, client: str) -> None:
        """Count a failure. Returns when it may be told. Raises Rejected when too many wait for that."""
        if self._count(client) <= FREE:
            return
        if self._waiting.total() >= WAITING_MAX or self._waiting[client] >= WAITING_OF_ONE:
            raise Rejected(
                "too-many-failures", "too many keys from your address were wrong: wait a minute"
            )
        self._waiting[client] += 1
        try:
            await trio.sleep(WAIT_S)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def _count(self, client: str) -> float:
        now = trio.current_time()
        level = self._levels.pop(client, None) or _Level(0.0, now)
        if len(self._levels) >= CLIENTS_MAX:
            del self._levels[next(iter(self._levels))]
        # Bounded, so that the level has fallen a minute after the last failure.
        value = min(level.now(now) + 1, FREE + 1)
        self._levels[client] = _Level(value, now)
        return value
