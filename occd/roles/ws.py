"""ws: lets clients follow submissions and feed their stdin. Any node serves any client, because all
that a connection needs lies in state."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import trio

from occd import metrics
from occd.events import LogEntry
from occd.model import Accepted, Record, Status, Terminal
from occd.principal import Principal
from occd.request import Request
from occd.roles.following import Following
from occd.roles.heartbeat import announce
from occd.roles.submit import Submit
from occd.state import Node, State


class Ws:
    def __init__(self, state: State, submit: Submit) -> None:
        self._state = state
        self._submit = submit
        self._connections = 0
        self._following = Following(state)
        self._started_at = time.time()
        self.stopping = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connections watch `stopping` themselves and close with 1001."""
        async with trio.open_nursery() as nursery:
            await nursery.start(announce, self._state.nodes, self._describe)
            nursery.start_soon(self._following.run)
            task_status.started()
            await self.stopping.wait()
            nursery.cancel_scope.cancel()

    @contextmanager
    def connected(self) -> Iterator[None]:
        self._connections += 1
        metrics.WEBSOCKETS.inc()
        try:
            yield
        finally:
            self._connections -= 1
            metrics.WEBSOCKETS.dec()

    def _describe(self) -> Node:
        return Node(
            self._submit.node,
            ("ws",),
            connections=self._connections,
            following=self._following.count,
            started_at=self._started_at,
        )

    async def submit(
        self, request: Request, principal: Principal, *, key: str | None, digest: str
    ) -> Accepted:
        return await self._submit.submit(request, principal, key=key, digest=digest)

    async def get(self, id: str) -> Record:
        return await self._state.submissions.get(id)

    async def status(self, id: str) -> Status:
        return await self._state.submissions.status(id)

    async def entries(self, id: str, after: int) -> Sequence[LogEntry]:
        return await self._state.log.entries(id, after)

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]:
        return await self._state.log.watch(id, after)

    def following(self, id: str) -> AbstractContextManager[None]:
        return self._following.following(id)

    async def send_stdin(
        self, id: str, data: bytes, offset: int | None, *, end: bool, writer: str
    ) -> None:
        await self._state.controls.send_stdin(id, data, offset, end=end, writer=writer)

    async def send_signal(self, id: str, signal: str) -> None:
        await self._state.controls.send_signal(id, signal)

    async def send_resize(self, id: str, window: Terminal) -> None:
        await self._state.controls.send_resize(id, window)

    async def cancel(self, id: str) -> None:
        await self._submit.cancel(id)
