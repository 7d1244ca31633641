"""Many submissions of every kind through one daemon: every verdict is right, and afterwards the
daemon is as it was before."""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from daemons import Daemon, events_of, log_faults, request
from processes import descendants
from programs import (
    ABORT,
    BAD_C,
    BIG,
    CANCEL,
    CHECKED,
    FAIL,
    FLOOD,
    JUDGED,
    LEAVES,
    LINES,
    SIGNAL,
    SPIN,
    C,
    Program,
)

CLIENTS = 32
PROGRAMS = (LINES, FAIL, SPIN, BIG, FLOOD, SIGNAL, ABORT, CANCEL, C, BAD_C, JUDGED, CHECKED, LEAVES)
SETTLE_S = 60.0
IDLE_S = 3.0
OF_TEMPLATE = 2
"""The descriptors of the daemon for a template, and those for its processes: its launcher has them."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()


@dataclass(frozen=True)
class Holdings:
    """What a daemon has that must not grow, without its templates, which come and go. The database's
    descriptors are not counted: readers are opened when first needed, and bounded. The descriptors of
    processes are bounded by the children: a jail has one once it was asked whether it stands."""

    descriptors: int
    pidfds: int
    threads: int
    children: int

    @classmethod
    def of(cls, pid: int) -> "Holdings":
        files = [target for target in open_files(pid) if "/occd.db" not in target]
        pidfds = files.count("anon_inode:[pidfd]")
        children = descendants(pid)
        templates = [each for each in children if is_template(each.pid)]
        theirs = sum(1 + len(descendants(each.pid)) for each in templates)
        return cls(
            len(files) - pidfds - OF_TEMPLATE * len(templates),
            pidfds - OF_TEMPLATE * len(templates),
            len(os.listdir(f"/proc/{pid}/task")),
            len(children) - theirs,
        )

    def within(self, other: "Holdings") -> bool:
        return (
            self.descriptors <= other.descriptors
            and self.pidfds <= self.children
            and self.threads <= other.threads
            and self.children <= other.children
        )


def is_template(pid: int) -> bool:
    """Whether this process is the nsjail of one."""
    with suppress(OSError):
        program, *words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return program.endswith(b"nsjail") and (b"warm" in words or b"hold" in words)
    return False


def open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@dataclass
class Soak:
    daemon: Daemon
    left: list[Program]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(self._client)

    async def _client(self) -> None:
        while self.left:
            program = self.left.pop()
            status, seen = await request(self.daemon.url, "POST", "/submissions", program.body)
            assert status == 202, seen
            path = f"/submissions/{seen['id']}"
            if program.cancel:
                await trio.sleep(random.random())
                await request(self.daemon.url, "DELETE", path)
            while seen["status"] != "finished":
                _, seen = await request(self.daemon.url, "GET", path + "?wait=30")
            self.results[seen["id"]] = seen
            self.faults += filter(None, [program.fault(seen)])


def mixed(count: int, seed: int) -> list[Program]:
    """Each kind once at least, good ones mostly."""
    chooser = random.Random(seed)
    chosen = [*PROGRAMS, *chooser.choices(PROGRAMS, [e.share for e in PROGRAMS], k=count)]
    chosen = chosen[:count]
    chooser.shuffle(chosen)
    return chosen


async def run_soak(daemon: Daemon, count: int) -> None:
    seed = time.time_ns()
    daemon.launch()
    await daemon.ready()
    await Soak(daemon, mixed(50, seed)).run()  # what is made once and kept is there now
    before = await at_rest(daemon)
    resident = resident_mib(daemon.pid)

    soak, began = Soak(daemon, mixed(count, seed + 1)), time.monotonic()
    await soak.run()
    took = time.monotonic() - began
    logs = await events_of(daemon.url, list(soak.results))
    for id, log in logs.items():
        soak.faults += log_faults(id, log, soak.results[id])

    after = await settled(daemon, before)
    ticks = cpu_ticks(daemon.pid)
    await trio.sleep(IDLE_S)
    ticks = cpu_ticks(daemon.pid) - ticks
    grown = resident_mib(daemon.pid) - resident
    verdicts = Counter(seen["verdict"] for seen in soak.results.values())
    print(
        f"\nseed {seed}: {count} in {took:.1f} s, {dict(verdicts)}, {len(soak.faults)} faults, "
        f"before {before}, after {after}, resident {resident:.1f} + {grown:.1f} MiB, "
        f"{ticks} ticks in {IDLE_S:.0f} s idle"
    )
    assert soak.faults == []
    assert len(soak.results) == count
    assert after.within(before)
    assert grown < 30
    assert resident + grown < 120
    assert ticks <= 3
    await daemon.stop()
    assert daemon.queued_messages() == 0
    assert daemon.leftovers() == []


async def at_rest(daemon: Daemon) -> Holdings:
    """What it holds when nothing has changed for longer than an idle thread lives."""
    last, since = Holdings.of(daemon.pid), trio.current_time()
    while trio.current_time() - since < 12:
        await trio.sleep(0.2)
        now = Holdings.of(daemon.pid)
        if now != last:
            last, since = now, trio.current_time()
    return last


async def settled(daemon: Daemon, wanted: Holdings) -> Holdings:
    """What it holds when idle threads and closing connections have gone, at best `wanted`."""
    with trio.move_on_after(SETTLE_S):
        while not Holdings.of(daemon.pid).within(wanted):  # noqa: ASYNC110
            await trio.sleep(0.2)
    return Holdings.of(daemon.pid)


async def test_200_submissions_leave_the_daemon_as_it_was(daemon: Daemon) -> None:
    await run_soak(daemon, 200)


@pytest.mark.long
async def test_1000_submissions_leave_the_daemon_as_it_was(daemon: Daemon) -> None:
    await run_soak(daemon, 1000)
