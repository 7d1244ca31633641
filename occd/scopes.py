"""Joining trio's events and cancel scopes."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    """A task that cancels `scope` when `event` is set."""
    await event.wait()
    scope.cancel()


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
