"""The orderly stop under load: what runs is finished and stored, what waits stays."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from daemons import GONE, Daemon, events_of, log_faults, request
from programs import Program

SUBMISSIONS = 24
STOPS = 3
SLEEP = Program("sleep", "ok", "import time; time.sleep(1)")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()


async def submit(daemon: Daemon, accepted: list[str]) -> None:
    status, seen = await request(daemon.url, "POST", "/submissions", SLEEP.body)
    assert status == 202
    accepted.append(seen["id"])


async def wait_for(daemon: Daemon, id: str) -> Any:
    while True:
        _, seen = await request(daemon.url, "GET", f"/submissions/{id}?wait=30")
        if seen["status"] == "finished":
            return seen


async def test_what_runs_at_a_stop_is_finished_and_what_waits_costs_no_attempt(
    daemon: Daemon,
) -> None:
    accepted: list[str] = []
    told: set[str] = set()

    async def client(id: str) -> None:
        with suppress(*GONE):  # the daemon stops before this one has begun
            told.add((await wait_for(daemon, id))["id"])

    daemon.launch()
    await daemon.ready()
    async with trio.open_nursery() as nursery:
        for _ in range(SUBMISSIONS):
            nursery.start_soon(submit, daemon, accepted)
    for _ in range(STOPS):
        running = await started(daemon, accepted)
        async with trio.open_nursery() as nursery:
            for id in running:
                nursery.start_soon(client, id)
            await daemon.stop()
        assert running <= told
        assert daemon.queued_messages("execution_queue") == 0
        assert daemon.leftovers() == []
        daemon.launch()
        await daemon.ready()
    print(f"\n{len(told)} of {SUBMISSIONS} finished before the last of {STOPS} stops")
    results = [await wait_for(daemon, id) for id in accepted]
    assert {(seen["verdict"], seen["attempts"]) for seen in results} == {("ok", 1)}
    for id, log in (await events_of(daemon.url, accepted)).items():
        assert log_faults(id, log, results[accepted.index(id)]) == []
    await daemon.stop()
    assert daemon.queued_messages() == 0


async def started(daemon: Daemon, ids: list[str]) -> set[str]:
    """Those that run, when some do."""
    with trio.fail_after(60):
        while True:
            seen = [(await request(daemon.url, "GET", f"/submissions/{id}"))[1] for id in ids]
            if running := {each["id"] for each in seen if each["status"] == "running"}:
                return running
            await trio.sleep(0.05)
