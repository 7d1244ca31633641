"""From the log of a submission to a client: the one place that turns `watch` into events. The WebSocket
and the streams of `stream.py` send them.

A slow client costs one batch of events and slows nobody: each follower reads straight from the log, at its
own pace, and the budget of its connection is charged for what it holds.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import trio

from occd.events import LogEntry, Output
from occd.model import Record
from occd.web import EventService
from occd.web.budget import Held
from occd.web.schema import event_json

COPIES = 3
"""The number of copies of a frame during a send: its text, its bytes, and its bytes with a head."""

SLOW_S = 10.0
"""A client that takes longer to read one frame is sent away, and may come back and resume."""

TOO_SLOW = "you read too slowly; come back and resume"

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Follower:
    """Follows submissions for one connection. However many it follows, it holds one batch of events."""

    def __init__(self, service: EventService, held: Held) -> None:
        self._service = service
        self._held = held
        self._turn = trio.Lock()

    async def follow(self, id: str, after: int, send: Send) -> None:
        """Call `send` with the frame of each event beyond `after`. Returns after `finished`, and at once when
        `after` is the number of `finished`.

        Raises UnknownSubmission, EventsReset, Unreadable, StateUnavailable, OverBudget, and what `send`
        raises.
        """
        with self._service.following(id):
            while events := await self._service.watch(id, after):
                if self._turn.locked():
                    events = ()  # free these events before the next wait
                async with self._turn:
                    events = events or await self._service.watch(id, after)
                    with self._held.holding(_size(events)):
                        for recorded in events:
                            await send(event_json(id, recorded, await self._record(id, recorded)))
                            after = recorded.seq
                if events[-1].event.name == "finished":
                    return

    async def _record(self, id: str, recorded: LogEntry) -> Record | None:
        """The record that an end carries. Its result is in the event already."""
        if recorded.event.name != "finished":
            return None
        return replace(await self._service.get(id), result=recorded.event.result)


def _size(events: Sequence[LogEntry]) -> int:
    return sum(len(each.event.data) for each in events if isinstance(each.event, Output))
