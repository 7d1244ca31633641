"""What the data folder promises (`occd/sqlite.py`)."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing
from disks import fill, small
from sandboxed import open_descriptors

from occd.errors import DataFolderError, Unreadable
from occd.sqlite import Database, open_database

SOON_S = 30.0
NOTES = ("CREATE TABLE notes (number INTEGER PRIMARY KEY, body BLOB)",)


def add(body: bytes | str) -> Callable[[sqlite3.Connection], None]:
    return lambda db: _execute(db, "INSERT INTO notes (body) VALUES (?)", body)


def _execute(db: sqlite3.Connection, statement: str, *values: object) -> None:
    db.execute(statement, values)


def bodies(db: sqlite3.Connection) -> list[object]:
    return [body for (body,) in db.execute("SELECT body FROM notes ORDER BY number")]


async def notes(database: Database) -> list[object]:
    return await database.read(bodies)


class Hold:
    """Work that keeps the writer busy until it is let go."""

    def __init__(self) -> None:
        self._let_go = threading.Event()
        self._holding = threading.Event()

    def work(self, db: sqlite3.Connection) -> None:
        self._holding.set()
        assert self._let_go.wait(SOON_S)

    async def held(self) -> None:
        while not self._holding.is_set():  # noqa: ASYNC110
            await trio.sleep(0.001)

    def let_go(self) -> None:
        self._let_go.set()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many writes went into each commit."""
    from occd import sqlite

    sizes: list[int] = []
    commit = sqlite._commit

    def counted(connection: sqlite3.Connection, batch: list[object]) -> None:
        sizes.append(len(batch))
        commit(connection, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite, "_commit", counted)
    return sizes


async def test_writes_that_wait_are_committed_together(tmp_path: Path, commits: list[int]) -> None:
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        commits.clear()
        hold = Hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, hold.work)
            await hold.held()
            for number in range(100):
                nursery.start_soon(lambda n: database.write(add(str(n)), durable=True), number)
            await trio.testing.wait_all_tasks_blocked()
            hold.let_go()
        assert commits == [1, 100]
        assert len(await notes(database)) == 100


async def test_a_failing_work_undoes_what_it_wrote_and_nothing_else(
    tmp_path: Path, commits: list[int]
) -> None:
    class Oops(Exception):
        pass

    failures: list[Exception] = []

    def fail_after_writing(db: sqlite3.Connection) -> None:
        add("undone")(db)
        raise Oops

    def break_a_rule(db: sqlite3.Connection) -> None:
        add("undone too")(db)
        db.execute("INSERT INTO notes (number) VALUES (1), (1)")

    async def expect_failure(work: Callable[[sqlite3.Connection], None]) -> None:
        with pytest.raises((Oops, Unreadable)) as raised:
            await database.write(work, durable=True)
        failures.append(raised.value)

    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        commits.clear()
        hold = Hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, hold.work)
            await hold.held()
            for work in (fail_after_writing, break_a_rule):
                nursery.start_soon(database.write, add("kept"))
                nursery.start_soon(expect_failure, work)
                nursery.start_soon(database.write, add("kept"))
            await trio.testing.wait_all_tasks_blocked()
            hold.let_go()
        assert commits == [1, 6]
        assert sorted(type(each).__name__ for each in failures) == ["Oops", "Unreadable"]
        assert await notes(database) == ["kept"] * 4


async def test_a_write_returns_what_its_work_returned(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        assert await database.write(lambda db: db.execute("SELECT 42").fetchone()) == (42,)


async def test_a_read_sees_everything_committed_before(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        for number in range(20):
            await database.write(add(str(number)))
            assert len(await notes(database)) == number + 1


async def test_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        await database.write(add("old"))
        hold = Hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, hold.work)
            await hold.held()
            with trio.fail_after(SOON_S / 2):
                assert await notes(database) == ["old"]
            hold.let_go()


async def test_a_cancelled_write_is_done_all_the_same(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        with trio.CancelScope() as scope:
            scope.cancel()
            await database.write(add("done"))
        assert await notes(database) == ["done"]


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_slow_work_never_blocks_the_loop(tmp_path: Path, kind: str) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.sleep(0.01)
            ticks += 1

    async with open_database(tmp_path) as database, trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        call = database.read if kind == "read" else database.write
        await call(lambda db: time.sleep(1))
        nursery.cancel_scope.cancel()
    assert ticks > 10


async def test_a_slow_read_can_be_left(tmp_path: Path) -> None:
    hold = Hold()
    async with open_database(tmp_path) as database:
        with trio.fail_after(SOON_S / 2), trio.move_on_after(0.05):
            await database.read(hold.work)
        hold.let_go()


async def test_the_file_is_closed_with_the_last_read_that_was_left(tmp_path: Path) -> None:
    """Else a read that nobody waits for would hold the file of a folder that is free for another."""
    left: list[int] = []

    def slow_read(db: sqlite3.Connection) -> None:
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
        left.append(1)
        time.sleep(0.3)

    async with open_database(tmp_path) as database, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(database.read, slow_read)
        while len(left) < 2:  # noqa: ASYNC110
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert not [path for path in open_descriptors().values() if path.startswith(f"{tmp_path}/")]


async def test_a_read_that_never_ends_does_not_keep_the_process_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that has died."""
    monkeypatch.setattr("occd.sqlite._END_S", 0.2)
    hold = Hold()
    with trio.fail_after(SOON_S / 2):
        async with open_database(tmp_path) as database:
            with trio.move_on_after(0.05):
                await database.read(hold.work)
    assert "the data folder does not answer" in capsys.readouterr().out
    hold.let_go()


async def test_a_read_that_ends_after_the_database_closes_the_file_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.sqlite._END_S", 0.2)
    hold = Hold()
    with trio.fail_after(SOON_S / 2):
        async with open_database(tmp_path) as database, trio.open_nursery() as nursery:
            nursery.start_soon(database.read, hold.work)
            await hold.held()
            nursery.cancel_scope.cancel()
    hold.let_go()
    with trio.fail_after(SOON_S):
        while any(each.startswith(f"{tmp_path}/") for each in open_descriptors().values()):  # noqa: ASYNC110
            await trio.sleep(0.01)


# a full disk


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of half a megabyte."""
    with small(tmp_path / "disk", "512k") as folder:
        yield folder


async def test_a_full_disk_is_a_data_folder_error_and_heals(tiny_disk: Path) -> None:
    async with open_database(tiny_disk) as database:
        await database.migrate("notes", NOTES)
        await database.write(add("before"), durable=True)
        fill(tiny_disk / "filler")
        with pytest.raises(DataFolderError, match="cannot write to the data folder"):
            await database.write(add(b"x" * 600_000), durable=True)
        assert (await notes(database))[0] == "before"
        (tiny_disk / "filler").unlink()
        await database.write(add("after"), durable=True)
        assert (await notes(database))[-1] == "after"
    async with open_database(tiny_disk) as database:
        kept = await notes(database)
        assert (kept[0], kept[-1]) == ("before", "after")


async def test_what_is_too_big_for_the_disk_fails_alone_or_says_so(tiny_disk: Path) -> None:
    """What raised is not done, what returned is done, however they were batched."""
    outcomes: dict[str, bool] = {}

    async def write(body: str) -> None:
        try:
            await database.write(add(body), durable=True)
            outcomes[body] = True
        except DataFolderError:
            outcomes[body] = False

    async with open_database(tiny_disk) as database:
        await database.migrate("notes", NOTES)
        hold = Hold()
        wanted = [*"abc", "x" * 4_000_000, *"def"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, hold.work)
            await hold.held()
            for body in wanted:
                nursery.start_soon(write, body)
            await trio.testing.wait_all_tasks_blocked()
            hold.let_go()
        assert set(outcomes) == set(wanted)
        done = [body for body, well in outcomes.items() if well]
        assert sorted(map(str, await notes(database))) == sorted(done)
        await database.write(add("after"), durable=True)


async def test_a_work_for_which_there_is_no_room_is_a_data_folder_error(tmp_path: Path) -> None:
    """SQLite's own bound stands for a disk that is full before the commit."""
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        await database.write(lambda db: _execute(db, "PRAGMA max_page_count=20"))
        with pytest.raises(DataFolderError, match="full"):
            await database.write(add("x" * 1_000_000))
        await database.write(add("small"))
        await database.write(lambda db: _execute(db, "PRAGMA max_page_count=1000000"))
        await database.write(add("x" * 1_000_000))
        assert len(await notes(database)) == 2


async def test_no_writer_waits_for_a_thread_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails in the thread, and at whatever step: each caller is told, and the next is served."""

    def fail(*_: object) -> None:
        raise MemoryError

    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        for name in ("_in_savepoint", "_transact", "_commit"):
            with monkeypatch.context() as patch:
                patch.setattr(f"occd.sqlite.{name}", fail)
                with trio.fail_after(SOON_S), pytest.raises((DataFolderError, MemoryError)):
                    await database.write(add("lost"))
        with monkeypatch.context() as patch:
            patch.setattr("occd.datafile._connect", fail)
            with trio.fail_after(SOON_S), pytest.raises(DataFolderError):
                await database.write(add("lost"))
        await database.write(add("kept"))
        assert await notes(database) == ["kept"]


async def test_memory_follows_the_order_of_the_log(tmp_path: Path) -> None:
    """Not that in which tasks go on, which Trio shuffles."""
    followed: list[object] = []
    hold = Hold()

    async def write(body: str) -> None:
        await database.write(add(body), then=lambda _: followed.append(body))

    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, hold.work)
            await hold.held()
            for number in range(50):
                nursery.start_soon(write, str(number))
                await trio.testing.wait_all_tasks_blocked()
            hold.let_go()
        assert followed == await notes(database)
        assert len(followed) == 50


# opening


async def test_the_folder_is_made_and_is_ours_alone(tmp_path: Path) -> None:
    async with open_database(tmp_path / "deep" / "er") as database:
        await database.migrate("notes", NOTES)
    assert (tmp_path / "deep" / "er").stat().st_mode & 0o077 == 0
    assert sorted(os.listdir(tmp_path / "deep" / "er")) == ["lock", "occd.db"]


async def test_a_folder_in_use_is_refused_naming_its_process(tmp_path: Path) -> None:
    async with open_database(tmp_path):
        with pytest.raises(DataFolderError, match=f"process {os.getpid()}"):
            async with open_database(tmp_path):
                pass
    async with open_database(tmp_path):
        pass


async def test_an_unusable_folder_is_refused_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual folder is `data`, wherever occd was started."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for folder, reason in {
        "file": "cannot be used: it is a file, not a folder",
        "file/below": "cannot be made: Not a directory",
        "/proc/x": "cannot be made: No such file or directory",
    }.items():
        said = f"{tmp_path / folder} {reason}; choose another --data-dir$"
        with pytest.raises(DataFolderError, match=said):
            async with open_database(Path(folder)):
                pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "occd.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataFolderError, match="cannot be used"):
        async with open_database(tmp_path):
            pass


async def test_an_error_of_the_user_is_not_taken_for_ours(tmp_path: Path) -> None:
    error = OSError("the address is in use")
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, check=lambda raised: raised is error)):
        async with open_database(tmp_path):
            raise error


# versions


async def test_tables_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        await database.migrate("notes", (*NOTES, "ALTER TABLE notes ADD COLUMN more TEXT"))
        await database.write(add("kept"))
    async with open_database(tmp_path) as database:
        with pytest.raises(DataFolderError, match="newer occd"):
            await database.migrate("notes", NOTES)
        assert await notes(database) == ["kept"]


async def test_tables_of_an_older_version_are_brought_up_to_date(tmp_path: Path) -> None:
    steps = (*NOTES, "ALTER TABLE notes ADD COLUMN more TEXT; UPDATE notes SET more = 'new'")
    async with open_database(tmp_path) as database:
        await database.migrate("notes", steps[:1])
        await database.write(add("old"))
    for _ in range(2):  # the second time there is nothing to do
        async with open_database(tmp_path) as database:
            await database.migrate("notes", steps)
            rows = await database.read(lambda db: db.execute("SELECT body, more FROM notes"))
            assert list(rows) == [("old", "new")]
    (copy,) = tmp_path.glob("*.before-*")
    assert copy.stat().st_mode & 0o777 == 0o600  # as the file itself, in a folder of any mode
    with closing(sqlite3.connect(copy)) as before:
        assert before.execute("SELECT * FROM notes").fetchall() == [(1, "old")]


async def test_tables_that_cannot_be_copied_are_not_brought_up_to_date(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        (tmp_path / "occd.before-notes-1.db").mkdir()
        with pytest.raises(DataFolderError, match="before its migration"):
            await database.migrate("notes", (*NOTES, "DROP TABLE notes"))
        assert await notes(database) == []


async def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    steps = (
        *NOTES,
        "ALTER TABLE notes ADD COLUMN more TEXT; INSERT INTO notes (body, x) VALUES (1)",
    )
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        with pytest.raises((DataFolderError, sqlite3.Error)):
            await database.migrate("notes", steps)
        columns = await database.read(lambda db: db.execute("PRAGMA table_info(notes)").fetchall())
        assert [column[1] for column in columns] == ["number", "body"]


async def test_components_have_versions_of_their_own(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        await database.migrate("other", ("CREATE TABLE other (x)", "CREATE TABLE another (x)"))
    async with open_database(tmp_path) as database:
        await database.migrate("notes", NOTES)
        assert await notes(database) == []


# sudden death

WRITER = """
import sys, trio
from pathlib import Path
from occd.sqlite import open_database

def add(db, name, number):
    db.execute("INSERT INTO notes (body) VALUES (?)", [f"{name} {number}"])

async def write(database, name):
    for number in range(1_000_000):
        await database.write(lambda db: add(db, name, number), durable=name % 2 == 0)
        sys.stdout.write(f"{name} {number}\\n")
        sys.stdout.flush()

async def main():
    async with open_database(Path(sys.argv[1])) as database, trio.open_nursery() as nursery:
        await database.migrate("notes", ["CREATE TABLE notes (number INTEGER PRIMARY KEY, body)"])
        for name in range(16):
            nursery.start_soon(write, database, name)

trio.run(main)
"""


async def test_a_killed_writer_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    for _ in range(3):
        confirmed = await trio.to_thread.run_sync(_write_until_killed, tmp_path, 3000)
        async with open_database(tmp_path) as database:
            kept = [str(body) for body in await notes(database)]
            assert len(confirmed) >= 3000
            assert set(confirmed) <= set(kept)
            assert len(set(kept)) == len(kept)
            _assert_without_gaps(kept)
            await database.write(lambda db: _execute(db, "DELETE FROM notes"))


def _write_until_killed(folder: Path, count: int) -> list[str]:
    """SIGKILL it in the midst of its writes, when so many are confirmed."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        confirmed = [writer.stdout.readline() for _ in range(count)]
        writer.send_signal(signal.SIGKILL)
        confirmed += writer.stdout
    return [line.strip() for line in confirmed if line.endswith("\n")]


def _assert_without_gaps(kept: list[str]) -> None:
    for name in range(16):
        numbers = [int(body.split()[1]) for body in kept if body.split()[0] == str(name)]
        assert numbers == list(range(len(numbers)))
