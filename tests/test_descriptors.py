"""No number of connections takes the descriptors that programs need."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import trio
from serving import API, OCCD, PATIENCE_S, Server, connected, serving, start

from occd.descriptors import _A_SLOT

SLOTS = 4


@pytest.fixture
def limited(tmp_path: Path) -> Path:
    """occd under a soft limit of 256 and a hard one of 1,500 open files."""
    prlimit = shutil.which("prlimit")
    assert prlimit
    program = tmp_path / "limited"
    program.write_text(f'#!/bin/sh\nexec {prlimit} --nofile=256:1500 {OCCD} "$@"\n')
    program.chmod(0o755)
    return program


class Followers:
    """Plain WebSockets that follow one submission and read nothing."""

    def __init__(self, server: Server, id: str) -> None:
        self._server = server
        self._frame = json.dumps({"type": "subscribe", "id": id}).encode()
        self.streams: list[trio.SocketStream] = []

    async def add(self) -> bool:
        """Whether there was room for one more."""
        stream = await trio.open_tcp_stream("127.0.0.1", self._server.port)
        await stream.send_all(
            f"GET {API}/ws HTTP/1.1\r\nHost: 127.0.0.1:{self._server.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        with trio.fail_after(PATIENCE_S):
            answer = await stream.receive_some()
        if b" 101 " not in answer:
            assert b" 503 " in answer
            await stream.aclose()
            return False
        size = len(self._frame)
        assert size < 126
        await stream.send_all(bytes([0x81, 0x80 | size]) + bytes(4) + self._frame)
        self.streams.append(stream)
        return True

    async def leave(self, count: int) -> None:
        for _ in range(count):
            await self.streams.pop().aclose()


async def test_a_thousand_followers_cost_no_submission_anything(
    tmp_path: Path, limited: Path
) -> None:
    settings = {"execute__slots": str(SLOTS), "execute__interactive": "8"}
    with serving(tmp_path / "data", program=limited, cwd=None, roles="all", **settings) as server:
        assert "fewer connections are taken" in server.log.read_text()
        followed = server.submit("import time; time.sleep(600)", limits={"wall_time": 300})
        server.wait_running(followed)
        followers = Followers(server, followed)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connected(server))
            for _ in range(1000):
                assert await followers.add()
            wanted = [f"{number}\n" for number in range(24)]
            ids = [server.submit(f"print({text.strip()})") for text in wanted]
            results = [server.result(id) for id in ids]
            assert [each["run"]["stdout"] for each in results] == wanted
            assert {(each["verdict"], each["attempts"]) for each in results} == {("ok", 1)}
            while await followers.add():
                pass
            assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 1500 - SLOTS * 6
            # Nobody else comes in now, but who is there is served as before.
            for number in range(8):
                id = await client.submit(f"print({number})")
                ended = (await client.until(id, "finished"))[-1]["event"]["result"]
                assert (ended["verdict"], ended["attempts"]) == ("ok", 1)
            await followers.leave(10)
            with trio.fail_after(PATIENCE_S):
                while server.get("/readyz").status != 200:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            await followers.leave(len(followers.streams))
        log = server.log.read_text()
        assert "attempt failed" not in log
        assert "Too many open files" not in log
        server.request("DELETE", f"{API}/submissions/{followed}")


def test_more_connections_than_fit_are_refused_by_name(tmp_path: Path, limited: Path) -> None:
    server = start(tmp_path / "data", program=limited, http__connections_max="5000")
    assert server.process.wait(PATIENCE_S) != 0
    said = server.log.read_text()
    assert "http.connections_max: 5000 do not fit" in said
    assert "LimitNOFILE" in said
    assert said.count("\n") == 1


@contextmanager
def most_open(server: Server) -> Iterator[list[int]]:
    """How many files the daemon has open, each time that there are more than before."""
    seen, over = [0], threading.Event()

    def look() -> None:
        while not over.is_set():
            if (now := len(os.listdir(f"/proc/{server.process.pid}/fd"))) > seen[-1]:
                seen.append(now)
            time.sleep(0.0005)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def test_a_slot_takes_no_more_descriptors_than_are_kept_for_it(tmp_path: Path) -> None:
    """With all that a submission may have: a test that runs, one that is made ready, and four checkers."""
    tests = [
        {
            "stdin": f"{at}\n",
            "expected_stdout": f"{at}\n",
            "checker": {
                "program": {"language": "bash", "protocol": "testlib", "source": f"true {at % 4}"}
            },
        }
        for at in range(40)
    ]
    with serving(tmp_path / "data", execute__slots=str(SLOTS)) as server:
        idle = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        with most_open(server) as seen:
            ids = [server.submit("cat", language="bash", tests=tests) for _ in range(SLOTS)]
            assert {server.result(id)["verdict"] for id in ids} == {"accepted"}
    assert seen[-1] <= idle + SLOTS * _A_SLOT
