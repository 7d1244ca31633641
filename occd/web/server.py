"""The one place that runs an ASGI application on hypercorn's trio worker.

Theory of operation
===================
`serve` accepts; each accepted socket becomes a `ClientConnection` (edge.py) in a task of its own,
which drives hypercorn's protocol classes behind our limits (protocol.py, messages.py). hypercorn's
`worker_serve` and `TCPServer` are not used: in hypercorn 0.18.0 an exception in one connection ends
all of them (upstream #225, #329). Its defects, and where each is contained:

1. Bytes after a WebSocket upgrade's head ended the process (#225). `WebSocket.handle` keeps them
   until the application has accepted, so that an early first frame is simply delivered.
2. A `Sec-WebSocket-Protocol` that is not ASCII ended the process: `head_fault` answers 400.
3. `Upgrade: h2c` with bad settings ended the process: there is no HTTP/2 here. h2c is ignored
   (`Protocol._check_protocol`), `PRI * HTTP/2.0` gets 505 (`head_fault`).
4. A bad chunk header could end the process: h11 reports it, `Protocol._send_error_response`
   answers 400 while it still can. Whatever else hypercorn raises ends its own connection, with
   one line in the log (`Server._run`); what the application raises likewise (`Apps._run`).
5. A client that does not read held its sender, in an unlimited shield: `ClientConnection._write` gives
   up after `send_timeout_s` without progress, and `abort` ends it at once.
6. Idle sockets held the shutdown and saw no close frame: `serve` closes idle ones first and, at
   the deadline, WebSockets with 1001.
7. An exception in a Quart WebSocket handler closed with 1000 (#125): `websocket_guard`, which
   `serve` applies to a Quart application by itself, makes it 1011.
8. A client that leaves mid-request cancels its HTTP handler. That is Quart's doing and mostly
   wanted; what must not be cut short (publishing) is shielded by its role (`Submit.accept`).

Also: a handler that ignores a disconnect is cancelled 10 s later, and a client that leaves while
the handler takes no input is noticed within a second (filling the queue and leaving would otherwise
leave the handler behind for ever); a message over `frame_max_bytes` ends the connection
(hypercorn sends 1009, then goes on storing); a refused handshake closes.

Limits of size are h11 errors, raised while the request is parsed (`http11.LimitedH11`), so a chunked body
is cut off as it streams. That is the guard of the whole process. Quart's MAX_CONTENT_LENGTH,
if at or below it, gives the application's own 413 for a declared length.

At stop: the listeners close, then idle connections; answers in flight say `Connection: close`;
at the deadline WebSockets get 1001 and a quarter of a second; then sockets close and handlers are
cancelled. A handler that shields itself must limit its shield.
"""

import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ConnectionState,
    LifespanState,
)
from hypercorn.utils import repr_socket_addr
from quart import Quart, websocket
from quart.signals import got_websocket_exception

from occd.web.budget import Budget
from occd.web.edge import ClientConnection
from occd.web.http11 import EdgeLimits, problem
from occd.web.protocol import EdgeConfig, describe
from occd.web.whole import Direct

log = structlog.get_logger()

ACCEPT_RETRY_S = 0.1
LAST_WORDS_S = 0.25
# Finds clients that vanished without a word, within two minutes: by probes, and by unconfirmed bytes.
# The kernel alone waits 15 minutes for these, and sends no probes meanwhile.
KEEP_ALIVE_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000),
]


class Listener(Protocol):
    async def accept(self) -> trio.SocketStream: ...

    async def aclose(self) -> None: ...


class Server:
    """Accepts connections, keeps count of them, and ends them in order."""

    def __init__(
        self,
        app: ASGIWrapper,
        state: LifespanState,
        limits: EdgeLimits,
        direct: Direct | None = None,
    ) -> None:
        self._app = app
        self._direct = direct
        self._state = ConnectionState(state)
        self._limits = limits
        self._config = EdgeConfig(limits)
        self._budget = Budget(limits.shares)
        self._context = WorkerContext(max_requests=None)
        self._connections: dict[ClientConnection, None] = {}
        """The oldest first."""
        self._all_gone = trio.Event()
        self._complained_at = -1.0

    async def accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        """For ever. A host out of descriptors or memory delays it, and does not end it."""
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                self._complain("accept-failed", error=str(error))
                await trio.sleep(ACCEPT_RETRY_S)
                continue
            if len(self._connections) < self._limits.connections_max:
                nursery.start_soon(self._run, stream)
                continue
            self._complain("too-many-connections", limit=self._limits.connections_max)
            if self._limits.makes_room and self._make_room():
                nursery.start_soon(self._run, stream)
            else:
                await turn_away(stream)

    def _make_room(self) -> bool:
        spare = next((each for each in self._connections if each.spare), None)
        if spare:
            spare.cut_off()
            del self._connections[spare]
        return spare is not None

    async def drain(self, grace_s: float) -> None:
        """Returns when no connection is left, or after `grace_s` and a last word to WebSockets."""
        await self._context.terminated.set()
        for connection in list(self._connections):
            if connection.idle:
                connection.hang_up()
        with trio.move_on_after(grace_s):
            await self._gone()

    async def say_goodbye(self, nursery: trio.Nursery) -> None:
        """Close what is left politely, WebSockets with 1001; `abort` follows."""
        for connection in self._connections:
            nursery.start_soon(connection.going_away)
        with trio.move_on_after(LAST_WORDS_S):
            await self._gone()

    def abort(self) -> None:
        for connection in self._connections:
            connection.abort()

    async def _gone(self) -> None:
        if self._connections:
            await self._all_gone.wait()

    async def _run(self, stream: trio.SocketStream) -> None:
        if self._context.terminated.is_set():
            stream.socket.close()
            return
        connection = ClientConnection(
            self._app,
            self._config,
            self._context,
            self._limits,
            self._state,
            stream,
            self._budget,
            self._complain,
            self._direct,
        )
        self._connections[connection] = None
        try:
            if stream.socket.family != socket.AF_UNIX:
                for option in KEEP_ALIVE_OPTIONS:
                    stream.setsockopt(*option)
            await connection.run()
        except* OSError:
            pass  # the client was gone before we could ask for its address
        except* Exception as group:
            log.error("connection-failed", error=describe(group))
        finally:
            self._connections.pop(connection, None)
            if self._context.terminated.is_set() and not self._connections:
                self._all_gone.set()

    def _complain(self, event: str, **details: object) -> None:
        """At most one line a second: this is called once per refused connection."""
        now = trio.current_time()
        if now - self._complained_at >= 1:
            self._complained_at = now
            log.warning(event, **details)


async def turn_away(stream: trio.SocketStream) -> None:
    headers, body = problem(503)
    lines = [b"HTTP/1.1 503 Service Unavailable", *(b"%s: %s" % header for header in headers)]
    with suppress(OSError):
        # A fresh socket has room for this: it does not hold up the accept loop.
        await stream.socket.send(b"\r\n".join([*lines, b"", body]))
    stream.socket.close()


async def serve(
    app: ASGIFramework,
    listen: Sequence[str],
    limits: EdgeLimits = EdgeLimits(),  # noqa: B008 - frozen
    *,
    stopping: trio.Event,
    left_s: Callable[[], float] = lambda: 10.0,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on each `HOST:PORT` or `[IPv6]:PORT` until `stopping` is set, then drain.

    Starts and stops the application's lifespan. `started` gets the addresses with the real ports,
    once connections are accepted. After `stopping`, requests in flight have as many seconds
    as `left_s` says then.

    A client that leaves cancels its HTTP handler (Quart does): shield, in a nursery of your own,
    what must not be cut short.

    Raises OSError when an address cannot be bound, ValueError when it is not an address, and
    what the lifespan raises when the application does not start.
    """
    listeners = await open_listeners(listen)
    bound = [address(listener) for listener in listeners]

    def started() -> None:
        task_status.started(bound)

    await serve_on(app, listeners, limits, stopping=stopping, left_s=left_s, started=started)


async def serve_on(
    app: ASGIFramework,
    listeners: Sequence[Listener],
    limits: EdgeLimits,
    *,
    stopping: trio.Event,
    left_s: Callable[[], float],
    started: Callable[[], None] = lambda: None,
) -> None:
    """As `serve`, on listeners that are open, which it closes. `started` is called once connections are
    accepted."""
    async with AsyncExitStack() as stack:
        for listener in listeners:
            stack.push_async_callback(listener.aclose)
        direct: Direct | None = getattr(app, "direct", None)
        if isinstance(app, Quart):
            app = stack.enter_context(websocket_guard(app))
        wrapped = ASGIWrapper(app)
        state = await stack.enter_async_context(lifespan(wrapped))
        server = Server(wrapped, state, limits, direct)
        async with trio.open_nursery() as handlers:
            try:
                async with trio.open_nursery() as intake:
                    for listener in listeners:
                        intake.start_soon(server.accept, listener, handlers)
                    started()
                    await stopping.wait()
                    intake.cancel_scope.cancel()
                for listener in listeners:
                    await listener.aclose()
                await server.drain(left_s())
                await server.say_goodbye(handlers)
            finally:
                server.abort()
                handlers.cancel_scope.cancel()


async def open_listeners(listen: Sequence[str]) -> list[trio.SocketListener]:
    listeners: list[trio.SocketListener] = []
    try:
        for where in listen:
            listeners += await open_listener(where)
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


async def open_listener(where: str) -> list[trio.SocketListener]:
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{where!r} is not an address to listen on: HOST:PORT or [IPv6]:PORT")
    try:
        return await trio.open_tcp_listeners(int(port), host=host.strip("[]"))
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error


def address(listener: trio.SocketListener) -> str:
    return repr_socket_addr(listener.socket.family, listener.socket.getsockname())


@asynccontextmanager
async def lifespan(app: ASGIWrapper) -> AsyncIterator[LifespanState]:
    """The application started, and stopped on a normal exit."""
    state: LifespanState = {}
    handler = Lifespan(app, EdgeConfig(EdgeLimits()), state)
    async with trio.open_nursery() as nursery:
        await nursery.start(handler.handle_lifespan)
        await handler.wait_for_startup()
        yield state
        await handler.wait_for_shutdown()
        nursery.cancel_scope.cancel()


@contextmanager
def websocket_guard(app: Quart) -> Iterator[ASGIFramework]:
    """Gives `app` such that an exception in a WebSocket handler closes with 1011, not 1000.

    An exception for which the application has an error handler counts as handled: there the
    handler closes with the code it wants.
    """

    async def note(sender: Quart, exception: BaseException) -> None:
        websocket.scope["extensions"]["occd.failed"] = {}
        await trio.lowlevel.checkpoint()

    async def guarded(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_code(message: Any) -> None:
            if message["type"] == "websocket.close" and "occd.failed" in scope["extensions"]:
                message = {**message, "code": 1011}
            await send(message)

        await app(scope, receive, send_code if scope["type"] == "websocket" else send)

    with got_websocket_exception.connected_to(note, app):
        yield guarded


__all__ = ["EdgeLimits", "Server", "serve", "serve_on", "websocket_guard"]
