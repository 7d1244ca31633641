"""Cancels submissions, and gives the places of those that wait in the queue free."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from occd.broker import Broker
from occd.errors import UnknownSubmission
from occd.model import Record
from occd.state import State, Submissions

_PAGE = 100
_AT_ONCE = 16


async def cancel(
    state: State, broker: Broker | None, queue: str, id: str, output_max: int = 0
) -> tuple[Record, bool]:
    """The record, and whether there was anything to cancel. Without the broker the message stays in the
    queue until its turn, and is then dropped. Raises UnknownSubmission."""
    cancelling = await state.submissions.cancel(id)
    record = await state.submissions.get(id, output_max)
    if broker and cancelling and record.status == "finished":
        await broker.withdraw(queue, id)  # it waited
    return record, cancelling


async def cancel_all(
    submissions: Submissions, cancel: Callable[[str], Awaitable[object]], owner: str
) -> int:
    """Cancel all of an owner's submissions that have not finished. Returns how many there were."""
    cursor, count = None, 0
    turns = trio.CapacityLimiter(_AT_ONCE)

    async def in_turn(id: str) -> None:
        async with turns:
            with suppress(UnknownSubmission):  # it has finished and was erased
                await cancel(id)

    while True:
        page = await submissions.owned(owner, cursor, _PAGE)
        unfinished = [each.id for each in page if each.status != "finished"]
        async with trio.open_nursery() as nursery:
            for id in unfinished:
                nursery.start_soon(in_turn, id)
        count += len(unfinished)
        if len(page) < _PAGE:
            return count
        cursor = page[-1].cursor
