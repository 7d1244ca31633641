"""Requests of the usual form, which are read and answered without h11, hypercorn or a task of their own.
These took more time than all else that a short request needs.

What is unlike the form goes to h11, which has seen no byte of it before: several requests at once, a cookie,
a body without a length, a header that is not visible ASCII. So whatever is doubtful is decided in one place.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any, Protocol
from wsgiref.handlers import format_date_time

from quart import Response

from occd.web.clients import RawHeaders
from occd.web.http11 import EdgeLimits, is_host

_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    rb"POST (/[-/._~0-9A-Za-z]*)(?:\?([!-~]*))? HTTP/1\.1\r\n((?:"
    + _TOKEN
    + rb":[\t -~]*\r\n){1,64})\r\n"
)
_HOST = re.compile(rb"[-.:_\[\]0-9A-Za-z]{1,255}")
_LINE = re.compile(r"[\t -~]+")
_LENGTH = re.compile(rb"[0-9]{1,9}")
OTHERWISE = frozenset({b"cookie", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"})
"""With a header of these names a request goes the other way, and then to Quart."""


Left = Callable[[], Awaitable[None]]
"""Returns when the client has left."""


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes | Response
    """The latter for an answer that is long, or an error."""
    headers: dict[str, str] = field(default_factory=dict)
    """With names in lower case."""

    @asynccontextmanager
    async def pieces(self) -> AsyncIterator[AsyncIterable[bytes]]:
        """The body, piece by piece."""
        if isinstance(self.body, bytes):
            yield _one(self.body)
            return
        async with self.body.response as pieces:
            yield pieces


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


class Direct(Protocol):
    """Answers some requests without Quart (`direct.py`)."""

    def takes(self, scope: Any) -> bool: ...

    async def answer(self, scope: Any, body: bytes, left: Left) -> Answer | None:
        """None: the client has left."""


@dataclass(frozen=True, slots=True)
class Head:
    path: bytes
    query: bytes
    headers: RawHeaders
    """In the form of h11: names in lower case, values without blanks around."""
    size: int
    """In bytes, with the empty line."""
    length: int
    """Of the body."""
    closes: bool
    """Whether the client wants the connection to be closed after the answer."""

    @property
    def end(self) -> int:
        return self.size + self.length

    def scope(self, client: object, extensions: dict[str, object]) -> dict[str, Any]:
        """As hypercorn gives it to an application, as far as `Direct` looks."""
        return {
            "method": "POST",
            "http_version": "1.1",
            "path": self.path.decode(),
            "raw_path": self.path,
            "query_string": self.query,
            "headers": self.headers,
            "client": client,
            "extensions": extensions,
        }


def read_head(data: bytes, limits: EdgeLimits) -> Head | None:
    """None for what is not of the usual form, or has not come whole."""
    found = _HEAD.match(data)
    if not found or found.end() > limits.head_max_bytes:
        return None
    headers = []
    for line in found[3][:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    names = [name for name, _ in headers]
    if names.count(b"host") != 1 or names.count(b"content-length") != 1:
        return None
    if names.count(b"connection") > 1 or not OTHERWISE.isdisjoint(names):
        return None
    said = dict(headers)
    wish = said.get(b"connection", b"keep-alive").lower()
    if wish not in (b"close", b"keep-alive") or not _LENGTH.fullmatch(said[b"content-length"]):
        return None
    if not _HOST.fullmatch(said[b"host"]) or not is_host(said[b"host"]):
        return None
    length = int(said[b"content-length"])
    if length > limits.body_max_bytes:
        return None
    return Head(found[1], found[2] or b"", headers, found.end(), length, wish == b"close")


def head_of_answer(
    status: int, headers: Mapping[str, str], *, chunked: bool, closes: bool
) -> bytes:
    """As h11 writes it. Raises ValueError for what no header can be."""
    lines = [f"HTTP/1.1 {status} "]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"date: {format_date_time(time())}", "server: occd"]
    if chunked:
        lines.append("transfer-encoding: chunked")
    if closes:
        lines.append("connection: close")
    if not all(map(_LINE.fullmatch, lines)):
        raise ValueError("a header of ours has what no header may have")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def chunk(piece: bytes) -> bytes:
    """The empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
