"""The messages of one queue that wait, in memory, and the tasks that wait for a message.

Owners take turns, the one served least recently first. Each owner's own messages are served in the order in
which they came.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import trio


@dataclass(frozen=True, slots=True)
class Message:
    number: int
    owner: str
    key: str
    body: bytes | None = None
    """Of a message whose delivery is written down already, together with the message. So are the names."""
    names: Mapping[str, str] = field(default_factory=dict)
    value: object = None
    """The decoded body, if its publisher gave it."""


@dataclass(slots=True, eq=False)
class Taker:
    """A task that waits for a message."""

    task: trio.lowlevel.Task = field(default_factory=trio.lowlevel.current_task)
    given: Message | None = None

    def wake(self, given: Message | None = None) -> None:
        self.given = given
        trio.lowlevel.reschedule(self.task)


@dataclass(slots=True)
class Waiting:
    """The messages that wait, number and key, by owner; the first owner is the next to be served.

    `length` also counts what is being delivered and what is being written.
    """

    name: str
    waiting: OrderedDict[str, OrderedDict[int, str]] = field(default_factory=OrderedDict)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By key: its owner and number, the later one where a message came twice."""
    length: int = 0
    takers: list[Taker] = field(default_factory=list)

    def put(self, number: int, owner: str, key: str, *, first: bool = False) -> None:
        messages = self.waiting.setdefault(owner, OrderedDict())
        messages[number] = key
        self.places[key] = owner, number
        if first:
            messages.move_to_end(number, last=False)
            self.waiting.move_to_end(owner, last=False)
        for taker in self.takers:
            taker.wake()
        self.takers.clear()

    def reserve(self) -> Taker | None:
        """A taker that waits, for a new message that is its turn at once. The caller must wake it."""
        return self.takers.pop(0) if self.takers and not self.waiting else None

    async def take(self) -> Message:
        """The next."""
        while not self.waiting:
            taker = Taker()
            self.takers.append(taker)
            await trio.lowlevel.wait_task_rescheduled(partial(self._give_up, taker))
            if taker.given:
                return taker.given
        owner = next(iter(self.waiting))
        number, key = next(iter(self.waiting[owner].items()))
        self._leave(owner, number, key)
        if owner in self.waiting:
            self.waiting.move_to_end(owner)
        return Message(number, owner, key)

    @property
    def starves(self) -> bool:
        return bool(self.takers) and not self.waiting

    def withdraw(self, key: str) -> int | None:
        """The number of the message that waits no more; None when none did."""
        if key not in self.places:
            return None
        owner, number = self.places[key]
        self._leave(owner, number, key)
        self.length -= 1
        return number

    def _give_up(self, taker: Taker, _raise_cancel: object) -> trio.lowlevel.Abort:
        """A reserved taker cannot be cancelled: its message is on its way, for milliseconds."""
        if taker not in self.takers:
            return trio.lowlevel.Abort.FAILED
        self.takers.remove(taker)
        return trio.lowlevel.Abort.SUCCEEDED

    def _leave(self, owner: str, number: int, key: str) -> None:
        messages = self.waiting[owner]
        del messages[number]
        if not messages:
            del self.waiting[owner]
        if self.places.get(key) == (owner, number):
            del self.places[key]
