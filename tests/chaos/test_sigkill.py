"""SIGKILL at random moments under load: what was accepted is finished and paid for, once, and rightly."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paying
import pytest
import trio
from daemons import Daemon
from programs import BAD_C, CANCEL, CHECKED, FAIL, JUDGED, LEAVES, LINES, SLEEP, SPIN, C
from storm import Storm

CLIENTS = 12
FINISH_S = 300.0
PROGRAMS = (LINES, SLEEP, C, BAD_C, FAIL, SPIN, CANCEL, JUDGED, CHECKED, LEAVES)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()


@dataclass
class Killing(Storm):
    slowest_death: float = 0.0

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
    storm = Killing(daemon, random.Random(seed), PROGRAMS)
    daemon.accounts = paying.accounts(cpu_s=200 + 15 * kills)
    daemon.launch()
    await daemon.ready()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(storm.client)
        await storm.kill_again_and_again(kills)
        nursery.cancel_scope.deadline = trio.current_time() + FINISH_S
    await storm.look_back()
    await daemon.stop()
    print(
        f"{kills} kills, {storm.told()}, "
        f"slowest death {storm.slowest_death:.2f} s, control groups {sorted(storm.daemon.groups)}"
    )
    assert storm.faults == []
    assert storm.results.keys() == storm.accepted.keys()
    assert daemon.queued_messages() == 0
    assert daemon.counted() == []
    assert daemon.leftovers() == []
    assert storm.slowest_death < 5  # a second, on a machine with nothing else to do


async def test_what_was_accepted_is_finished_once_over_12_kills(daemon: Daemon) -> None:
    await run_storm(daemon, 12)


@pytest.mark.long
async def test_what_was_accepted_is_finished_once_over_200_kills(daemon: Daemon) -> None:
    await run_storm(daemon, 200)
