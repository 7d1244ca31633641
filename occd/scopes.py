"""Joining trio's events, cancel scopes and threads."""

from collections.abc import Awaitable, Callable
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


class Beside:
    """Work in a thread, while other things go on. The thread counts for no limiter, and no task is made for
    it. Where no thread can be started, the work is done at once."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._ended = trio.Event()
        self._failed: Exception | None = None
        self._ours = trio.lowlevel.current_trio_token()
        try:
            trio.lowlevel.start_thread_soon(self._try, self._end)
        except RuntimeError:
            self._try()
            self._ended.set()

    def _try(self) -> None:
        try:
            self._work()
        except Exception as error:
            self._failed = error

    def _end(self, _: object) -> None:
        self._ours.run_sync_soon(self._ended.set)

    async def over(self) -> None:
        """Wait for the end, whatever is cancelled, as for trio's own threads. Raises what the work raised."""
        if not self._ended.is_set():
            with trio.CancelScope(shield=True):
                await self._ended.wait()
        if self._failed:
            raise self._failed
