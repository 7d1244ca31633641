"""Interactive programs of a real daemon: they wait for input in seats, and the slots serve all others."""

import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from processes import descendants, processor_time
from rabbitmq_server import shared
from sandboxed import Lab, honest_share
from serving import API, PATIENCE_S, Client, Server, connected, serving, start, wait_open
from streams import followed

SLOTS = 4
SEATS = 64
EACH_MAX = 300 * 1024
"""Bytes of the daemon's memory for a program at a terminal and the WebSocket that follows it."""

IDLE_MAX = 0.03
"""The share of a processor that all of them take while nobody types. A look every 5 ms takes more."""

in_thread = trio.to_thread.run_sync
BIG = [{"name": "big", "content": " " * 2**20}]
"""With it a submission takes no seat."""

ASKS = "print('asked', flush=True); print('got', input())"
LONG: dict[str, Any] = {"limits": {"wall_time": 300, "cpu_time": 30}}


@pytest.fixture(params=["embedded", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The settings of a daemon over this broker."""
    if request.param == "embedded":
        yield {}
    else:
        url = shared().add_vhost()
        yield {"rabbitmq__url": url}
        shared().delete_vhost(url)


def ask(server: Server, owner: str = "") -> str:
    """Submit a program that asks for input. Without an owner it is nobody's."""
    headers = {"authorization": f"Bearer {owner:-<24}"} if owner else {}
    asks = {"source": ASKS, "interactive": True, "detached": True}
    body = {"language": "python"} | asks | LONG
    answer = server.post(body, **headers)
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(server: Server, ids: list[str]) -> int:
    return sum(server.look(id)["status"] == "running" for id in ids)


async def answer(server: Server, ids: list[str]) -> None:
    """Give each program its input, and see its end."""
    async with connected(server) as client:
        for number, id in enumerate(ids):
            await client.ask("subscribe", id=id)
            await client.until_output(id, "asked")
            await client.ask("stdin", id=id, data=f"{number}\n")
            ended = (await client.until(id, "finished"))[-1]["event"]["result"]
            assert ended["verdict"] == "ok"


def assert_every_slot_is_free(server: Server) -> None:
    """As many programs run at once as there are slots."""
    ids = [server.submit("import time; time.sleep(300)", **LONG) for _ in range(SLOTS + 1)]
    wait_until(lambda: running(server, ids) == SLOTS)
    for id in ids:
        server.request("DELETE", f"{API}/submissions/{id}")
        assert server.result(id)["verdict"] == "cancelled"


def test_four_at_their_input_do_not_stop_a_class(tmp_path: Path, broker: dict[str, Any]) -> None:
    with serving(tmp_path / "data", execute__slots=str(SLOTS), **broker) as server:
        four = [ask(server, f"person-{number}") for number in range(SLOTS)]
        wait_until(lambda: running(server, four) == SLOTS)
        for number in range(5):
            result = server.run(f"print({number})")
            assert (result["verdict"], result["run"]["stdout"]) == ("ok", f"{number}\n")
        assert running(server, four) == SLOTS
        trio.run(answer, server, four)
        assert_every_slot_is_free(server)


def test_an_owner_gets_a_quarter_of_the_seats(tmp_path: Path, broker: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"execute__slots": str(SLOTS), "execute__interactive": "8"} | broker
    with serving(tmp_path / "data", **settings) as server:
        greedy = [ask(server, "greedy") for _ in range(8)]
        wait_until(lambda: running(server, greedy) == 2 + SLOTS)
        hello = server.submit("print('hello')")
        time.sleep(1)
        assert running(server, greedy) == 2 + SLOTS
        assert server.look(hello)["status"] == "queued"
        for id in greedy:
            server.request("DELETE", f"{API}/submissions/{id}")
        assert server.result(hello)["verdict"] == "ok"
        assert_every_slot_is_free(server)


@pytest.mark.parametrize("addresses", [["192.0.2.1"] * 8, [f"2001:db8:7:{n}::1" for n in range(8)]])
def test_owners_that_a_network_invents_share_a_quarter_of_the_seats(
    tmp_path: Path, broker: dict[str, Any], addresses: list[str]
) -> None:
    """With accounts: by address, and by the /48 of IPv6."""
    value = {"anonymous": {"class": "it"}, "default_class": "it", "classes": {"it": {}}}
    settings: dict[str, Any] = {
        "execute__slots": str(SLOTS),
        "execute__interactive": "8",
        "accounts": json.dumps(value),
        "trusted_proxies": "127.0.0.0/8",
    }
    body = {"language": "python", "source": ASKS, "interactive": True, "detached": True} | LONG
    with serving(tmp_path / "data", **settings | broker) as server:

        def call(method: str, path: str, number: int, body: bytes = b"") -> dict[str, Any]:
            owner = {"authorization": f"Bearer invented-{number:-<24}"}
            answer = server.request(
                method, f"{API}{path}", body, **owner, x_forwarded_for=addresses[number]
            )
            return dict(answer.json())

        ids = [
            call("POST", "/submissions", number, json.dumps(body).encode())["id"]
            for number in range(8)
        ]

        def run() -> int:
            looks = (call("GET", f"/submissions/{id}", number) for number, id in enumerate(ids))
            return sum(each["status"] == "running" for each in looks)

        wait_until(lambda: run() >= 2 + SLOTS)
        hello = server.submit("print('hello')")
        time.sleep(1)  # for what must not happen
        assert run() == 2 + SLOTS
        assert server.look(hello)["status"] == "queued"
        for number, id in enumerate(ids):
            call("DELETE", f"/submissions/{id}", number)
        assert server.result(hello)["verdict"] == "ok"


def test_one_owner_does_not_keep_the_slots_from_others_for_ever(
    tmp_path: Path, broker: dict[str, Any]
) -> None:
    """An interactive program without a seat has its slot for as long as any other program may. Then it gives
    way when somebody waits."""
    settings = {"execute__slots": "2", "execute__interactive": "1", "ceilings__wall_time": "10"}
    with serving(tmp_path / "data", **settings | broker) as server:
        greedy = [ask(server, "greedy") for _ in range(2)]
        wait_until(lambda: running(server, greedy) == 2)
        large = {"interactive": True, "detached": True, "files": BIG} | LONG
        greedy.append(server.submit(ASKS, **large))
        wait_until(lambda: running(server, greedy) == 3)
        time.sleep(16)  # for what must not happen: nobody waits
        assert running(server, greedy) == 3
        assert server.run("print('hello')")["verdict"] == "ok"
        ended = [each for each in map(server.look, greedy) if each["status"] == "finished"]
        assert [each["verdict"] for each in ended] == ["cancelled"]
        assert "others waited for its slot" in ended[0]["message"]
        for id in greedy:
            server.request("DELETE", f"{API}/submissions/{id}")
            assert server.result(id)["verdict"] == "cancelled"


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_those_in_seats_run_again_after_a_stop_and_after_a_death(
    tmp_path: Path, broker: dict[str, Any], end: str
) -> None:
    settings: dict[str, Any] = {"execute__slots": str(SLOTS), "grace_s": "0.5"} | broker
    server = start(tmp_path / "data", **settings)
    try:
        wait_open(server)
        ids = [ask(server, f"person-{number}") for number in range(12)]
        wait_until(lambda: running(server, ids) == len(ids))
        if end == "SIGKILL":
            server.process.kill()
            server.process.wait()
        else:
            assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
    with serving(tmp_path / "data", **settings) as server:
        trio.run(answer, server, ids)
        assert {server.result(id)["attempts"] for id in ids} == {2}
        assert_every_slot_is_free(server)


def test_200_runs_of_every_kind_with_cancels_leave_every_slot_and_seat_free(
    tmp_path: Path, broker: dict[str, Any]
) -> None:
    chance = random.Random(8)
    settings: dict[str, Any] = {"execute__slots": str(SLOTS), "execute__interactive": "16"} | broker
    with serving(tmp_path / "data", **settings) as server:
        ids = []
        for number in range(200):
            kind = chance.choice(["asks", "asks", "hello", "fails", "compiles"])
            if kind == "asks":
                ids.append(ask(server, chance.choice(["", "a", "b", "c", "d", "e"])))
            elif kind == "compiles":
                ids.append(server.submit("int main() {}", language="c", interactive=True))
            else:
                ids.append(server.submit(f"raise SystemExit({int(kind == 'fails')})  # {number}"))
            if chance.random() < 0.5:
                server.request("DELETE", f"{API}/submissions/{chance.choice(ids)}")
        for id in ids:
            server.request("DELETE", f"{API}/submissions/{id}")
        verdicts = {server.result(id)["verdict"] for id in ids}
        assert verdicts <= {"ok", "runtime_error", "cancelled"}
        assert_every_slot_is_free(server)
        seated = [ask(server, owner) for owner in "abcd" for _ in range(4)]
        wait_until(lambda: running(server, seated) == 16)
        assert server.run("print('hello')")["verdict"] == "ok"
        assert_every_slot_is_free(server)
        for id in seated:
            server.request("DELETE", f"{API}/submissions/{id}")
            assert server.result(id)["verdict"] == "cancelled"


@dataclass(frozen=True)
class Terminal:
    """A program that waits at a terminal, and its client, which follows it."""

    client: Client
    id: str

    async def end(self) -> None:
        await self.client.ask("stdin", id=self.id, data="Ada\n")
        assert await self.client.until_output(self.id, "got Ada\r\n")
        ended = (await self.client.until(self.id, "finished"))[-1]["event"]["result"]
        assert ended["verdict"] == "ok"


@asynccontextmanager
async def at_terminals(server: Server, number: int) -> AsyncIterator[list[Terminal]]:
    """Programs of four owners that have shown their prompt."""
    asks = {"source": 'print("got", input("Name? "))', "tty": {"rows": 24, "cols": 80}} | LONG
    async with AsyncExitStack() as stack:
        found = []
        for each in range(number):
            owner = f"Bearer {f'person-{each % 4}':-<24}"
            client = await stack.enter_async_context(connected(server, Authorization=owner))
            found.append(Terminal(client, await client.submit(**asks)))
        for terminal in found:
            await terminal.client.until_output(terminal.id, "Name? ")
        yield found


def batch_s(server: Server) -> float:
    """How long eight programs take, four at once. The least of six, because other work comes and goes."""

    def run(_: int) -> None:
        hello = {"language": "python", "source": "print('hello')"}
        assert server.post(hello, f"?wait={PATIENCE_S}").json()["verdict"] == "ok"

    def once(pool: ThreadPoolExecutor) -> float:
        began = time.monotonic()
        list(pool.map(run, range(8)))
        return time.monotonic() - began

    with ThreadPoolExecutor(SLOTS) as pool:
        return min(once(pool) for _ in range(6))


def used_s(server: Server) -> float:
    """The processor time of the daemon and of all programs that run in it."""
    alive = [server.process.pid, *(each.pid for each in descendants(server.process.pid))]
    return sum(map(processor_time, alive))


def available() -> int:
    """Bytes of the machine's memory."""
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split()[0]) * 1024


@pytest.mark.alone
async def test_64_idle_terminals_take_memory_and_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots=str(SLOTS)) as server:
        alone = await in_thread(batch_s, server)
        resident, machine = server.resident, available()
        async with at_terminals(server, SEATS) as seated:
            each = (server.resident - resident) / SEATS
            print(f"{each / 1024:.0f} KiB of the daemon for each terminal and its follower")
            print(f"{(machine - available()) / SEATS / 2**20:.1f} MiB of the machine")
            assert each < EACH_MAX
            await trio.sleep(0.5)
            used = used_s(server)
            await trio.sleep(2)
            used = (used_s(server) - used) / 2
            print(f"{used:.2%} of a processor for all")
            assert used < IDLE_MAX
            beside = await in_thread(batch_s, server)
            print(f"eight programs take {alone:.3f} s alone, {beside:.3f} s beside them")
            assert beside < 2 * alone
            await in_thread(assert_every_slot_is_free, server)
            await assert_those_without_a_seat_keep_their_slots(server, seated)


async def test_those_without_a_seat_keep_their_slots(
    tmp_path: Path, broker: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"execute__slots": str(SLOTS), "execute__interactive": "8"} | broker
    with serving(tmp_path / "data", **settings) as server:
        async with at_terminals(server, 8) as seated:
            await assert_those_without_a_seat_keep_their_slots(server, seated)


async def assert_those_without_a_seat_keep_their_slots(
    server: Server, seated: list[Terminal]
) -> None:
    async with at_terminals(server, SLOTS - 1) as in_slots:
        assert (await in_thread(server.run, "print('in the last slot')"))["verdict"] == "ok"
        async with at_terminals(server, 1) as last:
            waiting = await in_thread(server.submit, "print('at last')")
            with followed(server, waiting) as stream:
                (queued,) = await in_thread(stream.until, "queued")
                assert queued.frame["event"]["position"] == 1
                await trio.sleep(0.5)
                assert (await in_thread(server.look, waiting))["status"] == "queued"
                await seated.pop(0).end()  # the owner has another, which takes the seat
                rest = await in_thread(stream.rest)
                assert rest[-1].frame["event"]["result"]["verdict"] == "ok"
            for terminal in (*seated, *in_slots, *last):
                await terminal.end()
    await in_thread(assert_every_slot_is_free, server)


@pytest.mark.alone
async def test_spinning_programs_in_seats_do_not_starve_one_in_a_slot(lab: Lab) -> None:
    """All interactive programs together get what one other program gets."""
    assert "the processors shared by job" in lab.sandbox.isolation
    assert await honest_share(lab, spinning=12, seconds=3.0) > 3
