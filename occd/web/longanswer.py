"""Long answers: JSON that is made while it is sent."""

import codecs
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import trio
from quart.wrappers.response import ResponseBody

from occd.web.json import dump

_SLICE = 3 * 2**13
"""The bytes of a text that are encoded in one step. As JSON they may take six times as many."""

_SENT_BYTES = 2**16


def pieces_of(value: Any) -> Iterator[bytes]:
    """Encode a value in which texts are bytes. An empty piece is only a pause."""
    match value:
        case bytes():
            yield from _text(value)
        case dict():
            before = b"{"
            for name, each in value.items():
                yield before + dump(name).encode() + b":"
                yield from pieces_of(each)
                before = b","
            yield b"}" if value else b"{}"
        case _:
            yield dump(value).encode()


def _text(data: bytes) -> Iterator[bytes]:
    """Encode bytes as a string when they are UTF-8, else as {"base64": …}, like `schema.text`."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    try:
        for at in range(0, len(data), _SLICE):
            decode(data[at : at + _SLICE])
            yield b""
        decode(b"", final=True)
    except UnicodeDecodeError:
        yield b'{"base64":"'
        for at in range(0, len(data), _SLICE):
            yield b64encode(data[at : at + _SLICE])
        yield b'"}'
        return
    yield b'"'
    for at in range(0, len(data), _SLICE):
        yield dump(decode(data[at : at + _SLICE]))[1:-1].encode()
    yield b'"'


class LongAnswer(ResponseBody):
    """The body of a response from pieces. Short pieces are sent together."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    async def __aenter__(self) -> "LongAnswer":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def __aiter__(self) -> "LongAnswer":
        return self

    async def __anext__(self) -> bytes:
        gathered = bytearray()
        for piece in self._pieces:
            await trio.lowlevel.checkpoint()
            gathered += piece
            if len(gathered) >= _SENT_BYTES:
                break
        if not gathered:
            raise StopAsyncIteration
        return bytes(gathered)
