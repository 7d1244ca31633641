"""What tests and their submission come to (`occd/execution/verdicts.py`), in any order of events."""

from collections.abc import Mapping

import pytest
from ended import ended
from hypothesis import given
from hypothesis import strategies as st

from occd import judging as j
from occd.execution import verdicts
from occd.judging import TestVerdict as V
from occd.model import Outcome

OK, WRONG, SKIPPED, CANCELLED = V.ACCEPTED, V.WRONG_ANSWER, V.SKIPPED, V.CANCELLED
OVER = [each for each in V if each not in (V.SKIPPED, V.CANCELLED)]
"""What the run of a test and its checker can come to."""


RUNS = [
    (ended(), None),
    (ended(1), V.RUNTIME_ERROR),
    (ended(signal="SIGSEGV"), V.RUNTIME_ERROR),
    (ended(signal="SIGKILL", limit="cpu_time"), V.TIME_LIMIT),
    (ended(0, limit="wall_time"), V.TIME_LIMIT),
    (ended(1, limit="memory"), V.MEMORY_LIMIT),
    (ended(0, limit="memory"), V.MEMORY_LIMIT),
    (ended(signal="SIGKILL", limit="output"), V.OUTPUT_LIMIT),
]


@pytest.mark.parametrize(("run", "verdict"), RUNS)
def test_only_a_clean_run_within_the_limits_is_left_to_the_checker(
    run: Outcome, verdict: V | None
) -> None:
    assert verdicts.of_run(run) == verdict


def judged(*groups: str | None, stop: bool = False, **needs: str) -> j.Judging:
    """One test in each of `groups`; a group needs those that its keyword names."""
    tests = tuple(
        j.Test(str(at), group=group, expected_stdout=b"") for at, group in enumerate(groups)
    )
    names = dict.fromkeys(group for group in groups if group)
    made = tuple(
        j.Group(name, 1, needs=tuple(needs[name].split()) if name in needs else ())
        for name in names
    )
    return j.Judging(tests, made, stop_on_failure=stop)


FOUR = judged(None, None, None, None)
STOP = judged(None, None, None, None, stop=True)
NEEDS = judged("a", "a", "b", "c", b="a", c="b")

CASES: list[tuple[j.Judging, list[V], list[V], V]] = [
    (FOUR, [OK, OK, OK, OK], [OK, OK, OK, OK], OK),
    (FOUR, [OK, WRONG, OK, V.TIME_LIMIT], [OK, WRONG, OK, V.TIME_LIMIT], WRONG),
    (FOUR, [OK, V.TIME_LIMIT, OK, WRONG], [OK, V.TIME_LIMIT, OK, WRONG], V.TIME_LIMIT),
    (FOUR, [V.CHECKER_ERROR, OK, OK, WRONG], [V.CHECKER_ERROR, OK, OK, WRONG], V.CHECKER_ERROR),
    (STOP, [OK, OK, OK, OK], [OK, OK, OK, OK], OK),
    (STOP, [OK, WRONG, OK, WRONG], [OK, WRONG, SKIPPED, SKIPPED], WRONG),
    (STOP, [WRONG, V.TIME_LIMIT, OK, OK], [WRONG, SKIPPED, SKIPPED, SKIPPED], WRONG),
    (STOP, [V.CHECKER_ERROR, OK, OK, OK], [V.CHECKER_ERROR, SKIPPED, SKIPPED, SKIPPED], V.CHECKER_ERROR),
    (STOP, [OK, OK, OK, WRONG], [OK, OK, OK, WRONG], WRONG),
    (NEEDS, [OK, OK, OK, OK], [OK, OK, OK, OK], OK),
    (NEEDS, [OK, WRONG, OK, OK], [OK, WRONG, SKIPPED, SKIPPED], WRONG),
    (NEEDS, [OK, OK, WRONG, OK], [OK, OK, WRONG, SKIPPED], WRONG),
    (NEEDS, [OK, OK, OK, WRONG], [OK, OK, OK, WRONG], WRONG),
]  # fmt: skip


@pytest.mark.parametrize(("judging", "over", "tests", "submission"), CASES)
def test_a_failure_leaves_out_what_stands_behind_it(
    judging: j.Judging, over: list[V], tests: list[V], submission: V
) -> None:
    found = verdicts.of_tests(judging, dict(enumerate(over)), cancelled=False)
    assert found == tests
    assert verdicts.of_submission(found, cancelled=False) == submission


CUT: list[tuple[j.Judging, dict[int, V], bool, list[V], V]] = [
    (FOUR, {0: OK, 2: OK}, True, [OK, CANCELLED, OK, CANCELLED], CANCELLED),
    (FOUR, {0: OK, 2: WRONG}, True, [OK, CANCELLED, WRONG, CANCELLED], CANCELLED),
    (STOP, {0: OK, 2: WRONG}, True, [OK, CANCELLED, WRONG, SKIPPED], CANCELLED),
    (FOUR, {}, True, [CANCELLED] * 4, CANCELLED),
    (FOUR, {0: OK, 2: OK}, False, [OK, SKIPPED, OK, SKIPPED], V.TIME_LIMIT),
    (FOUR, {0: OK, 2: WRONG}, False, [OK, SKIPPED, WRONG, SKIPPED], V.TIME_LIMIT),
    (FOUR, {0: WRONG, 2: OK}, False, [WRONG, SKIPPED, OK, SKIPPED], WRONG),
]


@pytest.mark.parametrize(("judging", "over", "cancelled", "tests", "submission"), CUT)
def test_what_never_ended_was_cancelled_or_met_the_time_limit(
    judging: j.Judging, over: dict[int, V], cancelled: bool, tests: list[V], submission: V
) -> None:
    found = verdicts.of_tests(judging, over, cancelled=cancelled)
    assert found == tests
    assert verdicts.of_submission(found, cancelled=cancelled) == submission


def test_a_need_of_the_group_around_it_is_a_need_of_a_test() -> None:
    tests = tuple(j.Test(str(at), group=name, expected_stdout=b"") for at, name in enumerate("axb"))
    groups = (j.Group("a", 1), j.Group("b", 1, needs=("a",)), j.Group("x", 1, group="b"))
    judging = j.Judging(tests, groups)
    over = {0: WRONG, 1: OK, 2: OK}
    assert verdicts.of_tests(judging, over, cancelled=False) == [WRONG, SKIPPED, SKIPPED]


def test_a_failure_in_a_group_within_is_a_failure_of_the_needed_group() -> None:
    tests = tuple(j.Test(str(at), group=name, expected_stdout=b"") for at, name in enumerate("xab"))
    groups = (j.Group("a", 1), j.Group("b", 1, needs=("a",)), j.Group("x", 1, group="a"))
    over = {0: WRONG, 1: OK, 2: OK}
    assert verdicts.of_tests(j.Judging(tests, groups), over, cancelled=False) == [
        WRONG,
        OK,
        SKIPPED,
    ]


@st.composite
def judgings(draw: st.DrawFn) -> j.Judging:
    """Groups in a row, each with needs before it, and tests without a group."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    names = [f"g{at}" for at in range(len(sizes))]
    groups = []
    for at, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:at]), unique=True)) if at else []
        groups.append(j.Group(name, 1, needs=tuple(needs)))
    if draw(st.booleans()):  # the last group holds another
        groups.append(j.Group("within", 1, group=names[-1]))
        sizes.append(1)
        names.append("within")
    homes = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    homes += [None] * draw(st.integers(0, 2))  # type: ignore[list-item]
    tests = tuple(j.Test(str(at), group=home, expected_stdout=b"") for at, home in enumerate(homes))
    return j.Judging(tests, tuple(groups), stop_on_failure=draw(st.booleans()))


def run(judging: j.Judging, truth: list[V], data: st.DataObject) -> Mapping[int, V]:
    """Run the tests, several at once, as an execute node may. A test that is known to be left out is not
    started; if it runs by then, it is killed or ends. Returns the verdicts of those that ended."""
    over: dict[int, V] = {}
    waiting = list(range(len(truth)))
    running: set[int] = set()
    left_out: set[int] = set()
    while running or waiting:
        waiting = [at for at in waiting if at not in left_out]
        running = {at for at in running if at not in left_out or data.draw(st.booleans())}
        may_start = bool(waiting) and len(running) < 3
        if may_start and (not running or data.draw(st.booleans())):
            running.add(waiting.pop(data.draw(st.integers(0, len(waiting) - 1))))
        elif running:
            at = data.draw(st.sampled_from(sorted(running)))
            running.remove(at)
            over[at] = truth[at]
            known = verdicts.skipped(judging, over)
            assert known >= left_out
            assert known == left_out or truth[at] != V.ACCEPTED
            left_out = known
    return over


@given(st.data())
def test_the_order_of_events_changes_nothing(data: st.DataObject) -> None:
    judging = data.draw(judgings())
    count = len(judging.tests)
    truth: list[V] = data.draw(
        st.lists(st.just(V.ACCEPTED) | st.sampled_from(OVER), min_size=count, max_size=count)
    )
    over = run(judging, truth, data)
    known = verdicts.of_tests(judging, over, cancelled=False)
    assert known == verdicts.of_tests(judging, dict(enumerate(truth)), cancelled=False)
    assert [at for at in range(count) if known[at] != truth[at]] == [
        at for at in range(count) if known[at] == SKIPPED
    ]


@given(st.data())
def test_the_first_failure_stops_all_tests_above_it_and_none_below(data: st.DataObject) -> None:
    truth: list[V] = data.draw(st.lists(st.sampled_from(OVER), min_size=1, max_size=8))
    judging = judged(*[None] * len(truth), stop=True)
    first = next((at for at, each in enumerate(truth) if each != V.ACCEPTED), len(truth))
    found = verdicts.of_tests(judging, run(judging, truth, data), cancelled=False)
    assert found == truth[: first + 1] + [SKIPPED] * (len(truth) - first - 1)
    failure = truth[first] if first < len(truth) else V.ACCEPTED
    assert verdicts.of_submission(found, cancelled=False) == failure
