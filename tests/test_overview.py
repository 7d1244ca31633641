"""What `GET /status` tells (`occd/overview.py`)."""

import json
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from in_process import API as EDGE_API
from in_process import Edge, Ready, edge
from redis_server import redis_server
from serving import API, PATIENCE_S, Server, serving
from test_access import SITE, accounts, key
from test_cli import keep_dead_letters

from occd import overview
from occd.broker import open_broker
from occd.broker.embedded import EmbeddedBroker
from occd.config import Config
from occd.errors import BrokerUnavailable
from occd.languages.loading import load_languages
from occd.model import File, Submission
from occd.sqlite import open_database
from occd.state import WAIT_BOUNDS_S, Load, Node, open_state

SLEEPS = "import time; time.sleep(600)"
OLD = Submission("old", "bash", None, "main.sh", (File("main.sh", b"echo hi"),))
LONG: dict[str, Any] = {"limits": {"wall_time": 600}}


def told(server: Server, until: Callable[[dict[str, Any]], bool], **headers: str) -> dict[str, Any]:
    """What the status says when it says what is waited for."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = server.get(f"{API}/status", **headers)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json()
        if until(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_everybody_sees_how_busy_the_server_is(tmp_path: Path) -> None:
    with serving(
        tmp_path / "data",
        execute__slots="2",
        execute__interactive="3",
        ceilings__wall_time="600",
        grace_s="1",
    ) as server:
        for source in ("print(1)", "print(2)", "1 / 0"):
            server.run(source)
        server.wait_running(server.submit("input()", interactive=True, **LONG))
        for _ in range(2):
            server.wait_running(server.submit(SLEEPS, **LONG))
        waiting = [server.submit(SLEEPS, **LONG) for _ in range(3)]
        found = told(
            server,
            lambda each: (
                each["recent"]["started"] == 6
                and each["load"]["slots_used"] == 2
                and each["history"]["waiting"][-1] == 3
                and each["history"]["slots_used"][-1] == 2
            ),
        )
        assert (found["ready"], found["problems"]) == (True, [])
        assert found["queue"]["waiting"] == 3
        assert found["queue"]["oldest_s"] > 0
        load = found["load"]
        assert (load["nodes"], load["slots"], load["seats"], load["seats_used"]) == (1, 2, 3, 1)
        assert load["running"] == {"python": 3}
        assert {"id": "python", "name": "Python", "nodes": 1} in found["languages"]
        assert found["recent"]["verdicts"] == {"ok": 2, "runtime_error": 1}
        assert found["recent"]["half_within_s"] in WAIT_BOUNDS_S
        history = found["history"]
        assert history["slots"][-1] == 2
        assert sum(history["ended"]) == 3
        assert len({len(each) for name, each in history.items() if name != "every_s"}) == 1
        assert {"nodes", "dead_letters"}.isdisjoint(found)
        for id in waiting:
            assert server.request("DELETE", f"{API}/submissions/{id}").status == 202
        told(server, lambda each: each["queue"] == {"waiting": 0, "oldest_s": 0.0})


async def look(edge: Edge, name: str | None = None) -> dict[str, Any]:
    bearer = b"\r\nAuthorization: Bearer " + key(name).encode() if name else b""
    status, found = await edge.ask(b"GET %b/status HTTP/1.1%b" % (EDGE_API, bearer))
    assert status == 200, found
    return dict(found)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_FRESH_S", 0.0)


async def test_one_look_serves_all_who_ask_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    depths = EmbeddedBroker.depths

    async def counted(self: EmbeddedBroker) -> Any:
        nonlocal looks
        looks += 1
        return await depths(self)

    monkeypatch.setattr(EmbeddedBroker, "depths", counted)
    monkeypatch.setattr(overview, "_FRESH_S", 3600.0)
    async with edge(tmp_path) as found:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(look, found)
        assert looks == 1
        monkeypatch.setattr(overview, "_FRESH_S", 0.0)
        await look(found)
        await look(found)
        assert looks == 3


@pytest.mark.usefixtures("fresh")
async def test_what_a_node_did_before_this_process_began_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_EVERY_S", 0.01)
    monkeypatch.setattr(overview, "_SAMPLES", 100_000)
    config = Config(data_dir=tmp_path)
    async with (
        open_database(tmp_path) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
        trio.open_nursery() as nursery,
    ):
        board = overview.Overview(config, broker, state, Ready(), load_languages())

        async def ends(name: str, since: float, count: int) -> None:
            load = Load(since, 1, 0, 1, 0, {}, {"ok": count}, (0,) * (len(WAIT_BOUNDS_S) + 1))
            await state.nodes.announce(Node(name, ("execute",), started_at=since, load=load))

        async def expect(count: int) -> None:
            with trio.fail_after(PATIENCE_S):
                while True:
                    recent = json.loads(await board.status(whole=False))["recent"]
                    if recent["verdicts"].get("ok", 0) >= count:
                        break
                    await trio.sleep(0.01)
            assert recent["verdicts"] == {"ok": count}

        now = time.time()
        await ends("old", now - 3600, 5)
        await ends("ahead", now + 3600, 7)  # another clock, so nobody knows when
        await ends("beside", now - 1, 3)  # started together
        nursery.start_soon(board.run)
        await expect(3)
        await ends("old", now - 3600, 6)
        await expect(4)
        await ends("old", now + 1, 2)  # it has started again
        await expect(6)
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("fresh")
async def test_a_node_that_was_away_for_long_has_not_done_all_of_its_work_again(
    tmp_path: Path,
) -> None:
    """As one that was drained for a quarter of an hour."""
    config = Config(data_dir=tmp_path)
    async with (
        open_database(tmp_path) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
    ):
        board = overview.Overview(config, broker, state, Ready(), load_languages())
        began, counts = time.time(), (0,) * (len(WAIT_BOUNDS_S) + 1)
        load = Load(began, 1, 0, 1, 0, {}, {"ok": 7}, counts)
        node = Node("n", ("execute",), load=load)

        async def ended(*, at: float) -> int:
            """In a sample that is taken so many seconds after the start."""
            measured = await board._measure()
            measured.at = began + at
            board._sample(measured)
            told = json.loads(await board.status(whole=False))
            return int(told["history"]["ended"][-1])

        await state.nodes.announce(node)
        assert await ended(at=5) == 7
        await state.nodes.withdraw(node)
        assert [await ended(at=10), await ended(at=615)] == [0, 0]
        await state.nodes.announce(node)
        assert await ended(at=900) == 0
        await state.nodes.announce(replace(node, load=replace(load, verdicts={"ok": 8})))
        assert await ended(at=905) == 1


@pytest.mark.usefixtures("fresh")
async def test_nodes_are_listed_also_where_the_clock_of_redis_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge(tmp_path, accounts({"class": "all"}), public_url=SITE) as found:

        async def live() -> list[Node]:
            return [Node("late", ("execute",), seen_at=time.time() - 3600)]

        monkeypatch.setattr(found.state.nodes, "live", live)
        assert [(each["name"], each["live"]) for each in (await look(found, "admin"))["nodes"]] == [
            ("late", True)
        ]


@pytest.mark.usefixtures("fresh")
async def test_without_a_node_that_runs_programs_it_says_why(tmp_path: Path) -> None:
    async with edge(tmp_path) as found:
        assert (await look(found))["ready"]
        (runs,) = await found.state.nodes.live()
        await found.state.nodes.withdraw(runs)
        said = await look(found)
        assert (said["ready"], said["languages"]) == (False, [])
        assert "start one with the role execute" in said["problems"][0]


@pytest.mark.usefixtures("fresh")
async def test_a_queue_that_does_not_answer_hides_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: EmbeddedBroker) -> Any:
        raise BrokerUnavailable("away", 5)

    async with edge(tmp_path) as found:
        monkeypatch.setattr(EmbeddedBroker, "depths", away)
        said = await look(found)
        assert said["queue"] is None
        assert [each["id"] for each in said["languages"]] == ["java", "python"]


@pytest.mark.usefixtures("fresh")
async def test_a_drained_node_has_no_more_places_than_it_uses(tmp_path: Path) -> None:
    load = Load(1.0, 4, 3, 64, 2, {"python": 5}, {"ok": 7}, (1,) * 11)
    idle = Load(1.0, 4, 0, 64, 0, {}, {}, (0,) * 11)
    async with edge(tmp_path, accounts({"class": "all"}), public_url=SITE) as found:
        for name, each in {"one": load, "two": idle}.items():
            await found.state.nodes.announce(Node(name, ("draining",), load=each))
        said = await look(found, "admin")
        assert said["load"] == {
            "nodes": 1,
            "slots": 3,
            "slots_used": 3,
            "seats": 2,
            "seats_used": 2,
            "running": {"python": 5},
        }
        assert [each["load"]["slots"] for each in said["nodes"] if each["load"]] == [4, 4]


@pytest.mark.usefixtures("fresh")
async def test_administrators_alone_see_each_node_and_whether_it_has_gone(tmp_path: Path) -> None:
    load = Load(1.0, 4, 3, 64, 2, {"python": 5, "not ours": 1}, {"ok": 7}, (1,) * 11)
    async with edge(tmp_path, accounts({"class": "all"}), public_url=SITE) as found:
        two = Node("two", ("execute", "ws"), connections=9, started_at=1e300, load=load)
        two = replace(two, holds=("memory", "cpu"), warm=("cpp", "python"))
        await found.state.nodes.announce(two)
        for name in (None, "full", "read-all"):
            said = await look(found, name)
            assert {"nodes", "dead_letters"}.isdisjoint(said)
            assert said["load"]["slots_used"] == 3
            assert said["load"]["running"] == {"python": 5}
        said = await look(found, "admin")
        assert [each["name"] for each in said["nodes"]] == ["runs", "two"]
        assert [each["live"] for each in said["nodes"]] == [True, True]
        node = said["nodes"][1]
        assert (node["roles"], node["connections"]) == (["execute", "ws"], 9)
        assert (node["started_at"], node["load"]["seats_used"]) == (None, 2)
        assert [each["holds"] for each in said["nodes"]] == [None, ["memory", "cpu"]]
        assert [each["warm"] for each in said["nodes"]] == [[], ["cpp", "python"]]
        assert said["dead_letters"] == 0
        await found.state.nodes.withdraw(two)
        said = await look(found, "admin")
        assert [each["live"] for each in said["nodes"]] == [True, False]
        assert said["load"]["slots"] == 0


def test_administrators_list_dead_letters_and_try_one_again(tmp_path: Path) -> None:
    trio.run(keep_dead_letters, tmp_path / "data", OLD)
    admin = f"Bearer {key('admin')}"
    given = json.dumps(accounts({"class": "all"}) | {"oidc": None})
    with serving(tmp_path / "data", accounts=given) as server:
        path = f"{API}/queues/kept"
        assert server.get(path).status == 401
        assert told(server, lambda _: True, authorization=admin)["dead_letters"] == 2
        listed = server.get(path, authorization=admin).json()["letters"]
        assert [each["id"] for each in listed] == ["old", "bad"]
        assert listed[0]["reason"] == r"it \x1b[2J killed us"
        assert listed[1] == listed[1] | {"queue": "submission_queue", "bytes": 1}

        def again(_: int) -> int:
            return server.request("POST", f"{path}/old/requeue", authorization=admin).status

        with ThreadPoolExecutor(6) as impatient:
            assert sorted(impatient.map(again, range(6))) == [201] + [404] * 5
        told(server, lambda each: each["dead_letters"] == 1, authorization=admin)
        listed = server.get(path, authorization=admin).json()["letters"]
        assert [each["id"] for each in listed] == ["bad"]


def test_a_list_of_dead_letters_takes_no_memory_for_their_bodies(tmp_path: Path) -> None:
    folder, size = tmp_path / "data", 8 * 2**20
    trio.run(keep_dead_letters, folder, OLD)
    with closing(sqlite3.connect(folder / "occd.db")) as db, db:
        for each in range(20):
            db.execute(
                "INSERT INTO messages (queue, key, owner, body, kept_at) VALUES (?, ?, '', ?, 1.0)",
                ["submission_queue.kept", f"large-{each}", bytes(size)],
            )
    given = json.dumps(accounts({"class": "all"}) | {"oidc": None})
    with serving(folder, accounts=given) as server:
        before = server.forget_peak()
        path = f"{API}/queues/kept"
        letters = server.get(path, authorization=f"Bearer {key('admin')}").json()["letters"]
        assert [each["bytes"] for each in letters].count(size) == 20
        assert server.peak - before < 10 * size


def test_over_redis_each_node_tells_its_load_and_an_outage_is_named(tmp_path: Path) -> None:
    with (
        redis_server() as redis,
        serving(tmp_path / "one", redis__url=redis.url, node="one", execute__slots="3") as server,
    ):
        server.run("print(1)")
        found = told(server, lambda each: each["recent"]["verdicts"] == {"ok": 1})
        assert found["load"]["slots"] == 3
        redis.kill()
        found = told(server, lambda each: not each["ready"])
        assert any("Redis" in each for each in found["problems"])
        assert found["languages"] is None
        redis.start()
        told(server, lambda each: each["ready"] and each["load"]["slots"] == 3)
