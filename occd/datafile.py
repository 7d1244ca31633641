"""The file `occd.db` in the data folder: opens the file, checks that it is still there and whole, and
explains SQLite's errors to the operator."""

import errno
import fcntl
import math
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from occd.errors import DataFileDamaged, DataFolderError
from occd.fileowner import as_owner, other_owner

_MAGIC = b"SQLite format 3\0"
_ROOM_BYTES = 2**20
"""The free space that `/readyz` asks for: room for a submission with its output and for its place in the
log."""

RESTORING = "restore.part"
"""In a data folder that is being made of a backup, until all of it is there."""

_OPENING_S = 2.0
_PAGES = 1000
_STEPS = 1000
_ANOTHER = "choose another --data-dir"
_DAMAGED = (
    "stop occd, put a backup in its place or move it away (its data is lost then), start again"
)


def _nothing() -> None:
    pass


class DataFile:
    """Use `open_file`. The threads of `sqlite.Database` call these functions."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        """Stays open until the end: closing any descriptor of the file releases SQLite's locks."""
        self._lock = path.with_name("lock")
        self._beside: dict[str, tuple[int, int]] = {}

    def connect(self) -> sqlite3.Connection:
        """Never makes a file. Raises sqlite3.Error, or DataFolderError when another file lies there now."""
        self.check_place()
        return _connect(self.path)

    def remember_place(self) -> None:
        """Remember the files beside this one. They must stay there as long as this file is open."""
        for path in (self._lock, *(Path(f"{self.path}{end}") for end in ("", "-wal", "-shm"))):
            self._beside[str(path)] = _identity(os.stat(path))

    def check_place(self) -> None:
        """Raises DataFolderError when writes would go to a file that nobody finds again."""
        for path, identity in self._beside.items():
            try:
                there = _identity(os.stat(path)) == identity
            except OSError:
                there = False
            if not there:
                raise DataFolderError(
                    f"{path} was deleted, moved or replaced while occd runs, and nothing more is recorded; "
                    "put it back, or start occd again"
                )
        if os.pread(self._descriptor, len(_MAGIC), 0) != _MAGIC:
            raise DataFileDamaged(f"{self.path} is damaged: {_DAMAGED}")

    def check_room(self) -> None:
        """Raises DataFolderError when there is no room for a submission. Writing an existing page again
        proves nothing, because that page already has its room."""
        try:
            with tempfile.TemporaryFile(dir=self.path.parent) as probe:
                os.posix_fallocate(probe.fileno(), 0, _ROOM_BYTES)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # this file system cannot do it
                return
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise DataFolderError(f"{self.path.parent} cannot be written: {error}") from error
            raise DataFolderError(
                f"the disk of {self.path} has no room for another submission ({error.strerror}); "
                "make room there, occd goes on by itself"
            ) from error

    def copy(self, target: sqlite3.Connection, progress: Callable[[], None]) -> None:
        """Copy the whole file, as it is now, into an empty one. Others may write meanwhile. `progress` is
        called now and then, and may raise. Raises DataFileDamaged, too, or sqlite3.Error."""
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("PRAGMA synchronous=OFF")
        with closing(self.connect()) as source:
            source.execute("BEGIN")
            source.execute(
                "SELECT 1 FROM sqlite_master"
            ).fetchone()  # from now on it sees this moment
            self.inspect(source, progress=progress)
            source.backup(target, pages=_PAGES, progress=lambda *_: progress())

    def inspect(
        self,
        connection: sqlite3.Connection,
        at_most_s: float = math.inf,
        progress: Callable[[], None] = _nothing,
    ) -> bool:
        """Read the whole file; False when this takes longer than `at_most_s`. `progress` is called now and
        then, and may raise. Raises DataFileDamaged, or sqlite3.Error."""
        deadline = time.monotonic() + at_most_s

        def stops() -> bool:
            progress()
            return time.monotonic() > deadline

        connection.set_progress_handler(stops, _STEPS)
        try:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            progress()  # what it raised before is lost
            return False
        finally:
            connection.set_progress_handler(None, 0)
        if said != "ok":
            words = " ".join(said.split())
            raise DataFileDamaged(f"{self.path} is damaged ({words}): {_DAMAGED}")
        return True


def refuse_absent(folder: Path) -> None:
    """For callers that only read: raises DataFolderError when no occd ever used this folder."""
    try:
        (folder / "occd.db").stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataFolderError(
            f"there is no data folder {folder}; name the daemon's with --data-dir before the command"
        ) from None
    except OSError as error:
        raise DataFolderError(
            f"the data folder {folder} cannot be read: {error.strerror}{as_owner(folder)}"
        ) from error


def refuse_anothers(folder: Path) -> None:
    """For commands that may make the file: raises DataFolderError when the folder is another user's, whose
    daemon could not open the file that root makes there first."""
    if not (folder / "occd.db").exists() and folder.exists() and other_owner(folder):
        raise DataFolderError(
            f"the data folder {folder} has no data yet, and its user could not read what you write there"
            f"{as_owner(folder)}"
        )


@contextmanager
def open_file(folder: Path) -> Iterator[DataFile]:
    """Open and lock the file for this process alone. Raises DataFolderError."""
    path = folder / "occd.db"
    with ExitStack() as stack:
        try:
            make_folder(folder)
            stack.enter_context(locked(folder))
            if (folder / RESTORING).exists():
                raise DataFolderError(
                    f"a restore into {folder} was cut off: repeat it, or choose another --data-dir"
                )
            if path.exists() and not path.is_file():
                raise DataFolderError(
                    f"{path} is no file: move it away, or choose another --data-dir"
                )
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, descriptor)
            file = DataFile(path, descriptor)
            # One connection stays open: SQLite removes the files beside at the last close.
            anchor = stack.enter_context(closing(_connect(path)))
            anchor.execute("PRAGMA journal_mode=WAL")
            file.inspect(anchor, _OPENING_S)
            file.remember_place()
        except (OSError, sqlite3.Error, DataFileDamaged) as error:
            words = f"{error.strerror}; {_ANOTHER}" if isinstance(error, OSError) else error
            reason = explain(path, error, "cannot be opened") or words
            raise DataFolderError(
                f"the data folder {folder.absolute()} cannot be used: {reason}"
            ) from error
        yield file


def make_folder(folder: Path) -> None:
    """Make the folder unless it exists. Raises DataFolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise DataFolderError(
            f"the data folder {folder.absolute()} cannot be used: it is a file, not a folder; {_ANOTHER}"
        ) from error
    except OSError as error:
        raise DataFolderError(
            f"the data folder {folder.absolute()} cannot be made: {error.strerror}; {_ANOTHER}"
        ) from error


def explain(path: Path, error: Exception, otherwise: str) -> DataFolderError | None:
    """The error in one line that says what to do. None when the file is not the reason of the error."""
    if isinstance(error, DataFolderError):
        return error
    if not is_of_the_file(error):
        return None
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DataFolderError(
            f"cannot write to the data folder: the disk of {path} is full; make room there, "
            "occd goes on by itself"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DataFileDamaged(f"{path} is damaged ({error}): {_DAMAGED}")
    return DataFolderError(f"{path} {otherwise} ({error}): check that its disk works and has room")


def is_of_the_file(error: Exception) -> bool:
    """Whether the file, not the work, is the reason. For damage sqlite3 raises DatabaseError itself."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """For this process alone. Raises DataFolderError, or OSError."""
    lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


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
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10
    )
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
