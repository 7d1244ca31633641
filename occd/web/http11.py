"""HTTP/1.1 as we take it: h11 behind our sizes and times, and what we answer when they are exceeded."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

import h11
import trio

from occd.config import Config
from occd.errors import OverBudget, ShareFull
from occd.web.budget import Held, Shares, shares
from occd.web.clients import ClientOf, Clients, by_secret_or_peer

HEADERS_MAX = 100
BODY_MIN_BYTES_PER_S = 2**16
COPIED_BYTES = 2**16
"""The last part of a body is held twice: the application keeps a copy while it waits for more."""

PROBLEM_TYPES = {
    400: "bad-request",
    403: "forbidden",
    408: "request-timeout",
    413: "too-large",
    429: "too-much",
    431: "headers-too-large",
    500: "internal",
    501: "not-implemented",
    503: "unavailable",
    505: "http-version-not-supported",
}


@dataclass(frozen=True)
class EdgeLimits:
    """The limits of one client. Sizes in bytes, times in seconds.

    A body may take `body_timeout_s` and one second more for each 64 KiB that came. The last two
    count from the last progress: an idle keep-alive connection, and a send of which the client
    takes nothing.

    `makes_room`: beyond `connections_max` a newcomer takes the place of who holds one for nothing.
    """

    body_max_bytes: int = 16 * 2**20
    head_max_bytes: int = 32 * 1024
    frame_max_bytes: int = 16 * 2**20 + 65536
    connections_max: int = 20000
    makes_room: bool = False
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    send_timeout_s: float = 30.0
    shares: Shares = field(default_factory=Shares)
    client_of: ClientOf = by_secret_or_peer


def edge_limits(config: Config, connections_max: int) -> EdgeLimits:
    http = config.http
    return EdgeLimits(
        body_max_bytes=http.body_max_bytes,
        frame_max_bytes=http.body_max_bytes + 65_536,
        connections_max=connections_max,
        head_timeout_s=http.head_timeout_s,
        shares=shares(http),
        client_of=Clients(config).of,
    )


def problem(status: int, detail: str = "") -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and body of an error that the server itself answers; it ends the connection."""
    title = HTTPStatus(status).phrase
    fields = {"type": PROBLEM_TYPES[status], "title": title, "status": status}
    body = json.dumps(fields | ({"detail": detail} if detail else {})).encode()
    later = [(b"retry-after", b"5")] if status in (429, 503) else []
    return [
        *later,
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ], body


class LimitedH11(h11.Connection):
    """h11 with our limits and clock.

    A breach looks to hypercorn like any other malformed request, so there is one way for it to
    be answered: `RemoteProtocolError` with the status to send.
    """

    def __init__(self, limits: EdgeLimits, reading: trio.CancelScope, held: Held) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.head_max_bytes)
        self.idle = True
        self._limits = limits
        self._reading = reading
        self._held = held
        self._message_since = math.inf
        self._refusal: int | None = None
        self._body_bytes = 0
        self._allow(limits.head_timeout_s)

    def refuse(self, status: int) -> None:
        self._refusal = status
        # Private, but else h11 and hypercorn would take what the application still answers.
        self._process_error(self.their_role)

    def said_of(self, status: int) -> str:
        """What an error of this status says beside its title."""
        return f"a body may have {self._limits.body_max_bytes} bytes" if status == 413 else ""

    def unclock(self) -> None:
        self._allow(math.inf)

    @property
    def answering(self) -> bool:
        """A whole request has come, and its answer has not gone."""
        return self.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED} and self.our_state in {
            h11.SEND_RESPONSE,
            h11.SEND_BODY,
        }

    def clock_message(self, size: int) -> None:
        """`size` bytes of a WebSocket's message have come, and the rest must follow as fast as a body; 0 ends
        the message."""
        if not size:
            self._message_since = math.inf
            self.unclock()
            return
        self._message_since = min(self._message_since, trio.current_time())
        allowed = self._limits.body_timeout_s + size / BODY_MIN_BYTES_PER_S
        self._reading.deadline = self._message_since + allowed

    def receive_data(self, data: bytes) -> None:
        if self.idle and data:
            self.idle = False
            self._allow(self._limits.head_timeout_s)
        super().receive_data(data)

    def next_event(self) -> Any:
        if self._refusal is None:
            event = super().next_event()
            self._account(event)
        if self._refusal is not None:
            raise h11.RemoteProtocolError("refused", error_status_hint=self._refusal)
        return event

    @contextmanager
    def passed_by(self) -> Iterator[None]:
        """While a request is read and answered of which this sees no byte. After an error the connection
        stays as if a request were coming."""
        self.idle = False
        self._allow(self._limits.body_timeout_s)
        yield
        self._held.release_request()
        self.idle = True
        self._allow(self._limits.keep_alive_s)

    def start_next_cycle(self) -> None:
        super().start_next_cycle()
        self._held.release_request()
        self._body_bytes = 0
        self.idle = not self.trailing_data[0]
        self._allow(self._limits.keep_alive_s if self.idle else self._limits.head_timeout_s)

    def _allow(self, seconds: float) -> None:
        self._reading.deadline = trio.current_time() + seconds

    def _account(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._allow(self._limits.body_timeout_s)
            self._held.begin_request(event.headers)
            if status := head_fault(event, self._limits):
                self.refuse(status)
                return
            self._hold(head_bytes(event))
        elif isinstance(event, h11.Data):
            copied = min(len(event.data), max(0, COPIED_BYTES - self._body_bytes))
            self._body_bytes += len(event.data)
            self._reading.deadline += len(event.data) / BODY_MIN_BYTES_PER_S
            if self._body_bytes > self._limits.body_max_bytes:
                self.refuse(413)
                return
            self._hold(len(event.data) + copied)
        elif isinstance(event, h11.EndOfMessage):
            self.unclock()

    def _hold(self, size: int) -> None:
        try:
            self._held.hold_for_request(size)
        except OverBudget as error:
            self.refuse(429 if isinstance(error, ShareFull) else 503)


def head_bytes(request: h11.Request) -> int:
    return len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)


def head_fault(request: h11.Request, limits: EdgeLimits) -> int | None:
    """The status that refuses this head, for what h11 lets through."""
    headers = list(request.headers)
    names = [name for name, _ in headers]
    if request.http_version not in {b"1.0", b"1.1"}:
        return 505
    if len(headers) > HEADERS_MAX or head_bytes(request) > limits.head_max_bytes:
        return 431
    if b"transfer-encoding" in names and b"content-length" in names:
        return 400  # h11 lets the former win; a proxy may have let the latter
    if not request.target.startswith((b"/", b"http://", b"https://")) and request.target != b"*":
        return 400
    if not request.target.startswith(b"/") and not _is_url(request.target):
        return 400
    for name, value in headers:
        if name == b"content-length" and int(value) > limits.body_max_bytes:
            return 413
        if name.startswith((b"sec-websocket-", b"connection")) and not value.isascii():
            return 400
        if name == b"host" and not is_host(value):
            return 400
    return None


# For others Quart and Werkzeug raise errors where no handler of errors sees them.


def _is_url(target: bytes) -> bool:
    try:
        urlsplit(unquote(target.partition(b"?")[0].decode("latin-1")))
    except ValueError:
        return False
    return True


def is_host(value: bytes) -> bool:
    try:
        value.partition(b":")[0].decode("latin-1").encode("idna")
    except UnicodeError:
        return False
    return True
