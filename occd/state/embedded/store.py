"""The data folder, as all parts of the embedded state see it."""

import sqlite3
from collections.abc import Sequence

from occd.sqlite import Database


class EmbeddedStore:
    can_be_emptied = False

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(self) -> None:
        await self._database.check()
        await self._database.write(_check)

    async def warnings(self) -> Sequence[str]:
        return ()


def _check(db: sqlite3.Connection) -> None:
    """Write something: a full or read-only disk must show."""
    db.execute("UPDATE versions SET version = version WHERE component = 'state'")
