"""The tests of a submission: each runs the solution, and then its checker.

Tests are begun in their order, as many at once as there are turns. What they come to does not depend on the
order in which they end (`verdicts.py`).
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial

import trio

from occd.events import Tested
from occd.execution import score, verdicts
from occd.execution.arbiter import Loans, Turn
from occd.execution.checked import Checked
from occd.execution.checkers import Checkers
from occd.execution.eventlog import EventLog
from occd.execution.program import Program
from occd.execution.steps import Steps
from occd.judging import Judging, TestVerdict
from occd.model import GroupScore, Judgement, Outcome, Step, Submission
from occd.sandbox import Cell, Given, Packed, Tree

LOG_BYTES = 64 * 1024
SHORT_LOG_BYTES = 4 * 1024
LOGGED_MAX = 16 * 2**20
"""When the log has so much output, each further test logs only SHORT_LOG_BYTES of each stream."""

_LOOK_S = 0.05
"""The time between two looks for slots to borrow: no event tells that the queue is empty."""

_Turn = Callable[[], Awaitable[None]]
_Test = Callable[[int, _Turn], Awaitable[None]]
"""Takes the number of a test, and what is to be awaited before it begins."""

_NOT_RUN = Checked(TestVerdict.SKIPPED, 0.0, "")


class _Unwanted(Exception):
    """A test that was made ready shall not run after all."""


class Tests:
    def __init__(
        self,
        submission: Submission,
        solution: Program,
        steps: Steps,
        log: EventLog,
        stop: trio.Event,
    ) -> None:
        """`stop` is set to end what runs and to begin nothing more."""
        assert submission.judging
        self._submission = submission
        self.judging: Judging = submission.judging
        self._solution = solution
        self._steps = steps
        self._log = log
        self._stop = stop
        self._over: dict[int, TestVerdict] = {}
        self._shares: dict[int, float] = {}
        self._running: dict[int, trio.Event] = {}
        """For each test that runs or is made ready, the event that ends it."""
        self._waiting = deque(range(len(self.judging.tests)))
        """The tests that are still to be run."""
        self._slots = trio.Semaphore(1)
        """Those in which no test runs: of the submission, and borrowed ones."""
        self._begun = trio.Event()
        """Whether the latest test has begun that is made ready."""
        self._begun.set()

    async def run(
        self, cell: Cell, tree: Tree | Packed | None, checkers: Checkers, turn: Turn
    ) -> None:
        """Run tests until none is left, or `stop` is set: one after the other in the slot of the submission,
        and others beside them in slots that it borrows."""
        test = partial(self._test, cell=cell, tree=tree, checkers=checkers)
        with turn.loans() as loans:
            async with trio.open_nursery() as watching:
                watching.start_soon(self._end_all)
                async with trio.open_nursery() as running:
                    # When `running` closes, no test is left to be begun in it.
                    watching.start_soon(self._borrow, test, loans, running)  # noqa: ASYNC111
                    if len(self._waiting) > 1:
                        running.start_soon(self._work, test, loans)
                    await self._work(test, loans)
                watching.cancel_scope.cancel()

    async def _work(self, test: _Test, loans: Loans) -> None:
        """Run tests. There is one task more than there are slots, so that a test is made ready while others
        run."""
        for at in self._next():
            before, self._begun = self._begun, trio.Event()
            await test(at, partial(self._wait_for_slot, before, self._begun))
            if not self._keeps_slot(loans):
                return
            self._slots.release()

    async def _wait_for_slot(self, before: trio.Event, begun: trio.Event) -> None:
        """Tests begin in their order: one sets `begun` after `before` was set."""
        await before.wait()
        await self._slots.acquire()
        begun.set()

    def _keeps_slot(self, loans: Loans) -> bool:
        """Whether the slot of a test that has ended is there for another one. One slot was borrowed for one
        test."""
        if not loans.held:
            return True
        loans.give_back()
        return self._wants_slot(loans) and loans.take()

    def _wants_slot(self, loans: Loans) -> bool:
        """Whether there are more tests than slots. A slot that was given to a test counts at once, and not
        when its task goes on."""
        return len(self._waiting) + len(self._running) > 1 + loans.held

    async def _borrow(self, test: _Test, loans: Loans, nursery: trio.Nursery) -> None:
        while self._wants_slot(loans) and not self._stop.is_set():
            while self._wants_slot(loans) and loans.take():
                self._slots.release()
                nursery.start_soon(self._work, test, loans)
            await trio.sleep(_LOOK_S)
        loans.wants = False

    async def _end_all(self) -> None:
        await self._stop.wait()
        for stop in self._running.values():
            stop.set()

    def judgement(self, *, cancelled: bool) -> Judgement:
        """What the tests came to. Tells the log of those that did not run."""
        tests = verdicts.of_tests(self.judging, self._over, cancelled=cancelled)
        for at, verdict in enumerate(tests):
            if at not in self._over:
                self._tell(at, replace(_NOT_RUN, verdict=verdict), None)
        earned = score.earned(self.judging, tests, self._shares)
        return Judgement(
            tuple(tests),
            earned.total.share,
            earned.total.points,
            earned.total.points_max,
            tuple(
                GroupScore(name, group.points, group.points_max)
                for name, group in earned.groups.items()
            ),
        )

    def _next(self) -> Iterator[int]:
        while self._waiting and not self._stop.is_set():
            yield self._waiting.popleft()

    async def _test(
        self,
        at: int,
        turn: _Turn,
        *,
        cell: Cell,
        tree: Tree | Packed | None,
        checkers: Checkers,
    ) -> None:
        stop = self._running[at] = trio.Event()

        async def begin() -> None:
            await turn()
            if stop.is_set():
                raise _Unwanted

        try:
            outcome, checked = await self._run(at, stop, cell, tree, checkers, begin)
        except _Unwanted:
            return
        finally:
            del self._running[at]
        if not stop.is_set():
            self._note(at, checked, outcome)

    async def _run(
        self,
        at: int,
        stop: trio.Event,
        cell: Cell,
        tree: Tree | Packed | None,
        checkers: Checkers,
        turn: _Turn,
    ) -> tuple[Outcome, Checked]:
        test = self.judging.tests[at]
        limits = test.limits or self._submission.limits
        command = self._solution.to_run(
            (*self._submission.args, *test.args), self._submission.env, limits
        )
        given = self._submission.stdin if test.stdin is None else test.stdin
        done = await self._steps.run(
            cell,
            Step("run", test=at),
            command,
            stdin=Given(given),
            tree=tree,
            files=test.files,
            log_max=LOG_BYTES if self._steps.logged < LOGGED_MAX else SHORT_LOG_BYTES,
            keep_stdout=True,
            stop=stop,
            turn=turn,
        )
        if stop.is_set():
            return done.outcome, _NOT_RUN
        if verdict := verdicts.of_run(done.outcome):
            return done.outcome, Checked(verdict, 0.0, "")
        return done.outcome, await checkers.check(at, test, given, done.stdout, stop)

    def _note(self, at: int, checked: Checked, outcome: Outcome) -> None:
        self._over[at] = checked.verdict
        if checked.verdict == TestVerdict.ACCEPTED:
            self._shares[at] = checked.share
        else:
            left_out = verdicts.skipped(self.judging, self._over)
            self._waiting = deque(other for other in self._waiting if other not in left_out)
            for other in left_out & self._running.keys():
                self._running[other].set()
        self._tell(at, checked, outcome)

    def _tell(self, at: int, checked: Checked, outcome: Outcome | None) -> None:
        self._log.put(
            Step("run", test=at),
            Tested(
                at,
                self.judging.tests[at].name,
                checked.verdict,
                checked.share,
                checked.message,
                outcome.cpu_time if outcome else 0.0,
                outcome.wall_time if outcome else 0.0,
                outcome.memory if outcome else 0,
            ),
        )
