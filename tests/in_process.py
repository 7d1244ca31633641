"""The whole edge with its broker and state in this process, without execute: for what only the inside shows,
such as the cost of a step. Clients are sockets of other threads, so that they cost the loop nothing."""

import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from quart_trio import QuartTrio

from occd import wire
from occd.administration import Administration
from occd.broker import open_broker
from occd.cancelling import cancel_all
from occd.config import Config
from occd.keyring import Keyring
from occd.languages.loading import load_languages
from occd.overview import Overview
from occd.roles.heartbeat import announce
from occd.roles.submit import Submit
from occd.roles.ws import Ws
from occd.sqlite import open_database
from occd.state import Node, State, open_state
from occd.web.access import Access
from occd.web.http11 import edge_limits
from occd.web.owner import Callers
from occd.web.people import People
from occd.web.routes import Services, make_app
from occd.web.server import serve

API = b"/api/v1"
PATIENCE_S = 60.0
UPGRADE = (
    b"GET %b/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==\r\n\r\n" % API
)


class Ready:
    holds = None

    async def problems(self) -> list[str]:
        return []

    async def warnings(self) -> list[str]:
        return []


@dataclass(eq=False)
class Steps(trio.abc.Instrument):
    """CPU seconds of this thread from one checkpoint of a task of the server to its next."""

    longest: float = 0.0
    where: str = ""
    _began: float = field(default_factory=time.thread_time)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = time.thread_time() - self._began
        if took > self.longest and "test_" not in task.name and "fixture" not in task.name:
            self.longest, self.where = took, task.name


@dataclass
class Edge:
    port: int
    state: State
    ws: Ws
    submit: Submit
    app: QuartTrio
    access: Access
    steps: Steps = field(default_factory=Steps)

    async def exchange(self, data: bytes, until: bytes = b"") -> bytes:
        """The answer up to `until`, if that is given, else until the server closes the connection."""
        return await trio.to_thread.run_sync(exchange, self.port, data, until)

    async def ask(self, head: bytes, body: bytes = b"") -> tuple[int, Any]:
        """A request; its status and JSON."""
        lines = b"%b\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        said = await self.exchange(lines % (head, len(body)) + body)
        status, _, rest = said.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in status.lower():
            rest = unchunked(rest)
        return int(status.split()[1]), json.loads(rest)

    async def post(self, body: bytes) -> tuple[int, Any]:
        return await self.ask(b"POST %b/submissions HTTP/1.1" % API, body)


def unchunked(data: bytes) -> bytes:
    found, at = bytearray(), 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if not size:
            return bytes(found)
        found += data[end + 2 : end + 2 + size]
        at = end + 4 + size


def exchange(port: int, data: bytes, until: bytes) -> bytes:
    said = bytearray()
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
            client.sendall(data)
        while piece := client.recv(2**20):
            said += piece
            if until and until in said[-len(piece) - len(until) :]:
                break
    return bytes(said)


def frame(text: bytes, opcode: int = 1, *, last: bool = True) -> bytes:
    """Of a client's, with a mask of noughts."""
    head = bytes([opcode | (0x80 if last else 0)])
    if len(text) < 126:
        return head + bytes([0x80 | len(text)]) + bytes(4) + text
    size = (126, 2) if len(text) < 2**16 else (127, 8)
    return head + bytes([0x80 | size[0]]) + len(text).to_bytes(size[1], "big") + bytes(4) + text


@asynccontextmanager
async def edge(
    folder: Path,
    accounts: dict[str, Any] | None = None,
    listen: str = "127.0.0.1:0",
    **http: Any,
) -> AsyncIterator[Edge]:
    settings = {"data_dir": folder, "listen": listen, "http": http, "accounts": accounts}
    config = Config.model_validate(settings)
    async with (
        open_database(folder) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
        trio.open_nursery() as nursery,
    ):
        runs = Node(
            "runs", ("execute",), {"python": ("3.11",), "java": ("17.0",)}, accepts=wire.FIELDS
        )
        submit = Submit(config, broker, state, load_languages())
        ws = Ws(state, submit)
        keyring = Keyring(config, state.keys, partial(cancel_all, state.submissions, submit.cancel))
        admin = Administration(config, broker, state)
        people = People(config, state.sessions)
        access = Access(config, Callers(config, keyring.find, people), state.submissions.owner)
        provider = None
        if config.accounts and config.accounts.oidc:
            from occd.web.oidc import Provider

            provider = Provider(config)
        overview = Overview(config, broker, state, Ready(), load_languages())
        services = Services(
            submit, ws, Ready(), access, keyring, admin, overview, people, provider, ws.stopping
        )
        app = make_app(config, services)
        stopping = trio.Event()

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            async with trio.open_nursery() as beside:
                await beside.start(announce, state.nodes, lambda: runs)
                beside.start_soon(access.endings.run)
                await serve(
                    app,
                    [config.listen],
                    edge_limits(config, 1000),
                    stopping=stopping,
                    left_s=lambda: 0.5,
                    task_status=task_status,
                )
                beside.cancel_scope.cancel()

        (bound,) = await nursery.start(run)
        found = Edge(int(bound.rpartition(":")[2]), state, ws, submit, app, access)
        trio.lowlevel.add_instrument(found.steps)
        try:
            yield found
        finally:
            trio.lowlevel.remove_instrument(found.steps)
            ws.stopping.set()
            stopping.set()
