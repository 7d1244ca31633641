"""No task in the background ends because state is away, whatever it is that state says; each tells of it
once, and goes on when state is back."""

import sqlite3
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from occd.broker.embedded import open_embedded as open_broker
from occd.config import Config
from occd.errors import DataFolderError, MessageTooLarge, StateUnavailable, UnknownSubmission
from occd.languages.loading import load_languages
from occd.model import File, Submission, new_id
from occd.roles.notify import Notify
from occd.roles.submit import Submit
from occd.roles.ws import Ws
from occd.sqlite import Database, open_database
from occd.state import State
from occd.state.embedded import open_embedded as open_state

SOON_S = 30.0


class Away:
    """What is shared by the subjects of a state that can be told to fail at each step."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.failed: dict[str, int] = {}

    def state(self, state: State) -> State:
        return State(*(cast(Any, _Away(self, getattr(state, each.name))) for each in fields(State)))


class _Away:
    def __init__(self, away: Away, subject: Any) -> None:
        self._away = away
        self._subject = subject

    def __getattr__(self, name: str) -> Any:
        step = getattr(self._subject, name)
        away = self._away

        async def try_step(*args: Any, **options: Any) -> Any:
            await trio.lowlevel.checkpoint()
            if away.error:
                away.failed[name] = away.failed.get(name, 0) + 1
                raise away.error
            return await step(*args, **options)

        return try_step


async def until(holds: Any) -> None:
    with trio.fail_after(SOON_S):
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    "error",
    [
        DataFolderError("the disk is full"),
        StateUnavailable("Redis is away", 5),
        sqlite3.OperationalError("disk I/O error"),
        sqlite3.IntegrityError("an index is damaged"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_roles_outlast_a_state_that_is_away(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    monkeypatch.setattr("occd.roles.heartbeat._EVERY_S", 0.01)
    monkeypatch.setattr("occd.roles.submit._SWEEP_EVERY_S", 0.01)
    config = Config(data_dir=tmp_path)
    lost = Submission(
        new_id(), "python", None, "main.py", (File("main.py", b""),), created_at=time.time() - 100
    )
    async with (
        open_database(tmp_path) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
        trio.open_nursery() as nursery,
    ):
        away = Away()
        shared = away.state(state)
        submit = Submit(config, broker, shared, load_languages())
        for role in (submit, Notify(config, broker, shared), Ws(shared, submit)):
            await nursery.start(role.run)
        away.error = error

        async def tried() -> bool:
            return away.failed.get("announce", 0) > 20 and away.failed.get("unpublished", 0) > 20

        await until(tried)
        await state.submissions.create(lost, None, "")
        for node in await state.nodes.live():
            await state.nodes.withdraw(node)
        away.error = None

        async def healed() -> bool:
            known = {role for node in await state.nodes.live() for role in node.roles}
            return known >= {"submit", "notify", "ws"} and not await state.submissions.unpublished(
                time.time()
            )

        await until(healed)
        assert (await broker.depths())["submission_queue"] == 1
        nursery.cancel_scope.cancel()
    said = capsys.readouterr().out
    for event, times in {"the sweep will try again": 1, "were not told of this node": 3}.items():
        lines = [line for line in said.splitlines() if event in line]
        assert len([line for line in lines if "warning" in line]) == times
        assert len([line for line in lines if "it works again" in line]) == times


async def test_what_is_too_old_goes_when_the_folder_takes_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.state.embedded.submissions._EXPIRE_EVERY_S", 0.01)
    write, tries = Database.write, 0

    async def refuse(self: Database, *args: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries > 60:
            return await write(self, *args, **options)
        await trio.lowlevel.checkpoint()
        raise DataFolderError("the disk is full") if tries % 2 else sqlite3.DatabaseError("bad")

    old = Submission(new_id(), "python", None, "main.py", (File("main.py", b""),), created_at=1.0)
    async with open_database(tmp_path) as database:
        config = Config(data_dir=tmp_path)
        async with open_state(config, database) as state:
            await state.submissions.create(old, None, "")
            await state.submissions.cancel(old.id)
            monkeypatch.setattr(Database, "write", refuse)
            await write(database, lambda db: db.execute("UPDATE submissions SET finished_at = 1"))

            async def gone() -> bool:
                found = await database.read(
                    lambda db: db.execute("SELECT count(*) FROM submissions").fetchone()
                )
                return bool(found == (0,))

            await until(gone)
    assert tries > 60


async def test_a_submission_that_the_queue_never_takes_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process died before it could tell the client; the sweep of another finds it first, each time."""
    monkeypatch.setattr("occd.roles.submit._SWEEP_EVERY_S", 0.01)
    config = Config(data_dir=tmp_path)
    large, small = (
        Submission(new_id(), "python", None, "main.py", (File("main.py", text),), created_at=at)
        for at, text in ((1.0, b"x" * 10_000), (2.0, b""))
    )
    async with (
        open_database(tmp_path) as database,
        open_broker(config, database) as broker,
        open_state(config, database) as state,
        trio.open_nursery() as nursery,
    ):
        publish = broker.publish

        async def publish_small(queue: str, body: bytes, **options: Any) -> None:
            if len(body) > 10_000:
                raise MessageTooLarge("the server takes nothing so large")
            await publish(queue, body, **options)

        monkeypatch.setattr(broker, "publish", publish_small)
        for each in (large, small):
            await state.submissions.create(each, None, "")
        await nursery.start(Submit(config, broker, state, load_languages()).run)

        async def empty() -> bool:
            return not await state.submissions.unpublished(time.time())

        await until(empty)
        assert (await broker.depths())["submission_queue"] == 1
        with pytest.raises(UnknownSubmission):
            await state.submissions.get(large.id)
        nursery.cancel_scope.cancel()
