"""A thread beside the body of a block."""

import threading
from functools import partial

import pytest
import trio
import trio.testing

from occd.scopes import thread_beside

PATIENCE_S = 60.0


async def test_the_thread_works_beside_the_body_though_others_have_all_threads() -> None:
    release, worked = threading.Event(), threading.Event()
    limiter = trio.to_thread.current_default_thread_limiter()
    usual = limiter.total_tokens
    limiter.total_tokens = 1
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, release.wait, PATIENCE_S)
            await trio.testing.wait_all_tasks_blocked()
            assert limiter.available_tokens == 0
            async with thread_beside(worked.set):
                assert await trio.to_thread.run_sync(
                    worked.wait, PATIENCE_S, limiter=trio.CapacityLimiter(1)
                )
            release.set()
    finally:
        release.set()
        limiter.total_tokens = usual


async def test_the_block_ends_after_its_thread_though_it_is_cancelled() -> None:
    release, scope, ended = threading.Event(), trio.CancelScope(), []

    async def block() -> None:
        with scope:
            async with thread_beside(partial(release.wait, PATIENCE_S)):
                await trio.sleep_forever()
        ended.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(block)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        before = list(ended)
        release.set()
    assert (before, ended) == ([], [True])


async def test_an_error_of_the_thread_is_raised() -> None:
    def work() -> None:
        raise OSError(5, "no")

    with pytest.raises(OSError, match="no"):
        async with thread_beside(work):
            pass


async def test_an_error_of_the_body_goes_before_the_threads() -> None:
    def work() -> None:
        raise OSError(5, "no")

    with pytest.raises(KeyError):
        async with thread_beside(work):
            raise KeyError


async def test_the_work_is_done_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each run would need a thread more than the machine may let us have."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")  # Python's own

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", refuse)
    did: list[str] = []
    async with thread_beside(partial(did.append, "work")):
        did.append("body")
    assert did == ["work", "body"]
