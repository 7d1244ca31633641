"""The embedded state: its tables outlive an upgrade, and its memory keeps up with them."""

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from occd import wire
from occd.config import Config
from occd.model import File, Finished, Outcome, Result, Submission, Verdict
from occd.sqlite import open_database
from occd.state import open_state, sql

OUTCOME = Outcome(0, None, None, b"out\xff", b"", False, False, 0.1, 0.2, 300)
RESULT = Result(Verdict.OK, run=OUTCOME, attempts=1, finished_at=2e9)


def submission(id: str, **fields: Any) -> Submission:
    known: dict[str, Any] = {
        "id": id,
        "language": "python",
        "version": None,
        "main": "m",
        "owner": "anon:somebody",
    }
    return Submission(**known | {"files": (File("m", b"1"),), "created_at": 1e9} | fields)


async def test_columns_of_what_an_older_version_stored_are_filled(tmp_path: Path) -> None:
    waits = submission("waits", interactive=True, retry_of="another")
    ended = submission("ended", language="c", created_at=1e9 + 1)
    async with open_database(tmp_path) as database:
        await database.migrate("state", sql.MIGRATIONS[:2])
        add = (
            "INSERT INTO submissions (id, body, status, created_at, owner, last_seq, result) "
            "VALUES (?, ?, ?, ?, 'somebody', ?, ?)"
        )
        rows = [
            ("waits", wire.encode_submission(waits), "queued", 1e9, 0, None),
            (
                "ended",
                wire.encode_submission(ended),
                "finished",
                1e9 + 1,
                1,
                wire.store_result(RESULT),
            ),
        ]
        await database.write(lambda db: db.executemany(add, rows))
        last = "INSERT INTO events SELECT number, 1, 2e9, ? FROM submissions WHERE id = 'ended'"
        await database.write(lambda db: db.execute(last, [wire.store_event(Finished(RESULT))]))
    async with (
        open_database(tmp_path) as database,
        open_state(Config(data_dir=tmp_path), database) as state,
    ):
        record = await state.get("waits")
        assert (record.language, record.retry_of, record.result) == ("python", "another", None)
        await state.send_stdin("waits", b"x", None, end=False)
        listed = await state.owned("anon:somebody", None, 10)
        assert [(each.language, each.verdict) for each in listed] == [("c", "ok"), ("python", None)]
        assert (await state.get("ended")).result == RESULT
        (told,) = await state.watch("ended", 0)
        assert told.event == Finished(RESULT.without_output())
        assert await state.submission("waits") == waits


async def test_a_signal_may_follow_a_start_as_soon_as_the_start_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_database(tmp_path) as database,
        open_state(Config(data_dir=tmp_path), database) as state,
    ):
        starting = submission("starting")
        await state.create(starting, None, "digest")
        monkeypatch.setattr(database, "_token", _Late(database._token))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(state.begin, starting, "3", "node")
            while await state.status(starting.id) != "running":  # noqa: ASYNC110  (as a reader may see it)
                await trio.lowlevel.checkpoint()
            await state.send_signal(starting.id, "SIGINT")
        assert list(await state.signals(starting.id, 0)) == ["SIGINT"]


class _Late:
    """Trio's thread hears of a commit some time after everybody can read what was committed."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token

    def run_sync_soon(self, *call: Any) -> None:
        time.sleep(0.1)
        self._token.run_sync_soon(*call)
