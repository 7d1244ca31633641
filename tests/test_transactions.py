"""What an embedded hello costs. Each transaction is two wake-ups of threads and a commit; each task is made,
scheduled and ended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio

from occd import sqlite
from occd.broker import open_broker
from occd.config import Config
from occd.inputs import File
from occd.languages import load_languages
from occd.principal import NOBODY
from occd.request import Request
from occd.roles.execute import Execute
from occd.roles.notify import Notify
from occd.roles.submit import Submit
from occd.sandbox import open_sandbox
from occd.sqlite import open_database
from occd.state import open_state

TRANSACTIONS_MAX = 3
TASKS_MAX = 8
"""Both may fall and never rise."""

HELLO = Request("python", files=(File("main.py", b'print("Hello, world!")'),))
HELLOS_MAX = 60
SOON_S = 60.0
QUIET_S = 0.1
"""Longer than any write waits for another one to join."""


@asynccontextmanager
async def quiet_daemon(folder: Path) -> AsyncIterator[Submit]:
    config = Config(data_dir=folder)
    async with (
        open_database(folder) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
        open_sandbox(config) as sandbox,
        trio.open_nursery() as nursery,
    ):
        submit = Submit(config, broker, state, load_languages())
        for role in (
            Notify(config, broker, state),
            Execute(config, broker, state, sandbox),
            submit,
        ):
            await nursery.start(role.run)
        yield submit
        nursery.cancel_scope.cancel()


class Spawned(trio.abc.Instrument):
    count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_the_transactions_and_tasks_of_an_embedded_hello_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one hello of several: on a busy machine a write that could join another one may miss it, and other
    tasks may begin."""
    transactions = 0
    transact = sqlite._transact

    def counting(connection: Any, batch: Any) -> None:
        nonlocal transactions
        transactions += 1
        transact(connection, batch)

    monkeypatch.setattr(sqlite, "_transact", counting)
    # As where a hello takes less than 100 ms, however slow this machine is now.
    monkeypatch.setattr("occd.execution.eventlog._UNSEEN_S", SOON_S)
    counts: list[int] = []
    tasks: list[int] = []
    spawned = Spawned()
    trio.lowlevel.add_instrument(spawned)
    async with quiet_daemon(tmp_path) as submit:
        while len(counts) < HELLOS_MAX and not (
            min(counts, default=inf) <= TRANSACTIONS_MAX and min(tasks, default=inf) <= TASKS_MAX
        ):
            transactions = spawned.count = 0
            with trio.fail_after(SOON_S):
                made = await submit.submit(HELLO, NOBODY, key=None, digest="")
                record = await submit.settled(made.id)
            assert record.result
            assert record.result.verdict == "ok"
            await trio.sleep(QUIET_S)
            counts.append(transactions)
            tasks.append(spawned.count)
    assert min(counts) <= TRANSACTIONS_MAX, counts
    assert min(tasks) <= TASKS_MAX, tasks
