"""Joining trio's events and cancel scopes."""

import trio


async def cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    """A task that cancels `scope` when `event` is set."""
    await event.wait()
    scope.cancel()
