"""Docker's engine, its containers and occd are killed, held and filled up at random moments under load: what
was accepted is finished and paid for, once, and rightly. SEED=1 in the environment repeats the blows.
"""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import paying
import pytest
import trio
from blows import LONG, PROGRAMS, TOLD_S, Blows, readyz, until_ready
from daemons import Daemon, events_of, log_faults, request
from engine import Reached
from mortal_engine import Mortal, mortal_engine
from programs import LINES, Program
from rabbitmq_server import shared as shared_rabbitmq
from redis_server import shared_redis
from shared_engine import IMAGE

CLIENTS = 4
FINISH_S = 300.0
ONCE = (
    "occd",
    "engine",
    "engine and containerd",
    "containerd",
    "first process",
    "docker kill",
    "hold",
    "full",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Mortal]:
    with mortal_engine() as mortal:
        yield mortal


Make = Callable[..., Daemon]


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Make]:
    made: list[Daemon] = []

    def make(engine: Reached, *, beside: bool = False, **settings: str) -> Daemon:
        """`beside`: as root on the engine's own machine. Else the engine is another machine's. `settings` as
        in `execute__slots="1"`."""
        settings |= {
            "sandbox__kind": "docker",
            "sandbox__host": engine.host,
            "sandbox__images": json.dumps([IMAGE.removeprefix("occd/")]),
            "languages": '["python", "c"]',
            "metrics__listen": "null",
        }
        folder = tmp_path / f"{len(made)}"
        folder.mkdir()
        prefix = engine.entered(network=False) if beside and isinstance(engine, Mortal) else ()
        named = {f"OCCD_{name.upper()}": value for name, value in settings.items()}
        made.append(Daemon(folder, slots=3, settings=named, prefix=prefix))
        return made[-1]

    yield make
    for daemon in made:
        daemon.end()


async def run_blows(daemon: Daemon, engine: Mortal, kinds: list[str], *, beside: bool) -> None:
    seed = int(os.environ.get("SEED") or time.time_ns() % 10**9)
    print(f"\nseed {seed}")
    random.Random(seed).shuffle(kinds)
    storm = Blows(daemon, random.Random(seed), PROGRAMS, engine=engine, beside=beside)
    daemon.launch()
    await daemon.ready()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(storm.client)
        for kind in kinds:
            await storm.strike(kind)
        storm.over = True
        nursery.cancel_scope.deadline = trio.current_time() + FINISH_S
    await storm.look_back()
    await daemon.stop()
    left = await storm.containers()
    print(f"{len(engine.unborn())} processes that runc never started as a container's")
    print(f"{len(kinds)} blows, {storm.told()}\n{storm.figures()}")
    assert storm.faults == []
    assert storm.results.keys() == storm.accepted.keys()
    assert daemon.queued_messages() == 0
    assert daemon.counted() == []
    assert left == []
    assert [told(pid) for pid in engine.programs() if pid not in engine.unborn()] == []
    assert "Traceback" not in (daemon.folder / "log").read_text()


def told(pid: int) -> str:
    """A line about a process: its arguments, where it waits, and its status."""
    with suppress(OSError):
        folder = Path(f"/proc/{pid}")
        argv = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        status = (folder / "status").read_text().split("NSpid:")[0]
        return f"{argv} {(folder / 'wchan').read_text()} {status}"
    return f"{pid} has ended"


@pytest.mark.long
@pytest.mark.parametrize("beside", [True, False], ids=["beside", "apart"])
async def test_what_was_accepted_is_finished_once_whatever_is_killed_held_or_full(
    make_daemon: Make, engine: Mortal, beside: bool
) -> None:
    kinds = [*ONCE, "occd", "occd", "engine", "first process"]
    daemon = make_daemon(engine, beside=beside)
    daemon.accounts = paying.accounts(cpu_s=200 + 30 * len(kinds))
    await run_blows(daemon, engine, kinds, beside=beside)


# Two daemons, each with an engine of its own


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """The settings of daemons that share them."""
    url = shared_rabbitmq().add_vhost()
    yield {
        "rabbitmq__url": url,
        "redis__url": shared_redis().url,
        "redis__prefix": f"engines-{url.rpartition('/')[2]}",
    }
    shared_rabbitmq().delete_vhost(url)


@pytest.mark.long
@pytest.mark.parametrize("how", ["kill", "hold"])
async def test_what_lost_its_engine_is_repeated_where_another_engine_is(
    make_daemon: Make, engine: Mortal, docker_engine: Reached, servers: dict[str, str], how: str
) -> None:
    one = make_daemon(engine, beside=True, node="one", **servers)
    two = make_daemon(docker_engine, node="two", **servers)
    for daemon in (one, two):
        daemon.launch()
        await daemon.ready()
    ids = [await post(two, LONG) for _ in range(8)]
    with trio.fail_after(TOLD_S):
        while not engine.strangers():  # noqa: ASYNC110
            await trio.sleep(0.02)
    if how == "kill":
        engine.kill()
    else:
        engine.signal(signal.SIGSTOP)
    try:
        await until_ready(one.url, 503)
        late = [await post(one, LINES) for _ in range(4)]
        nodes = []
        for id in (*ids, *late):
            seen = await result(two, id)
            assert (LINES if id in late else LONG).fault(seen) is None
            assert seen["verdict"] == "ok"
            (log,) = (await events_of(two.url, [id])).values()
            assert log_faults(id, log, seen) == []
            nodes.append(nodes_of(log))
        assert ["one", "two"] in nodes
        assert nodes[-len(late) :] == [["two"]] * len(late)
        assert (await readyz(one.url))[0] == 503
        assert (await readyz(two.url))[0] == 200
    finally:
        if how == "kill":
            engine.start()
        else:
            engine.signal(signal.SIGCONT)
    await until_ready(one.url, 200)
    for daemon in (one, two):
        await daemon.stop()


async def post(daemon: Daemon, program: Program) -> str:
    status, seen = await request(daemon.url, "POST", "/submissions", program.body)
    assert status == 202, seen
    return str(seen["id"])


async def result(daemon: Daemon, id: str) -> dict[str, Any]:
    while True:
        status, seen = await request(daemon.url, "GET", f"/submissions/{id}?wait=20")
        assert status == 200, seen
        if seen["status"] == "finished":
            return dict(seen)


def nodes_of(log: list[dict[str, Any]]) -> list[str]:
    """Where the attempts began."""
    return [frame["event"]["node"] for frame in log if frame["event"]["name"] == "started"]
