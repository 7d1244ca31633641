"""What every state promises of quotas (`occd/state/__init__.py`), over every implementation."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
from seams import SOON_S, STATE_SEAMS, StateSeam

from occd.errors import Conflict, QuotaUsedUp, UnknownSubmission
from occd.model import File, Outcome, Result, Spent, Submission, Verdict, Written, new_id
from occd.quotas import HOUSEHOLDS, Allowance, Payer, Quota
from occd.state import Created, State
from occd.state.quotas import cost_of
from occd.web.quotas import quota_json

PAYER = "addr:192.0.2.1"
SLOW = 1
"""A limit so low that a level does not sink by anything that counts while a test runs."""


@pytest.fixture(params=STATE_SEAMS)
def seam(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StateSeam:
    return STATE_SEAMS[request.param](tmp_path, monkeypatch)


def payer(name: str = PAYER, **limits: float) -> Payer:
    return Payer(name, replace(Allowance(), **limits))  # type: ignore[arg-type]


def make() -> Submission:
    return Submission(
        new_id(), "python", None, "main.py", (File("main.py", b"print(1)"),), created_at=time.time()
    )


def result(cpu_s: float = 0.0, output: int = 0) -> Result:
    at = time.time()
    return Result(Verdict.OK, attempts=1, finished_at=at, spent=Spent(cpu_s, output))


async def create(state: State, who: Payer) -> Submission:
    submission = make()
    assert (await state.submissions.create(submission, None, "", who)).id == submission.id
    await state.submissions.published(submission.id)
    return submission


async def run(state: State, who: Payer, cpu_s: float = 0.0, output: int = 0) -> Submission:
    """A whole life."""
    submission = await create(state, who)
    attempt = await state.submissions.begin(submission, "3", "node")
    assert await state.submissions.finish(submission.id, attempt, result(cpu_s, output))
    return submission


async def quota(state: State, who: Payer, name: str) -> Quota:
    (found,) = [each for each in await state.quotas.admit(who, {}) if each.name == name]
    return found


async def left(state: State, who: Payer, name: str) -> float:
    return (await quota(state, who, name)).left


async def refused(state: State, who: Payer) -> QuotaUsedUp:
    with pytest.raises(QuotaUsedUp) as raised:
        await state.submissions.create(make(), None, "", who)
    return raised.value


async def soon(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(SOON_S):
        while True:
            if await holds():
                return
            await trio.sleep(0.05)


async def test_a_submission_counts_until_it_ends_however_it_ends(seam: StateSeam) -> None:
    who = payer(unfinished=2)
    async with seam.open() as state:
        first, second = await create(state, who), await create(state, who)
        error = await refused(state, who)
        assert (error.quota.name, error.quota.limit, error.quota.left) == ("unfinished", 2, 0)
        assert error.retry_after_s
        assert await state.submissions.cancel(first.id)
        third = await create(state, who)
        attempt = await state.submissions.begin(second, "3", "node")
        await refused(state, who)
        assert await state.submissions.finish(second.id, attempt, result())
        await create(state, who)
        await refused(state, who)
        assert await state.submissions.finish(third.id, None, result())
        assert await left(state, who, "unfinished") == 1


async def test_what_was_refused_left_nothing_behind(seam: StateSeam) -> None:
    who = payer(unfinished=1, runs_per_minute=SLOW + 1)
    async with seam.open() as state:
        await create(state, who)
        before = await state.quotas.admit(who, {})
        submission = make()
        with pytest.raises(QuotaUsedUp):
            await state.submissions.create(submission, "a key", "one", who)
        assert not await state.submissions.known("a key")
        assert [each.left for each in await state.quotas.admit(who, {})] == [
            each.left for each in before
        ]
        assert await state.submissions.unpublished(time.time() + 60) == []
        other = make()
        created = await state.submissions.create(other, "a key", "two")
        assert (created.id, await state.submissions.known("a key")) == (other.id, True)


async def test_a_minute_admits_its_runs_and_then_one_after_the_other(seam: StateSeam) -> None:
    who = payer(runs_per_minute=3)
    async with seam.open() as state:
        for expected in (2, 1, 0):
            submission = make()
            created = await state.submissions.create(submission, None, "", who)
            assert [(each.name, each.left) for each in created.quotas] == [
                ("runs_per_minute", expected)
            ]
        error = await refused(state, who)
        assert 10 < (error.quota.frees_in_s or 0) <= 20  # since the first of them
        assert 10 < (error.retry_after_s or 0) <= 20
        seam.pass_time(PAYER, 20)
        await create(state, who)
        await refused(state, who)
        seam.pass_time(PAYER, 3600)
        assert await left(state, who, "runs_per_minute") == 3


async def test_processor_time_is_paid_afterwards_and_a_debt_carries_over(seam: StateSeam) -> None:
    who = payer(cpu_seconds_per_hour=36, cpu_seconds_per_day=864)
    async with seam.open() as state:
        await run(state, who, 35.0)
        await run(state, who, 37.0)
        assert await left(state, who, "cpu_seconds_per_hour") == pytest.approx(-36, abs=0.5)
        assert await left(state, who, "cpu_seconds_per_day") == pytest.approx(792, abs=0.5)
        error = await refused(state, who)
        assert error.quota.name == "cpu_seconds_per_hour"
        assert error.retry_after_s == pytest.approx(3600, abs=60)
        seam.pass_time(PAYER, 3500)
        await refused(state, who)
        seam.pass_time(PAYER, 200)
        await create(state, who)
        assert 0 < await left(state, who, "cpu_seconds_per_hour") < 2


async def test_a_debt_for_a_lifetime_is_told(seam: StateSeam) -> None:
    who = payer(cpu_seconds_per_hour=1, cpu_seconds_per_day=1)
    async with seam.open() as state:
        both = [await create(state, who) for _ in range(2)]
        for submission in both:
            attempt = await state.submissions.begin(submission, "3", "node")
            assert await state.submissions.finish(submission.id, attempt, result(1e8))
        error = await refused(state, who)
        for each in (error.quota, await quota(state, who, "cpu_seconds_per_day")):
            assert quota_json(each)["left"] == pytest.approx(1 - 2e8)
            assert str(quota_json(each)["frees_at"])[:2] == "21"


async def test_a_result_is_charged_once_however_often_it_comes(seam: StateSeam) -> None:
    who = payer(cpu_seconds_per_day=86400)
    async with seam.open() as state:
        submission = await create(state, who)
        first = await state.submissions.begin(submission, "3", "node")
        second = await state.submissions.begin(submission, "3", "node")
        assert not await state.submissions.finish(submission.id, first, result(500))
        for expected in (True, False, False):
            done = await state.submissions.finish(submission.id, second, result(100))
            assert done is expected
        assert not await state.submissions.finish(submission.id, None, result(700))
        assert await left(state, who, "cpu_seconds_per_day") == pytest.approx(86300, abs=10)


async def test_what_was_cancelled_while_queued_costs_no_time(seam: StateSeam) -> None:
    who = payer(cpu_seconds_per_day=10, runs_per_minute=SLOW)
    async with seam.open() as state:
        submission = await create(state, who)
        assert await state.submissions.cancel(submission.id)
        assert not await state.submissions.finish(submission.id, None, result(5))
        assert await left(state, who, "cpu_seconds_per_day") == 10
        assert await left(state, who, "runs_per_minute") == 0


async def test_what_the_broker_did_not_take_is_given_back_once(seam: StateSeam) -> None:
    who = payer(unfinished=5, runs_per_minute=2)
    async with seam.open() as state:
        kept = make()
        await state.submissions.create(kept, None, "", who)
        submission = make()
        await state.submissions.create(submission, None, "", who)
        for _ in range(3):
            await state.submissions.discard(submission.id)
        assert await left(state, who, "unfinished") == 4
        assert await left(state, who, "runs_per_minute") == 1
        await state.quotas.give_back(who, [submission.id])
        assert await left(state, who, "unfinished") == 4
        assert await left(state, who, "runs_per_minute") == 1


async def test_many_are_admitted_together_or_not_at_all(seam: StateSeam) -> None:
    who = payer(unfinished=10, runs_per_minute=5)
    async with seam.open() as state:
        many = [make() for _ in range(4)]
        ids = [each.id for each in many]
        found = await state.quotas.admit(who, dict.fromkeys(ids, 0))
        assert [each.left for each in found] == [6, 1]
        again = await state.quotas.admit(who, dict.fromkeys(ids, 0))
        assert [each.left for each in again] == [6, 1]
        with pytest.raises(QuotaUsedUp) as raised:
            await state.quotas.admit(who, dict.fromkeys([new_id(), new_id()], 0))
        assert raised.value.retry_after_s in (11, 12)
        with pytest.raises(QuotaUsedUp) as raised:
            await state.quotas.admit(who, dict.fromkeys([new_id() for _ in range(6)], 0))
        assert raised.value.retry_after_s is None
        for each in many[:2]:  # they were admitted before
            created = await state.submissions.create(each, None, "", who)
            assert [quota.left for quota in created.quotas] == [6, 1]
        await state.quotas.give_back(who, ids[2:])
        assert [each.left for each in await state.quotas.admit(who, {})] == [8, 3]


async def test_a_repeated_key_is_free_also_at_the_limit(seam: StateSeam) -> None:
    who = payer(unfinished=1, runs_per_minute=SLOW)
    async with seam.open() as state:
        submission = make()
        await state.submissions.create(submission, "key", "digest", who)
        again = await state.submissions.create(make(), "key", "digest", who)
        assert again == Created(submission.id, published=False)
        with pytest.raises(Conflict):
            await state.submissions.create(make(), "key", "another", who)
        assert await left(state, who, "unfinished") == 0


async def test_bytes_count_while_they_are_kept(seam: StateSeam) -> None:
    who = payer(stored_bytes=10_000)
    async with seam.open() as state:
        before = await left(state, who, "stored_bytes")
        first = await run(state, who, output=100)
        body = before - await left(state, who, "stored_bytes") - 100
        assert 0 < body < 2000
        second = await run(state, who, output=20_000)
        error = await refused(state, who)
        assert error.quota.name == "stored_bytes"
        assert error.retry_after_s == pytest.approx(3600, abs=60)
        await state.submissions.erase(second)
        with pytest.raises(UnknownSubmission):
            await state.submissions.erase(second)
        assert await left(state, who, "stored_bytes") == before - body - 100
        await state.submissions.erase(first)
        assert await left(state, who, "stored_bytes") == before


async def test_what_is_under_way_counts_with_the_most_that_it_may_store(seam: StateSeam) -> None:
    """What is refused then would pass the limit together with what runs, all by itself."""
    for who in (payer(stored_bytes=10_000), household(1, stored_bytes=10_000)):
        async with seam.open() as state:
            made = [make() for _ in range(4)]
            for each in made[:2]:
                await state.submissions.create(each, None, "", who, 5_000)
                await state.submissions.published(each.id)
            error = await refused(state, who)
            assert (error.quota.name, error.quota.left) == ("stored_bytes", 0)
            assert error.retry_after_s == 5
            assert "0 of 10000 bytes are kept, and what has not finished may store 10000" in str(
                error
            )
            assert await state.submissions.finish(made[0].id, None, result(output=100))
            kept = 5_000 - await left(state, who, "stored_bytes")
            assert 100 < kept < 2_000
            await state.submissions.create(made[2], None, "", who, 20_000)  # one may take more
            await refused(state, who)
            await state.submissions.discard(made[2].id)
            assert await left(state, who, "stored_bytes") == 5_000 - kept
            assert await state.submissions.cancel(made[1].id)
            now = int(await left(state, who, "stored_bytes"))
            assert 8_000 < now < 10_000 - kept
            other, third = new_id(), new_id()
            stores = {made[3].id: 20_000, other: now - 100, third: 100}  # all but one fit
            with pytest.raises(QuotaUsedUp) as raised:
                await state.quotas.admit(who, stores)
            assert raised.value.retry_after_s == 5
            stores[third] = 99
            await state.quotas.admit(who, stores)
            await state.submissions.create(made[3], None, "", who, 20_000)  # it is a member
            assert await left(state, who, "stored_bytes") == now - sum(stores.values())
            await state.quotas.give_back(who, stores)
            assert await left(state, who, "stored_bytes") == now
            with pytest.raises(QuotaUsedUp) as raised:
                await state.quotas.admit(who, {new_id(): 10_000, new_id(): 10_000})
            assert raised.value.retry_after_s is None


async def test_bytes_that_have_expired_count_no_more(seam: StateSeam) -> None:
    seam.hasten_quotas(left_s=60)
    who = payer(stored_bytes=10_000)
    async with seam.open(keep_s=0.5) as state:

        async def admitted() -> bool:
            try:
                await create(state, who)
            except QuotaUsedUp:
                return False
            return True

        began = time.monotonic()
        await run(state, who, output=20_000)
        assert not await admitted() or time.monotonic() - began > 0.5
        await soon(admitted)
        assert await left(state, who, "stored_bytes") == 10_000


async def test_a_member_whose_submission_never_came_is_removed(seam: StateSeam) -> None:
    seam.hasten_quotas(left_s=60)
    who = payer(unfinished=3, runs_per_minute=SLOW + 2)
    async with seam.open() as state:
        await state.quotas.admit(who, dict.fromkeys([new_id(), new_id()], 0))
        waiting = make()
        await state.quotas.admit(who, dict.fromkeys([waiting.id], 0))
        await state.submissions.create(waiting, None, "", who)
        await refused(state, who)
        seam.hasten_quotas(left_s=0.1)

        async def removed() -> bool:
            return await left(state, who, "unfinished") == 2

        await soon(removed)
        assert await left(state, who, "runs_per_minute") == 2
        await trio.sleep(0.5)
        assert await left(state, who, "unfinished") == 2  # what waits stays


async def test_a_crash_loses_no_charge_and_no_member(seam: StateSeam) -> None:
    who = payer(unfinished=3, cpu_seconds_per_day=86400)
    async with seam.open() as state:
        await run(state, who, 100)
        submission = await create(state, who)
        seam.crash()
    async with seam.open() as state:
        assert await left(state, who, "unfinished") == 2
        assert await left(state, who, "cpu_seconds_per_day") == pytest.approx(86300, abs=10)
        assert await state.submissions.finish(submission.id, None, result(100))
        assert await left(state, who, "unfinished") == 3
        assert await left(state, who, "cpu_seconds_per_day") == pytest.approx(86200, abs=10)


async def test_records_go_when_they_say_nothing_any_more(seam: StateSeam) -> None:
    seam.hasten_quotas(left_s=60)
    fast: dict[str, Any] = {"runs_per_minute": 60_000, "cpu_seconds_per_hour": 3_600_000}
    async with seam.open() as state:
        stays = payer("stays", **fast)
        waiting = await create(state, stays)
        async with trio.open_nursery() as nursery:
            for at in range(200):
                nursery.start_soon(run, state, payer(f"addr:{at}", **fast), 0.1)

        async def only(count: int) -> bool:
            return seam.payers() == count

        await soon(partial(only, 1))
        await state.submissions.cancel(waiting.id)
        await soon(partial(only, 0))


async def test_other_limits_hold_from_the_next_admission_on(seam: StateSeam) -> None:
    async with seam.open() as state:
        await run(state, payer(cpu_seconds_per_hour=36), 72)
        await refused(state, payer(cpu_seconds_per_hour=36))
        more = payer(cpu_seconds_per_hour=100, runs_per_minute=SLOW)
        await create(state, more)
        assert await left(state, more, "cpu_seconds_per_hour") == pytest.approx(28, abs=0.5)
        await refused(state, more)
        await create(state, payer(unfinished=2))  # of these it has one
        await refused(state, payer(unfinished=2))


async def test_payers_do_not_count_for_each_other(seam: StateSeam) -> None:
    names = ["key:a", "key:a}b", "key:a b", "oidc:https://i#}{", "addr:2001:db8::"]
    async with seam.open() as state:
        for name in names:
            await create(state, payer(name, unfinished=1))
        for name in names:
            await refused(state, payer(name, unfinished=1))


def household(number: int, site: str = "2001:db8:7::", **limits: float) -> Payer:
    own = f"{ip_address(int(ip_address(site)) + (number << 64))}"
    return payer(f"addr:{own} {site}/48", **limits)


async def test_the_households_of_a_site_share_what_sixteen_of_them_may(seam: StateSeam) -> None:
    limits: dict[str, Any] = {"unfinished": 2, "runs_per_minute": SLOW + 2}
    async with seam.open() as state:
        of: list[tuple[Payer, Submission]] = []
        for number in range(HOUSEHOLDS):
            who = household(number, **limits)
            of += [(who, await create(state, who)) for _ in range(2)]
            error = await refused(state, who)
            assert (error.quota.limit, "together" in str(error)) == (2, False)
        late = household(HOUSEHOLDS, **limits)
        error = await refused(state, late)
        assert (error.quota.name, error.quota.limit) == ("unfinished", 2 * HOUSEHOLDS)
        assert "(all of 2001:db8:7::/48 together)" in str(error)
        assert await left(state, late, "unfinished") == 0
        assert await left(state, late, "runs_per_minute") == 3
        await create(state, household(1, "2001:db8:8::", **limits))
        await create(state, payer("addr:192.0.2.1", **limits))
        who, first = of[0]
        assert await state.submissions.cancel(first.id)
        await state.submissions.discard(of[1][1].id)  # it is published
        await create(state, late)
        await refused(state, late)
        await refused(state, who)
        for _, each in of[1:]:
            assert await state.submissions.finish(each.id, None, result())
        assert await left(state, late, "unfinished") == 1


async def test_a_site_pays_and_stores_with_its_households(seam: StateSeam) -> None:
    limits: dict[str, Any] = {"cpu_seconds_per_day": 100, "stored_bytes": 10_000}
    async with seam.open() as state:
        for number in range(HOUSEHOLDS):
            await run(state, household(number, **limits), 99.5, 4000)
        late = household(99, **limits)
        assert await left(state, late, "cpu_seconds_per_day") == pytest.approx(8, abs=1)
        assert await left(state, late, "stored_bytes") == 10_000
        large = await run(state, late, 20, 200_000)
        error = await refused(state, household(100, **limits))
        assert "together" in str(error)
        assert await left(state, household(100, **limits), "stored_bytes") < 0
        assert await state.submissions.erase(large)
        assert await left(state, household(100, **limits), "stored_bytes") == 10_000
        assert await left(state, household(100, **limits), "cpu_seconds_per_day") < 0


async def test_what_a_site_used_is_forgotten_with_its_households(seam: StateSeam) -> None:
    seam.hasten_quotas(left_s=0.5)
    fast: dict[str, Any] = {"runs_per_minute": 60_000, "stored_bytes": 10**9, "unfinished": 100}
    async with seam.open(keep_s=0.5) as state:
        for number in range(50):
            await run(state, household(number, **fast), 0.1, 100)
        await state.quotas.admit(household(0, **fast), {new_id(): 7})  # its submission never comes

        async def none() -> bool:
            return seam.payers() == 0

        await soon(none)


@pytest.mark.parametrize("name", ["unfinished", "runs_per_minute"])
async def test_a_crowd_at_once_gets_exactly_the_limit(seam: StateSeam, name: str) -> None:
    """Redis is asked by several processes."""
    limits: dict[str, Any] = {name: 10}
    who, admitted = payer(**limits), 0

    async def try_it(state: State) -> None:
        nonlocal admitted
        try:
            await state.submissions.create(make(), None, "", who)
            admitted += 1
        except QuotaUsedUp:
            pass

    async with AsyncExitStack() as stack:
        states = [await stack.enter_async_context(seam.open())]
        if "Redis" in type(seam).__name__:
            states += [await stack.enter_async_context(seam.open()) for _ in range(2)]
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            for at in range(60):
                nursery.start_soon(try_it, states[at % len(states)])
        refilled = (time.monotonic() - began) * 10 / 60 if name == "runs_per_minute" else 0
        assert 10 <= admitted <= 10 + refilled


def names(quotas: Sequence[Quota]) -> list[str]:
    return [each.name for each in quotas]


async def test_without_a_limit_nothing_is_shown_and_nothing_refused(seam: StateSeam) -> None:
    async with seam.open() as state:
        await create(state, payer())
        assert await state.quotas.admit(payer(), {}) == ()
        every = payer(
            unfinished=1,
            runs_per_minute=2,
            cpu_seconds_per_hour=3,
            cpu_seconds_per_day=4,
            stored_bytes=5,
        )
        found = await state.quotas.admit(replace(every, name="other"), {})
        assert names(found) == [
            "unfinished",
            "runs_per_minute",
            "cpu_seconds_per_hour",
            "cpu_seconds_per_day",
            "stored_bytes",
        ]
        assert [(each.limit, each.left, each.frees_in_s) for each in found] == [
            (at, at, None) for at in range(1, 6)
        ]


def test_outcomes_count_where_nothing_says_what_was_spent() -> None:
    outcome = Outcome(0, None, None, Written(4), Written(3), 0.25, 1.0, 0)
    both = Result(Verdict.OK, compile=outcome, run=outcome, finished_at=100.0)
    cost = cost_of(both, 60.0)
    assert (cost.cpu_s, cost.stored, cost.until) == (0.5, 14, 160.0)
