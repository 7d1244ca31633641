"""The orderly stop under load: what runs is finished and stored, what waits stays."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from daemons import GONE, Daemon, events_of, log_faults, request
from programs import SLEEP


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


async def statuses(daemon: Daemon, ids: list[str]) -> Counter[str]:
    return Counter(
        [(await request(daemon.url, "GET", f"/submissions/{id}"))[1]["status"] for id in ids]
    )


async def test_what_runs_at_a_stop_is_finished_and_what_waits_costs_no_attempt(
    daemon: Daemon,
) -> None:
    accepted: list[str] = []
    told: list[Any] = []

    async def client(id: str) -> None:
        try:
            told.append(await wait_for(daemon, id))
        except GONE:
            pass  # it waited for one that had not begun

    daemon.launch()
    await daemon.ready()
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(submit, daemon, accepted)
    async with trio.open_nursery() as nursery:
        for id in accepted:
            nursery.start_soon(client, id)
        await wait_for(daemon, accepted[0])
        await daemon.stop()
    assert daemon.queued_messages("execution_queue") == 0
    assert daemon.queued_messages() > 0
    assert daemon.leftovers() == []

    daemon.launch()
    await daemon.ready()
    before = await statuses(daemon, accepted)
    results = [await wait_for(daemon, id) for id in accepted]
    print(f"\n{len(told)} told before the end, then {dict(before)}")
    assert {(seen["verdict"], seen["attempts"]) for seen in results} == {("ok", 1)}
    for id, log in (await events_of(daemon.url, accepted)).items():
        assert log_faults(id, log, results[accepted.index(id)]) == []
    await daemon.stop()
    assert daemon.queued_messages() == 0
