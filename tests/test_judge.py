"""Which verdict an outcome gets (`occd/model.py`)."""

from dataclasses import replace

import pytest

from occd.model import LimitName, Outcome, Verdict, Written, judge, new_id

FINE = Outcome(0, None, None, Written(), Written(), 0.0, 0.0, 0)
FAILED = replace(FINE, exit_code=1)
KILLED = replace(FINE, exit_code=None, signal="SIGSEGV")


def limited(limit: LimitName, exit_code: int | None = None) -> Outcome:
    signal = "SIGKILL" if exit_code is None else None
    return replace(FINE, exit_code=exit_code, signal=signal, limit=limit)


TABLE = [
    (None, FINE, Verdict.OK),
    (None, FAILED, Verdict.RUNTIME_ERROR),
    (None, replace(FINE, exit_code=139), Verdict.RUNTIME_ERROR),
    (None, KILLED, Verdict.RUNTIME_ERROR),
    (None, limited("memory"), Verdict.MEMORY_LIMIT),
    (None, limited("memory", exit_code=1), Verdict.MEMORY_LIMIT),
    (None, limited("memory", exit_code=0), Verdict.MEMORY_LIMIT),
    (None, limited("output"), Verdict.OUTPUT_LIMIT),
    (None, limited("output", exit_code=0), Verdict.OUTPUT_LIMIT),
    (None, limited("cpu_time"), Verdict.TIME_LIMIT),
    (None, limited("wall_time"), Verdict.TIME_LIMIT),
    (None, limited("wall_time", exit_code=0), Verdict.TIME_LIMIT),
    (FINE, FINE, Verdict.OK),
    (FINE, FAILED, Verdict.RUNTIME_ERROR),
    (FINE, limited("cpu_time"), Verdict.TIME_LIMIT),
    (FAILED, None, Verdict.COMPILE_ERROR),
    (KILLED, None, Verdict.COMPILE_ERROR),
    (limited("cpu_time"), None, Verdict.TIME_LIMIT),
    (limited("memory"), None, Verdict.MEMORY_LIMIT),
    (limited("output"), None, Verdict.COMPILE_ERROR),
]


@pytest.mark.parametrize(("compiled", "run", "verdict"), TABLE)
def test_the_verdict_is_the_first_rule_that_holds(
    compiled: Outcome | None, run: Outcome | None, verdict: Verdict
) -> None:
    assert judge(compiled, run, cancelled=False) == verdict


@pytest.mark.parametrize(("compiled", "run", "verdict"), TABLE)
def test_a_cancelled_submission_is_cancelled_whatever_else_it_was(
    compiled: Outcome | None, run: Outcome | None, verdict: Verdict
) -> None:
    assert judge(compiled, run, cancelled=True) == Verdict.CANCELLED


@pytest.mark.parametrize("outcome", [FAILED, KILLED, limited("memory", exit_code=0)])
def test_only_a_clean_exit_within_the_limits_has_succeeded(outcome: Outcome) -> None:
    assert FINE.succeeded
    assert not outcome.succeeded


def test_ids_are_unguessable() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(id) for id in ids} == {22}  # 128 bits, 6 a character
