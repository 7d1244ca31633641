"""Followers from the inside: what they hold, how they end, and what they say when they must end."""

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from in_process import API, PATIENCE_S, UPGRADE, Edge, edge, frame
from streams import LINES, SSE

from occd.events import Event, Output
from occd.model import Result, Verdict
from occd.state import WATCH_BYTES
from occd.web.budget import Budget, Shares
from occd.web.follow import COPIES

HELLO = json.dumps({"language": "python", "source": "pass"}).encode()
PIECE = 32 * 1024
"""The bytes of the longest event."""

ESCAPED = 6
"""How much longer a byte may be in JSON."""

WAYS = ("sse", "ndjson", "websocket")
way = pytest.mark.parametrize("way", WAYS)


@dataclass
class Run:
    """A submission whose program the test is."""

    edge: Edge
    id: str
    attempt: int

    async def write(self, *data: bytes) -> None:
        events: list[Event] = [Output("run", "stdout", each) for each in data]
        await self.edge.state.log.append(self.id, self.attempt, events)

    async def finish(self) -> None:
        await self.edge.state.submissions.finish(self.id, self.attempt, Result(Verdict.OK))

    def request(self, way: str) -> bytes:
        if way == "websocket":
            return UPGRADE + frame(json.dumps({"type": "subscribe", "id": self.id}).encode())
        accept = {"sse": SSE, "ndjson": LINES}[way]
        head = f"GET {API.decode()}/submissions/{self.id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        return f"{head}Accept: {accept}\r\n\r\n".encode()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Run]:
    async with edge(folder) as found:
        status, body = await found.post(HELLO)
        assert status == 202
        submission = await found.state.submissions.submission(body["id"])
        attempt = await found.state.submissions.begin(submission, "3.11", "runs")
        yield Run(found, submission.id, attempt)


@asynccontextmanager
async def client(run: Run, way: str) -> AsyncIterator[trio.SocketStream]:
    """A client whose kernel takes next to nothing for it."""
    narrow = trio.socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await narrow.connect(("127.0.0.1", run.edge.port))
    async with trio.SocketStream(narrow) as stream:
        await stream.send_all(run.request(way))
        yield stream


async def read_until(stream: trio.SocketStream, words: bytes) -> bytes:
    """Up to the words, or to the end of the connection."""
    said = b""
    with trio.fail_after(PATIENCE_S):
        while words not in said and (piece := await stream.receive_some(2**16)):
            said += piece
    return said


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> list[Budget]:
    """Those of the servers that start."""
    made: list[Budget] = []

    def make(limits: Shares) -> Budget:
        made.append(Budget(limits))
        return made[-1]

    monkeypatch.setattr("occd.web.server.Budget", make)
    return made


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("way", "sign"), [("sse", b"\r\n:\n\n\r\n"), ("ndjson", b'{"type":"alive"}')]
)
async def test_a_silent_program_is_told_to_be_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, sign: bytes
) -> None:
    monkeypatch.setattr("occd.web.stream.ALIVE_S", 0.05)
    async with running(tmp_path) as run, client(run, way) as stream:
        for _ in range(2):
            assert sign in await read_until(stream, sign)
        await run.write(b"hi")
        assert b"hi" in await read_until(stream, b"hi")


async def test_a_program_that_writes_is_not_told_to_be_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.web.stream.ALIVE_S", PATIENCE_S)
    async with running(tmp_path) as run, client(run, "sse") as stream:
        for number in range(20):
            await run.write(b"<%d>" % number)
            assert b"\n:\n" not in await read_until(stream, b"<%d>" % number)


@way
async def test_who_leaves_is_followed_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Although the program writes nothing, and long before the next sign of life."""
    monkeypatch.setattr("occd.web.stream.ALIVE_S", 10 * PATIENCE_S)
    async with running(tmp_path) as run:

        def load() -> tuple[int, int]:
            node = run.edge.ws._describe()
            return node.connections, node.following

        async with client(run, way) as stream:
            await read_until(stream, b"started")
            await until(lambda: load() == (1, 1))
        await until(lambda: load() == (0, 0))


async def test_who_sends_no_more_is_told_to_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as run, client(run, "sse") as stream:
        await stream.send_eof()
        assert b"\r\n:\n\n\r\n" in await read_until(stream, b"\r\n:\n\n\r\n")
        await run.write(b"still here")
        await run.finish()
        said = await read_until(stream, b"\r\n0\r\n\r\n")
        assert b"still here" in said
        assert b"event: finished" in said


@pytest.mark.parametrize("way", ["sse", "ndjson"])
async def test_who_reads_too_slowly_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("occd.web.stream.SLOW_S", 0.0)  # nobody is as quick
    async with running(tmp_path) as run, client(run, way) as stream:
        said = await read_until(stream, b"\r\n0\r\n\r\n")
        assert b'"type":"too-slow"' in said
        assert b'"started"' not in said
        stream.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("way", ["sse", "ndjson"])
async def test_who_has_used_up_its_share_is_told_so(
    tmp_path: Path, budgets: list[Budget], way: str
) -> None:
    """By another stream of the same client, which is not read."""
    async with running(tmp_path) as run, client(run, way):
        budgets[0]._limits = Shares(client=2**20)
        for _ in range(16):
            await run.write(*[b"\x01" * PIECE] * 4)
        await until(lambda: budgets[0].charged > 2**19)
        async with client(run, way) as other:
            said = await read_until(other, b"\r\n0\r\n\r\n")
        assert b'"type":"too-much"' in said
        assert b'"finished"' not in said


@way
async def test_slow_clients_hold_a_batch_and_a_frame_each(
    tmp_path: Path, budgets: list[Budget], way: str
) -> None:
    clients = 12
    async with running(tmp_path) as run, AsyncExitStack() as stack:
        for _ in range(64):
            await run.write(*[b"\x01" * PIECE] * 4)
        for _ in range(clients):
            await stack.enter_async_context(client(run, way))
        (budget,) = budgets
        await until(lambda: len(budget._charged_since) == clients)
        most = 0
        for _ in range(50):
            most = max(most, budget.charged)
            await trio.sleep(0.01)
        assert most <= clients * (WATCH_BYTES + PIECE + COPIES * (ESCAPED * PIECE + 500))
