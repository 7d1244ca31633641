"""hypercorn's HTTP/1.1 protocol and its task group, with our limits in their places.

occd uses hypercorn's translation between h11, wsproto and ASGI unchanged.
"""

import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any, cast
from wsgiref.handlers import format_date_time

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response, StreamClosed
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from occd.web.budget import Held
from occd.web.http11 import PROBLEM_TYPES, EdgeLimits, LimitedH11, problem
from occd.web.messages import WebSocket

log = structlog.get_logger()

LOOK_S = 1.0  # between two looks whether the client is there while its input waits
_UNBUFFERED = (b"x-accel-buffering", b"no")
_JOINED_BYTES = 2**16  # of a body that is copied to be sent together with its head
_Sent = h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage


class EdgeConfig(Config):
    """hypercorn's settings: no log of its own, no version in `Server`."""

    def __init__(self, limits: EdgeLimits) -> None:
        self.accesslog = None
        self.errorlog = None
        self.keep_alive_max_requests = sys.maxsize
        self.max_app_queue_size = 1
        self.websocket_max_message_size = limits.frame_max_bytes

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        return [(b"date", format_date_time(time()).encode()), (b"server", b"occd")]


def describe(error: BaseException) -> str:
    """An exception in one line, with the place that raised it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


class Protocol(H11Protocol):
    """hypercorn's, without HTTP/2 and with `LimitedH11` and `WebSocket` in their places."""

    connection: LimitedH11 | H11WSConnection
    _head = b""
    """Of an answer whose body has not begun: head and beginning are sent together. A stream of events tells
    proxies not to hold it back, and its head is not held back here."""

    def use(self, connection: LimitedH11, held: Held) -> None:
        self.connection = self._h11 = connection
        self._held = held
        self.answered = trio.Event()

    @property
    def answering(self) -> bool:
        return self.stream is not None and self.connection is self._h11 and self._h11.answering

    def let_go(self) -> None:
        """Let go of the connection, which has ended and holds this object. A cycle of old objects would stay
        in memory for good: the collector hardly ever looks at what is old (`app.py`)."""
        self.stream = None
        del self.send, self.task_group

    async def probe(self) -> None:
        """Send bytes that a present client ignores. The kernel of a client that left answers with a reset."""
        if self._h11.our_state is h11.SEND_RESPONSE and self._h11.their_http_version == b"1.1":
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    async def refuse(self, status: int) -> None:
        self._h11.refuse(status)
        await self._handle_events()

    async def stream_send(self, event: StreamEvent) -> None:
        stopping = self.context.terminated.is_set()
        if stopping and isinstance(event, Response) and event.status_code >= 200:
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        if isinstance(event, StreamClosed) and self._head:
            await self._fail()
        await super().stream_send(event)
        if isinstance(event, StreamClosed):
            self.answered.set()

    async def _fail(self) -> None:
        """Answer instead of an application that ended between head and body. Nothing of its answer has gone,
        but h11 takes no other answer from this connection, which ends."""
        self._head = b""
        headers, body = problem(500)
        headers += self.config.response_headers("h11")
        answer = h11.Connection(h11.SERVER)
        wire = answer.send(h11.Response(status_code=500, headers=headers))
        wire += answer.send(h11.Data(data=body)) + answer.send(h11.EndOfMessage())
        await self.send(RawData(wire))

    async def _send_h11_event(self, event: _Sent) -> None:
        try:
            data = self._h11.send(event)
        except (
            h11.LocalProtocolError
        ):  # of a refused request, which the application answers all the same
            if self._h11.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response) and _UNBUFFERED not in event.headers:
            self._head = data
            return
        head, self._head = self._head, b""
        if len(data) > _JOINED_BYTES:
            await self.send(RawData(head))
            head = b""
        await self.send(RawData(head + data))

    async def _check_protocol(self, event: h11.Request) -> None:
        """Upgrades to h2c are ignored, as RFC 9110 allows; HTTP/2 itself is refused by its head."""

    async def _create_stream(self, request: h11.Request) -> None:
        self.answered = trio.Event()
        kind = WebSocket if wants_websocket(request) else HTTPStream
        self.stream = kind(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        if isinstance(self.stream, WebSocket):
            self.stream.buffer.held, self.stream.buffer.h11 = self._held, self._h11
            self.connection = H11WSConnection(self._h11)
            self._h11.unclock()
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        if self.stream is not None and self.stream.closed:
            await self.send(Closed())  # a refused handshake; hypercorn would wait for ever

    async def _send_error_response(self, status_code: int) -> None:
        status = status_code if status_code in PROBLEM_TYPES else 400
        headers, body = problem(status, self._h11.said_of(status))
        headers += self.config.response_headers("h11")
        # One send: between two sends the application could answer, too, and spoil h11's state.
        wire = self._h11.send(h11.Response(status_code=status_code, headers=headers))
        with suppress(h11.LocalProtocolError):  # HEAD
            wire += self._h11.send(h11.Data(data=body)) + self._h11.send(h11.EndOfMessage())
        await self.send(RawData(wire))


def wants_websocket(request: h11.Request) -> bool:
    tokens = {
        (name, token.strip().lower())
        for name, value in request.headers
        if name in {b"connection", b"upgrade"}
        for token in value.split(b",")
    }
    wanted = {(b"connection", b"upgrade"), (b"upgrade", b"websocket")}
    return request.method == b"GET" and wanted <= tokens


class Apps(TaskGroup):
    """Runs the application for a connection; its exceptions go no further than a log line."""

    def __init__(
        self, nursery: trio.Nursery, look: Callable[[], None], extensions: dict[str, Any]
    ) -> None:
        super().__init__()
        self._nursery = nursery
        self._look = look
        self._extensions = extensions

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        into, out = trio.open_memory_channel[ASGIReceiveEvent](config.max_app_queue_size)

        async def put(message: ASGIReceiveEvent) -> None:
            with suppress(trio.BrokenResourceError):
                while not await put_soon(into, message):
                    self._look()

        async def send_unless_cancelled(message: ASGISendEvent | None) -> None:
            # The send is shielded, so a handler that only sends would never be cancelled.
            await trio.lowlevel.checkpoint_if_cancelled()
            await send(message)

        cast(dict[str, Any], scope)["extensions"].update(self._extensions)
        self.spawn(self._run, app, scope, out, send_unless_cancelled)
        return put

    async def _run(
        self,
        app: AppWrapper,
        scope: Any,
        out: trio.MemoryReceiveChannel[ASGIReceiveEvent],
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> None:
        # Closed when the application returns, or the rest of a body would wait for ever.
        with out:
            try:
                await app(scope, out.receive, send, trio.to_thread.run_sync, trio.from_thread.run)
            except* Exception as group:
                log.error("application-failed", path=scope["path"], error=describe(group))
        await send(None)


async def put_soon(into: trio.MemorySendChannel[Any], message: Any) -> bool:
    with suppress(trio.WouldBlock):
        into.send_nowait(message)
        return True
    with trio.move_on_after(LOOK_S):
        await into.send(message)
        return True
    return False
