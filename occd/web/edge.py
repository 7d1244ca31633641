"""One client connection: hypercorn's HTTP/1.1 and WebSocket protocols, behind our limits.

occd uses hypercorn's translation between h11, wsproto and ASGI unchanged. `ClientConnection` replaces
hypercorn's trio worker, in which one connection can end the others, and a send can wait for ever.
`server.py` opens with the list of defects and the place that contains each.
"""

import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import time
from typing import Any, cast
from wsgiref.handlers import format_date_time

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import (
    ASGIWebsocketState,
    FrameTooLargeError,
    WebsocketBuffer,
    WSStream,
)
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, ConnectionState, Scope
from hypercorn.utils import parse_socket_addr
from wsproto.connection import ConnectionState as WebSocketState
from wsproto.events import CloseConnection, Message
from wsproto.frame_protocol import CloseReason

from occd.errors import OverBudget
from occd.web.budget import HELD, Budget, Held
from occd.web.http11 import PROBLEM_TYPES, EdgeLimits, LimitedH11, problem

log = structlog.get_logger()

RECEIVE_BYTES = 2**16
LINGER_S = 2.0  # for a client to read our last bytes and close
LEAVE_S = 10.0  # for a handler to end when its client has gone
LOOK_S = 1.0  # between two looks whether the client is there while its input waits
TCP_ESTABLISHED, TCP_CLOSE_WAIT = 1, 8
SMALL_MESSAGE_BYTES = 4096
SMALL_PART = 1024
JOINED_BYTES = 2**16  # of a body that is copied to be sent together with its head
SentByH11 = h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


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


class LongText(str):
    """A message that gives its bytes back to the budget when the message is freed."""

    release: Callable[[], None]

    def __del__(self) -> None:
        self.release()


class LongBytes(bytes):
    release: Callable[[], None]

    def __del__(self) -> None:
        self.release()


class MessageBuffer(WebsocketBuffer):
    """Counts bytes before it takes them; hypercorn counts characters afterwards. Keeps the parts as they are;
    hypercorn's StringIO takes four bytes for each character."""

    overflowed = False
    size = 0
    held: Held
    h11: LimitedH11

    def __init__(self, max_length: int) -> None:
        super().__init__(max_length)
        self._parts: list[Any] = []

    def extend(self, event: Message[Any]) -> None:
        data = event.data
        size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        if self.size + size > self.max_length:
            self.overflowed = True
            raise FrameTooLargeError
        self.held.hold(size)
        self.size += size
        if self._parts and len(self._parts[-1]) < SMALL_PART:
            self._parts[-1] += (
                data  # an object of its own would take up to 80 bytes for a character
            )
        else:
            self._parts.append(data)
        if not event.message_finished:
            self.h11.clock_message(self.size)

    def clear(self) -> None:
        """Does nothing: `to_message` has cleared the buffer."""

    def to_message(self) -> dict[str, Any]:
        parts, size = self._parts, self.size
        self._parts, self.size = [], 0
        self.h11.clock_message(0)
        joined = parts[0][:0].join(parts)
        kind = "text" if isinstance(joined, str) else "bytes"
        message = {"type": "websocket.receive", "bytes": None, "text": None, kind: joined}
        if size <= SMALL_MESSAGE_BYTES:
            self.held.release(size)
            return message
        if (wider := sys.getsizeof(joined) - size) > 0:
            self.held.hold(wider)
            size += wider
        long = LongText(joined) if kind == "text" else LongBytes(joined)
        long.release = partial(self.held.release, size)
        return message | {kind: long}


class WebSocket(WSStream):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer: MessageBuffer = MessageBuffer(self.config.websocket_max_message_size)
        self._decided = trio.Event()

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, Request):
            # Without an offer there is no permessage-deflate, which triples a connection's memory.
            kept = [h for h in event.headers if h[0] != b"sec-websocket-extensions"]
            event = replace(event, headers=kept)
        elif isinstance(event, Data):
            # A client may send its first frame before it gets our answer.
            await self._decided.wait()
            if not self.handshake.accepted:
                return
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if self.closed:
            # hypercorn drops the message without a checkpoint: a handler that only sends would spin.
            await trio.lowlevel.checkpoint()
        await super().app_send(message)
        if self.state is not ASGIWebsocketState.HANDSHAKE:
            self._decided.set()

    async def say_goodbye(self, code: int, reason: str) -> None:
        if self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            await self._send_wsproto_event(CloseConnection(code=code, reason=reason))

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
        except OverBudget as error:
            await self.say_goodbye(CloseReason.TRY_AGAIN_LATER, str(error))
            await self.send(StreamClosed(stream_id=self.stream_id))
        if self.buffer.overflowed:
            # Otherwise the client could go on, and hypercorn would keep its messages.
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif self.closed and self.connection.state is WebSocketState.OPEN:
            await self._send_wsproto_event(CloseConnection(code=CloseReason.PROTOCOL_ERROR))

    async def _send_error_response(self, status_code: int) -> None:
        if status_code not in PROBLEM_TYPES:
            return await super()._send_error_response(status_code)
        headers, body = problem(status_code)
        await self.send(Response(self.stream_id, headers, status_code))
        await self.send(Body(self.stream_id, body))
        await self.send(EndBody(self.stream_id))
        return None


class Protocol(H11Protocol):
    """hypercorn's, without HTTP/2 and with `LimitedH11` and `WebSocket` in their places."""

    connection: LimitedH11 | H11WSConnection
    _head = b""
    """Of an answer whose body has not begun: head and beginning are sent together."""

    def use(self, connection: LimitedH11, held: Held) -> None:
        self.connection = self._h11 = connection
        self._held = held
        self.answered = trio.Event()

    @property
    def answering(self) -> bool:
        return self.stream is not None and self.connection is self._h11 and self._h11.answering

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
        await super().stream_send(event)
        if isinstance(event, StreamClosed):
            self.answered.set()

    async def _send_h11_event(self, event: SentByH11) -> None:
        try:
            data = self._h11.send(event)
        except (
            h11.LocalProtocolError
        ):  # of a refused request, which the application answers all the same
            if self._h11.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data
            return
        head, self._head = self._head, b""
        if len(data) > JOINED_BYTES:
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

    def __init__(self, nursery: trio.Nursery, look: Callable[[], None], held: Held) -> None:
        super().__init__()
        self._nursery = nursery
        self._look = look
        self._held = held

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

        cast(dict[str, Any], scope)["extensions"][HELD] = self._held
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


def peer_address(stream: trio.SocketStream) -> str:
    """Empty when the client has left already."""
    with suppress(OSError):
        return str(stream.socket.getpeername()[0])
    return ""


async def put_soon(into: trio.MemorySendChannel[Any], message: Any) -> bool:
    with suppress(trio.WouldBlock):
        into.send_nowait(message)
        return True
    with trio.move_on_after(LOOK_S):
        await into.send(message)
        return True
    return False


class ClientConnection:
    """One client, from accept to close; replaces hypercorn's trio `TCPServer`."""

    def __init__(
        self,
        app: AppWrapper,
        config: EdgeConfig,
        context: WorkerContext,
        limits: EdgeLimits,
        state: ConnectionState,
        stream: trio.SocketStream,
        budget: Budget,
        complain: Callable[[str], None],
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._limits = limits
        self._state = state
        self._stream = stream
        self._reading = trio.CancelScope()
        self._answering = trio.CancelScope()
        self._complain = complain
        self._held = Held(budget, peer_address(stream), self.cut_off)
        self._h11 = LimitedH11(limits, self._reading, self._held)
        self._send_lock = trio.Lock()
        self._hung_up = False
        self._protocol: Protocol

    @property
    def idle(self) -> bool:
        """Whether no byte of a request has arrived since the last answer."""
        return self._h11.idle

    def hang_up(self) -> None:
        """Stop reading, tell the application that the client is gone, and close."""
        self._hung_up = True
        self._reading.cancel()
        self._answering.cancel()

    def abort(self) -> None:
        """Close at once; a send in progress fails, shielded or not."""
        self._stream.socket.close()

    def cut_off(self) -> None:
        """Close, because this connection holds memory for long and others need the memory."""
        self._complain("connection-cut-off")
        self._reset()

    async def going_away(self) -> None:
        """Close a WebSocket with 1001, and any other connection without a message."""
        stream = self._protocol.stream
        if isinstance(stream, WebSocket) and not self._send_lock.locked():
            await stream.say_goodbye(CloseReason.GOING_AWAY, "the server is stopping")
        self.hang_up()

    async def run(self) -> None:
        """Serve until either side closes. Raises any exception that a defect in hypercorn raises."""
        try:
            async with trio.open_nursery() as nursery:
                self._protocol = self._open_protocol(nursery)
                await self._read()
                await self._answer_half_closed()
                await self._time_out()
                # An application that ignores the disconnect would stay for ever.
                nursery.cancel_scope.deadline = trio.current_time() + LEAVE_S
                nursery.start_soon(self._protocol.handle, Closed())
                await self._linger()
                self.abort()
        finally:
            self._held.close()
            self.abort()

    def _open_protocol(self, nursery: trio.Nursery) -> Protocol:
        sock = self._stream.socket
        protocol = Protocol(
            self._app,
            self._config,
            self._context,
            Apps(nursery, self._look_for_client, self._held),
            ConnectionState(self._state.copy()),
            False,
            parse_socket_addr(sock.family, sock.getpeername()),
            parse_socket_addr(sock.family, sock.getsockname()),
            self._send,
        )
        protocol.use(self._h11, self._held)
        return protocol

    async def _read(self) -> None:
        """Read until the client ends, a time limit is over, or `hang_up` is called."""
        with self._reading, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while await self._read_once():
                pass
            if not self._protocol.answering:
                self._hung_up = True

    async def _read_once(self) -> bool:
        """False at the client's end. A function of its own frees the bytes before the next read waits."""
        data = await self._stream.receive_some(RECEIVE_BYTES)
        await self._protocol.handle(RawData(bytes(data)))
        return bool(data)

    async def _answer_half_closed(self) -> None:
        """The client sends no more. It may have left, or may still wait for its answer."""
        with self._answering:
            if self._protocol.answering and not self._reading.cancelled_caught:
                await self._protocol.probe()
                while self._protocol.answering:
                    with trio.move_on_after(LOOK_S):
                        await self._protocol.answered.wait()
                    self._look_for_client(TCP_CLOSE_WAIT)
                self._hung_up = True

    def _look_for_client(self, expected: int = TCP_ESTABLISHED) -> None:
        """Look whether the client has left, since nobody reads while the application takes no input."""
        with suppress(OSError):
            tcp_info = self._stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            if tcp_info[0] != expected:
                self.hang_up()

    async def _time_out(self) -> None:
        if self._reading.cancelled_caught and not self._hung_up and not self.idle:
            stream = self._protocol.stream
            if isinstance(stream, WebSocket):
                await stream.say_goodbye(CloseReason.POLICY_VIOLATION, "a message took too long")
            else:
                await self._protocol.refuse(408)

    async def _linger(self) -> None:
        """Let the client read our last bytes.

        A close while input is unread resets the connection, and the client then loses our output.
        """
        if self._protocol.connection.their_state not in {None, h11.SEND_BODY, h11.ERROR}:
            return
        with (
            trio.move_on_after(LINGER_S),
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await self._stream.send_eof()
            while await self._stream.receive_some(RECEIVE_BYTES):
                pass

    async def _send(self, event: Event) -> None:
        """hypercorn sends through this. A failed send drops the data and tells the application."""
        if isinstance(event, Closed):
            self.hang_up()
        elif isinstance(event, RawData) and event.data:
            # Half a message would garble the next message, so a handler's cancellation must wait.
            # The wait is bounded: a send without progress ends, and `abort` ends it.
            with trio.CancelScope(shield=True) as scope:
                async with self._send_lock:
                    await self._write(memoryview(event.data), scope)
            if scope.cancelled_caught:
                self._reset()

    def _reset(self) -> None:
        """Reset the connection. After a plain close the kernel would keep the unread output for minutes."""
        with suppress(OSError):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.abort()
        self.hang_up()

    async def _write(self, data: memoryview, scope: trio.CancelScope) -> None:
        try:
            while data:
                scope.deadline = trio.current_time() + self._limits.send_timeout_s
                data = data[await self._stream.socket.send(data) :]
        except (OSError, trio.ClosedResourceError):
            self.hang_up()
