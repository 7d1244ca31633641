"""Long answers: JSON that is made while it is sent, of a submission whose output is read from its log."""

from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from quart.wrappers.response import ResponseBody

from occd.events import Finished, LogEntry, Output, Stage, Started, Tested
from occd.model import Account, Outcome, Step, Written
from occd.web.json import dump
from occd.web.schema import LogTests, LogText, LogTranscript, piece_json, test_json

ANSWER_BYTES = 2**20
"""The memory that an answer takes while it is sent: a batch of events, as stored and as decoded."""

TEST_BYTES = 5 * 2**10
"""The same for each test: its message, and how it ended."""

_SENT_BYTES = 2**16
_TURN_BYTES = 2**12
"""Others have a turn after so many: a turn for each short piece would take longer than the piece."""

_READ_BYTES = 2**18
_FIRST_READ_BYTES = 2**10
_FIRST_ENTRIES = 8
Read = Callable[[int, int], Awaitable[Sequence[LogEntry]]]
"""The events behind a number: about so many bytes, and at least one event."""


@dataclass(slots=True)
class _Seen:
    """What the log has of a test."""

    before: dict[Account, int] = field(default_factory=dict)
    """By account: the number of the event behind which its output begins."""
    outcome: Outcome | None = None
    told: Tested | None = None


async def pieces_of(value: Any, read: Read) -> AsyncIterator[bytes]:
    """Encode a value of which some parts are still in the log."""
    match value:
        case LogText():
            pieces = _text(value, read)
        case LogTests():
            pieces = _tests(value, read)
        case LogTranscript():
            pieces = _transcript(value, read)
        case dict():
            pieces = _object(value, read)
        case _:
            yield dump(value).encode()
            return
    async for piece in pieces:
        yield piece


async def _object(value: dict[str, Any], read: Read) -> AsyncIterator[bytes]:
    before = b"{"
    for name, each in value.items():
        yield before + dump(name).encode() + b":"
        async for piece in pieces_of(each, read):
            yield piece
        before = b","
    yield b"}" if value else b"{}"


async def _tests(wanted: LogTests, read: Read) -> AsyncIterator[bytes]:
    """Tests run at once, and their events stand mixed. The log is read once for the tests, and then for each
    output of a test from its first byte on. A log that came as a whole the first time is not read again."""
    seen = [_Seen() for _ in wanted.verdicts]
    after = wanted.after
    while entries := await read(after, _READ_BYTES):
        for entry in entries:
            _note(entry, seen)
        if isinstance(entries[-1].event, Finished):
            if after == wanted.after:
                read = _reader_of(entries)
            break
        after = entries[-1].seq
    before = b"["
    for at, verdict in enumerate(wanted.verdicts):
        shown = partial(_output_of, seen[at], wanted.after)
        yield before
        async for piece in _object(
            test_json(at, verdict, seen[at].told, seen[at].outcome, shown), read
        ):
            yield piece
        before = b","
    yield b"]" if wanted.verdicts else b"[]"


def _reader_of(entries: Sequence[LogEntry]) -> Read:
    """Reads from these, whose numbers follow each other. They are in memory, so few are given at a time."""
    first = entries[0].seq

    async def read(after: int, _: int) -> Sequence[LogEntry]:
        start = max(0, after + 1 - first)
        return entries[start : start + _FIRST_ENTRIES]

    return read


def _output_of(seen: _Seen, after: int, step: Step, account: Account, written: Written) -> LogText:
    return LogText(step, account, written, seen.before.get(account, after))


def _note(entry: LogEntry, seen: list[_Seen]) -> None:
    match entry.event:
        case Output(stage="run", test=int(at), account=account) if 0 <= at < len(seen):
            seen[at].before.setdefault(account, entry.seq - 1)
        case Stage(stage="run", test=int(at), phase="end", outcome=outcome) if 0 <= at < len(seen):
            seen[at].outcome = outcome
        case Tested(test=at) if 0 <= at < len(seen):
            seen[at].told = entry.event


async def _transcript(wanted: LogTranscript, read: Read) -> AsyncIterator[bytes]:
    yield b"["
    async for piece in _written(wanted.after, read):
        yield piece
    yield b"]"


async def _written(after: int, read: Read) -> AsyncIterator[bytes]:
    """The pieces of one attempt, of a running one until now. The first event behind `after` is its start."""
    first, before, started_at = after + 1, b"", None
    while entries := await read(after, _READ_BYTES):
        for entry in entries:
            match entry.event:
                case Started() if entry.seq > first:
                    return  # a later attempt
                case Started():
                    started_at = entry.time
                case Output():
                    seconds = None if started_at is None else entry.time - started_at
                    yield before + dump(piece_json(entry.event, seconds)).encode()
                    before = b","
        after = entries[-1].seq


async def _text(wanted: LogText, read: Read) -> AsyncIterator[bytes]:
    """As a string when the output is UTF-8, else as {"base64": …}, like `schema.text`. No event ends within
    a character of such an output."""
    if wanted.written.utf8:
        yield b'"'
        async for data in _data(wanted, read):
            yield dump(data.decode(errors="replace"))[1:-1].encode()
        yield b'"'
        return
    yield b'{"base64":"'
    rest = b""
    async for data in _data(wanted, read):
        rest += data
        whole = len(rest) - len(rest) % 3
        yield b64encode(rest[:whole])
        rest = rest[whole:]
    yield b64encode(rest) + b'"}'


async def _data(wanted: LogText, read: Read) -> AsyncIterator[bytes]:
    """Most outputs of tests are short, so not much more is read than there is. Then more and more: output of
    other tests may stand between."""
    left, after = wanted.written.size, wanted.after
    most = max(_FIRST_READ_BYTES, 2 * left)
    while left > 0 and (entries := await read(after, min(most, _READ_BYTES))):
        most *= 2
        for entry in entries:
            event = entry.event
            if isinstance(event, Output) and (event.step, event.account) == (
                wanted.step,
                wanted.account,
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
        gathered, shared = bytearray(), 0
        async for piece in self._pieces:
            gathered += piece
            if len(gathered) >= shared + _TURN_BYTES:
                shared = len(gathered)
                await trio.lowlevel.checkpoint()
            if len(gathered) >= _SENT_BYTES:
                break
        if not gathered:
            raise StopAsyncIteration
        return bytes(gathered)
