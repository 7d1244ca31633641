"""ws: lets clients follow submissions and feed their stdin. Any node serves any client, because all
that a connection needs lies in state."""

from collections.abc import Sequence

import trio

from occd.model import Record, Recorded
from occd.roles.submit import Submit
from occd.state import State
from occd.web.schema import SubmissionRequest


class Ws:
    def __init__(self, state: State, submit: Submit) -> None:
        self._state = state
        self._submit = submit
        self.stopping = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connections watch `stopping` themselves and close with 1001."""
        task_status.started()
        await self.stopping.wait()

    async def submit(self, request: SubmissionRequest, *, key: str | None, digest: str) -> Record:
        return await self._submit.submit(request, key=key, digest=digest)

    async def get(self, id: str) -> Record:
        return await self._state.get(id)

    async def watch(self, id: str, after: int) -> Sequence[Recorded]:
        return await self._state.watch(id, after)

    async def send_stdin(self, id: str, data: bytes, offset: int | None, *, end: bool) -> None:
        await self._state.send_stdin(id, data, offset, end=end)

    async def cancel(self, id: str) -> tuple[Record, bool]:
        return await self._submit.cancel(id)
