"""Makes the list of a program's system calls, and their account for the result, of a tracer's lines.

A program can have had a hand in every line, so no line is trusted: the list ends before the first line that
no tracer writes. All of it is bounded, and text is such as can be shown.

The list is stored as JSON, compressed. `_Call.json` is one entry of its `calls`.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from occd import trace
from occd.sandbox import Traced
from occd.trace import BYTES_MAX, CALLS_MAX, ERROR, NAME, NAMES_MAX, STORED_MAX, CallCount, Trace

_LINE_MAX = 8192
_ARGUMENTS_MAX = 8
_TEXT_MAX = 400
_US_MAX = 10**11  # longer than any program may run
_PROCESS_MAX = 2**22
_RESULT = re.compile(r"-?[0-9]{1,20}|0x[0-9a-f]{1,16}")

_REFUSED = frozenset({"EPERM", "EACCES", "EROFS", "ENETUNREACH"})
"""With these errors the sandbox refuses a call: by its policy, by the rights of its user, by its root, which
is read-only, and by its network, which leads nowhere."""


class _Broken(Exception):
    """A line that no tracer of ours writes."""


@dataclass(slots=True)
class _Call:
    number: int
    process: int
    at_us: int
    name: str
    arguments: Sequence[str]
    took_us: int | None = None
    result: str | None = None
    error: str | None = None

    @property
    def refused(self) -> bool:
        return self.error in _REFUSED

    @property
    def json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "process": self.process,
            "at": self.at_us / 1e6,
            "seconds": None if self.took_us is None else self.took_us / 1e6,
            "call": self.name,
            "arguments": self.arguments,
            "result": self.result,
            "error": self.error,
            "refused": self.refused,
        }


_turns = trio.CapacityLimiter(1)


async def account_in_turn(traced: Traced) -> tuple[Trace, bytes]:
    """As `account`, in a thread, one after the other: many programs that end together make lists as long as
    they can."""
    return await trio.to_thread.run_sync(account, traced, limiter=_turns)


def account(traced: Traced) -> tuple[Trace, bytes]:
    """The account, and the list as it is stored. It may take a second and 100 MB."""
    ended: trace.End = traced.ended
    calls: list[_Call] = []
    try:
        for line in _lines(traced.lines):
            _take(line, calls)
    except _Broken:
        ended = "unreadable"
    told = [json.dumps(each.json, separators=(",", ":")).encode() for each in calls]
    while True:
        text = b'{"calls":[%s]}' % b",".join(told)
        stored = zlib.compress(text)
        if len(text) <= BYTES_MAX and len(stored) <= STORED_MAX:
            break
        del calls[len(calls) // 2 :], told[len(told) // 2 :]
        ended = "limit"
    digest = hashlib.sha256(stored).hexdigest()
    counts = tuple(_counts(calls)[:NAMES_MAX])
    return Trace(ended, len(calls), counts, digest, len(text), len(stored)), stored


def _lines(data: bytes) -> Iterator[bytes]:
    """The last line may be cut off, when the tracer was killed as it wrote."""
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        if end - at > _LINE_MAX:
            raise _Broken
        yield data[at:end]
        at = end + 1


def _take(line: bytes, calls: list[_Call]) -> None:
    """Add a call that begins, or the end of one. Raises _Broken."""
    try:
        parts = json.loads(line)
        if isinstance(parts, list) and any(isinstance(each, bool) for each in parts):
            raise _Broken  # true would count as 1
        match parts:
            case [int(number), int(process), int(at), str(name), list(arguments)]:
                if number != len(calls) + 1 or number > CALLS_MAX or not NAME.fullmatch(name):
                    raise _Broken
                if not (0 < process <= _PROCESS_MAX and 0 <= at <= _US_MAX):
                    raise _Broken
                calls.append(_Call(number, process, at, name, _texts(arguments)))
            case [
                int(number),
                int(took),
                str(result),
                str() | None as error,
                list() | None as told,
            ]:
                if not 0 < number <= len(calls) or not 0 <= took <= _US_MAX:
                    raise _Broken
                call = calls[number - 1]
                if call.result is not None or not _RESULT.fullmatch(result):
                    raise _Broken
                if error is not None and not ERROR.fullmatch(error):
                    raise _Broken
                call.took_us, call.result, call.error = took, result, error
                if told is not None:
                    call.arguments = _texts(told)
            case _:
                raise _Broken
    except (ValueError, RecursionError):
        raise _Broken from None


def _texts(given: Sequence[object]) -> Sequence[str]:
    if len(given) > _ARGUMENTS_MAX:
        raise _Broken
    texts = []
    for each in given:
        if not isinstance(each, str) or len(each) > _TEXT_MAX:
            raise _Broken
        texts.append(each if each.isprintable() else ascii(each))
    return texts


def _counts(calls: Sequence[_Call]) -> list[CallCount]:
    named: dict[str, list[_Call]] = {}
    for call in calls:
        named.setdefault(call.name, []).append(call)
    counts = [
        CallCount(
            name,
            len(each),
            sum(call.error is not None for call in each),
            sum(call.refused for call in each),
            sum(call.took_us or 0 for call in each) / 1e6,
        )
        for name, each in named.items()
    ]
    return sorted(counts, key=lambda each: (each.refused == 0, -each.count, each.name))
