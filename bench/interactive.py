"""How long what a client sends to a running program takes, and what the way over the nodes adds.

The client sends to one ws node and hears from another. Times are from the frame to what the program's
answer, or its end, is heard by.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import trio
from trio_websocket import WebSocketConnection

from bench.clients import socket
from bench.measure import percentile
from bench.setups import RUNNING, Servers, show, title

ROUNDS = 100
CANCELS = 30
WALL_S = 299.0
PATIENCE_S = 10.0
PAUSE_S = 0.05
"""Output that follows other output within 20 ms waits for more, and frames a second are limited."""
ECHO = """\
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: print("signal", flush=True))
print("on", flush=True)
for line in sys.stdin:
    print(line, end="", flush=True)
"""
SLEEP = "import time; print('on', flush=True); time.sleep(250)"


@dataclass
class Talk:
    """With one program: `speaker` and `hearer` may be of two nodes."""

    speaker: WebSocketConnection
    hearer: WebSocketConnection
    id: str = ""

    async def submit(self, source: str, **fields: Any) -> None:
        submission = {"language": "python", "source": source, "limits": {"wall_time": WALL_S}}
        await self.hearer.send_message(
            json.dumps({"type": "submit", "submission": submission | fields})
        )
        self.id = (await self._frame("accepted"))["id"]
        await self.heard(name="output", data="on\n")

    async def heard(self, **wanted: Any) -> None:
        """Until an event has these fields."""
        with trio.fail_after(PATIENCE_S):
            while True:
                event = (await self._frame("event"))["event"]
                if all(event.get(name) == value for name, value in wanted.items()):
                    return

    async def timed(self, frame: Mapping[str, Any], **wanted: Any) -> float:
        """Milliseconds."""
        await trio.sleep(PAUSE_S)
        began = trio.current_time()
        await self.speaker.send_message(json.dumps({"id": self.id, **frame}))
        await self.heard(**wanted)
        took = 1e3 * (trio.current_time() - began)
        answer = json.loads(await self.speaker.get_message())
        assert answer["type"] == "done", answer
        return took

    async def _frame(self, kind: str) -> dict[str, Any]:
        while True:
            frame: dict[str, Any] = json.loads(await self.hearer.get_message())
            assert frame["type"] != "error", frame
            if frame["type"] == kind:
                return frame


async def interactive(servers: Servers) -> None:
    setups = {"embedded": ["all"], "cluster": [*RUNNING, "ws", "ws"]}
    times: dict[str, dict[str, list[float]]] = {"stdin": {}, "signal": {}, "cancel": {}}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(servers.setup(of)).ws for name, of in setups.items()}
        async with AsyncExitStack() as sockets:
            for name, each in ports.items():
                talk = await _open(sockets, each)
                await talk.submit(ECHO, interactive=True)
                for number in range(ROUNDS):
                    line = f"{number}\n"
                    stdin = {"type": "stdin", "data": line}
                    took = await talk.timed(stdin, name="output", data=line)
                    times["stdin"].setdefault(name, []).append(took)
                    signal = {"type": "signal", "signal": "SIGUSR1"}
                    took = await talk.timed(signal, name="output", data="signal\n")
                    times["signal"].setdefault(name, []).append(took)
                await talk.timed({"type": "cancel"}, name="finished")
                for _ in range(CANCELS):
                    await talk.submit(SLEEP)
                    took = await talk.timed({"type": "cancel"}, name="stage", phase="end")
                    times["cancel"].setdefault(name, []).append(took)
                    await talk.heard(name="finished")
    for what, of in times.items():
        title(f"{what}: from the client's frame to the program and back, over two ws nodes")
        show(of)
        added = percentile(of["cluster"], 0.5) - percentile(of["embedded"], 0.5)
        print(f"the nodes add {added:.1f} ms at p50")


async def _open(stack: AsyncExitStack, ports: Sequence[int]) -> Talk:
    first, last = [await stack.enter_async_context(socket(port)) for port in (ports[0], ports[-1])]
    return Talk(last, first)
