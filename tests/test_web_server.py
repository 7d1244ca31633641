"""The HTTP edge holds its promises to hostile clients, and no client can break another's."""

import os
import random
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
from quart import Response, request, websocket
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    wrap_client_stream,
)

from occd.web import budget, edge, protocol
from occd.web.budget import Shares
from occd.web.http11 import EdgeLimits
from occd.web.server import serve

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==\r\n"
)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
H2C = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n"
)
EXPECT = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Seen:
    """What the application noticed."""

    started: trio.Event = field(default_factory=trio.Event)
    release: trio.Event = field(default_factory=trio.Event)
    cancelled: trio.Event = field(default_factory=trio.Event)
    published: trio.Event = field(default_factory=trio.Event)


def make_app(seen: Seen) -> QuartTrio:
    app = QuartTrio("edge-test")

    @app.get("/")
    async def hello() -> str:
        await trio.lowlevel.checkpoint()
        return "hello"

    @app.post("/echo")
    async def echo() -> Any:
        return await request.get_data()

    @app.post("/deaf")
    async def deaf() -> str:
        await trio.lowlevel.checkpoint()
        return "did not look"

    @app.route("/wait", methods=["GET", "POST"])
    async def wait() -> str:
        seen.started.set()
        try:
            await seen.release.wait()
        except trio.Cancelled:
            seen.cancelled.set()
            raise
        return "waited"

    @app.get("/publish")
    async def publish() -> str:
        async def later() -> None:
            with trio.CancelScope(shield=True):
                await seen.release.wait()
                seen.published.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(later)
            seen.started.set()
        return "published"

    @app.get("/big")
    async def big() -> bytes:
        seen.started.set()
        await trio.lowlevel.checkpoint()
        return bytes(64 * 2**20)

    @app.get("/failing/<int:at>")
    async def failing(at: int) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(at):
                yield b"piece"
            raise RuntimeError("boom")

        await trio.lowlevel.checkpoint()
        return Response(pieces())

    @app.websocket("/ws")
    async def talk() -> None:
        while True:
            message = await websocket.receive()
            if message == "boom":
                raise RuntimeError("boom")
            if message == "bye":
                return
            await websocket.send(message)

    @app.websocket("/ws/refused")
    async def refused() -> Any:
        await trio.lowlevel.checkpoint()
        return "no", 401

    @app.websocket("/ws/silent")
    async def silent() -> None:
        await websocket.accept()
        seen.started.set()
        try:
            await trio.sleep_forever()
        finally:
            seen.cancelled.set()

    @app.websocket("/ws/flood")
    async def flood() -> None:
        seen.started.set()
        try:
            while True:
                await websocket.send(bytes(2**20))
        finally:
            seen.cancelled.set()

    return app


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Client:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        data = b""
        with suppress(trio.BrokenResourceError):
            data = bytes(await self.stream.receive_some(65536))
        self.buffer += data
        return bool(data)

    async def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            assert await self.more(), f"closed after {self.buffer!r}"
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    async def answer(self, *, head_only: bool = False) -> Answer:
        while b"\r\n\r\n" not in self.buffer:
            assert await self.more(), f"closed after {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        size = 0 if head_only else int(headers.get(b"content-length", b"0"))
        return Answer(int(status.split()[1]), headers, await self.take(size))

    async def rest(self) -> bytes:
        """Until the server closes."""
        while await self.more():
            pass
        return self.buffer


class Bound:
    """Where `serve` reports its addresses."""

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.addresses: list[str] = []

    def started(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.ready.set()


@dataclass
class Running:
    seen: Seen = field(default_factory=Seen)
    bound: Any = field(default_factory=Bound)
    stopping: trio.Event = field(default_factory=trio.Event)
    stopped: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    clients: list[Client] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.bound.addresses[0].rpartition(":")[2])

    async def run(self, limits: EdgeLimits, grace_s: float) -> None:
        with self.scope:
            await serve(
                make_app(self.seen),
                ["127.0.0.1:0"],
                limits,
                stopping=self.stopping,
                left_s=lambda: grace_s,
                task_status=self.bound,
            )
        self.stopped.set()

    async def connect(self) -> Client:
        client = Client(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        client = await self.connect()
        await client.send(data)
        return await client.answer()

    @asynccontextmanager
    async def websocket(self, path: str = "/ws") -> AsyncIterator[WebSocketConnection]:
        # Not wrap_client_stream, which leaves its socket open when the server closes first.
        async with trio.open_nursery() as nursery:
            stream = (await self.connect()).stream
            yield await wrap_client_stream(nursery, stream, "127.0.0.1", path)
            await stream.aclose()

    async def assert_alive(self) -> None:
        assert (await self.ask(GET)).body == b"hello"


@asynccontextmanager
async def running(grace_s: float = 0.5, **limits: Any) -> AsyncIterator[Running]:
    web = Running()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(web.run, EdgeLimits(**limits), grace_s)
            await web.bound.ready.wait()
            try:
                yield web
            finally:
                for client in web.clients:
                    client.stream.socket.close()
            web.stopping.set()


async def close_code(client: WebSocketConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        await client.get_message()
    assert closed.value.reason is not None
    return closed.value.reason.code


def assert_problem(answer: Answer, status: int, kind: bytes) -> None:
    assert answer.status == status
    assert answer.headers[b"content-type"] == b"application/problem+json"
    assert b'"type": "%s"' % kind in answer.body


# The eight defects.


@pytest.mark.parametrize(("size", "writes"), [(5, 1), (100_000, 2)])
async def test_an_answer_is_written_at_once_unless_it_is_long(
    monkeypatch: pytest.MonkeyPatch, size: int, writes: int
) -> None:
    written, write = [], edge.ClientConnection._write

    async def watched(
        self: edge.ClientConnection, data: memoryview, scope: trio.CancelScope
    ) -> None:
        written.append(len(data))
        await write(self, data, scope)

    monkeypatch.setattr(edge.ClientConnection, "_write", watched)
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    async with running() as web:
        answer = await web.ask(head + bytes(size))
    assert answer.body == bytes(size)
    assert len(written) == writes, written


async def test_a_failure_before_the_first_piece_of_a_body_is_an_answer_and_later_cuts_it_off() -> (
    None
):
    async with running() as web:
        answer = await web.ask(GET.replace(b"/ ", b"/failing/0 ", 1))
        assert_problem(answer, 500, b"internal")
        assert answer.headers[b"connection"] == b"close"
        client = await web.connect()
        await client.send(GET.replace(b"/ ", b"/failing/1 ", 1))
        cut_off = await client.rest()
        assert cut_off.startswith(b"HTTP/1.1 200 ")
        assert cut_off.endswith(b"5\r\npiece\r\n")
        await web.assert_alive()


async def test_a_frame_sent_before_the_handshake_is_answered_is_delivered() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(UPGRADE + b"\r\n\x81\x82\0\0\0\0hi")
        assert (await client.answer()).status == 101
        assert await client.take(4) == b"\x81\x02hi"


async def test_garbage_after_an_upgrade_ends_only_its_own_connection() -> None:
    async with running() as web, web.websocket() as other:
        client = await web.connect()
        await client.send(UPGRADE + b"\r\nx\xff\xffgarbage")
        assert (await client.answer()).status == 101
        assert (await client.rest())[:4] == b"\x88\x02\x03\xea"  # close 1002
        await other.send_message("still here")
        assert await other.get_message() == "still here"


async def test_early_bytes_to_a_refused_websocket_end_only_their_own_connection() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(UPGRADE.replace(b"/ws", b"/ws/refused") + b"\r\n\x81\x82\0\0\0\0hi")
        assert b" 401 " in await client.rest()
        await web.assert_alive()


@pytest.mark.parametrize("name", [b"Sec-WebSocket-Protocol", b"Connection"])
async def test_a_websocket_header_that_is_not_ascii_gets_400(name: bytes) -> None:
    async with running() as web, web.websocket() as other:
        assert_problem(await web.ask(UPGRADE + name + b": caf\xe9\r\n\r\n"), 400, b"bad-request")
        await other.send_message("still here")
        assert await other.get_message() == "still here"


@pytest.mark.parametrize("settings", [b"!!!\xff", b"A", b"", b"AAMAAABkAARAAAAAAAIAAAAA"])
async def test_an_upgrade_to_http2_is_ignored(settings: bytes) -> None:
    async with running() as web:
        answer = await web.ask(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: " + settings + b"\r\n\r\n"
        )
        assert (answer.status, answer.body) == (200, b"hello")


async def test_http2_with_prior_knowledge_gets_505() -> None:
    async with running() as web:
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
        assert_problem(await web.ask(preface), 505, b"http-version-not-supported")
        await web.assert_alive()


@pytest.mark.parametrize("path", [b"/echo", b"/wait", b"/deaf", b"/nowhere"])
@pytest.mark.parametrize("before", [b"", b"5\r\nhello\r\n"])
async def test_a_bad_chunk_header_ends_only_its_own_connection(path: bytes, before: bytes) -> None:
    async with running() as web, web.websocket() as other:
        client = await web.connect()
        await client.send(CHUNKED.replace(b"/echo", path) + before + b"ZZ\r\n")
        if path in {b"/echo", b"/wait"}:  # the others may have begun to answer
            assert_problem(await client.answer(), 400, b"bad-request")
        await client.rest()
        await other.send_message("still here")
        assert await other.get_message() == "still here"


async def test_a_bad_chunk_header_after_the_answer_ends_only_its_own_connection() -> None:
    async with running() as web, web.websocket() as other:
        client = await web.connect()
        await client.send(CHUNKED.replace(b"/echo", b"/deaf") + b"5\r\nhello\r\n")
        assert (await client.answer()).body == b"did not look"
        await client.send(b"ZZ\r\n")
        assert await client.rest() == b""
        await other.send_message("still here")
        assert await other.get_message() == "still here"


async def test_whatever_hypercorn_raises_ends_only_its_own_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: object) -> None:
        raise AttributeError("as in #225")

    async with running() as web, web.websocket() as other:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(protocol.Protocol, "_create_stream", broken)
            client = await web.connect()
            await client.send(GET)
            assert await client.rest() == b""
        assert [line["event"] for line in logs] == ["connection-failed"]
        assert "AttributeError: as in #225" in logs[0]["error"]
        await other.send_message("still here")
        assert await other.get_message() == "still here"


@pytest.mark.parametrize("path", [b"/big", b"/ws/flood"])
async def test_a_client_that_does_not_read_is_given_up(path: bytes) -> None:
    async with running(send_timeout_s=0.3) as web:
        client = await web.connect()
        head = UPGRADE.replace(b"/ws", path) + b"\r\n"
        await client.send(head if b"ws" in path else GET.replace(b"/ ", path + b" "))
        await web.seen.started.wait()
        if path == b"/ws/flood":
            await web.seen.cancelled.wait()
        web.stopping.set()
        with trio.fail_after(30):
            await web.stopped.wait()


@pytest.mark.parametrize("path", [b"/big", b"/ws/flood"])
async def test_a_client_that_does_not_read_cannot_delay_the_stop_beyond_grace(path: bytes) -> None:
    async with running(grace_s=0.2) as web:
        client = await web.connect()
        head = UPGRADE.replace(b"/ws", path) + b"\r\n"
        await client.send(head if b"ws" in path else GET.replace(b"/ ", path + b" "))
        await web.seen.started.wait()
        web.stopping.set()
        with trio.fail_after(30):
            await web.stopped.wait()


async def test_a_client_that_does_not_read_cannot_delay_a_cancellation() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(UPGRADE.replace(b"/ws", b"/ws/flood") + b"\r\n")
        await web.seen.started.wait()
        web.scope.cancel()
        with trio.fail_after(30):
            await web.stopped.wait()


async def test_an_idle_websocket_is_closed_with_1001_at_the_deadline() -> None:
    async with running(grace_s=0.1) as web, web.websocket("/ws/silent") as client:
        web.stopping.set()
        assert await close_code(client) == 1001


async def test_an_exception_in_a_websocket_handler_closes_with_1011() -> None:
    async with running() as web, web.websocket() as client:
        await client.send_message("boom")
        assert await close_code(client) == 1011


async def test_a_websocket_handler_that_returns_closes_with_1000() -> None:
    async with running() as web, web.websocket() as client:
        await client.send_message("bye")
        assert await close_code(client) == 1000


async def test_a_client_that_leaves_cancels_its_http_handler() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(GET.replace(b"/ ", b"/wait "))
        await web.seen.started.wait()
        await client.stream.aclose()
        await web.seen.cancelled.wait()
        await web.assert_alive()


async def test_what_a_handler_shields_goes_on_when_its_client_leaves() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(GET.replace(b"/ ", b"/publish "))
        await web.seen.started.wait()
        await client.stream.aclose()
        await web.assert_alive()
        web.seen.release.set()
        await web.seen.published.wait()


# Limits.


async def test_a_declared_body_above_the_limit_gets_413_unread() -> None:
    async with running(body_max_bytes=1000) as web:
        head = EXPECT.replace(b"/echo", b"/wait").replace(b"2", b"1001")
        assert_problem(await web.ask(head), 413, b"too-large")
        assert not web.seen.started.is_set()


async def test_a_chunked_body_above_the_limit_gets_413_while_it_streams() -> None:
    async with running(body_max_bytes=1000) as web:
        client = await web.connect()
        await client.send(CHUNKED + b"3e8\r\n" + bytes(1000) + b"\r\n")
        await client.send(b"1\r\nx\r\n")
        assert_problem(await client.answer(), 413, b"too-large")
        assert await client.rest() == b""


async def test_a_client_that_sends_on_still_reads_its_413() -> None:
    async with running(body_max_bytes=1000) as web:
        client = await web.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
        await client.send(bytes(2_000_000))
        assert_problem(await client.answer(), 413, b"too-large")


async def test_a_body_at_the_limit_passes() -> None:
    async with running(body_max_bytes=1000) as web:
        chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"
        assert (await web.ask(CHUNKED + chunk)).body == b"x" * 1000


@pytest.mark.parametrize("ended", [b"", b"\r\n\r\n"])
async def test_a_head_above_the_limit_gets_431(ended: bytes) -> None:
    async with running(head_max_bytes=2000) as web:
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2000 + ended
        assert_problem(await web.ask(head), 431, b"headers-too-large")
        await web.assert_alive()


async def test_too_many_headers_get_431() -> None:
    async with running() as web:
        head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n"
        assert_problem(await web.ask(head), 431, b"headers-too-large")


@pytest.mark.parametrize("message", ["x" * 1001, "é" * 501, b"x" * 1001])
async def test_a_message_above_the_limit_closes_with_1009(message: str | bytes) -> None:
    async with running(frame_max_bytes=1000) as web, web.websocket() as client:
        await client.send_message(message)
        assert await close_code(client) == 1009


async def test_a_client_that_ignores_1009_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "LINGER_S", 0.1)
    async with running(frame_max_bytes=1000) as web:
        client = await web.connect()
        await client.send(UPGRADE + b"\r\n")
        assert (await client.answer()).status == 101
        await client.send(b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4))
        with pytest.raises(trio.BrokenResourceError):
            await client.send(bytes(2**30))


async def test_a_message_at_the_limit_passes() -> None:
    async with running(frame_max_bytes=1000) as web, web.websocket() as client:
        for _ in range(3):
            await client.send_message("é" * 500)
            assert await client.get_message() == "é" * 500


async def test_a_connection_too_many_is_turned_away_with_503_and_one_log_line() -> None:
    async with running(connections_max=2) as web:
        first, second = await web.connect(), await web.connect()
        for client in (first, second):
            await client.send(GET)
            assert (await client.answer()).status == 200
        with capture_logs() as logs:
            for _ in range(5):
                third = await web.connect()
                assert_problem(await third.answer(), 503, b"unavailable")
        assert [line["event"] for line in logs] == ["too-many-connections"]
        await first.stream.aclose()
        status = 503
        while status == 503:
            with suppress(AssertionError, trio.BrokenResourceError):
                status = (await web.ask(GET)).status
        await second.send(GET)
        assert (await second.answer()).status == 200


async def test_a_host_out_of_descriptors_does_not_end_the_accept_loop() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with running() as web:
        with trio.socket.socket() as sock:
            lowest_free = os.dup(0)
            os.close(lowest_free)
            with capture_logs() as logs:
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
                try:
                    await sock.connect(("127.0.0.1", web.port))
                    await wait_all_tasks_blocked(0.05)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert logs[0]["event"] == "accept-failed"
            client = Client(trio.SocketStream(sock))
            await client.send(GET)
            assert (await client.answer()).body == b"hello"


async def test_a_head_that_trickles_gets_408() -> None:
    async with running(head_timeout_s=0.3) as web:
        client = await web.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, client, b"GET / HTTP/1.1\r\nX: ")
            assert_problem(await client.answer(), 408, b"request-timeout")
            nursery.cancel_scope.cancel()


async def test_a_second_head_that_trickles_gets_408() -> None:
    async with running(head_timeout_s=0.3) as web:
        client = await web.connect()
        await client.send(GET + b"GET / HT")
        assert (await client.answer()).status == 200
        assert_problem(await client.answer(), 408, b"request-timeout")


@pytest.mark.parametrize(
    "kind", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nfff\r\n"]
)
async def test_a_body_that_trickles_gets_408(kind: bytes) -> None:
    async with running(body_timeout_s=0.3) as web:
        client = await web.connect()
        async with trio.open_nursery() as nursery:
            head = b"POST /echo HTTP/1.1\r\nHost: a\r\n" + kind
            nursery.start_soon(trickle, client, head)
            assert_problem(await client.answer(), 408, b"request-timeout")
            nursery.cancel_scope.cancel()


async def trickle(client: Client, head: bytes) -> None:
    await client.send(head)
    with suppress(trio.BrokenResourceError):
        while True:
            await client.send(b"x")
            await trio.sleep(0.02)


async def test_a_message_in_parts_that_trickles_is_closed_with_1008() -> None:
    async with running(body_timeout_s=0.3) as web:
        client = await web.connect()
        async with trio.open_nursery() as nursery:
            await client.send(UPGRADE + b"\r\n")
            await client.answer()
            nursery.start_soon(trickle, client, b"\x81\xfe\x03\xe8\0\0\0\0")
            said = await client.rest()
            assert said[:1] == b"\x88"
            assert said[2:4] == (1008).to_bytes(2, "big")
            nursery.cancel_scope.cancel()


async def test_a_message_that_was_slow_and_came_leaves_no_clock_behind() -> None:
    async with running(body_timeout_s=1.5) as web:
        client = await web.connect()
        await client.send(UPGRADE + b"\r\n")
        await client.answer()
        await client.send(b"\x01\x82\0\0\0\0hi")
        await trio.sleep(0.1)
        await client.send(b"\x80\x81\0\0\0\0!")
        assert await client.take(5) == b"\x81\x03hi!"
        with trio.move_on_after(2.0):
            await client.more()
        await client.send(b"\x81\x82\0\0\0\0hi")
        assert await client.take(4) == b"\x81\x02hi"


MIB = 2**20
NARROW = Shares(process=3 * MIB, client=2 * MIB, connection=2 * MIB)


@pytest.mark.parametrize("connections", [1, 2])
async def test_bodies_beyond_a_share_get_429_with_when_to_come_back(connections: int) -> None:
    async with running(shares=NARROW) as web:
        head = b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (4 * MIB)
        clients = [await web.connect() for _ in range(connections)]
        for client in clients:
            await client.send(head + bytes(3 * MIB // connections))
        answer = await clients[-1].answer()
        assert_problem(answer, 429, b"too-much")
        assert answer.headers[b"retry-after"] == b"5"
        await web.assert_alive()


async def test_bodies_of_many_beyond_the_whole_get_503_with_when_to_come_back() -> None:
    async with running(shares=NARROW) as web:
        head = (
            b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
            b"Authorization: Bearer %b\r\n\r\n"
        )
        clients = [await web.connect() for _ in range(3)]
        for number, client in enumerate(clients):
            secret = b"%d" % number * 30
            await client.send(head % (2 * MIB, secret) + bytes(3 * MIB // 2))
            await wait_all_tasks_blocked(0.05)  # until it has been read
        answer = await clients[-1].answer()
        assert_problem(answer, 503, b"unavailable")
        assert answer.headers[b"retry-after"] == b"5"
        await web.assert_alive()


async def test_what_a_request_held_is_given_back_with_its_answer() -> None:
    async with running(shares=NARROW) as web:
        client = await web.connect()
        for _ in range(5):
            head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MIB
            await client.send(head + bytes(MIB))
            assert (await client.answer()).status == 200


async def test_what_a_message_held_is_given_back_when_nobody_has_it() -> None:
    async with running(shares=NARROW) as web, web.websocket() as client:
        for message in ("x" * (MIB // 2), b"x" * (MIB // 2), "é" * (MIB // 4)) * 4:
            await client.send_message(message)
            assert await client.get_message() == message


async def test_a_message_in_parts_beyond_a_share_closes_with_1013() -> None:
    async with running(shares=NARROW) as web:
        client = await web.connect()
        await client.send(UPGRADE + b"\r\n")
        await client.answer()
        size = (3 * MIB).to_bytes(8, "big")
        with suppress(trio.BrokenResourceError):
            await client.send(b"\x01\xff" + size + bytes(4) + b"x" * (3 * MIB))
        said = await client.rest()
        assert said[2:4] == (1013).to_bytes(2, "big")
        await web.assert_alive()


async def test_a_client_that_holds_without_moving_is_cut_off_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "OLD_S", 0.2)
    async with running(shares=NARROW) as web:
        head = (
            b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nAuthorization: Bearer %b\r\n\r\n"
        )
        holder, other = await web.connect(), await web.connect()
        await holder.send(head % (b"/echo", 2 * MIB, b"a" * 30) + bytes(2 * MIB - 2**17))
        await trio.sleep(0.4)
        await other.send(head % (b"/echo", 3 * MIB // 2, b"b" * 30) + bytes(3 * MIB // 2))
        assert (await other.answer()).status == 200
        assert await holder.rest() == b""


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_client_that_closes_its_half_gets_its_answer(version: bytes) -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(GET.replace(b"/ ", b"/wait ").replace(b"1.1", version))
        await web.seen.started.wait()
        await client.stream.send_eof()
        with trio.move_on_after(0.3):
            await web.seen.cancelled.wait()
        web.seen.release.set()
        said = await client.rest()
        assert said.endswith(b"waited")
        assert (b" 100 " in said) is (version == b"1.1")
        await web.assert_alive()


async def test_a_body_whose_sender_closes_its_half_is_answered() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + GET)
        await client.stream.send_eof()
        said = await client.rest()
        assert said.count(b"HTTP/1.1 200") == 2


async def test_half_a_request_with_its_half_closed_is_the_end() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(EXPECT + b"h")
        await client.stream.send_eof()
        assert b"HTTP/1.1 400" in await client.rest()
        await web.assert_alive()


async def test_a_handler_may_take_longer_than_a_body() -> None:
    async with running(body_timeout_s=0.4, head_timeout_s=0.4, keep_alive_s=0.4) as web:
        client = await web.connect()
        await client.send(GET.replace(b"/ ", b"/wait "))
        with trio.move_on_after(0.8):
            await client.more()
        assert not client.buffer
        web.seen.release.set()
        assert (await client.answer()).body == b"waited"


async def test_a_websocket_may_be_idle_for_longer_than_any_timeout() -> None:
    async with running(body_timeout_s=0.4, head_timeout_s=0.4, keep_alive_s=0.4) as web:
        client = await web.connect()
        await client.send(UPGRADE + b"\r\n")
        assert (await client.answer()).status == 101
        with trio.move_on_after(0.8):
            await client.more()
        await client.send(b"\x81\x82\0\0\0\0hi")
        assert await client.take(4) == b"\x81\x02hi"


@pytest.mark.parametrize("requests", [0, 1])
async def test_a_connection_that_says_nothing_is_closed(requests: int) -> None:
    async with running(head_timeout_s=0.5, keep_alive_s=0.5) as web:
        client = await web.connect()
        if requests:
            await client.send(GET)
            await client.answer()
        assert await client.rest() == b""


@pytest.mark.parametrize("messages", [0, 15, 100])
async def test_a_handler_that_ignores_a_disconnect_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, messages: int
) -> None:
    monkeypatch.setattr(edge, "LEAVE_S", 0.1)
    monkeypatch.setattr(protocol, "LOOK_S", 0.1)
    async with running() as web:
        client = await web.connect()
        await client.send(UPGRADE.replace(b"/ws", b"/ws/silent") + b"\r\n")
        await client.send(b"\x81\x82\0\0\0\0hi" * messages)
        await web.seen.started.wait()
        await client.stream.aclose()
        await web.seen.cancelled.wait()


# HTTP as it should be.


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", 400),
        (b"GET http://a]/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a%5B/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * 64 + b"\r\n\r\n", 400),
        (UPGRADE.replace(b"Host: ", b"Host: .") + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (CHUNKED.replace(b"Host", b"Content-Length: 5\r\nHost"), 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (UPGRADE.replace(b"13", b"8") + b"\r\n", 400),
        (UPGRADE.replace(b"Key", b"Kex") + b"\r\n", 400),
    ],
)
async def test_a_malformed_request_gets_its_status_and_a_close(wire: bytes, status: int) -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(wire)
        answer = await client.answer()
        assert answer.status == status
        assert answer.headers[b"content-type"] == b"application/problem+json"
        assert await client.rest() == b""
        await web.assert_alive()


async def test_an_unknown_method_is_the_applications_to_refuse() -> None:
    async with running() as web:
        assert (await web.ask(GET.replace(b"GET", b"BREW"))).status == 405


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with running() as web:
        client = await web.connect()
        body = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
        await client.send(body + b"one"[:2] + GET + body + b"tw")
        assert [(await client.answer()).body for _ in range(3)] == [b"on", b"hello", b"tw"]


async def test_the_answer_to_head_has_no_body() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(GET.replace(b"GET", b"HEAD") + GET)
        assert (await client.answer(head_only=True)).headers[b"content-length"] == b"5"
        assert (await client.answer()).body == b"hello"


async def test_a_client_that_expects_100_gets_it() -> None:
    async with running() as web:
        client = await web.connect()
        head = (
            b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        await client.send(head)
        assert (await client.answer()).status == 100
        await client.send(b"hi")
        assert (await client.answer()).body == b"hi"


async def test_the_server_header_has_no_version() -> None:
    async with running() as web:
        assert (await web.ask(GET)).headers[b"server"] == b"occd"


async def test_compression_of_messages_is_declined() -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        assert b"sec-websocket-extensions" not in (await client.answer()).headers


@pytest.mark.parametrize(("path", "status"), [(b"/ws/refused", 401), (b"/nowhere", 404)])
async def test_a_refused_websocket_is_closed(path: bytes, status: int) -> None:
    async with running() as web:
        client = await web.connect()
        await client.send(UPGRADE.replace(b"/ws", path) + b"\r\n")
        assert b" %d " % status in await client.rest()


# Starting and stopping.


async def test_it_says_where_it_listens() -> None:
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        where = ["127.0.0.1:0", "[::1]:0"]
        bound = await nursery.start(partial(serve, make_app(Seen()), where, stopping=stopping))
        assert [b.rpartition(":")[0] for b in bound] == ["127.0.0.1", "[::1]"]
        for b in bound:
            host, _, port = b.rpartition(":")
            async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as stream:
                await stream.send_all(GET)
                assert (await Client(stream).answer()).body == b"hello"
        stopping.set()


async def test_an_address_in_use_is_an_error_that_names_it() -> None:
    async with running() as web:
        where = f"127.0.0.1:{web.port}"
        with pytest.raises(OSError, match=f"cannot listen on {where}: Address already in use"):
            await serve(make_app(Seen()), ["127.0.0.1:0", where], stopping=trio.Event())


@pytest.mark.parametrize("where", ["8000", ":8000", "localhost", "a:b", "a:70000"])
async def test_what_is_not_an_address_is_an_error_that_names_it(where: str) -> None:
    with pytest.raises(ValueError, match=f"'{where}' is not an address"):
        await serve(make_app(Seen()), [where], stopping=trio.Event())


async def test_a_request_in_flight_finishes_after_the_stop() -> None:
    async with running(grace_s=1000) as web:
        client = await web.connect()
        await client.send(GET.replace(b"/ ", b"/wait "))
        await web.seen.started.wait()
        idle = await web.connect()
        await idle.send(GET)
        await idle.answer()
        web.stopping.set()
        assert await idle.rest() == b""
        with pytest.raises(OSError, match="all attempts to connect"):
            await web.connect()
        web.seen.release.set()
        answer = await client.answer()
        assert (answer.body, answer.headers[b"connection"]) == (b"waited", b"close")
        with trio.fail_after(30):
            await web.stopped.wait()


async def test_idle_connections_do_not_hold_the_stop() -> None:
    async with running(grace_s=1000) as web:
        fresh, used = await web.connect(), await web.connect()
        await used.send(GET)
        await used.answer()
        web.stopping.set()
        await web.stopped.wait()
        assert await fresh.rest() == b""
        assert await used.rest() == b""


async def test_a_handler_that_does_not_finish_is_cancelled_at_the_deadline() -> None:
    async with running(grace_s=0.1) as web:
        client = await web.connect()
        await client.send(GET.replace(b"/ ", b"/wait "))
        await web.seen.started.wait()
        web.stopping.set()
        await web.stopped.wait()
        assert web.seen.cancelled.is_set()


# Everything at once.

SEEDS = [
    GET,
    GET + GET,
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    b"POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789",
    UPGRADE + b"\r\n\x81\x82\0\0\0\0hi\x89\x80\0\0\0\0\x88\x82\0\0\0\0\x03\xe8",
    UPGRADE.replace(b"/ws", b"/ws/silent") + b"\r\n\x82\xfe\x01\x00\0\0\0\0" + bytes(256),
    UPGRADE.replace(b"/ws", b"/ws/refused") + b"\r\nxx",
    H2C,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(20),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
]


def mutated(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        change = rng.randrange(4)
        if change == 0:
            data[at : at + 1] = rng.randbytes(1)
        elif change == 1:
            data[at:at] = rng.choice([b"\r\n", b"\0", b"\xff", b":", b"\r\n\r\n", rng.randbytes(9)])
        elif change == 2:
            del data[at : at + rng.randrange(20)]
        else:
            data[at:at] = rng.choice(SEEDS)
    return bytes(data)


async def hostile_session(web: Running, rng: random.Random) -> None:
    client = await web.connect()
    data = mutated(rng)
    cut = rng.randrange(len(data) + 1)
    with suppress(trio.BrokenResourceError):
        await client.send(data[:cut])
        if rng.random() < 0.5:
            await trio.sleep(rng.random() / 100)
        await client.send(data[cut:])
        if rng.random() < 0.3:
            await client.stream.send_eof()
    with trio.move_on_after(rng.random() / 10):
        await client.rest()
    await client.stream.aclose()


async def test_no_hostile_session_hurts_another() -> None:
    rng = random.Random(20261123)
    with capture_logs() as logs:
        async with running(grace_s=1000) as web, web.websocket() as witness:
            for _ in range(15):
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(hostile_session, web, random.Random(rng.random()))
                await web.assert_alive()
                await witness.send_message("still here")
                assert await witness.get_message() == "still here"
            await witness.aclose()
            web.stopping.set()
            with trio.fail_after(30):  # nothing is left behind
                await web.stopped.wait()
    assert [line for line in logs if line["log_level"] == "error"] == []
