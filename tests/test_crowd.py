"""Two thousand followers of one run, over each of the three ways: everybody sees everything, once, and what
they cost is told. The followers live in a process of their own, so that they do not delay the test."""

import itertools
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import trio
from in_process import UPGRADE, frame
from processes import processor_time
from serving import API, PATIENCE_S, Server, serving
from streams import LINES, SSE, type_in

FOLLOWERS = 2000
ROUNDS = 10
EACH_MAX = 100_000
"""Bytes of memory for one follower."""

AGAIN_MAX = 8_000
"""The same when as many have been there twice before: what the first two left has been freed."""

SLOW = 300
SLOW_MAX = 3 * 2**20
"""Bytes of memory for one follower that does not read: a batch of events as stored and as decoded, and one
frame in each form that it has on the way."""

ECHO = (
    "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
)
FLOOD = "for _ in range(512): print('\\1' * (32 * 1024 - 1))"
WAYS = ("websocket", "sse", "ndjson")

way = pytest.mark.parametrize("way", WAYS)


def request(way: str, id: str) -> bytes:
    if way == "websocket":
        return UPGRADE + frame(json.dumps({"type": "subscribe", "id": id}).encode())
    accept = {"sse": SSE, "ndjson": LINES}[way]
    head = f"GET {API}/submissions/{id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return f"{head}Accept: {accept}\r\n\r\n".encode()


def frames_in(buffer: bytearray) -> Iterator[dict[str, Any]]:
    """The events that are whole, which are taken out of the buffer. What lies between two of them is of the
    way."""
    while (start := buffer.find(b'{"type":"event"')) >= 0:
        try:
            text = buffer[start:].decode(errors="ignore")
            found, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            return
        del buffer[: start + len(text[:end].encode())]
        yield found


class Crowd:
    """Says when all have seen a line of the program, and when all have seen its end."""

    def __init__(self, port: int, way: str, id: str) -> None:
        self._port, self._request = port, request(way, id)
        self._seen = [0] * (ROUNDS + 2)
        self._finished = 0

    async def run(self) -> None:
        gate = trio.CapacityLimiter(100)
        async with trio.open_nursery() as nursery:
            for _ in range(FOLLOWERS):
                nursery.start_soon(self._follow, gate)

    async def _follow(self, gate: trio.CapacityLimiter) -> None:
        async with gate:
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
            await stream.send_all(self._request)
        async with stream:
            buffer, lines, seq = bytearray(), "", 0
            while True:
                data = await stream.receive_some(2**16)
                assert data, "the server has closed the connection"
                buffer += data
                for event in frames_in(buffer):
                    assert event["seq"] == seq + 1
                    seq += 1
                    lines += event["event"].get("data", "")
                    while lines.endswith("\n") and lines:
                        lines = ""
                        self._see(event)
                    if event["event"]["name"] == "finished":
                        return self._finish()

    def _see(self, event: dict[str, Any]) -> None:
        """A line came. Lines come apart, because the next is typed when all have seen this one."""
        number = next(at for at, count in enumerate(self._seen) if count < FOLLOWERS)
        self._seen[number] += 1
        if self._seen[number] == FOLLOWERS:
            print(time.monotonic(), flush=True)

    def _finish(self) -> None:
        self._finished += 1
        if self._finished == FOLLOWERS:
            print("finished", flush=True)


@contextmanager
def crowd(port: int, way: str, id: str) -> Iterator[IO[str]]:
    """What the crowd says."""
    code = f"import trio, test_crowd; trio.run(test_crowd.Crowd({port}, {way!r}, {id!r}).run)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=many_files,
    ) as process:
        assert process.stdout
        try:
            yield process.stdout
        finally:
            process.kill()


def many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.long
@way
def test_two_thousand_follow_one_run(tmp_path: Path, way: str) -> None:
    with serving(tmp_path / "data") as server:
        server.run("print('warm')")
        residents = [server.resident, *(follow(server, way) for _ in range(3))]
    grown = [(after - before) / FOLLOWERS for before, after in itertools.pairwise(residents)]
    first, _, again = grown
    print(f"{way}: {first:.0f} bytes of memory for each follower, {again:.0f} more the third time")
    assert first < EACH_MAX
    assert again < AGAIN_MAX


def follow(server: Server, way: str) -> int:
    """The memory of the server with all of its followers there."""
    idle = descriptors(server)
    id = server.submit(ECHO, interactive=True, limits={"wall_time": 300})
    took: list[float] = []
    with crowd(server.port, way, id) as said:
        float(said.readline())
        used = processor_time(server.process.pid)
        for number in range(ROUNDS):
            began = time.monotonic()
            type_in(server, id, f"{number}\n")
            took.append(float(said.readline()) - began)
        resident, used = server.resident, processor_time(server.process.pid) - used
        type_in(server, id, "", eof=True)
        assert said.readline() == "finished\n"
    deadline = time.monotonic() + PATIENCE_S
    while descriptors(server) > idle + FOLLOWERS / 10:
        assert time.monotonic() < deadline, "the connections stay"
        time.sleep(0.1)
    print(
        f"{way}: {sorted(took)[ROUNDS // 2]:.3f} s for a line to all, "
        f"{1e6 * used / ROUNDS / FOLLOWERS:.0f} µs of processor time for each"
    )
    return resident


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@pytest.mark.long
@way
async def test_those_who_do_not_read_cost_a_bounded_number_of_bytes(
    tmp_path: Path, way: str
) -> None:
    """Of 96 MiB that each of them is to get."""
    much = str(2**30)
    with serving(tmp_path / "data", http__held_bytes=much, http__held_client_bytes=much) as server:
        id = await trio.to_thread.run_sync(
            lambda: server.run(FLOOD, limits={"output": 16 * 2**20})["id"]
        )
        before = server.resident
        async with AsyncExitStack() as stack:
            for _ in range(SLOW):
                narrow = trio.socket.socket()
                narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await narrow.connect(("127.0.0.1", server.port))
                stream = await stack.enter_async_context(trio.SocketStream(narrow))
                await stream.send_all(request(way, id))
            grown, rising = 0, time.monotonic()
            while time.monotonic() - rising < 2 and time.monotonic() < rising + PATIENCE_S:
                if server.resident - before > grown + 2**20:
                    grown, rising = server.resident - before, time.monotonic()
                await trio.sleep(0.1)
        each = grown / SLOW
        print(f"{way}: {each / 2**20:.2f} MiB for each")
    assert each < SLOW_MAX
