"""The stdin of a program: what is known before the program starts, and then what its clients type."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from occd.execution.typed import Typed
from occd.sandbox import Feed

_PIECE = 64 * 1024


@asynccontextmanager
async def feeding(stdin: bytes, typed: Typed) -> AsyncIterator[Feed]:
    """Feed `stdin` to a program that runs within the context, and then what is typed."""
    send, receive = trio.open_memory_channel[bytes](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, send, stdin, typed)
        yield Feed(receive)
        nursery.cancel_scope.cancel()


async def _feed(send: trio.MemorySendChannel[bytes], stdin: bytes, typed: Typed) -> None:
    with suppress(trio.BrokenResourceError):  # the program reads no more
        async with send:
            for at in range(0, len(stdin), _PIECE):
                await send.send(stdin[at : at + _PIECE])
            await typed.feed(send)
