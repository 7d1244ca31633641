"""The bytes that this process holds for strangers are bounded, and their holders cannot keep out others."""

import json
import random
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import trio
from apart import apart
from in_process import UPGRADE, frame
from serving import API, PATIENCE_S, Server, connected, serving
from trio.testing import MockClock
from wsproto.events import BytesMessage, Message, TextMessage

from occd.config import Config
from occd.errors import BudgetFull, ShareFull
from occd.web.budget import FREE, OLD_S, Budget, Held, Shares
from occd.web.clients import Clients
from occd.web.http11 import EdgeLimits, LimitedH11
from occd.web.messages import MessageBuffer

MIB = 2**20
SMALL = Shares(process=10 * MIB, client=6 * MIB, connection=4 * MIB)


class Cut:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def holder(budget: Budget, address: str, secret: str = "") -> tuple[Held, Cut]:
    cut = Cut()
    held = Held(budget, address, cut)
    if secret:
        held.begin_request([(b"authorization", b"Bearer " + secret.encode())])
    return held, cut


# The budget itself


async def test_the_first_bytes_are_free_and_all_is_given_back(autojump_clock: MockClock) -> None:
    budget = Budget(SMALL)
    held, _ = holder(budget, "a")
    held.hold(FREE)
    assert budget.charged == 0
    with held.holding(MIB):
        assert budget.charged == MIB
    held.hold_for_request(2 * MIB)
    held.hold(1)
    assert budget.charged == 2 * MIB + 1
    held.release_request()
    assert budget.charged == 1
    held.close()
    held.release(FREE)
    assert budget.charged == 0


async def test_a_connection_and_a_client_have_shares(autojump_clock: MockClock) -> None:
    budget = Budget(SMALL)
    one, two, other = (holder(budget, address)[0] for address in "aab")
    with pytest.raises(ShareFull):
        one.hold(4 * MIB + 1)
    one.hold(4 * MIB)
    with pytest.raises(ShareFull):
        two.hold(3 * MIB)
    other.hold(3 * MIB)
    one.close()
    two.hold(3 * MIB)


def test_who_shares_an_address_does_not_share_its_bytes(tmp_path: Path) -> None:
    """One behind a proxy holds all that a client may, slowly."""
    accounts = {"anonymous": {"class": "all"}, "default_class": "all", "classes": {"all": {}}}
    with (
        serving(
            tmp_path / "data",
            trusted_proxies="127.0.0.0/8",
            accounts=json.dumps(accounts),
            http__body_max_bytes=str(MIB),
            http__held_client_bytes=str(9 * MIB),
            artifacts__file_bytes=str(MIB),
        ) as server,
        ExitStack() as stack,
    ):
        head = (
            "POST /api/v1/submissions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1\r\n"
        )
        began = time.monotonic()
        long = b'{"language": "python", "source": "' + b"#" * 150_000 + b'"}'

        def status(**headers: str) -> int:
            return server.post(long, **headers).status

        while status(x_forwarded_for="192.0.2.1") == 202:
            assert time.monotonic() - began < PATIENCE_S
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.sendall(f'{head}Content-Length: {MIB}\r\n\r\n"'.encode() + b"x" * 900_000)
        assert status(x_forwarded_for="192.0.2.1") == 429
        assert status(x_forwarded_for="192.0.2.2") == 202


def test_a_session_is_a_client() -> None:
    oidc = {"issuer": "http://localhost:1", "client_id": "occd"}
    accounts = {"anonymous": "refuse", "default_class": "all", "classes": {"all": {}}}
    settings = {"accounts": accounts | {"oidc": oidc}, "http": {"public_url": "http://localhost:1"}}
    signed_in = Clients(Config.model_validate(settings))
    without = Clients(Config())

    def of(clients: Clients, *cookies: bytes) -> str:
        return clients.of("192.0.2.1", [(b"cookie", b"occd_session=" + each) for each in cookies])

    assert len({of(signed_in, b"a.b.c"), of(signed_in, b"a.b.d"), of(signed_in)}) == 3
    assert of(signed_in, b"a.b.c", b"a.b.d") == of(signed_in) == of(without, b"a.b.c")
    assert "a.b.c" not in of(signed_in, b"a.b.c")


async def test_an_owner_is_a_client_wherever_the_requests_come_from(
    autojump_clock: MockClock,
) -> None:
    budget = Budget(SMALL)
    secret = "s" * 30
    first, second = (holder(budget, address, secret)[0] for address in "ab")
    another = holder(budget, "a", "t" * 30)[0]
    first.hold(4 * MIB)
    with pytest.raises(ShareFull):
        second.hold(3 * MIB)
    another.hold(3 * MIB)


async def test_the_oldest_goes_when_all_is_full_and_a_young_one_stays(
    autojump_clock: MockClock,
) -> None:
    budget = Budget(SMALL)
    (old, cut), (young, spared) = holder(budget, "a"), holder(budget, "b")
    old.hold(4 * MIB)
    await trio.sleep(OLD_S / 2)
    young.hold(4 * MIB)
    newcomer, _ = holder(budget, "c")
    with pytest.raises(BudgetFull):
        newcomer.hold(4 * MIB)
    await trio.sleep(OLD_S / 2)
    newcomer.hold(4 * MIB)
    assert (cut.count, spared.count) == (1, 0)
    with pytest.raises(BudgetFull):
        old.hold(2 * FREE)


async def test_many_connections_that_hold_little_are_bounded_too(
    autojump_clock: MockClock,
) -> None:
    """Nineteen thousand half-sent bodies of 60 kB were free, and took 4 GB."""
    limits = EdgeLimits()
    budget = Budget(limits.shares)
    holders = [holder(budget, f"address {n % 50}")[0] for n in range(limits.connections_max)]
    taken = 0
    for held in holders:
        with suppress(ShareFull, BudgetFull):
            held.hold(FREE)
            taken += FREE
            held.hold(60_000 - FREE)
            taken += 60_000 - FREE
    assert taken < 500 * MIB


async def test_a_body_is_counted_as_often_as_it_is_there(autojump_clock: MockClock) -> None:
    """A thousand bodies of 60 kB took twice the memory that was counted."""
    limits = EdgeLimits()
    budget = Budget(limits.shares)
    held, _ = holder(budget, "a")
    connection = LimitedH11(limits, trio.CancelScope(), held)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    connection.next_event()
    for number in range(1, 11):
        connection.receive_data(b"x" * 30_000)
        connection.next_event()
        sent = number * 30_000
        assert sent + min(sent, 2**16) <= budget.charged + FREE < sent + min(sent, 2**16) + 1000


async def test_a_head_counts_for_as_long_as_its_request(autojump_clock: MockClock) -> None:
    """A WebSocket's for as long as the socket: 30 kB with each of thousands."""
    limits = EdgeLimits()
    budget = Budget(limits.shares)
    held, _ = holder(budget, "a")
    connection = LimitedH11(limits, trio.CancelScope(), held)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\nA: %b\r\n\r\n" % (b"x" * 30_000))
    connection.next_event()
    assert budget.charged > 10_000
    held.release_request()
    assert budget.charged == 0


@pytest.mark.parametrize("part", ["", "\u1234", b"x"])
async def test_a_message_in_tiny_parts_takes_no_more_memory_than_is_counted(
    part: str | bytes, autojump_clock: MockClock
) -> None:
    """An object for each part would take eighty bytes for three, or for none."""
    limits = EdgeLimits(frame_max_bytes=MIB)
    held, _ = holder(Budget(limits.shares), "a")
    buffer = MessageBuffer(limits.frame_max_bytes)
    buffer.held, buffer.h11 = held, LimitedH11(limits, trio.CancelScope(), held)
    kind: type[Message[Any]] = TextMessage if isinstance(part, str) else BytesMessage
    tracemalloc.start()
    for _ in range(50_000):
        buffer.extend(kind(part, message_finished=False))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < buffer.size + MIB // 8
    message = buffer.to_message()
    assert (message["text"] or message["bytes"] or part) == part * 50_000


async def test_the_sum_is_exact_whatever_is_held_and_released(autojump_clock: MockClock) -> None:
    rng = random.Random(20261125)
    budget = Budget(Shares(100 * MIB, 50 * MIB, 20 * MIB))
    sizes = {holder(budget, rng.choice("abc"))[0]: 0 for _ in range(20)}
    for _ in range(3000):
        held = rng.choice(list(sizes))
        if sizes[held] and rng.random() < 0.5:
            size = rng.randrange(sizes[held] + 1)
            held.release(size)
            sizes[held] -= size
        else:
            size = rng.choice([1, FREE, FREE + 1, 3 * MIB])
            with suppress(ShareFull, BudgetFull):
                held.hold(size)
                sizes[held] += size
        assert budget.charged == sum(max(0, size - FREE) for size in sizes.values())
    for held in sizes:
        held.close()
    assert budget.charged == 0


# A crowd

CLIENTS = 500
SENDING_S = 5.0
SOON_S = 1.0
SLOWER = 10
"""Half of the honest requests are answered within a second, or, on a busy machine, within so many times what
they take without the crowd (0.05 s on a quiet one)."""

RESIDENT_MAX = 400 * MIB
LOUD = """
import sys
for stream in (sys.stdout, sys.stderr):
    stream.write("\\x01" * (16 * 2**20 - 1))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("budget") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def loud(server: Server) -> str:
    """The id of a submission whose answer is 192 MiB."""
    id = server.submit(LOUD, limits={"output": 16 * MIB})
    while server.get(f"{API}/submissions/{id}?wait=60").status != 200:
        pass
    return id


async def hostile(port: int, kind: int, loud: str, stack: AsyncExitStack) -> trio.SocketStream:
    narrow = trio.socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await narrow.connect(("127.0.0.1", port))
    stream = trio.SocketStream(narrow)
    await stack.enter_async_context(stream)
    half = bytes(MIB).replace(b"\0", b"x")
    body = b"POST %b/submissions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 16000000\r\n\r\n"
    path = API.encode()
    sent = [
        body % path + b'{"language": "python", "source": "' + half,
        UPGRADE + frame(b'{"type":"submit","ref":"' + half, last=False),
        b"GET %b/submissions/%b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (path, loud.encode()),
        UPGRADE + frame(json.dumps({"type": "subscribe", "id": loud}).encode()),
    ][kind]
    with suppress(trio.BrokenResourceError), trio.move_on_after(SENDING_S):
        await stream.send_all(sent)
    return stream


async def crowd(port: int, loud: str) -> None:
    """Runs in a process of its own, so that it delays nobody by itself. Says when all are there."""
    gate = trio.CapacityLimiter(50)

    async def come(kind: int) -> None:
        async with gate:
            await hostile(port, kind, loud, stack)

    async with AsyncExitStack() as stack:
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(come, number % 4)
        print("there", flush=True)
        await trio.sleep_forever()


async def honest(server: Server) -> float:
    """How long a client waits that asks for little."""
    began = trio.current_time()
    answer = await trio.to_thread.run_sync(
        lambda: server.post({"language": "python", "source": "print('hi')"}, "?wait=60")
    )
    assert answer.json()["run"]["stdout"] == "hi\n"
    async with connected(server) as client:
        id = await client.submit("print('hi')")
        await client.until(id, "finished")
    return trio.current_time() - began


async def test_a_crowd_of_hostile_clients_fills_no_memory_and_delays_nobody(
    server: Server, loud: str
) -> None:
    usual = median([await honest(server) for _ in range(5)])
    server.forget_peak()
    waits: list[float] = []
    with apart(crowd, server.port, loud) as said:
        there = trio.Event()

        async def wait() -> None:
            await trio.to_thread.run_sync(said.readline)
            there.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            while not there.is_set() or len(waits) < 8:
                waits.append(await honest(server))
                assert server.resident < RESIDENT_MAX
    print(f"usual {usual}, waits {waits}, peak {server.peak / MIB:.0f} MiB")
    assert server.peak < RESIDENT_MAX
    assert median(waits) < max(SOON_S, SLOWER * usual)


async def test_a_long_transcript_is_whole_and_costs_little(server: Server, loud: str) -> None:
    before = server.forget_peak()
    path = f"{API}/submissions/{loud}?transcript=true&fields=status"
    answer = await trio.to_thread.run_sync(lambda: server.get(path))
    pieces = answer.json()["transcript"]
    for stream in ("stdout", "stderr"):
        sizes = [len(each["data"]) for each in pieces if each["stream"] == stream]
        assert sum(sizes) == 16 * MIB - 1
    assert server.peak - before < 32 * MIB


async def test_a_long_answer_is_whole_and_costs_little(server: Server, loud: str) -> None:
    before = server.forget_peak()
    answer = await trio.to_thread.run_sync(lambda: server.get(f"{API}/submissions/{loud}"))
    run = answer.json()["run"]
    assert run["stdout"] == run["stderr"] == "\x01" * (16 * MIB - 1)
    assert server.peak - before < 128 * MIB
