"""The arbiter of a node: gives out its slots and its seats.

A slot is a turn on the processors. A seat is a place for a program that has started and mostly waits for its
client: a jail, a user id, and memory. The intake of execute takes a slot before it asks the queue for a
submission. An interactive run that has started asks for a seat, and gives its slot back when it has the seat.

Three bounds hold for seats: their number, a share for each owner, and the node's memory in use. A run that
gets no seat keeps its slot, and gets a seat as soon as the three bounds allow one. While others wait,
its time in the slot is bounded (`roles/execute.py`).

While the queue has no submission, the slots that wait for one are lent to submissions with tests, each slot
for one test (`Loans`). One slot is kept, so that the next submission begins at once. A submission that comes
after it may have to wait for the end of a borrowed test.
"""

from collections import Counter
from collections.abc import Callable

import trio

_LOOK_S = 1.0
"""The time between two looks at the memory for runs that ask for a seat: no event tells of free memory."""

_OWNERS_MIN = 4
"""So many owners at least share the seats, where there are so many seats."""


class Turn:
    """The slot of one submission, or the seat that it has got instead."""

    def __init__(self, arbiter: "Arbiter") -> None:
        self._arbiter = arbiter
        self.owner = ""
        """The owner whose share of the seats this takes. Submissions of nobody have the owner ""."""

    def sit(self) -> None:
        """Ask for a seat, and give the slot back for it, now or later."""
        self._arbiter.ask(self)

    @property
    def in_slot(self) -> bool:
        return self._arbiter.has_in_slot(self)

    async def begin(self) -> None:
        """The submission has come for which this slot was taken. Wait for the slot if it is lent."""
        await self._arbiter.begin(self)

    def loans(self) -> "Loans":
        """The slots that this submission borrows for its tests."""
        return Loans(self._arbiter)

    def end(self) -> None:
        """Give back what this turn holds. A second call does nothing."""
        self._arbiter.take_back(self)

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Loans:
    """The slots that one submission has borrowed. Enter the context while tests are run."""

    def __init__(self, arbiter: "Arbiter") -> None:
        self._arbiter = arbiter
        self.held = 0
        self.wants = True
        """Whether tests wait for a slot."""

    def take(self) -> bool:
        """Borrow a slot for one test, if one can be had now."""
        lent = self._arbiter.can_lend(self)
        self.held += lent
        return lent

    def give_back(self) -> None:
        self.held -= 1
        self._arbiter.returned.unpark()

    def __enter__(self) -> "Loans":
        self._arbiter.borrowers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._arbiter.borrowers.remove(self)


class Arbiter:
    def __init__(
        self,
        slots: int,
        seats: int,
        has_memory: Callable[[], bool],
        starves: Callable[[], bool] = lambda: False,
    ) -> None:
        """`has_memory` says whether the node has the memory for one more program in a seat, `starves` whether
        the queue has no submission for the slots that wait for one."""
        self.slots = slots
        self.seats = seats
        self._has_memory = has_memory
        self._starves = starves
        self._free = trio.Semaphore(slots)
        self._in_slots: set[Turn] = set()
        self._unused: set[Turn] = set()
        """The turns in slots whose submission has not come."""
        self.borrowers: list[Loans] = []
        self.returned = trio.lowlevel.ParkingLot()
        """Turns that have begun while their slot was lent; the first is the first to get a slot."""
        self._asking: dict[Turn, None] = {}
        """The turns in slots that ask for a seat, in the order of asking."""
        self._seated: set[Turn] = set()

    @property
    def places(self) -> int:
        """How many submissions can be in slots and seats together."""
        return self.slots + self.seats

    @property
    def in_slots(self) -> int:
        return len(self._in_slots)

    @property
    def busy(self) -> int:
        """How many slots have a submission, or run a test of one."""
        return len(self._in_slots) - len(self._unused) + self._lent

    def has_in_slot(self, turn: Turn) -> bool:
        return turn in self._in_slots

    @property
    def full(self) -> bool:
        """Whether every slot has a submission."""
        return len(self._in_slots) == self.slots and not self._unused

    @property
    def seated(self) -> int:
        return len(self._seated)

    @property
    def share(self) -> int:
        """How many seats one owner gets at most."""
        return max(1, self.seats // _OWNERS_MIN)

    async def slot(self) -> Turn:
        """Wait for a free slot. Callers are served in the order in which they came."""
        await self._free.acquire()
        turn = Turn(self)
        self._in_slots.add(turn)
        self._unused.add(turn)
        self.returned.unpark()  # what came before goes first
        return turn

    async def run(self) -> None:
        """Look at the memory for those who ask for a seat, until cancelled."""
        while True:
            await trio.sleep(_LOOK_S)
            self._seat()

    def ask(self, turn: Turn) -> None:
        if turn in self._in_slots:
            self._asking[turn] = None
            self._seat()

    async def begin(self, turn: Turn) -> None:
        self._unused.discard(turn)
        if self._lent > len(self._unused):
            await self.returned.park()

    def can_lend(self, to: Loans) -> bool:
        """Of several submissions, the one that has borrowed least comes first."""
        least = min((each.held for each in self.borrowers if each.wants), default=0)
        return self._lent < len(self._unused) - 1 and to.held <= least and self._starves()

    @property
    def _lent(self) -> int:
        return sum(each.held for each in self.borrowers)

    def take_back(self, turn: Turn) -> None:
        self._asking.pop(turn, None)
        if turn in self._in_slots:
            self._leave_slot(turn)
        elif turn in self._seated:
            self._seated.remove(turn)
            self._seat()

    def _leave_slot(self, turn: Turn) -> None:
        self._in_slots.remove(turn)
        self._unused.discard(turn)
        self._free.release()

    def _seat(self) -> None:
        """Give free seats to those who ask, as far as the bounds allow."""
        if not self._asking:
            return
        owners = Counter(turn.owner for turn in self._seated)
        for turn in list(self._asking):
            if len(self._seated) >= self.seats or not self._has_memory():
                return
            if owners[turn.owner] < self.share:
                owners[turn.owner] += 1
                del self._asking[turn]
                self._seated.add(turn)
                self._leave_slot(turn)
