"""A client of a daemon, and a measure of the memory that the daemon takes."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import trio
from trio_websocket import WebSocketConnection, open_websocket_url


async def post(port: int, body: Mapping[str, Any]) -> Any:
    return await ask(port, "POST", "/api/v1/submissions", json.dumps(body).encode())


async def ask(port: int, method: str, path: str, body: bytes = b"") -> Any:
    connection = h11.Connection(h11.CLIENT)
    head = h11.Request(
        method=method,
        target=path,
        headers=[
            ("Host", "127.0.0.1"),
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
        ],
    )
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        parts = (connection.send(each) for each in (head, h11.Data(data=body), h11.EndOfMessage()))
        await stream.send_all(b"".join(filter(None, parts)))
        answer = b""
        while (event := connection.next_event()) is not None:
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Data):
                answer += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        return json.loads(answer)


@asynccontextmanager
async def socket(port: int) -> AsyncIterator[WebSocketConnection]:
    async with open_websocket_url(f"ws://127.0.0.1:{port}/api/v1/ws") as each:
        yield each


def resident_kb(pid: int, *, peak: bool = False) -> int:
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


async def until_finished(connection: WebSocketConnection, id: str) -> list[dict[str, Any]]:
    """Follow a submission. The frames of its events."""
    await connection.send_message(json.dumps({"type": "subscribe", "id": id}))
    frames = []
    while True:
        frame: dict[str, Any] = json.loads(await connection.get_message())
        assert frame["type"] != "error", frame
        if frame["type"] == "event":
            frames.append(frame)
            if frame["event"]["name"] == "finished":
                return frames
