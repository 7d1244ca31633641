"""Wakes the tasks of this process that wait for something."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import outcome
import trio

T = TypeVar("T")


@dataclass(slots=True)
class Answers(Generic[T]):
    """Wakes those who wait for a key, each with the answer if there is one."""

    _waiting: dict[str, list[trio.lowlevel.Task]] = field(default_factory=dict)

    def expected(self, key: str) -> bool:
        """Whether anybody waits."""
        return key in self._waiting

    async def wait(self, key: str) -> T | None:
        """The answer of the next `send`."""
        task = trio.lowlevel.current_task()
        self._waiting.setdefault(key, []).append(task)

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._waiting[key].remove(task)
            if not self._waiting[key]:
                del self._waiting[key]
            return trio.lowlevel.Abort.SUCCEEDED

        answer: T | None = await trio.lowlevel.wait_task_rescheduled(give_up)
        return answer

    def send(self, key: str, answer: T | None = None) -> None:
        for task in self._waiting.pop(key, ()):
            trio.lowlevel.reschedule(task, outcome.Value(answer))


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
