"""One SQLite file in the data folder, shared by the embedded broker and state.

Theory of operation. All writes go to one thread, which takes whatever waits, runs it as one
transaction with a savepoint each, commits once, and wakes all callers at once: durability costs one
fsync however many wait for it. A write that need not survive a power cut (`durable=False`) still
survives the death of this process, and never overtakes an earlier one: the log is a prefix of what
was written. Reads go to worker threads; with the write-ahead log they wait for no writer.

Because broker and state share the log, so does their order: a message that is gone was acknowledged
after its result had been stored.
"""

import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import outcome
import trio

from occd.errors import DataFolderError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_READERS = 4
_BATCH = 500
_PATIENCE_S = 0.005


@dataclass(slots=True)
class _Write(Generic[T]):
    work: Work[T]
    durable: bool
    task: trio.lowlevel.Task = field(default_factory=trio.lowlevel.current_task)
    result: outcome.Outcome[T] | None = None


class Database:
    """Use `open_database`. Work is a function of a connection; its return value or exception is the
    caller's. An exception undoes what that work wrote, and nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writes: queue.SimpleQueue[list[_Write[Any]]] = queue.SimpleQueue()
        self._unhurried: list[_Write[Any]] = []
        self._unhurried_came = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._limiter = trio.CapacityLimiter(_READERS)
        self._readers: list[sqlite3.Connection] = []
        self._writer = threading.Thread(target=self._run_writer, name="occd-writer", daemon=True)

    async def write(self, work: Work[T], *, durable: bool = False, hurry: bool = True) -> T:
        """Run `work` in the writer thread; return when it is committed, `durable`: on disk. Without
        `hurry` it may wait a few milliseconds for another to go along with: waking a thread costs
        more than most works.

        Not cancellable, so that a caller knows: when it returns it is done, when it raises it is not.
        """
        write = _Write(work, durable)
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
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = _connect(self._path)
        try:
            return work(connection)
        finally:
            self._readers.append(connection)

    def _run_writer(self) -> None:
        with closing(_connect(self._path)) as connection:
            while batch := self._take():
                _commit(connection, batch)
                self._token.run_sync_soon(_deliver, batch)

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
                reader.close()


@asynccontextmanager
async def open_database(folder: Path) -> AsyncIterator[Database]:
    """Raises DataFolderError when the folder is in use by another process or cannot be written."""
    path = folder / "occd.db"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.callback(os.close, _lock(folder))
            with closing(_connect(path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        except (OSError, sqlite3.Error) as error:
            raise DataFolderError(f"the data folder {folder} cannot be used: {error}") from error
        database = Database(path)
        async with database._running():
            yield database


def _lock(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise DataFolderError(
            f"the data folder {folder} is in use by another occd (process {owner}); "
            "stop that one, or choose another with --data-dir"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


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
            failed = DataFolderError(f"cannot write to the data folder: {error}")
            batch[0].result = outcome.Error(failed)


def _transact(connection: sqlite3.Connection, batch: Sequence[_Write[Any]]) -> None:
    durable = any(write.durable for write in batch)
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    for write in batch:
        write.result = outcome.capture(_in_savepoint, connection, write.work)
        match write.result:  # a full disk may have undone everything before as well
            case outcome.Error(error=sqlite3.OperationalError() as error):
                raise error
    connection.execute("COMMIT")


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
