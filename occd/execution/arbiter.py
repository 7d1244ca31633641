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

A submission that waits for what another one compiles steps aside: it has neither a slot nor a seat
meanwhile. Then it comes back, where there may be no slot for it at once: the intake has asked for others.
The submission therefore stands in the line, together with those that came while their slots were lent. Owners
take turns in the line, and of one owner who came first goes first.
"""

from collections import Counter
from collections.abc import Callable
from itertools import count

import trio

from occd.scopes import either

_LOOK_S = 1.0
"""The time between two looks at the memory for runs that ask for a seat: no event tells of free memory."""

_OWNERS_MIN = 4
"""So many owners at least share the seats, where there are so many seats."""

ASIDE_MAX, ASIDE_BYTES = 128, 2**18
"""So many submissions step aside at once, each with a message of so many bytes at most: this process holds
them meanwhile."""

_numbers = count()


class Turn:
    """The slot of one submission, or the seat that it has got instead."""

    def __init__(self, arbiter: "Arbiter") -> None:
        self._arbiter = arbiter
        self.number = next(_numbers)
        self.owner = ""
        """The owner whose share of the seats this takes. Submissions of nobody have the owner ""."""
        self.bytes = 0
        """Of the submission's message."""

    def sit(self) -> None:
        """Ask for a seat, and give the slot back for it, now or later."""
        self._arbiter.ask(self)

    @property
    def in_slot(self) -> bool:
        return self._arbiter.has_in_slot(self)

    async def begin(self) -> None:
        """The submission has come for which this slot was taken. Wait for the slot if it is lent."""
        await self._arbiter.begin(self)

    def step_aside(self) -> None:
        """Give the slot back while nothing can be done, unless too many have."""
        self._arbiter.step_aside(self)

    def come_back(self) -> None:
        """Stand in the line for a slot, after `step_aside`. Whoever calls this for several does it in their
        order, because their tasks resume in any order."""
        self._arbiter.come_back(self)

    async def go_on(self, stop: trio.Event) -> None:
        """Come back, and wait for the slot, or for `stop`."""
        await self._arbiter.go_on(self, stop)

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
        self._arbiter.let_go_on()

    def __enter__(self) -> "Loans":
        self._arbiter.borrowers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._arbiter.borrowers.remove(self)


class _Line:
    """Turns that wait for a slot, each with the event of its end of waiting."""

    def __init__(self) -> None:
        self._owners: dict[str, dict[Turn, trio.Event]] = {}
        """The first owner is the next."""

    def __len__(self) -> int:
        return sum(map(len, self._owners.values()))

    def stand(self, turn: Turn) -> None:
        self._owners.setdefault(turn.owner, {})[turn] = trio.Event()

    async def wait(self, turn: Turn, *stop: trio.Event) -> None:
        """Until it is its turn, or `stop`; at once if it does not stand here."""
        event = self._owners.get(turn.owner, {}).get(turn)
        if event is not None:
            await either(event, *stop)

    def leave(self, turn: Turn) -> None:
        theirs = self._owners.get(turn.owner, {})
        if theirs.pop(turn, None) is not None and not theirs:
            del self._owners[turn.owner]

    def next(self) -> None:
        owner = next(iter(self._owners))
        theirs = self._owners.pop(owner)
        turn = min(theirs, key=lambda each: each.number)
        theirs.pop(turn).set()
        if theirs:
            self._owners[owner] = theirs


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
        self._line = _Line()
        """The turns that have begun while their slot was lent, and those that have come back."""
        self._aside: set[Turn] = set()
        self._back: set[Turn] = set()
        """The turns that have come back. They take the place of one for which the intake has a slot."""
        self._asking: dict[Turn, None] = {}
        """The turns in slots that ask for a seat, in the order of asking."""
        self._seated: set[Turn] = set()

    @property
    def places(self) -> int:
        """How many submissions can be here together."""
        return self.slots + self.seats + ASIDE_MAX

    @property
    def in_slots(self) -> int:
        return len(self._in_slots)

    @property
    def busy(self) -> int:
        """How many slots have a submission, or run a test of one."""
        return len(self._in_slots) - len(self._unused) + self._lent - len(self._line)

    def has_in_slot(self, turn: Turn) -> bool:
        return turn in self._in_slots or turn in self._back

    @property
    def full(self) -> bool:
        """Whether every slot is in use."""
        return self.busy >= self.slots

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
        return turn

    async def run(self) -> None:
        """Look at the memory for those who ask for a seat, until cancelled."""
        while True:
            await trio.sleep(_LOOK_S)
            self._seat()

    def ask(self, turn: Turn) -> None:
        if self.has_in_slot(turn):
            self._asking[turn] = None
            self._seat()

    async def begin(self, turn: Turn) -> None:
        self._unused.discard(turn)
        self._stand_if_full(turn)
        await self._line.wait(turn)

    def step_aside(self, turn: Turn) -> None:
        room = len(self._aside) + len(self._back) < ASIDE_MAX and turn.bytes <= ASIDE_BYTES
        if room and self.has_in_slot(turn):
            self._leave_slot(turn)
            self._aside.add(turn)

    def come_back(self, turn: Turn) -> None:
        if turn in self._aside:
            self._aside.remove(turn)
            self._back.add(turn)
            self._stand_if_full(turn)

    async def go_on(self, turn: Turn, stop: trio.Event) -> None:
        self.come_back(turn)
        await self._line.wait(turn, stop)

    def _stand_if_full(self, turn: Turn) -> None:
        """It counts already as one that has a slot."""
        if self.busy > self.slots:
            self._line.stand(turn)

    def let_go_on(self) -> None:
        """A slot may be free: who stands in the line goes first."""
        while len(self._line) and self.busy < self.slots:
            self._line.next()

    def can_lend(self, to: Loans) -> bool:
        """Of several submissions, the one that has borrowed least comes first."""
        least = min((each.held for each in self.borrowers if each.wants), default=0)
        return self._lent < len(self._unused) - 1 and to.held <= least and self._starves()

    @property
    def _lent(self) -> int:
        return sum(each.held for each in self.borrowers) + len(self._back)

    def take_back(self, turn: Turn) -> None:
        self._asking.pop(turn, None)
        self._aside.discard(turn)
        if self.has_in_slot(turn):
            self._leave_slot(turn)
        elif turn in self._seated:
            self._seated.remove(turn)
            self._seat()

    def _leave_slot(self, turn: Turn) -> None:
        self._line.leave(turn)
        if turn in self._back:
            self._back.remove(turn)
        else:
            self._in_slots.remove(turn)
            self._unused.discard(turn)
            self._free.release()
        self.let_go_on()

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
