"""Of those who want the same at the same time, one makes it, and the others wait for it.

Who waits steps aside, so that its slot is of use meanwhile (`arbiter.py`). When the one who makes it is
cancelled, or fails, the first who waits takes over: of those who could not step aside, if there are any. Else
they would fill the slots, and wait for one who waits for a slot.
"""

from math import inf
from typing import Generic, TypeVar

import trio

from occd.execution.arbiter import Turn
from occd.scopes import either

R = TypeVar("R")

_LOOK_S = 1.0


class Waiter(Generic[R]):
    def __init__(self, turn: Turn | None) -> None:
        self.turn = turn
        self.over = trio.Event()
        """It need not wait any more: there is a result, or it has to make one itself."""
        self.result: R | None = None
        self.leads = False

    @property
    def keeps_slot(self) -> bool:
        return self.turn is not None and self.turn.in_slot


class Flight(Generic[R]):
    """What one makes and others wait for."""

    def __init__(self, lease_s: float) -> None:
        """So long the one who makes it may take, from the moment when it begins."""
        self.result: R | None = None
        """What was made, for those who come while it is put away."""
        self._lease_s = lease_s
        self._until = inf
        self._needs_slot = False
        """Whether the one who is to make it may have to wait for a slot."""
        self._waiting: dict[Waiter[R], None] = {}

    def begin(self) -> None:
        self._needs_slot = False
        self._until = trio.current_time() + self._lease_s

    def land(self, result: R | None) -> None:
        """Give the others the result. None: there is none to be had, so that each makes its own."""
        self.result = result
        while self._waiting:
            self._call(next(iter(self._waiting)), result)

    def hand_over(self) -> bool:
        """Let one of the others make it. False: there is nobody."""
        first = next((each for each in self._waiting if each.keeps_slot), None)
        first = first or next(iter(self._waiting), None)
        if first is None:
            return False
        self._take_over(first)
        return True

    def _take_over(self, waiter: Waiter[R]) -> None:
        self._until = inf
        self._needs_slot = waiter.turn is not None and not waiter.keeps_slot
        waiter.leads = True
        self._call(waiter, None)

    def _call(self, waiter: Waiter[R], result: R | None) -> None:
        del self._waiting[waiter]
        waiter.result = result
        if waiter.turn:
            waiter.turn.come_back()
        waiter.over.set()

    async def wait(self, waiter: Waiter[R], stop: trio.Event) -> None:
        """Until the waiter's wait is over and it has a slot, or `stop`."""
        self._waiting[waiter] = None
        if waiter.turn:
            waiter.turn.step_aside()
        if self._needs_slot and waiter.keeps_slot:
            self._take_over(waiter)
        try:
            while not waiter.over.is_set() and not stop.is_set():
                with trio.move_on_after(_LOOK_S):
                    await either(waiter.over, stop)
                if trio.current_time() > self._until:  # whoever makes it hangs
                    self.hand_over()
        finally:
            self._waiting.pop(waiter, None)
        if waiter.turn and not stop.is_set():
            await waiter.turn.go_on(stop)
