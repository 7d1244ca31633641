"""Joining trio's events, cancel scopes and threads."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

T = TypeVar("T")


async def cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    """A task that cancels `scope` when `event` is set."""
    await event.wait()
    scope.cancel()


async def either(*events: trio.Event) -> None:
    """Wait for the first of the events."""
    if any(event.is_set() for event in events):
        return
    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(cancel_when, event, nursery.cancel_scope)


async def beside(meanwhile: Callable[[], Awaitable[object]], do: Callable[[], Awaitable[T]]) -> T:
    """Do both at once until the second is done. Raises what the second raises: a nursery would wrap it."""
    done: T | Exception
    async with trio.open_nursery() as nursery:
        nursery.start_soon(meanwhile)
        try:
            done = await do()
        except Exception as error:
            done = error
        nursery.cancel_scope.cancel()
    if isinstance(done, Exception):
        raise done
    return done


@asynccontextmanager
async def thread_beside(work: Callable[[], object]) -> AsyncIterator[None]:
    """Do `work` in a thread while the body goes on, and wait for both. The thread counts for no limiter, and
    no task is made for it. Where no thread can be started, the body waits for `work`. Raises what `work`
    raises, unless the body raises."""
    ended = trio.Event()
    failed: list[Exception] = []
    ours = trio.lowlevel.current_trio_token()

    def try_it() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    try:
        trio.lowlevel.start_thread_soon(try_it, lambda _: ours.run_sync_soon(ended.set))
    except RuntimeError:
        try_it()
        ended.set()
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):  # as with trio's own threads
            await ended.wait()
    for error in failed:
        raise error
