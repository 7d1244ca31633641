"""The tables of a part of occd, brought to the version that this program knows."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

import structlog
import trio

from occd.datafile import DataFile
from occd.errors import DataFolderError

log = structlog.get_logger()

Step = str | Callable[[sqlite3.Connection], None]
"""Of a migration: a script of SQL, or a function."""


def copy(file: DataFile, name: str) -> None:
    """Copy the whole file to one beside it, before a migration. Raises DataFolderError."""
    kept = file.path.with_suffix(f".before-{name}.db")
    log.warning("the data folder is brought to a new form; its old form is kept", copy=str(kept))
    part = kept.with_suffix(".part")
    part.unlink(missing_ok=True)
    try:
        part.touch(0o600, exist_ok=False)  # SQLite would let everybody read it
        with closing(sqlite3.connect(part)) as target:
            file.copy(target, trio.from_thread.check_cancelled)
        with part.open("rb") as done:
            os.fsync(done.fileno())
        part.rename(kept)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise DataFolderError(
            f"cannot copy {file.path} before its migration ({error}): make room for as much again, "
            "then start again"
        ) from error


def version(connection: sqlite3.Connection, component: str) -> int:
    """0 without tables."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'versions'").fetchone():
        return 0
    row = connection.execute(
        "SELECT version FROM versions WHERE component = ?", [component]
    ).fetchone()
    return row[0] if row else 0


def migrate(connection: sqlite3.Connection, component: str, steps: Sequence[Step]) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS versions (component TEXT PRIMARY KEY, version INT)"
    )
    present = version(connection, component)
    if present > len(steps):
        raise DataFolderError(
            f"the data folder was written by a newer occd ({component} version {present}; this one "
            f"knows {len(steps)}); use that one, or another --data-dir"
        )
    for step in steps[present:]:
        if callable(step):
            step(connection)
        else:
            for statement in filter(str.strip, step.split(";")):
                connection.execute(statement)
    connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", [component, len(steps)])
