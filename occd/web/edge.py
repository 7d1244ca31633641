"""One client connection, from accept to close.

`ClientConnection` replaces hypercorn's trio worker, in which one connection can end the others, and a send
can wait for ever. It drives the protocols of `protocol.py`. `server.py` opens with the list of defects and
the place that contains each.
"""

import os
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import h11
import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr
from wsproto.frame_protocol import CloseReason

from occd.errors import OverBudget
from occd.web.budget import HELD, Budget, Held
from occd.web.http11 import EdgeLimits, LimitedH11
from occd.web.messages import WebSocket
from occd.web.protocol import LOOK_S, Apps, EdgeConfig, Protocol
from occd.web.whole import Direct, Head, chunk, head_of_answer, read_head

HALF_CLOSED = "occd.half_closed"
"""The name, among the extensions of the application's scope, of an event that is set when the client sends no
more. The client may have left, or may still wait for its answer: the application's next write will tell."""

RECEIVE_BYTES = 2**16
SHORT_S = 10.0
LINGER_S = 2.0  # for a client to read our last bytes and close
LEAVE_S = 10.0  # for a handler to end when its client has gone
TCP_ESTABLISHED, TCP_CLOSE_WAIT = 1, 8
_THERE = (TCP_ESTABLISHED, TCP_CLOSE_WAIT)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def peer_address(stream: trio.SocketStream) -> str:
    """Empty when the client has left already, and at a socket of the file system."""
    with suppress(OSError):
        name = stream.socket.getpeername()
        return str(name[0]) if isinstance(name, tuple) else ""
    return ""


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
        direct: Direct | None,
    ) -> None:
        """`direct` answers requests of the usual form that come whole."""
        self._app = app
        self._config = config
        self._context = context
        self._limits = limits
        self._state = state
        self._stream = stream
        self._reading = trio.CancelScope()
        self._answering = trio.CancelScope()
        self._complain = complain
        self._direct = direct
        self._answers = False
        """Whether `direct` answers one now."""
        self._held = Held(budget, peer_address(stream), self.cut_off, limits.client_of)
        self._h11 = LimitedH11(limits, self._reading, self._held)
        self._send_lock = trio.Lock()
        self._hung_up = False
        self._opened_at = trio.current_time()
        self._half_closed = trio.Event()
        self._protocol: Protocol

    @property
    def idle(self) -> bool:
        """Whether no byte of a request has arrived since the last answer."""
        return self._h11.idle

    @property
    def spare(self) -> bool:
        """Whether nobody waits for an answer here, or has waited for longer than a short answer takes."""
        answering = self._answers or self._protocol.answering
        return not answering or trio.current_time() - self._opened_at > SHORT_S

    def hang_up(self) -> None:
        """Stop reading, tell the application that the client is gone, and close."""
        self._hung_up = True
        self._reading.cancel()
        self._answering.cancel()

    def abort(self) -> None:
        """Close at once; a send in progress fails, shielded or not."""
        self._stream.socket.close()

    def cut_off(self) -> None:
        """Close, because this connection holds memory for long and others need the memory, or because its key
        has ended and it does not read that."""
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
        with ExitStack() as ended:
            ended.callback(self.abort)
            ended.callback(self._held.close)
            async with trio.open_nursery() as nursery:
                self._protocol = self._open_protocol(nursery)
                ended.callback(self._protocol.let_go)
                await self._read()
                await self._answer_half_closed()
                await self._time_out()
                # An application that ignores the disconnect would stay for ever.
                nursery.cancel_scope.deadline = trio.current_time() + LEAVE_S
                nursery.start_soon(self._protocol.handle, Closed())
                await self._linger()
                self.abort()

    def _open_protocol(self, nursery: trio.Nursery) -> Protocol:
        sock = self._stream.socket
        extensions = {HELD: self._held, HALF_CLOSED: self._half_closed}
        protocol = Protocol(
            self._app,
            self._config,
            self._context,
            Apps(nursery, self._look_for_client, extensions),
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
        came = [bytes(await self._stream.receive_some(RECEIVE_BYTES))]
        head = read_head(came[0], self._limits) if self._direct and self.idle else None
        if self._direct and head and await self._read_whole(self._direct, head, came):
            return True
        data = came.pop()
        await self._protocol.handle(RawData(data))
        return bool(data)

    async def _read_whole(self, direct: Direct, head: Head, came: list[bytes]) -> bool:
        """Answer a request without h11, if it is one for `direct`, whose first bytes came. Otherwise `came`
        has all that has come of it."""
        scope = head.scope(self._protocol.client, {HELD: self._held})
        if len(came[0]) > head.end or not direct.takes(scope):
            return False
        self._held.begin_request(head.headers)
        try:
            self._held.hold_for_request(head.size + 2 * head.length)
        except OverBudget:
            return False
        with self._h11.passed_by():
            while len(came[0]) < head.end:
                more = await self._stream.receive_some(RECEIVE_BYTES)
                came[0] += more
                if not more or len(came[0]) > head.end:
                    return False
            self._h11.unclock()
            self._answers = True
            await self._answer(direct, scope, head, came.pop()[head.size :])
            self._answers = False
        return True

    async def _answer(self, direct: Direct, scope: Any, head: Head, body: bytes) -> None:
        answer = await direct.answer(scope, body, self._left)
        del body
        closes = head.closes or self._context.terminated.is_set()
        if answer is None:
            self.hang_up()
            return
        chunked = "content-length" not in answer.headers
        wire = head_of_answer(answer.status, answer.headers, chunked=chunked, closes=closes)
        async with answer.pieces() as pieces:
            async for piece in pieces:
                if piece:
                    await self._send_now(wire + (chunk(piece) if chunked else piece))
                    wire = b""
        await self._send_now(wire + (chunk(b"") if chunked else b""))
        if closes:
            self.hang_up()

    async def _send_now(self, data: bytes) -> None:
        """Send without a turn of Trio's loop, as far as the kernel has room. Nobody else sends meanwhile."""
        sent = 0
        with suppress(OSError):  # told by the next send, or by what comes after
            sent = os.write(self._stream.socket.fileno(), data)
        if sent < len(data):
            await self._send(RawData(data[sent:]))

    async def _left(self) -> None:
        """Return when the client has left, while nobody reads. A client that sends no more may still wait for
        its answer, and one that has sent more is looked for now and then."""
        sock = self._stream.socket
        with suppress(OSError, trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(sock)
            if not await sock.recv(1, socket.MSG_PEEK):
                await self._send_now(b"HTTP/1.1 100 \r\n\r\n")  # as `Protocol.probe`
            while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _THERE:  # noqa: ASYNC110  (the kernel tells nobody)
                await trio.sleep(LOOK_S)

    async def _answer_half_closed(self) -> None:
        """The client sends no more. It may have left, or may still wait for its answer."""
        with self._answering:
            if self._protocol.answering and not self._reading.cancelled_caught:
                self._half_closed.set()
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
