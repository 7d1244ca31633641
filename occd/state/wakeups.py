"""Wakes the tasks of this process that wait for something."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio


@dataclass(slots=True)
class Wakeups:
    """Wakes those who wait for a key; holds nothing while nobody waits."""

    _events: dict[str, trio.Event] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def expected(self, key: str) -> Iterator[trio.Event]:
        """An event that the next `send` sets. Take it first and look second, so that nothing that
        happens in between is missed."""
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            yield self._events.setdefault(key, trio.Event())
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                self._events.pop(key, None)

    def send(self, key: str) -> None:
        event = self._events.pop(key, None)
        if event is not None:
            event.set()

    def send_all(self) -> None:
        """Something may have happened to any of them: let all look again."""
        for key in list(self._events):
            self.send(key)
