"""SIGKILL at random moments under load: what was accepted is finished and paid for, once, and rightly."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paying
import pytest
import trio
from daemons import GONE, Daemon, events_of, log_faults, request
from programs import BAD_C, CANCEL, CHECKED, FAIL, JUDGED, LEAVES, LINES, SLEEP, SPIN, C, Program

CLIENTS = 12
FINISH_S = 300.0
PROGRAMS = (LINES, SLEEP, C, BAD_C, FAIL, SPIN, CANCEL, JUDGED, CHECKED, LEAVES)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()


@dataclass
class Storm:
    """Clients that submit without a pause, retry what was not answered, and remember every answer."""

    daemon: Daemon
    random: random.Random
    over: bool = False
    numbers: int = 0
    began: float = field(default_factory=time.monotonic)
    accepted: dict[str, Program] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    slowest_death: float = 0.0

    async def client(self) -> None:
        while not self.over:
            self.numbers += 1
            key = f"key-{self.numbers}"
            (program,) = self.random.choices(PROGRAMS, [each.share for each in PROGRAMS])
            seen = await self.ask("POST", "/submissions", program.body, key)
            self.note(seen["id"], key, program)
            if program.cancel:
                await trio.sleep(self.random.random())
                await self.ask("DELETE", f"/submissions/{seen['id']}")
            await self.follow(seen["id"])

    async def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """Until somebody answers."""
        while True:
            try:
                status, answer = await request(self.daemon.url, method, path, body, key)
            except (*GONE, ValueError):  # ValueError: there is no daemon that has a URL yet
                await trio.sleep(0.05)
                continue
            if status in (200, 202):
                return answer
            assert status == 503, f"{method} {path}: {status} {answer}"
            await trio.sleep(0.05)

    def note(self, id: str, key: str, program: Program) -> None:
        if self.by_key.setdefault(key, id) != id:
            self.faults.append(f"{key} made both {self.by_key[key]} and {id}")
        self.accepted[id] = program

    async def follow(self, id: str) -> None:
        while (seen := await self.ask("GET", f"/submissions/{id}?wait=2"))["status"] != "finished":
            pass
        self.see(seen)

    def see(self, seen: dict[str, Any]) -> None:
        if self.results.setdefault(seen["id"], seen) != seen:
            self.faults.append(f"two results: {self.results[seen['id']]} and {seen}")

    async def kill_again_and_again(self, kills: int) -> None:
        for number in range(kills):
            if number % 6 == 5:  # some die before they have begun
                await trio.sleep(self.random.uniform(0.1, 1.5))
            else:
                await self.daemon.ready()
                await trio.sleep(self.random.uniform(0.0, 2.5))
            took = await self.daemon.kill()
            self.slowest_death = max(self.slowest_death, took)
            self.daemon.launch()
        await self.daemon.ready()
        self.over = True


async def run_storm(daemon: Daemon, kills: int) -> None:
    seed = time.time_ns()
    print(f"\nseed {seed}")
    storm = Storm(daemon, random.Random(seed))
    daemon.accounts = paying.accounts(cpu_s=200 + 15 * kills)
    daemon.launch()
    await daemon.ready()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(storm.client)
        await storm.kill_again_and_again(kills)
        nursery.cancel_scope.deadline = trio.current_time() + FINISH_S
    await look_back(storm)
    await daemon.stop()
    report(storm, kills)
    assert storm.faults == []
    assert storm.results.keys() == storm.accepted.keys()
    assert daemon.queued_messages() == 0
    assert daemon.counted() == []
    assert daemon.leftovers() == []
    assert storm.slowest_death < 5  # a second, on a machine with nothing else to do


async def look_back(storm: Storm) -> None:
    """Everything once more, from the last daemon."""
    for id, program in storm.accepted.items():
        seen = await storm.ask("GET", f"/submissions/{id}")
        if seen["status"] == "finished":
            storm.see(seen)
            storm.faults += filter(None, [program.fault(seen)])
    for key, id in storm.random.sample(sorted(storm.by_key.items()), 10):
        again = await storm.ask("POST", "/submissions", storm.accepted[id].body, key)
        storm.note(again["id"], key, storm.accepted[id])
    charged = 0.0
    for id, log in (await events_of(storm.daemon.url, list(storm.results))).items():
        storm.faults += log_faults(id, log, storm.results[id])
        charged += paying.cost(storm.results[id], log)
    storm.faults += await paying.faults(storm.daemon.url, charged, storm.began, list(storm.results))


def report(storm: Storm, kills: int) -> None:
    attempts = Counter(seen["attempts"] for seen in storm.results.values())
    verdicts = Counter(seen["verdict"] for seen in storm.results.values())
    print(
        f"{kills} kills, {len(storm.accepted)} accepted, {len(storm.results)} finished, "
        f"{len(storm.accepted.keys() - storm.results.keys())} lost, {len(storm.faults)} faults, "
        f"attempts {dict(sorted(attempts.items()))}, {dict(verdicts)}, "
        f"slowest death {storm.slowest_death:.2f} s, control groups {sorted(storm.daemon.groups)}"
    )


async def test_what_was_accepted_is_finished_once_over_12_kills(daemon: Daemon) -> None:
    await run_storm(daemon, 12)


@pytest.mark.long
async def test_what_was_accepted_is_finished_once_over_200_kills(daemon: Daemon) -> None:
    await run_storm(daemon, 200)
