"""The steps that change the queues and state in one transaction (`occd/together.py`)."""

import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from occd import wire
from occd.broker import Broker, Delivery, open_broker
from occd.broker import embedded as messages
from occd.config import Config, QueueConfig
from occd.errors import Conflict, DataFolderError, QueueFull
from occd.events import Stage
from occd.inputs import File
from occd.languages.loading import load_languages
from occd.model import Result, Submission, Verdict
from occd.principal import NOBODY, Principal
from occd.request import Request
from occd.roles.submit import Submit
from occd.sqlite import Database, open_database
from occd.state import Node, State, open_state
from occd.state.embedded import submissions_sql
from occd.together import Together, taken, together

Q = "submission_queue"
HELLO = Request("python", files=(File("main.py", b"print()"),))
OWNER = Principal("anon:" + 64 * "a")
DONE = Result(Verdict.OK, attempts=1, finished_at=2e9)
SOON_S = 60.0


@dataclass
class Opened:
    folder: Path
    database: Database
    broker: Broker
    state: State
    submit: Submit
    together: Together

    async def begun(self) -> tuple[Submission, int, Delivery]:
        """A submission that runs: its attempt, and the delivery of its message."""
        made = await self.submit.submit(HELLO, NOBODY, key=None, digest="")
        async with self.broker.pull(Q, 1) as pull:
            pull.ask()
            with trio.fail_after(SOON_S):
                delivery = await pull.deliveries.receive()
        assert delivery.key == made.id
        submission = wire.decode_submission(delivery.body)
        return submission, await self.state.submissions.begin(submission, "3", "node"), delivery

    async def waiting(self) -> int:
        return (await self.broker.depths())[Q]

    def rows(self, query: str) -> list[Any]:
        """As a process would find them that starts after our death."""
        with closing(sqlite3.connect(self.folder / "occd.db", timeout=10)) as db:
            return db.execute(query).fetchall()

    async def names(self, id: str) -> list[str]:
        return [each.event.name for each in await self.state.log.entries(id, 0)]


@asynccontextmanager
async def opened(folder: Path, length_max: int = 1000) -> AsyncIterator[Opened]:
    config = Config(data_dir=folder, queue=QueueConfig(length_max=length_max))
    async with (
        open_database(folder) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
    ):
        await state.nodes.announce(
            Node("runs", ("execute",), {"python": ("3.11",)}, accepts=wire.FIELDS)
        )
        joint = together(config, broker, state)
        assert joint
        submit = Submit(config, broker, state, load_languages())
        yield Opened(folder, database, broker, state, submit, joint)


def fail(*_: object) -> None:
    raise sqlite3.OperationalError("no such thing")


async def test_what_is_accepted_is_queued_and_marked_in_the_same_transaction(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as occd:
        made = await occd.submit.submit(HELLO, NOBODY, key=None, digest="")
        assert occd.rows("SELECT id, published, last_seq FROM submissions") == [(made.id, 1, 1)]
        assert occd.rows("SELECT queue, key FROM messages") == [(Q, made.id)]
        assert occd.rows("SELECT (SELECT body FROM submissions) = (SELECT body FROM messages)") == [
            (1,)
        ]
        assert await occd.names(made.id) == ["queued"]


async def test_what_cannot_be_queued_is_not_recorded_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, length_max=1) as occd:
        with monkeypatch.context() as broken:
            broken.setattr(messages, "_insert", fail)
            with pytest.raises(DataFolderError):
                await occd.submit.submit(HELLO, NOBODY, key=None, digest="")
        assert occd.rows("SELECT * FROM submissions") == []
        made = await occd.submit.submit(HELLO, NOBODY, key=None, digest="")  # the place is free
        (queued,) = await occd.state.log.entries(made.id, 0)
        assert queued.event.position == 1  # type: ignore[union-attr]


async def test_a_full_queue_takes_nothing_but_repetitions(tmp_path: Path) -> None:
    async with opened(tmp_path, length_max=1) as occd:
        first = await occd.submit.submit(HELLO, OWNER, key="key", digest="digest")
        again = await occd.submit.submit(HELLO, OWNER, key="key", digest="digest")
        assert again.id == first.id
        with pytest.raises(QueueFull):
            await occd.submit.submit(HELLO, OWNER, key="other", digest="digest")
        assert occd.rows("SELECT id FROM submissions") == [(first.id,)]
        assert await occd.waiting() == 1


async def test_a_repetition_takes_no_place_and_no_waiting_taker(tmp_path: Path) -> None:
    async with opened(tmp_path, length_max=2) as occd, occd.broker.pull(Q, 9) as pull:
        first = await occd.submit.submit(HELLO, OWNER, key="key", digest="digest")
        pull.ask()
        with trio.fail_after(SOON_S):
            taken = await pull.deliveries.receive()
        pull.ask()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            again = await occd.submit.submit(HELLO, OWNER, key="key", digest="digest")
            assert again.id == first.id
        with pytest.raises(Conflict):
            await occd.submit.submit(HELLO, OWNER, key="key", digest="another")
        second = await occd.submit.submit(HELLO, NOBODY, key=None, digest="")
        with trio.fail_after(SOON_S):
            delivered = await pull.deliveries.receive()
        assert [taken.key, delivered.key] == [first.id, second.id]


async def test_a_result_its_events_and_the_end_of_its_message_are_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as occd:
        submission, attempt, delivery = await occd.begun()
        last = [Stage("run", "start")]
        for module, name in ((messages, "_delete"), (submissions_sql, "_finish")):
            with monkeypatch.context() as broken:
                broken.setattr(module, name, fail)
                with pytest.raises(DataFolderError):
                    await occd.together.finish(delivery, submission.id, attempt, DONE, last)
            assert await occd.state.submissions.status(submission.id) == "running"
            assert await occd.names(submission.id) == ["queued", "started"]
            assert len(occd.rows("SELECT * FROM messages")) == 1
        assert await occd.together.finish(delivery, submission.id, attempt, DONE, last)
        assert await occd.names(submission.id) == ["queued", "started", "stage", "finished"]
        assert occd.rows("SELECT * FROM messages") == []
        record = await occd.state.submissions.settled(submission.id)
        assert record.result == DONE


async def test_a_result_that_comes_too_late_changes_nothing_and_ends_its_message(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as occd:
        submission, attempt, delivery = await occd.begun()
        assert await occd.state.submissions.begin(submission, "3", "other") == attempt + 1
        last = [Stage("run", "start")]
        assert not await occd.together.finish(delivery, submission.id, attempt, DONE, last)
        assert await occd.names(submission.id) == ["queued", "started", "started"]
        assert await occd.state.submissions.status(submission.id) == "running"
        assert occd.rows("SELECT * FROM messages") == []


async def test_the_end_of_a_message_counts_once(tmp_path: Path) -> None:
    """execute acknowledges a delivery when another one of the same submission comes, perhaps at this very
    moment, and each one at its end."""
    go = threading.Event()
    async with opened(tmp_path, length_max=2) as occd:
        submission, attempt, delivery = await occd.begun()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(occd.database.write, lambda _: go.wait())
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(occd.together.finish, delivery, submission.id, attempt, DONE, [])
            await trio.testing.wait_all_tasks_blocked()  # it waits for the writer
            await delivery.ack()
            go.set()
        await delivery.ack()
        for _ in range(2):
            await occd.submit.submit(HELLO, NOBODY, key=None, digest="")
        with pytest.raises(QueueFull):
            await occd.submit.submit(HELLO, NOBODY, key=None, digest="")


async def test_a_message_whose_end_was_not_written_can_end_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as occd:
        submission, attempt, delivery = await occd.begun()
        with monkeypatch.context() as full:
            full.setattr("occd.datafile.DataFile.check_place", _away)
            with pytest.raises(DataFolderError):
                await occd.together.finish(delivery, submission.id, attempt, DONE, [])
        await delivery.hand_back()
        assert await occd.waiting() == 1


def _away(_: object) -> None:
    raise DataFolderError("the data folder is away")


async def test_a_submission_is_the_same_whether_it_was_read_or_not(tmp_path: Path) -> None:
    """The one that its process has just accepted is not read from its message."""
    async with opened(tmp_path) as occd:
        for who in (NOBODY, OWNER):
            async with occd.broker.pull(Q, 1) as pull:
                pull.ask()
                await trio.testing.wait_all_tasks_blocked()
                made = await occd.submit.submit(HELLO, who, key=None, digest="")
                with trio.fail_after(SOON_S):
                    delivery = await pull.deliveries.receive()
            assert isinstance(delivery, messages.EmbeddedDelivery)
            known = taken(delivery)
            assert known is delivery.value
            assert (known.id, known.owner) == (made.id, who.owner)
            assert known == wire.decode_submission(delivery.body)
        await occd.submit.submit(HELLO, NOBODY, key=None, digest="")
        async with occd.broker.pull(Q, 1) as pull:  # it waited for this one
            pull.ask()
            with trio.fail_after(SOON_S):
                delivery = await pull.deliveries.receive()
        assert isinstance(delivery, messages.EmbeddedDelivery)
        assert delivery.value is None
        assert taken(delivery) == wire.decode_submission(delivery.body)
