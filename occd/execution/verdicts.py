"""The verdicts of tests, and of the submission that they belong to.

Tests run at once and end in any order. What they come to does not depend on the order: it follows from the
verdicts of the tests alone.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

from occd.judging import Judging, TestVerdict
from occd.model import Outcome, Verdict, judge


def of_run(run: Outcome) -> TestVerdict | None:
    """The verdict of a test by the run of the solution. None when the checker has the word."""
    match run.limit:
        case "memory":
            return TestVerdict.MEMORY_LIMIT
        case "output":
            return TestVerdict.OUTPUT_LIMIT
        case "cpu_time" | "wall_time" | "idle":
            return TestVerdict.TIME_LIMIT
        case None:
            return None if run.succeeded else TestVerdict.RUNTIME_ERROR
        case _:
            assert_never(run.limit)


def of_format(run: Outcome, *, cancelled: bool) -> Verdict:
    """Of a formatter's run. A formatter that failed could not read the program, as a compiler that failed."""
    verdict = judge(None, run, cancelled=cancelled)
    return Verdict.COMPILE_ERROR if verdict == Verdict.RUNTIME_ERROR else verdict


def skipped(judging: Judging, over: Mapping[int, TestVerdict]) -> set[int]:
    """The tests, by index, that a failure of another test leaves out. `over` has the verdicts of the tests
    that are over. One that is over may be left out, too.

    A further verdict in `over` adds tests to the answer and takes none away, and only a failure adds some.
    """
    paths = judging.paths
    failed: set[str] = set()
    """The groups in which a test before was not accepted."""
    stopped = False
    found: set[int] = set()
    for at, test in enumerate(judging.tests):
        path = paths[test.group]
        if stopped or any(not failed.isdisjoint(group.needs) for group in path):
            found.add(at)
        elif over.get(at, TestVerdict.ACCEPTED) == TestVerdict.ACCEPTED:
            continue
        failed.update(group.name for group in path)
        stopped = judging.stop_on_failure
    return found


def of_tests(
    judging: Judging, over: Mapping[int, TestVerdict], *, cancelled: bool
) -> list[TestVerdict]:
    """What each test comes to when nothing more runs. One that is not over was cancelled, or the time for
    the whole submission was up: then it is `skipped`."""
    rest = TestVerdict.CANCELLED if cancelled else TestVerdict.SKIPPED
    left_out = skipped(judging, over)
    return [
        TestVerdict.SKIPPED if at in left_out else over.get(at, rest)
        for at in range(len(judging.tests))
    ]


def of_submission(tests: Sequence[TestVerdict], *, cancelled: bool) -> TestVerdict:
    """The verdict of a submission that compiled: its first failure, in the order of the tests."""
    if cancelled:
        return TestVerdict.CANCELLED
    for verdict in tests:
        if verdict == TestVerdict.SKIPPED:  # behind no failure: the time was up
            return TestVerdict.TIME_LIMIT
        if verdict != TestVerdict.ACCEPTED:
            return verdict
    return TestVerdict.ACCEPTED
