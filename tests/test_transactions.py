"""What an embedded hello costs. Each transaction is two wake-ups of threads and a commit; each task is made,
scheduled and ended; each turn of Trio's loop asks the kernel what has happened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from operator import le
from pathlib import Path
from typing import Any

import pytest
import trio

from occd import sqlite
from occd.broker import open_broker
from occd.config import Config
from occd.inputs import File
from occd.languages.loading import load_languages
from occd.principal import NOBODY
from occd.request import Request
from occd.roles.execute import Execute
from occd.roles.notify import Notify
from occd.roles.submit import Submit
from occd.sandbox import open_sandbox
from occd.sqlite import open_database
from occd.state import open_state

TRANSACTIONS_MAX = 3
TASKS_MAX = 2
TURNS_MAX = 16
"""All may fall and never rise. A quiet machine mostly takes 14 turns: what comes at once may be seen in two
turns of the loop, or in one."""

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


class Counts(trio.abc.Instrument):
    tasks = turns = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.tasks += 1

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1


async def test_the_transactions_tasks_and_turns_of_an_embedded_hello_are_few(
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
    most = (TRANSACTIONS_MAX, TASKS_MAX, TURNS_MAX)
    least: tuple[float, ...] = (inf, inf, inf)
    counts = Counts()
    trio.lowlevel.add_instrument(counts)
    async with quiet_daemon(tmp_path) as submit:
        for _ in range(HELLOS_MAX):
            transactions = counts.tasks = counts.turns = 0
            with trio.fail_after(SOON_S):
                made = await submit.submit(HELLO, NOBODY, key=None, digest="")
                record = await submit.settled(made.id)
            turns = counts.turns
            assert record.result
            assert record.result.verdict == "ok"
            await trio.sleep(QUIET_S)
            found = (transactions, counts.tasks, turns)
            least = tuple(map(min, least, found))
            if all(map(le, least, most)):
                break
    assert all(map(le, least, most)), least
