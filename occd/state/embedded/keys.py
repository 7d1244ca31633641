"""Created keys in the data folder."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from occd.errors import Rejected
from occd.key import Key
from occd.principal import SCOPES
from occd.sqlite import Database
from occd.state.keys import EXPIRED_KEPT_S, KEYS_MAX

_COLUMNS = "id, sha256, owner, class, scopes, created_at, expires_at, used_at"


class EmbeddedKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: Key) -> None:
        await self._database.write(partial(_add, key=key), durable=True)

    async def all(self) -> Sequence[Key]:
        return await self._database.read(_all)

    async def find(self, sha256: str) -> Key | None:
        return await self._database.read(partial(_find, sha256=sha256))

    async def revoke(self, id: str) -> None:
        await self._database.write(partial(_revoke, id=id), durable=True)

    async def expire(self, id: str, at: float) -> None:
        await self._database.write(partial(_expire, id=id, at=at), durable=True)

    async def used(self, times: Mapping[str, float]) -> None:
        await self._database.write(partial(_used, times=times), hurry=False)

    async def warnings(self) -> Sequence[str]:
        return ()


def _add(db: sqlite3.Connection, key: Key) -> None:
    db.execute("DELETE FROM keys WHERE expires_at < ?", [time.time() - EXPIRED_KEPT_S])
    (count,) = db.execute("SELECT count(*) FROM keys").fetchone()
    if count >= KEYS_MAX:
        raise Rejected("too-many", f"there are {KEYS_MAX} keys: revoke some")
    scopes = " ".join(sorted(key.scopes))
    values = [key.id, key.sha256, key.owner, key.class_name, scopes, key.created_at]
    db.execute(
        f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        [*values, key.expires_at, key.used_at],
    )


def _all(db: sqlite3.Connection) -> list[Key]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id")  # noqa: S608
    return [_key(row) for row in rows]


def _find(db: sqlite3.Connection, sha256: str) -> Key | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM keys WHERE sha256 = ?", [sha256]).fetchone()  # noqa: S608
    return row and _key(row)


def _key(row: tuple[Any, ...]) -> Key:
    id, sha256, owner, class_name, scopes, created_at, expires_at, used_at = row
    known = frozenset(scope for scope in SCOPES if scope in cast(str, scopes).split())
    return Key(id, sha256, owner, class_name, known, created_at, expires_at, used_at)


def _revoke(db: sqlite3.Connection, id: str) -> None:
    db.execute("DELETE FROM keys WHERE id = ?", [id])


def _expire(db: sqlite3.Connection, id: str, at: float) -> None:
    db.execute(
        "UPDATE keys SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE id = ?2", [at, id]
    )


def _used(db: sqlite3.Connection, times: Mapping[str, float]) -> None:
    db.executemany(
        "UPDATE keys SET used_at = max(coalesce(used_at, 0), ?) WHERE id = ?",
        [(at, id) for id, at in times.items()],
    )
