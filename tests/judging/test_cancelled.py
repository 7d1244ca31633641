"""A submission that is cancelled keeps what is over and leaves nothing, whatever it was at, over both
set-ups: embedded, and with RabbitMQ and Redis."""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from endless import COMPILES_LONG
from leased import AT_REST, groups, leases, links
from meeting import meeting
from processes import descendants
from rabbitmq_server import shared
from serving import API, PATIENCE_S, Server, connected, serving

SLOTS = 3
STARTS: dict[str, Any] = {"name": "stage", "phase": "start"}
WAITS = "import os; os.write(1, b'hello\\n'); input()"
SLEEPS = "import os, time; os.write(1, b'hello\\n'); time.sleep(200)"
LONG = {"wall_time": 200}


@dataclass(frozen=True)
class Rest:
    """What a daemon has when nothing runs."""

    processes: int
    groups: int
    """Those of runs, beyond what a slot may have."""
    mounts: int
    leases: int
    files: int
    """Without those of SQLite, which are opened when several read at once, and without connections."""
    messages: int


@dataclass(frozen=True)
class Setup:
    server: Server
    messages: Callable[[], int]
    """How many messages the broker has, waiting or in somebody's hands."""

    def look(self) -> Rest:
        pid = self.server.process.pid
        open_files, held = list(links(Path(f"/proc/{pid}/fd"))), leases(pid)
        return Rest(
            processes=len(descendants(pid)),
            groups=sum(max(0, len(groups(lease)) - AT_REST) for lease in held),
            mounts=len(Path(f"/proc/{pid}/mounts").read_text().splitlines()),
            leases=len(held),
            files=sum(
                not ("occd.db" in each.name or "socket:" in each.name) for each in open_files
            ),
            messages=self.messages(),
        )

    async def rest(self, before: Rest | None = None) -> Rest:
        """What the daemon has, when this is as `before`, else when it is the same for a second."""
        deadline, seen, since = time.monotonic() + PATIENCE_S, self.look(), time.monotonic()
        while seen != before if before else time.monotonic() - since < 1:
            assert time.monotonic() < deadline, f"{before} before, {seen} now"
            await trio.sleep(0.05)
            if (now := self.look()) != seen:
                seen, since = now, time.monotonic()
        return seen

    async def use_every_place(self) -> None:
        """A program waits for input in the only seat, while another is in each slot, all at once."""
        async with connected(self.server) as client:
            ids = [await client.submit(WAITS, interactive=True, limits=LONG)]
            await client.until_output(ids[0], "hello\n")
            ids += [await client.submit(SLEEPS, limits=LONG) for _ in range(SLOTS)]
            for id in ids[1:]:
                await client.until_output(id, "hello\n")
            for id in ids:
                await client.ask("cancel", id=id)
                await client.until(id, "finished")


SETTINGS: dict[str, Any] = {
    "execute__slots": f"{SLOTS}",
    "execute__interactive": "1",
    "execute__memory_used_max": "1",
    "languages": '["python", "cpp"]',
}


@contextmanager
def embedded(folder: Path) -> Iterator[Setup]:
    with serving(folder / "data", **SETTINGS) as server:

        def messages() -> int:
            with closing(
                sqlite3.connect(f"file:{server.data_dir}/occd.db?mode=ro", uri=True)
            ) as db:
                count: int = db.execute("SELECT count(*) FROM messages").fetchone()[0]
            return count

        yield Setup(server, messages)


@contextmanager
def cluster(folder: Path) -> Iterator[Setup]:
    with meeting() as met, serving(folder / "data", **SETTINGS, **met) as server:
        vhost = met["rabbitmq__url"].rpartition("/")[2]
        total = (
            "lists:sum([element(2, element(2, "
            "ra:local_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1))) "
            f'|| Q <- rabbit_amqqueue:list(<<"{vhost}">>)])'
        )
        yield Setup(server, lambda: int(shared().evaluate(total).strip("{ok, }\n")))


SETUPS = {"embedded": embedded, "rabbitmq and redis": cluster}


@pytest.fixture(scope="module", params=list(SETUPS))
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Setup, Rest]]:
    """A daemon every place of which was used, and what it has then."""

    async def prepare() -> Rest:
        seen = await setup.rest()
        for _ in range(9):
            await setup.use_every_place()
            before, seen = seen, await setup.rest()
            if seen == before:  # else a template was made, or served for the first time
                break
        return seen

    with SETUPS[request.param](tmp_path_factory.mktemp("cancelled")) as setup:
        yield setup, trio.run(prepare)


@pytest.fixture
async def server(prepared: tuple[Setup, Rest]) -> AsyncIterator[Server]:
    """Every process, control group, mount, lease, file and message is gone afterwards that the test brought,
    and every slot and seat can be used."""
    setup, before = prepared
    yield setup.server
    assert await setup.rest(before) == before
    await setup.use_every_place()
    assert await setup.rest(before) == before


async def cancelled(server: Server, *when: Mapping[str, Any], **submission: Any) -> dict[str, Any]:
    """The result of a submission that was cancelled after its events with the fields of all of `when`."""
    async with connected(server) as client:
        id = await client.submit(**submission)
        waited = list(when)
        while waited:
            event = (await client.next_event(id))["event"]
            assert event["name"] != "finished", event
            waited = [each for each in waited if not each.items() <= event.items()]
        await client.ask("cancel", id=id)
        await client.until(id, "finished")
    return server.look(id)


def verdicts(result: dict[str, Any]) -> list[str]:
    return [test["verdict"] for test in result["tests"]]


TEST: dict[str, Any] = {"stdin": "1", "expected_stdout": "1"}
ECHO = "print(input())"


async def test_in_the_queue(server: Server) -> None:
    async with connected(server) as client:
        running = [await client.submit(SLEEPS, limits=LONG) for _ in range(SLOTS)]
        for each in running:
            await client.until_output(each, "hello\n")
        id = await client.submit(ECHO, tests=[TEST])
        await client.until(id, "queued")
        await client.ask("cancel", id=id)
        events = [each["event"] for each in await client.until(id, "finished")]
        for each in running:
            await client.ask("cancel", id=each)
            await client.until(each, "finished")
    assert [event["name"] for event in events] == ["finished"]
    result = server.look(id)
    assert (result["verdict"], result["tests"], result["score"]) == ("cancelled", [], None)
    assert {server.look(each)["run"]["stdout"] for each in running} == {"hello\n"}


async def test_while_it_compiles(server: Server) -> None:
    when = STARTS | {"stage": "compile", "program": "solution"}
    result = await cancelled(server, when, **COMPILES_LONG, tests=[TEST] * 2)
    assert (result["verdict"], verdicts(result)) == ("cancelled", ["cancelled"] * 2)
    assert (result["compile"]["signal"], result["score"]) == ("SIGKILL", 0)


async def test_while_its_checker_compiles(server: Server) -> None:
    when = STARTS | {"stage": "compile", "program": "checker"}
    checker = {"program": COMPILES_LONG | {"protocol": "plain"}}
    result = await cancelled(server, when, source=ECHO, tests=[TEST] * 2, checker=checker)
    assert (result["verdict"], verdicts(result)) == ("cancelled", ["cancelled"] * 2)
    assert result["tests"][0]["run"]["stdout"] == "1\n"


async def test_while_a_checker_runs(server: Server) -> None:
    checker: dict[str, Any] = {
        "program": {"language": "python", "source": SLEEPS, "protocol": "plain", "limits": LONG}
    }
    whens = [STARTS | {"stage": "check", "test": at} for at in (0, 1)]
    result = await cancelled(server, *whens, source=ECHO, tests=[TEST] * 9, checker=checker)
    assert (result["verdict"], verdicts(result)) == ("cancelled", ["cancelled"] * 9)
    assert [test["run"]["stdout"] for test in result["tests"][:2]] == ["1\n"] * 2


async def test_in_test_37_of_100(server: Server) -> None:
    """Which runs beside test 38."""
    source = "import time\nif input() == 'wait': time.sleep(200)\nprint(1)"
    tests = [TEST | {"stdin": "wait" if at >= 36 else "1"} for at in range(100)]
    whens = [STARTS | {"stage": "run", "test": at} for at in (36, 37)]
    result = await cancelled(server, *whens, source=source, tests=tests, limits=LONG)
    assert result["verdict"] == "cancelled"
    assert verdicts(result) == ["accepted"] * 36 + ["cancelled"] * 64
    assert (result["score"], result["points"]) == (0.36, 36)
    assert {test["run"]["stdout"] for test in result["tests"][:36]} == {"1\n"}


async def test_while_it_waits_for_input(server: Server) -> None:
    output = {"name": "output", "data": "hello\n"}
    result = await cancelled(server, output, source=WAITS, interactive=True, limits=LONG)
    assert (result["verdict"], result["run"]["stdout"]) == ("cancelled", "hello\n")


async def test_while_its_artifacts_are_collected(server: Server) -> None:
    """Matching names takes a second of processor time, the most that it may take. A cancel may come too early
    or too late for that: then once more."""
    source = """
import os
open("kept.txt", "w").write("kept")
os.mkdir("others")
for number in range(3000):
    open("others/" + "a" * 200 + str(number), "w").close()
os.write(1, b"ended")
os._exit(0)
"""
    patterns = ["*.txt", *["others/*" + "a" * 120 + "b*"] * 31]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        result = await cancelled(
            server, {"name": "output", "data": "ended"}, source=source, artifacts=patterns
        )
        ended = (result["verdict"], result["run"]["exit_code"]) == ("cancelled", 0)
        if ended and result["left_out"]:
            break
        assert time.monotonic() < deadline, result
    assert result["run"]["stdout"] == "ended"
    assert [each["name"] for each in result["artifacts"]] == ["kept.txt"]
    assert result["left_out"] == [{"name": "others/", "reason": "entries"}]
    kept = server.get(f"{API}/submissions/{result['id']}/artifacts/kept.txt")
    assert kept.body == b"kept"
