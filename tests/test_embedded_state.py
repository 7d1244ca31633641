"""The embedded state: its tables outlive an upgrade, its memory keeps up with them, its files are its own."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pydantic import SecretStr

from occd import wire
from occd.config import Config, RabbitmqConfig
from occd.errors import NoTerminal
from occd.events import Finished
from occd.model import RUN, File, Outcome, Result, Submission, Terminal, Verdict, Written
from occd.sqlite import Database, Work, open_database
from occd.state import open_state
from occd.state.control import Cancel, Control, End, Signal, Stdin
from occd.state.embedded.tables import MIGRATIONS

OUTCOME = Outcome(0, None, None, Written(4, utf8=False), Written(), 0.1, 0.2, 300)
RESULT = Result(Verdict.OK, run=OUTCOME, attempts=1, finished_at=2e9)


VERSION_1_RESULT = (
    b'{"result":{"verdict":"ok","message":null,"version":null,"compile":null,"run":{"exit_code":0,'
    b'"signal":null,"limit":null,"stdout":"%b","stderr":"","stdout_truncated":false,'
    b'"stderr_truncated":false,"cpu_time":0.1,"wall_time":0.2,"memory":300},"attempts":1,'
    b'"started_at":null,"finished_at":2e9}}'
)
"""It held the output."""


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
    runs = submission("runs", interactive=True, owner=None)
    ended = submission("ended", language="c", created_at=1e9 + 1)
    async with open_database(tmp_path) as database:
        await database.migrate("state", MIGRATIONS[:2])
        add = (
            "INSERT INTO submissions (id, body, status, created_at, owner, last_seq, result, stdin_sent, "
            "stdin_read, stdin_ended, cancelled) VALUES (?, ?, ?, ?, 'somebody', ?, ?, ?, ?, ?, ?)"
        )
        rows = [
            ("waits", wire.encode_submission(waits), "queued", 1e9, 0, None, 5, 0, 0, 0),
            ("runs", wire.encode_submission(runs), "running", 1e9, 0, None, 5, 3, 1, 1),
            (
                "ended",
                wire.encode_submission(ended),
                "finished",
                1e9 + 1,
                5,
                VERSION_1_RESULT % b"b3V0/w==",
                5,
                5,
                1,
                1,
            ),
        ]
        await database.write(lambda db: db.executemany(add, rows))
        events = [
            b'{"event":{"attempt":1,"version":"3","node":"n","name":"started"}}',
            b'{"event":{"stage":"run","stream":"stdout","data":"ZWFybGllcg==","name":"output"}}',
            b'{"event":{"attempt":2,"version":"3","node":"n","name":"started"}}',
            b'{"event":{"stage":"run","stream":"stdout","data":"b3V0/w==","name":"output"}}',
            VERSION_1_RESULT.replace(b'{"result"', b'{"event":{"name":"finished","result"') % b""
            + b"}",
        ]
        add = "INSERT INTO stdin SELECT number, ?, ? FROM submissions"
        await database.write(lambda db: db.executemany(add, [(3, b"de"), (0, b"abc")]))
        add = "INSERT INTO events SELECT number, ?, 2e9, ? FROM submissions WHERE id = 'ended'"
        await database.write(lambda db: db.executemany(add, enumerate(events, start=1)))
    async with (
        open_database(tmp_path) as database,
        open_state(Config(data_dir=tmp_path), database) as state,
    ):
        record = await state.submissions.get("waits")
        assert (record.language, record.retry_of, record.result) == ("python", "another", None)
        await state.controls.send_stdin("waits", b"x", 5, end=False)
        assert await state.submissions.begin(waits, "3", "n") == 1
        typed: list[Control] = [Stdin(0, b"abc"), Stdin(3, b"de")]
        found = [each.control for each in await state.controls.watch("waits", 0)]
        assert found == [*typed, Stdin(5, b"x")]
        with pytest.raises(NoTerminal):
            await state.controls.send_resize("waits", Terminal(24, 80))
        assert await state.submissions.begin(runs, "3", "n") == 1
        entries = await state.controls.watch("runs", 0)
        assert [each.number for each in entries] == [1, 2, 3, 4]
        assert [each.control for each in entries] == [*typed, End(), Cancel()]
        listed = await state.submissions.owned("anon:somebody", None, 10)
        assert [(each.id, each.language, each.verdict) for each in listed] == [
            ("ended", "c", "ok"),
            ("waits", "python", None),
            ("runs", "python", None),
        ]
        record = await state.submissions.get("ended", 4)
        assert record.result == RESULT
        assert record.output
        assert record.output[RUN, "stdout"] == b"out\xff"
        (told,) = await state.log.watch("ended", 4)
        assert isinstance(told.event, Finished)
        assert told.event.result.verdict == "ok"
        assert await state.submissions.submission("waits") == waits


async def test_a_signal_may_follow_a_start_as_soon_as_the_start_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_database(tmp_path) as database,
        open_state(Config(data_dir=tmp_path), database) as state,
    ):
        starting = submission("starting")
        await state.submissions.create(starting, None, "digest")
        monkeypatch.setattr(database, "_token", _Late(database._token))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(state.submissions.begin, starting, "3", "node")
            while await state.submissions.status(starting.id) != "running":  # noqa: ASYNC110  (as a reader may see it)
                await trio.lowlevel.checkpoint()
            await state.controls.send_signal(starting.id, "SIGINT")
        (entry,) = await state.controls.watch(starting.id, 0)
        assert entry.control == Signal("SIGINT")


class _Late:
    """Trio's thread hears of a commit some time after everybody can read what was committed."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token

    def run_sync_soon(self, *call: Any) -> None:
        time.sleep(0.1)
        self._token.run_sync_soon(*call)


async def test_a_blob_is_on_the_disk_in_folders_that_nobody_else_can_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of data may be one that others can list."""
    tmp_path.chmod(0o755)
    synced: list[Path] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    async with (
        open_database(tmp_path) as database,
        open_state(Config(data_dir=tmp_path), database) as state,
    ):
        await state.submissions.create(submission("subject"), None, "")  # else its blobs expire
        monkeypatch.setattr(os, "fsync", watched)
        await state.blobs.put("subject", "sha256", b"data")
        assert await state.blobs.get("subject", "sha256") == b"data"
    blobs = tmp_path / "blobs"
    assert [each.stat().st_mode & 0o777 for each in (blobs, blobs / "subject")] == [0o700, 0o700]
    assert synced == [blobs / "subject/sha256.part", blobs / "subject", blobs, tmp_path]


@pytest.mark.parametrize("queues_apart", [False, True])
async def test_a_start_waits_for_the_disk_where_a_power_cut_would_leave_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queues_apart: bool
) -> None:
    rabbitmq = RabbitmqConfig(url=SecretStr("amqp://127.0.0.1")) if queues_apart else None
    waits: list[bool] = []
    write = Database.write

    async def watched(self: Database, work: Work[object], **options: Any) -> object:
        waits.append(options.get("durable", False))
        return await write(self, work, **options)

    async with (
        open_database(tmp_path) as database,
        open_state(Config(data_dir=tmp_path, rabbitmq=rabbitmq), database) as state,
    ):
        await state.submissions.create(submission("a"), None, "")
        await trio.testing.wait_all_tasks_blocked()
        monkeypatch.setattr(Database, "write", watched)
        await state.submissions.begin(submission("a"), "3", "node")
        monkeypatch.undo()
    assert waits == [queues_apart]
