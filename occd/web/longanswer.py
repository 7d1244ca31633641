"""Long answers: JSON that is made while it is sent, of a submission whose output is read from its log."""

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import trio
from quart.wrappers.response import ResponseBody

from occd.model import LogEntry, Output
from occd.web.json import dump
from occd.web.schema import LogText

LONG_ANSWER_BYTES = 2**20
"""The memory that an answer takes while it is sent: a batch of events, as stored and as decoded."""

_SENT_BYTES = 2**16
_BASE64_BYTES = 3 * 2**13
Read = Callable[[int], Awaitable[Sequence[LogEntry]]]
"""The events behind a number."""


async def pieces_of(value: Any, read: Read, log_from: int) -> AsyncIterator[bytes]:
    """Encode a value in which some texts are still in the log."""
    match value:
        case LogText():
            async for piece in _text(value, read, log_from):
                yield piece
        case dict():
            before = b"{"
            for name, each in value.items():
                yield before + dump(name).encode() + b":"
                async for piece in pieces_of(each, read, log_from):
                    yield piece
                before = b","
            yield b"}" if value else b"{}"
        case _:
            yield dump(value).encode()


async def _text(wanted: LogText, read: Read, log_from: int) -> AsyncIterator[bytes]:
    """As a string when the output is UTF-8, else as {"base64": …}, like `schema.text`. No event ends within
    a character of such an output."""
    if wanted.written.utf8:
        yield b'"'
        async for data in _data(wanted, read, log_from):
            yield dump(data.decode(errors="replace"))[1:-1].encode()
        yield b'"'
        return
    yield b'{"base64":"'
    rest = b""
    async for data in _data(wanted, read, log_from):
        rest += data
        whole = len(rest) - len(rest) % 3
        yield b64encode(rest[:whole])
        rest = rest[whole:]
    yield b64encode(rest) + b'"}'


async def _data(wanted: LogText, read: Read, log_from: int) -> AsyncIterator[bytes]:
    left, after = wanted.written.size, log_from
    while left > 0 and (entries := await read(after)):
        for entry in entries:
            event = entry.event
            if isinstance(event, Output) and (event.step, event.stream) == (
                wanted.step,
                wanted.stream,
            ):
                left -= len(event.data)
                yield event.data
        after = entries[-1].seq


class LongAnswer(ResponseBody):
    """The body of a response from pieces. Short pieces are sent together."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def __aenter__(self) -> "LongAnswer":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __aiter__(self) -> "LongAnswer":
        return self

    async def __anext__(self) -> bytes:
        gathered = bytearray()
        async for piece in self._pieces:
            await trio.lowlevel.checkpoint()
            gathered += piece
            if len(gathered) >= _SENT_BYTES:
                break
        if not gathered:
            raise StopAsyncIteration
        return bytes(gathered)
