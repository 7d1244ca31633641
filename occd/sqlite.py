"""One SQLite file in the data folder, shared by the embedded broker and state.

Theory of operation. All writes go to one thread, which takes whatever waits, runs it as one
transaction with a savepoint each, commits once, and wakes all callers at once: durability costs one
fsync however many wait for it. A write that need not survive a power cut (`durable=False`) still
survives the death of this process, and never overtakes an earlier one: the log is a prefix of what
was written. Reads go to worker threads; with the write-ahead log they wait for no writer.

Because broker and state share the log, so does their order: a message that is gone was acknowledged
after its result had been stored. What the process keeps in memory beside the file follows in the same
order (`then`).

The file can be taken from us: deleted, moved away, overwritten, or its disk is full. Each read and write
then raises DataFolderError, which names the file and the remedy. Before each promise the writer looks
whether the path still leads to the file that it opened, since nobody would find again what is written to
another one.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import outcome
import structlog
import trio

from occd.datafile import DataFile, explain, is_of_the_file, open_file
from occd.errors import DataFileDamaged, DataFolderError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

log = structlog.get_logger()

_READERS = 4
_BATCH = 500
_PATIENCE_S = 0.005
_PLACE_EVERY_S = 0.1
_INSPECT_EVERY_S = 60.0
_INSPECT_S = 1.0
"""So long an inspection may take; a file that is too large for that is inspected in part."""


def _nothing(_value: object) -> None:
    pass


@dataclass(slots=True)
class _Write(Generic[T]):
    work: Work[T]
    durable: bool
    then: Callable[[T], None]
    task: trio.lowlevel.Task = field(default_factory=trio.lowlevel.current_task)
    result: outcome.Outcome[T] | None = None
    committed: bool = False


class Database:
    """Use `open_database`. Work is a function of a connection; its return value or exception is the
    caller's. An exception undoes what that work wrote, and nothing else. Whatever the file itself is the
    reason of becomes DataFolderError."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._writes: queue.SimpleQueue[list[_Write[Any]]] = queue.SimpleQueue()
        self._unhurried: list[_Write[Any]] = []
        self._unhurried_came = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._limiter = trio.CapacityLimiter(_READERS)
        self._checking = trio.CapacityLimiter(
            1
        )  # anybody may ask, and reads must not wait for that
        self._inspected_at = time.monotonic()
        self._placed_at = 0.0
        self._damage: DataFileDamaged | None = None
        self._readers: list[sqlite3.Connection] = []
        self._writer = threading.Thread(target=self._run_writer, name="occd-writer", daemon=True)

    async def write(
        self,
        work: Work[T],
        *,
        durable: bool = False,
        hurry: bool = True,
        then: Callable[[T], None] = _nothing,
    ) -> T:
        """Run `work` in the writer thread; return when it is committed, `durable`: on disk. Without
        `hurry` it may wait a few milliseconds for another to go along with: waking a thread costs
        more than most works.

        `then` is called in Trio's thread with what the work returned, in the order of the log: tasks go on
        in any order, and memory that followed theirs would come to differ from the file.

        Not cancellable, so that a caller knows: when it returns it is done, when it raises it is not.
        """
        write = _Write(work, durable, then)
        self._unhurried.append(write)
        if hurry:
            self._send()
        else:
            self._unhurried_came.set()
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        assert write.result is not None
        return write.result.unwrap()

    async def read(self, work: Work[T]) -> T:
        """Run `work` with a connection that sees everything committed before."""
        return await trio.to_thread.run_sync(
            self._read, work, limiter=self._limiter, abandon_on_cancel=True
        )

    async def check(self) -> None:
        """Raises DataFolderError when nothing could be recorded now, or the file is not what it was."""
        await trio.to_thread.run_sync(self._check, limiter=self._checking, abandon_on_cancel=True)

    async def migrate(self, component: str, steps: Sequence[str]) -> None:
        """Bring a component's tables to version len(steps); each step is a script.

        Raises DataFolderError when they are of a newer version than this program knows.
        """
        await self.write(lambda connection: _migrate(connection, component, steps), durable=True)

    def _send(self) -> None:
        self._writes.put(self._unhurried)
        self._unhurried = []

    async def _send_unhurried(self, scope: trio.CancelScope) -> None:
        """Runs until `scope` is cancelled and nothing else cancels it: what waits cannot be, either."""
        with scope:
            while True:
                await self._unhurried_came.wait()
                await trio.sleep(_PATIENCE_S)
                self._unhurried_came = trio.Event()
                if self._unhurried:
                    self._send()

    def _read(self, work: Work[T]) -> T:
        connection = None
        try:
            connection = self._reader()
            return work(connection)
        except sqlite3.Error as error:
            _close(connection)  # another one may see better
            connection = None
            raise self._explain(error, "cannot be read") from error
        finally:
            if connection is not None:
                self._readers.append(connection)

    def _reader(self) -> sqlite3.Connection:
        try:
            return self._readers.pop()
        except IndexError:
            return self._file.connect()

    def _check(self) -> None:
        self._file.check_place()
        self._file.check_room()
        now = time.monotonic()
        if self._damage or now - self._inspected_at >= _INSPECT_EVERY_S:
            self._inspected_at = now
            try:
                with closing(self._file.connect()) as connection:  # that has nothing in memory
                    whole = self._file.inspect(connection, _INSPECT_S)
            except (sqlite3.Error, DataFileDamaged) as error:
                raise self._explain(error, "cannot be read") from error
            if whole:
                self._damage = None
            elif self._damage:
                raise self._damage

    def _explain(self, error: Exception, otherwise: str) -> Exception:
        """An error of a work's own, such as a broken rule, stays what it is."""
        known = explain(self._file.path, error, otherwise)
        if isinstance(known, DataFileDamaged):
            self._damage = known
        return known or error

    def _run_writer(self) -> None:
        connection: sqlite3.Connection | None = None
        while batch := self._take():
            try:
                if self._damage:  # more writing would make it worse
                    raise self._damage
                self._check_place(batch)
                connection = connection or self._file.connect()
                _commit(connection, batch)
            except Exception as error:  # nobody may wait for ever for a thread that died
                for write in batch:
                    if not write.committed:
                        write.result = outcome.Error(error)
                _close(connection)
                connection = None
            self._translate(batch)
            self._token.run_sync_soon(_deliver, batch)
        _close(connection)

    def _check_place(self, batch: Sequence[_Write[Any]]) -> None:
        """Before each promise, and otherwise now and then: it costs as much as a small write."""
        now = time.monotonic()
        if now - self._placed_at > _PLACE_EVERY_S or any(write.durable for write in batch):
            self._file.check_place()
            self._placed_at = now

    def _translate(self, batch: Sequence[_Write[Any]]) -> None:
        """Tell those whose write was not done why."""
        for write in batch:
            match write.result:
                case outcome.Error(error=error) if not write.committed:
                    if not isinstance(error, DataFolderError | sqlite3.Error):
                        log.error("a mistake of ours in writing", exc_info=error)
                        error = DataFolderError(f"{self._file.path} cannot be written: {error!r}")
                    write.result = outcome.Error(self._explain(error, "cannot be written"))

    def _take(self) -> list[_Write[Any]]:
        """What waits, at least one; empty when it is time to end."""
        batch = self._writes.get()
        while batch and len(batch) < _BATCH and not self._writes.empty():
            more = self._writes.get()
            if not more:
                self._writes.put(more)  # the end, which comes last
                break
            batch += more
        return batch

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._writer.start()
        try:
            async with trio.open_nursery() as nursery:
                sending = trio.CancelScope(shield=True)
                nursery.start_soon(self._send_unhurried, sending)
                try:
                    yield
                finally:
                    sending.cancel()
        finally:
            self._writes.put([])  # the end
            with trio.CancelScope(shield=True):  # the writer ends after a last commit: milliseconds
                await trio.to_thread.run_sync(self._writer.join)
            for reader in self._readers:
                _close(reader)


@asynccontextmanager
async def open_database(folder: Path) -> AsyncIterator[Database]:
    """Raises DataFolderError when the folder is in use by another process or cannot be used."""
    with open_file(folder) as file:
        database = Database(file)
        async with database._running():
            yield database


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()


def _commit(connection: sqlite3.Connection, batch: Sequence[_Write[Any]]) -> None:
    """All in one transaction; when that fails (a full disk, above all), in one each, so that what is
    too big fails alone."""
    try:
        _transact(connection, batch)
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if len(batch) > 1:
            for write in batch:
                _commit(connection, [write])
        else:
            batch[0].result = outcome.Error(error)


def _transact(connection: sqlite3.Connection, batch: Sequence[_Write[Any]]) -> None:
    durable = any(write.durable for write in batch)
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    for write in batch:
        write.result = outcome.capture(_in_savepoint, connection, write.work)
        match write.result:  # a full disk may have undone everything before as well
            case outcome.Error(error=sqlite3.Error() as error) if is_of_the_file(error):
                raise error
    connection.execute("COMMIT")
    for write in batch:
        write.committed = True


def _in_savepoint(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("SAVEPOINT work")
    try:
        value = work(connection)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
        raise
    connection.execute("RELEASE work")
    return value


def _deliver(batch: Sequence[_Write[Any]]) -> None:
    for write in batch:
        match write.result:
            case outcome.Value(value=value):
                write.then(value)
        trio.lowlevel.reschedule(write.task)


def _migrate(connection: sqlite3.Connection, component: str, steps: Sequence[str]) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS versions (component TEXT PRIMARY KEY, version INT)"
    )
    row = connection.execute(
        "SELECT version FROM versions WHERE component = ?", [component]
    ).fetchone()
    version = row[0] if row else 0
    if version > len(steps):
        raise DataFolderError(
            f"the data folder was written by a newer occd ({component} version {version}; this one "
            f"knows {len(steps)}); use that one, or another --data-dir"
        )
    for step in steps[version:]:
        for statement in filter(str.strip, step.split(";")):
            connection.execute(statement)
    connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", [component, len(steps)])
