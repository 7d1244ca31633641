"""Stdin that is known before the program starts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from occd.sandbox import Feed, Null

_PIECE = 64 * 1024


@asynccontextmanager
async def feeding(stdin: bytes) -> AsyncIterator[Feed | Null]:
    """Feed `stdin` to a program that runs within the context."""
    if not stdin:
        yield Null()
        return
    send, receive = trio.open_memory_channel[bytes](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, send, stdin)
        yield Feed(receive)
        nursery.cancel_scope.cancel()


async def _feed(send: trio.MemorySendChannel[bytes], stdin: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # the program reads no more
        async with send:
            for at in range(0, len(stdin), _PIECE):
                await send.send(stdin[at : at + _PIECE])
