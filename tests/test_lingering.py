"""The logs that attempts keep take few files and bytes, however slowly results are stored."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from occd.events import Output
from occd.execution import lingering
from occd.execution.kept import Kept
from occd.execution.lingering import Lingering

MIB = 2**20
EVENT = Output("run", "stdout", bytes(30_000))


@dataclass
class Waits:
    closed: bool = False

    async def linger(self) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("size", "kept"), [(100, 64), (8 * MIB, 8), (65 * MIB, 0)])
async def test_the_oldest_logs_are_given_up(size: int, kept: int) -> None:
    attempts, all_of_them = [Waits() for _ in range(100)], Lingering()
    async with trio.open_nursery() as nursery:
        for attempt in attempts:
            nursery.start_soon(all_of_them.linger, attempt, size)
            await trio.testing.wait_all_tasks_blocked()
        assert [each.closed for each in attempts] == [True] * (100 - kept) + [False] * kept
        assert lingering.ATTEMPTS_MAX == 64
        nursery.cancel_scope.cancel()
    assert all(each.closed for each in attempts)


def test_what_was_kept_comes_back_in_order() -> None:
    events = [Output("run", "stdout", b"%d " % number + bytes(20_000)) for number in range(200)]
    kept = Kept()
    for event in events:
        kept.add([event])
    assert [each for batch in kept.batches() for each in batch] == events
    kept.close()


def test_a_disk_that_is_full_ends_the_keeping_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(**_: Any) -> Any:
        return Path("/dev/full").open("w+b")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    kept = Kept()
    for _ in range(100):
        kept.add([EVENT])
    assert kept.size == 0
    assert list(kept.batches()) == []
    kept.close()
