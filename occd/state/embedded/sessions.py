"""People who signed in, in the data folder."""

import json
import sqlite3
import time
from functools import partial

from occd.sessions import SESSIONS_MAX, Session
from occd.sqlite import Database


class EmbeddedSessions:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, session: Session) -> None:
        await self._database.write(partial(_open, session=session), durable=True)

    async def find(self, id: str) -> Session | None:
        return await self._database.read(partial(_find, id=id))

    async def rotate(self, id: str, sha256: str, new: str, now: float) -> bool:
        rotate = partial(_rotate, id=id, sha256=sha256, new=new, now=now)
        return await self._database.write(rotate, durable=True)

    async def close(self, id: str) -> None:
        await self._database.write(
            lambda db: db.execute("DELETE FROM sessions WHERE id = ?", [id]), durable=True
        )


_SESSION = "id, sha256, owner, name, groups, expires_at, rotated_at, before"


def _open(db: sqlite3.Connection, session: Session) -> None:
    db.execute("DELETE FROM sessions WHERE expires_at <= ?", [time.time()])
    values = [session.id, session.sha256, session.owner, session.name, json.dumps(session.groups)]
    db.execute(
        f"INSERT INTO sessions ({_SESSION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        [*values, session.expires_at, session.rotated_at, session.before],
    )
    db.execute(
        "DELETE FROM sessions WHERE owner = ?1 AND id IN (SELECT id FROM sessions WHERE owner = ?1 "
        "ORDER BY id = ?2 DESC, expires_at DESC LIMIT -1 OFFSET ?3)",
        [session.owner, session.id, SESSIONS_MAX],
    )


def _find(db: sqlite3.Connection, id: str) -> Session | None:
    row = db.execute(f"SELECT {_SESSION} FROM sessions WHERE id = ?", [id]).fetchone()  # noqa: S608
    if row is None:
        return None
    id, sha256, owner, name, groups, *rest = row
    return Session(id, sha256, owner, name, tuple(json.loads(groups)), *rest)


def _rotate(db: sqlite3.Connection, id: str, sha256: str, new: str, now: float) -> bool:
    session = _find(db, id)
    rotated = session and session.rotated(sha256, new, now)
    if rotated is None:
        return False
    db.execute(
        "UPDATE sessions SET sha256 = ?, before = ?, rotated_at = ? WHERE id = ?",
        [rotated.sha256, rotated.before, rotated.rotated_at, id],
    )
    return True
