"""One SQLite file in the data folder, shared by the embedded broker and state.

Theory of operation. All writes go to one thread. The thread takes all waiting writes, runs them as one
transaction with a savepoint for each, commits once, and wakes all callers at once: however many callers wait,
durability costs one fsync. A write that need not survive a power cut (`durable=False`) still survives the
death of this process. It never overtakes an earlier write, so a power cut leaves a prefix of the log. Reads
go to worker threads; with the write-ahead log they wait for no writer.

Broker and state share the log, and so its order. When a submission's message is gone, the message of
its result was written before; when that message is gone, the result was stored before.
The data that the process keeps in memory beside the file changes in the same order (`then`).

The file can be deleted, moved away or overwritten, and its disk can be full. Each read and write then raises
DataFolderError, which names the file and the remedy, and the log says so once. Before each promise the writer
looks whether the path still leads to the file that it opened, because nobody would find data in another file
again.
"""

import os
import queue
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import outcome
import structlog
import trio

from occd.datafile import DataFile, explain, is_of_the_file, open_file
from occd.errors import DataFileDamaged, DataFolderError, Unreadable
from occd.migration import Step, copy, migrate, version
from occd.trouble import Trouble

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

log = structlog.get_logger()

_READERS = 4
_BATCH = 500
_PATIENCE_S = 0.005
_PLACE_EVERY_S = 0.1
_INSPECT_EVERY_S = 60.0
_ROOM_LEFT = 2**26
_END_S = 10.0
_INSPECT_S = 1.0
"""The longest time of an inspection. Of a file that takes longer, only a part is inspected."""


def _nothing(_value: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of a transaction: its work, what follows in Trio's
    thread when it is committed (`then` of `Database.write`), and what undoes its preparation otherwise."""

    work: Work[T]
    then: Callable[[T], None] = _nothing
    undo: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Write(Generic[T]):
    work: Work[T]
    durable: bool
    then: Callable[[T], None]
    task: trio.lowlevel.Task = field(default_factory=trio.lowlevel.current_task)
    result: outcome.Outcome[T] | None = None
    committed: bool = False


class Database:
    """Use `open_database`. A work is a function of a connection; the caller gets its return value or
    exception. An exception undoes the writes of that work, and nothing else. An error whose reason is the
    file itself becomes DataFolderError. No work of ours breaks a rule of the tables: when one does, the rows
    that it met were damaged, and it raises Unreadable."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._writes: queue.SimpleQueue[list[_Write[Any]]] = queue.SimpleQueue()
        self._unhurried: list[_Write[Any]] = []
        self._unhurried_came = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._limiter = trio.CapacityLimiter(_READERS)
        self._checking = trio.CapacityLimiter(1)  # apart, so that reads do not wait for a check
        self._copying = trio.CapacityLimiter(1)  # so that each sees the room that another took
        self._inspected_at = time.monotonic()
        self._placed_at = 0.0
        self._damage: DataFileDamaged | None = None
        self._closed = False
        self._readers: list[sqlite3.Connection] = []
        self._reading = Trouble("the data folder cannot be read")
        self._writing = Trouble("the data folder cannot be written")
        self._writer = threading.Thread(target=self._run_writer, name="occd-writer", daemon=True)

    async def write(
        self,
        work: Work[T],
        *,
        durable: bool = False,
        hurry: bool = True,
        then: Callable[[T], None] = _nothing,
    ) -> T:
        """Run `work` in the writer thread; return when the work is committed, with `durable` when it is on
        disk. Without `hurry` the work may wait a few milliseconds for another work to join, because waking
        a thread costs more than most works.

        `then` is called in Trio's thread with the return value of the work, in the order of the log. Tasks
        resume in any order, and memory that changed in their order would come to differ from the file.

        The call cannot be cancelled. So a caller knows: after a return the work is done, after an exception
        it is not.
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
        """Run `work` with a connection that sees all commits made before this call."""
        return await trio.to_thread.run_sync(
            self._read, work, limiter=self._limiter, abandon_on_cancel=True
        )

    async def check(self) -> None:
        """Raises DataFolderError when no write is possible now, or the file was replaced or damaged."""
        await trio.to_thread.run_sync(self._check, limiter=self._checking, abandon_on_cancel=True)

    async def migrate(self, component: str, steps: Sequence[Step]) -> None:
        """Bring a component's tables to version len(steps). Older tables are copied first, to a file beside
        theirs: a migration changes rows, and an older occd reads them no more.

        Raises DataFolderError when the tables are of a newer version than this program knows.
        """
        present = await self.read(lambda connection: version(connection, component))
        if 0 < present < len(steps):
            await trio.to_thread.run_sync(copy, self._file, f"{component}-{present}")
        await self.write(lambda connection: migrate(connection, component, steps), durable=True)

    async def copy(self) -> BinaryIO:
        """A copy of the whole file as it is now. It has no name any more, and is gone when it is closed.
        Raises DataFolderError when there is no room for it, or the file is damaged."""
        return await trio.to_thread.run_sync(self._copy, limiter=self._copying)

    def _copy(self) -> BinaryIO:
        path = self._file.path
        try:
            size = path.stat().st_size + path.with_name(f"{path.name}-wal").stat().st_size
            if shutil.disk_usage(path.parent).free < size + _ROOM_LEFT:
                raise DataFolderError(
                    f"the disk of {path} has no room for a copy: it takes {size >> 20} MiB, and "
                    f"{_ROOM_LEFT >> 20} MiB are to be left"
                )
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix="copy-")
            copy = open(descriptor, "rb")  # noqa: SIM115
            try:
                with closing(sqlite3.connect(name, isolation_level=None)) as target:
                    os.unlink(name)
                    self._file.copy(target, trio.from_thread.check_cancelled)
            except BaseException:
                copy.close()
                raise
            return copy
        except OSError as error:
            raise DataFolderError(f"{path} cannot be copied: {error.strerror}") from error
        except (sqlite3.Error, DataFileDamaged) as error:
            raise self._explain(error, "cannot be copied") from error

    def _send(self) -> None:
        self._writes.put(self._unhurried)
        self._unhurried = []

    async def _send_unhurried(self, scope: trio.CancelScope) -> None:
        """Send the waiting writes every few milliseconds. Only cancel `scope` to end this task: the waiting
        callers cannot be cancelled, and need their writes to be sent."""
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
            found = work(connection)
        except (sqlite3.Error, DataFolderError) as error:
            _close(connection)  # a new connection may work
            connection = None
            explained = self._explain(error, "cannot be read")
            _tell(self._reading, explained)
            raise explained from error
        else:
            self._reading.over()
            return found
        finally:
            if self._closed:
                _close(connection)
            elif connection is not None:
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
        """Make a DataFolderError of an error of the file. An error of the work, as a broken rule, stays."""
        known = explain(self._file.path, error, otherwise)
        if isinstance(known, DataFileDamaged):
            self._damage = known
        return known or error

    def _run_writer(self) -> None:
        connection: sqlite3.Connection | None = None
        while batch := self._take():
            try:
                if self._damage:  # more writes would add to the damage
                    raise self._damage
                self._check_place(batch)
                connection = connection or self._file.connect()
                _commit(connection, batch)
            except Exception as error:  # callers must not wait for a dead thread
                for write in batch:
                    if not write.committed:
                        write.result = outcome.Error(error)
                _close(connection)
                connection = None
            self._translate(batch)
            self._token.run_sync_soon(_deliver, batch)
        _close(connection)

    def _check_place(self, batch: Sequence[_Write[Any]]) -> None:
        """Look before each promise, and otherwise now and then: a look costs as much as a small write."""
        now = time.monotonic()
        if now - self._placed_at > _PLACE_EVERY_S or any(write.durable for write in batch):
            self._file.check_place()
            self._placed_at = now

    def _translate(self, batch: Sequence[_Write[Any]]) -> None:
        """Explain the error to each caller whose write was not done."""
        for write in batch:
            match write.result:
                case outcome.Error(error=error) if not write.committed:
                    if not isinstance(error, DataFolderError | sqlite3.Error):
                        log.error("a mistake of ours in writing", exc_info=error)
                        error = DataFolderError(f"{self._file.path} cannot be written: {error!r}")
                    error = self._explain(error, "cannot be written")
                    _tell(self._writing, error)
                    write.result = outcome.Error(error)
        if any(write.committed for write in batch):
            self._writing.over()

    def _take(self) -> list[_Write[Any]]:
        """Wait for at least one write and return all waiting writes. Empty: the thread is to end."""
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
            # The writer ends after a last commit: milliseconds. On a dead disk threads may not end at all.
            with trio.move_on_after(_END_S, shield=True) as waiting:
                await trio.to_thread.run_sync(self._writer.join, abandon_on_cancel=True)
                await self._left_reads_over()
            if waiting.cancelled_caught:
                log.error(
                    "the data folder does not answer", reason="ended without its last threads"
                )
            self._closed = True
            for reader in self._readers:  # no thread has it
                _close(reader)

    async def _left_reads_over(self) -> None:
        """Wait for the threads whose callers were cancelled. One that went on would keep the file open, and
        its locks would be lost when another descriptor of the file is closed."""
        for limiter in self._limiter, self._checking:
            for _ in range(int(limiter.total_tokens)):
                await limiter.acquire_on_behalf_of(object())


@asynccontextmanager
async def open_database(folder: Path) -> AsyncIterator[Database]:
    """Raises DataFolderError when the folder is in use by another process or cannot be used."""
    with open_file(folder) as file:
        database = Database(file)
        async with database._running():
            yield database


def _tell(trouble: Trouble, error: Exception) -> None:
    """An error of a work is the caller's, and no trouble with the folder."""
    if isinstance(error, DataFolderError):
        trouble.tell(error)


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()


def _commit(connection: sqlite3.Connection, batch: Sequence[_Write[Any]]) -> None:
    """Commit all writes in one transaction. When this fails (most often on a full disk), commit each write in
    a transaction of its own, so that only a write that is too big fails."""
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
        match write.result:  # a full disk may have undone the earlier writes, too
            case outcome.Error(error=sqlite3.Error() as error) if is_of_the_file(error):
                raise error
    connection.execute("COMMIT")
    for write in batch:
        write.committed = True


def _in_savepoint(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("SAVEPOINT work")
    try:
        value = work(connection)
    except sqlite3.IntegrityError as error:
        _undo(connection)
        raise Unreadable(f"what is stored breaks a rule of the tables: {error}") from error
    except BaseException:
        _undo(connection)
        raise
    connection.execute("RELEASE work")
    return value


def _undo(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")


def _deliver(batch: Sequence[_Write[Any]]) -> None:
    for write in batch:
        match write.result:
            case outcome.Value(value=value):
                write.then(value)
        trio.lowlevel.reschedule(write.task)
