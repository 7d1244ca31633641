"""Work in a thread, while other things go on."""

import threading
from functools import partial

import pytest
import trio
import trio.testing

from occd.scopes import Beside

PATIENCE_S = 60.0


async def test_the_work_goes_on_though_others_have_all_threads() -> None:
    release, worked = threading.Event(), threading.Event()
    limiter = trio.to_thread.current_default_thread_limiter()
    usual = limiter.total_tokens
    limiter.total_tokens = 1
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, release.wait, PATIENCE_S)
            await trio.testing.wait_all_tasks_blocked()
            assert limiter.available_tokens == 0
            beside = Beside(worked.set)
            assert await trio.to_thread.run_sync(
                worked.wait, PATIENCE_S, limiter=trio.CapacityLimiter(1)
            )
            await beside.over()
            release.set()
    finally:
        release.set()
        limiter.total_tokens = usual


async def test_its_end_is_waited_for_though_who_waits_is_cancelled() -> None:
    release, scope, ended = threading.Event(), trio.CancelScope(), []
    beside = Beside(partial(release.wait, PATIENCE_S))

    async def wait() -> None:
        with scope:
            await beside.over()
        ended.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        before = list(ended)
        release.set()
    assert (before, ended) == ([], [True])


async def test_what_it_raises_is_raised_to_who_waits_also_later() -> None:
    def work() -> None:
        raise OSError(5, "no")

    beside = Beside(work)
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            await beside.over()


async def test_the_work_is_done_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each run would need a thread more than the machine may let us have."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")  # Python's own

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", refuse)
    did: list[str] = []
    beside = Beside(partial(did.append, "work"))
    did.append("rest")
    await beside.over()
    assert did == ["work", "rest"]
