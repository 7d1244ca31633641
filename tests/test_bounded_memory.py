"""What the daemon holds has a bound, whatever clients and programs do, and a hello beside is answered."""

import gc
import os
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from apart import apart
from in_process import API as PATH
from in_process import edge
from quart import Request, Websocket
from serving import API, PATIENCE_S, Server, serving
from test_crowd import WAYS, request

from occd.config import HttpConfig
from occd.web.budget import FREE, Held
from occd.web.edge import ClientConnection
from occd.web.follow import Follower
from occd.web.protocol import Apps, Protocol
from occd.web.socket import _Session
from occd.web.stream import _Stream

MIB = 2**20
CONNECTION = 40 * 2**10
"""What a connection takes that holds nothing: 36 KiB were seen."""


def bound(connections: int) -> int:
    """How much memory so many connections may take, whatever they ask for or send."""
    return HttpConfig().held_bytes + connections * (CONNECTION + FREE)


def assert_answered(server: Server) -> None:
    answer = server.post({"language": "python", "source": "print('hello')"}, f"?wait={PATIENCE_S}")
    assert answer.json()["run"]["stdout"] == "hello\n"


async def connect(port: int, number: int) -> trio.SocketStream:
    """From one of 100 addresses, because each address has a share. The kernel takes little for the client."""
    plain = trio.socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await plain.bind((f"127.0.0.{2 + number % 100}", 0))
    await plain.connect(("127.0.0.1", port))
    return trio.SocketStream(plain)


# A long result that is read slowly

READERS = 100
LONG = 16 * MIB
TAKEN = 2**16


async def slow_readers(port: int, id: str) -> None:
    """Each reads a little at a time. Says when all have read some."""
    taken = [0] * READERS

    async def read(number: int) -> None:
        async with await connect(port, number) as stream:
            await stream.send_all(
                b"GET %b/submissions/%b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (PATH, id.encode())
            )
            while piece := await stream.receive_some(1024):
                assert taken[number] or piece.startswith(b"HTTP/1.1 200 ")
                taken[number] += len(piece)
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for number in range(READERS):
            nursery.start_soon(read, number)
        while min(taken) < TAKEN:  # noqa: ASYNC110
            await trio.sleep(0.01)
        print("there", flush=True)


def test_a_long_result_read_by_a_hundred_slow_clients_is_held_by_none(tmp_path: Path) -> None:
    """As JSON it has 192 MiB."""
    source = f"import sys\nfor out in sys.stdout, sys.stderr: out.write('\\1' * {LONG - 1})"
    with serving(tmp_path / "data") as server:
        id = server.submit(source, limits={"output": LONG})
        server.get(f"{API}/submissions/{id}?fields=status&wait={PATIENCE_S}")
    with serving(tmp_path / "data") as server:  # whose memory nothing has filled before
        assert_answered(server)
        before = server.forget_peak()
        with apart(slow_readers, server.port, id) as said:
            assert said.readline() == "there\n"
            assert_answered(server)
            grown = server.peak - before
    print(f"grown by {grown / MIB:.0f} MiB, of at most {bound(READERS) / MIB:.0f}")
    assert grown < bound(READERS)


# Bodies that stop half-way

SMALL, LARGE = 8_000, 60_000


def most_connections() -> int:
    """Of 10,000, as many as a daemon takes that has the descriptors of this process."""
    return min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000)


async def half_bodies(port: int, count: int) -> None:
    """Every other body is small, and nothing of it is charged. Says when all were sent."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    head = (
        b"POST %b/submissions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n" % PATH
    )
    gate = trio.CapacityLimiter(200)
    streams = []

    async def send(number: int) -> None:
        body = b'{"language": "python", "source": "'.ljust(LARGE if number % 2 else SMALL, b"x")
        async with gate:
            stream = await connect(port, number)
            streams.append(stream)
            try:
                await stream.send_all(head + body)
            except trio.BrokenResourceError:  # it was refused, or cut off for another one
                await stream.aclose()

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(send, number)
    print("sent", flush=True)
    await trio.sleep_forever()


def test_ten_thousand_half_sent_bodies_fill_no_memory_and_delay_nobody(tmp_path: Path) -> None:
    count = most_connections()
    with serving(tmp_path / "data") as server:
        assert_answered(server)
        before = server.forget_peak()
        with apart(half_bodies, server.port, count) as said:
            assert_answered(server)
            assert said.readline() == "sent\n"
            connections = len(os.listdir(f"/proc/{server.process.pid}/fd"))
            assert_answered(server)
            grown = server.peak - before
        print(
            f"{count} half-sent bodies, {connections} held at once, grown by {grown / MIB:.0f} MiB, "
            f"of at most {bound(count) / MIB:.0f}"
        )
    assert connections > count / 4
    assert grown < bound(count)


# Tests that write much

PRINTS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int count, char **args) {
    int size = atoi(args[1]), number;
    char *out = malloc(size + 1);
    scanf("%d", &number);
    memset(out, ' ', size);
    out[sprintf(out, "%d", number)] = ' ';
    fwrite(out, 1, size, stdout);
}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One test runs at a time, and one more program beside it."""
    with serving(tmp_path / "data", execute__slots="2", languages='["c", "python"]') as server:
        assert_answered(server)
        server.run(PRINTS, language="c", args=["1"])
        yield server


def grown_by_tests(server: Server, count: int, size: int) -> int:
    """By how many bytes the daemon grows while each of `count` tests writes `size` bytes."""
    before = server.forget_peak()
    tests = [{"stdin": f"{n}\n", "expected_stdout": f"{n}\n"} for n in range(count)]
    id = server.submit(
        PRINTS, language="c", args=[str(size)], tests=tests, limits={"output": 16 * MIB}
    )
    server.wait_running(id)
    assert_answered(server)
    assert server.look(id)["status"] == "running"
    result = server.result(id)
    assert {test["verdict"] for test in result["tests"]} == {"accepted"}
    grown = server.peak - before
    print(f"{count} tests of {size} bytes, grown by {grown / MIB:.0f} MiB")
    return grown


def test_of_the_output_of_many_tests_only_that_of_the_running_test_is_held(server: Server) -> None:
    """The bytes of 30 tests were held until a garbage collection, which is rare."""
    assert grown_by_tests(server, 30, 15 * MIB) < 6 * 15 * MIB


@pytest.mark.long
def test_a_thousand_tests_of_64_kib_are_not_held(server: Server) -> None:
    assert grown_by_tests(server, 1000, 64 * 2**10) < 32 * MIB


def test_what_a_submission_brought_is_not_held_beyond_its_end(server: Server) -> None:
    """It was held until a garbage collection, too."""
    count, size = 32, 2 * MIB
    before = server.forget_peak()
    for _ in range(count):
        assert server.run("1", stdin="x" * size)["verdict"] == "ok"
    grown = server.peak - before
    print(f"grown by {grown / MIB:.0f} MiB")
    assert grown < count * size


def of_a_connection() -> Counter[str]:
    """The objects that stand for a connection and what it asked for."""
    kinds = (
        ClientConnection,
        Held,
        Protocol,
        Apps,
        _Session,
        _Stream,
        Follower,
        Websocket,
        Request,
    )
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_that_has_lasted_leaves_nothing_that_only_a_full_collection_frees(
    tmp_path: Path, way: str
) -> None:
    """A daemon hardly ever makes one. What is old when it becomes garbage is freed at once, or stays."""
    async with edge(tmp_path) as server:
        _, submission = await server.post(b'{"language": "python", "source": ""}')
        asked = request(way, submission["id"])
        gc.collect()
        before = of_a_connection()
        gc.disable()
        try:
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as client:
                await client.send_all(asked)
                said = b""
                while b"queued" not in said:
                    said += await client.receive_some()
                gc.collect()
                assert of_a_connection() > before
            with trio.fail_after(PATIENCE_S):
                while +(left := of_a_connection() - before):
                    gc.collect(1)
                    await trio.sleep(0.01)
        except trio.TooSlowError:
            pytest.fail(f"{left} are left")
        finally:
            gc.enable()
