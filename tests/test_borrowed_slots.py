"""The slots that a submission borrows for its tests: no more than it has tests to run."""

from collections.abc import Callable

import trio
from fake_sandbox import Emit, FakeSandbox
from trio.testing import MockClock

from occd import judging
from occd.config import Config
from occd.execution import tests
from occd.execution.arbiter import Arbiter
from occd.execution.built import Built
from occd.execution.checkers import open_checkers
from occd.execution.compiling import Compiler
from occd.execution.eventlog import EventLog
from occd.execution.program import Program
from occd.execution.steps import Steps
from occd.model import File, Outcome, Submission, Written

SLOTS = 8
FILES = (File("main.py", b""),)


async def run(
    count: int, seconds: Callable[[int], float], fails: int | None, starves: Callable[[], bool]
) -> tuple[list[judging.TestVerdict], list[tuple[int, int]]]:
    """The verdicts of so many tests, which take so long, and how many ran and how many slots they had at
    each tenth of a second. One may fail, and leaves out those behind it. `starves` as in `Arbiter`."""
    running = 0

    async def behave(_: Emit, stop: trio.Event) -> Outcome:
        nonlocal running
        at = sandbox.runs - 1  # tests begin in their order
        running += 1
        with trio.move_on_after(seconds(at)):
            await stop.wait()
        running -= 1
        return Outcome(int(at == fails), None, None, Written.of(b"done\n"), Written(), 0, 0, 0)

    sandbox = FakeSandbox(behave)
    each = tuple(judging.Test(str(at), expected_stdout=b"done\n") for at in range(count))
    asked = judging.Judging(each, stop_on_failure=fails is not None)
    submission = Submission("id", "python", None, "main.py", FILES, judging=asked)
    language = sandbox.languages["python"]
    program = Program(language, sandbox.available["python"][0], "main.py", FILES)
    stop, log = trio.Event(), EventLog()
    steps = Steps(log, stop)
    compiler = Compiler(Built(Config().cache, None, sandbox), steps, None, cached=False)
    arbiter = Arbiter(SLOTS, 0, lambda: True, starves)
    turn, *_ = [await arbiter.slot() for _ in range(SLOTS)]
    await turn.begin()
    whole = tests.Tests(submission, program, steps, log, stop)
    seen = []

    async def look() -> None:
        while True:
            await trio.sleep(0.1)
            seen.append((running, arbiter.busy))

    async with (
        sandbox.cell(language, FILES, submission.limits) as cell,
        open_checkers(asked, sandbox, steps, compiler) as checkers,
        trio.open_nursery() as beside,
    ):
        beside.start_soon(look)
        await whole.run(cell, None, checkers, turn)
        beside.cancel_scope.cancel()
    assert arbiter.busy == 1
    return list(whole.judgement(cancelled=False).tests), seen


async def test_tests_that_end_together_borrow_no_more_slots_than_are_left(
    autojump_clock: MockClock,
) -> None:
    for count in range(1, 2 * SLOTS + 2):
        verdicts, seen = await run(count, lambda _: 1.05, None, lambda: True)
        assert set(verdicts) == {"accepted"}
        assert max(seen) == (min(count, SLOTS - 1), min(count, SLOTS - 1))
        assert all(had == max(ran, 1) for ran, had in seen)


async def test_tests_that_are_left_out_borrow_no_slot(autojump_clock: MockClock) -> None:
    """Those that ran gave theirs to others, who have gone since."""
    began = trio.current_time()

    def starves() -> bool:
        return not 1 < trio.current_time() - began < 2

    verdicts, seen = await run(50, lambda at: 1.5 if at == 1 else 9.05, 1, starves)
    assert verdicts[:3] == ["accepted", "runtime_error", "skipped"]
    assert set(seen[30:]) == {(1, 1)}  # the first alone
    assert all(had == max(ran, 1) for ran, had in seen)
