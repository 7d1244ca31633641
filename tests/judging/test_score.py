"""What tests earn (`occd/execution/score.py`)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occd import judging as j
from occd.execution.score import Earned, earned
from occd.judging import TestVerdict as V

OK, WRONG, SKIPPED = V.ACCEPTED, V.WRONG_ANSWER, V.SKIPPED


def some(*tests: tuple[str | None, float], groups: tuple[j.Group, ...] = ()) -> j.Judging:
    """Tests by their group and weight."""
    made = (
        j.Test(str(at), group=group, weight=weight, expected_stdout=b"")
        for at, (group, weight) in enumerate(tests)
    )
    return j.Judging(tuple(made), groups)


def of(judging: j.Judging, *results: V | float) -> Earned:
    """Results are verdicts, or the shares that checkers gave."""
    verdicts = [each if isinstance(each, V) else OK for each in results]
    shares = {at: each for at, each in enumerate(results) if not isinstance(each, V)}
    return earned(judging, verdicts, shares)


PLAIN = some((None, 1), (None, 1), (None, 2))
SUM = some(("g", 1), ("g", 3), groups=(j.Group("g", 30),))
MIN = some(("g", 1), ("g", 3), groups=(j.Group("g", 30, "min"),))
ALL = some(("g", 1), ("g", 3), groups=(j.Group("g", 30, "all"),))
BOTH = some(("g", 1), (None, 10), groups=(j.Group("g", 30, "all"),))
SAMPLE = some((None, 0), (None, 1))
SAMPLES = some(("s", 1), ("g", 1), groups=(j.Group("s", 0), j.Group("g", 30, "all", ("s",))))


def nested(rule: j.Rule) -> j.Judging:
    """Two groups of 10 and 30 points, of one test each, in a group of 100."""
    groups = (j.Group("a", 10, group="g"), j.Group("b", 30, group="g"), j.Group("g", 100, rule))
    return some(("a", 1), ("b", 1), groups=groups)


CASES: list[tuple[j.Judging, tuple[V | float, ...], float, float]] = [
    # the results, the share, the points
    (PLAIN, (OK, OK, OK), 1, 4),
    (PLAIN, (OK, OK, WRONG), 0.5, 2),
    (PLAIN, (OK, OK, SKIPPED), 0.5, 2),
    (PLAIN, (OK, OK, V.CANCELLED), 0.5, 2),
    (PLAIN, (WRONG, WRONG, WRONG), 0, 0),
    (PLAIN, (OK, OK, 0.25), 0.625, 2.5),
    (SUM, (OK, OK), 1, 30),
    (SUM, (OK, WRONG), 0.25, 7.5),
    (SUM, (WRONG, 0.5), 0.375, 11.25),
    (MIN, (OK, OK), 1, 30),
    (MIN, (OK, WRONG), 0, 0),
    (MIN, (0.5, 0.25), 0.25, 7.5),
    (ALL, (OK, OK), 1, 30),
    (ALL, (OK, WRONG), 0, 0),
    (ALL, (OK, 0.25), 1, 30),
    (BOTH, (OK, WRONG), 0.75, 30),
    (BOTH, (WRONG, OK), 0.25, 10),
    (SAMPLE, (WRONG, OK), 1, 1),
    (SAMPLE, (OK, WRONG), 0, 0),
    (SAMPLES, (OK, OK), 1, 30),
    (SAMPLES, (WRONG, SKIPPED), 0, 0),
    (nested("sum"), (OK, OK), 1, 100),
    (nested("sum"), (OK, WRONG), 0.25, 25),
    (nested("sum"), (WRONG, 0.5), 0.375, 37.5),
    (nested("min"), (0.5, OK), 0.5, 50),
    (nested("all"), (OK, 0.5), 1, 100),
    (nested("all"), (OK, WRONG), 0, 0),
]


@pytest.mark.parametrize(("judging", "results", "share", "points"), CASES)
def test_points_are_shared_out_by_weight_and_rule(
    judging: j.Judging, results: tuple[V | float, ...], share: float, points: float
) -> None:
    total = of(judging, *results).total
    assert (total.share, total.points) == (share, points)


def test_each_group_tells_its_own_points() -> None:
    found = of(nested("sum"), WRONG, 0.5)
    told = {name: (each.share, each.points, each.points_max) for name, each in found.groups.items()}
    assert told == {"a": (0, 0, 10), "b": (0.5, 15, 30), "g": (0.375, 37.5, 100)}


def test_a_submission_that_does_not_compile_earns_nothing_of_all_points() -> None:
    total = of(PLAIN, SKIPPED, SKIPPED, SKIPPED).total
    assert (total.share, total.points, total.points_max) == (0, 0, 4)


weights = st.floats(1e-3, 1e9)
results = st.sampled_from([OK, WRONG, SKIPPED]) | st.floats(1e-9, 1)
rules: Any = st.sampled_from(["sum", "min", "all"])


@given(st.data())
def test_a_share_stays_between_none_and_all(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    groups = tuple(j.Group(f"g{at}", data.draw(weights), data.draw(rules)) for at in range(count))
    tests = [(f"g{at}", data.draw(weights)) for at in range(count) for _ in range(2)]
    judging = some(*tests, groups=groups)
    share = of(judging, *[data.draw(results) for _ in tests]).total.share
    assert 0 <= share <= 1
    assert of(judging, *[OK] * len(tests)).total.share == 1
    assert of(judging, *[WRONG] * len(tests)).total.share == 0


@given(st.lists(st.tuples(weights, results), min_size=1, max_size=8), st.randoms())
def test_the_order_of_the_tests_does_not_change_the_score(
    parts: list[tuple[float, V | float]], random: Any
) -> None:
    def score() -> float:
        judging = some(*((None, weight) for weight, _ in parts))
        return of(judging, *(result for _, result in parts)).total.share

    before = score()
    random.shuffle(parts)
    assert score() == before
