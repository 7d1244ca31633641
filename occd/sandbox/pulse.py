"""Whether Docker's engine answers.

It is asked every 2 s, with something useful: to remove what dead processes left. When it is away, whatever
needs it ends at once, rather than each after a time-out of its own; until it answers, nothing begins.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from occd.errors import SandboxFailed
from occd.sandbox.engine import Engine, EngineAway

_EVERY_S = 2.0
_LONG_S = 5.0


class Pulse:
    def __init__(self, engine: Engine, gone: Callable[[], None]) -> None:
        """The engine has just answered. `gone` is called when it does not."""
        self._engine = engine
        self._gone = gone
        self._away: EngineAway | None = None
        self._left: EngineAway | None = None
        """Why it was away the last time."""
        self._asked_at: float | None = None
        self._needing: set[trio.CancelScope] = set()

    @property
    def problem(self) -> str | None:
        """Why the engine is not to be used, in plain words."""
        away = self._away
        if self._asked_at and trio.current_time() - self._asked_at > _LONG_S:
            away = away or self._engine.silent(_LONG_S)
        return f"{away}. {away.remedy}" if away else None

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Raises EngineAway when the engine is away, or goes away before the end of the block."""
        if self._away:
            raise self._away.again()
        with trio.CancelScope() as scope:
            self._needing.add(scope)
            try:
                yield
            finally:
                self._needing.remove(scope)
        if scope.cancelled_caught:
            assert self._left
            raise self._left.again()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._asked_at = trio.current_time()
            try:
                await self._engine.remove_left()
                self._away = None
            except EngineAway as error:
                self._away = self._left = error
                self._gone()
                for scope in self._needing:
                    scope.cancel()
            except SandboxFailed:  # it answers, and a trial tells what it cannot do
                self._away = None
            self._asked_at = None
            await trio.sleep(_EVERY_S)
