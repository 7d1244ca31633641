"""The steps of quotas in SQLite: plain functions of a connection, each run in a transaction. The steps of
submissions call them in their own transactions."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from occd.errors import QuotaUsedUp
from occd.migration import Step
from occd.quotas import Allowance, Payer, Quota, Used, lack_of, quotas_of, records_of
from occd.state.quotas import LEFT_S, Cost

MIGRATIONS: tuple[Step, ...] = (
    """
    CREATE TABLE quotas (
        payer TEXT PRIMARY KEY,
        at REAL NOT NULL,
        unfinished INTEGER NOT NULL,
        runs REAL NOT NULL,
        cpu_hour REAL NOT NULL,
        cpu_day REAL NOT NULL,
        stored INTEGER NOT NULL,
        reserved INTEGER NOT NULL,
        runs_per_minute INTEGER,
        cpu_seconds_per_hour REAL,
        cpu_seconds_per_day REAL,
        stored_bytes INTEGER,
        says_until REAL
    ) WITHOUT ROWID;
    CREATE INDEX quotas_until ON quotas (says_until) WHERE says_until IS NOT NULL;
    CREATE TABLE admitted (
        id TEXT PRIMARY KEY,
        payer TEXT NOT NULL,
        stores INTEGER NOT NULL,
        waits_since REAL
    ) WITHOUT ROWID;
    CREATE INDEX waiting ON admitted (waits_since) WHERE waits_since IS NOT NULL;
    CREATE TABLE stored (
        id TEXT NOT NULL,
        payer TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        until REAL NOT NULL,
        PRIMARY KEY (id, payer)
    ) WITHOUT ROWID;
    CREATE INDEX stored_of ON stored (payer, until);
    CREATE INDEX stored_until ON stored (until)
    """,
)
"""`quotas` has the levels of each payer, and of each network above payers, at the time `at`, the limits by
which they sink, and when the record says nothing any more; NULL while it has members or bytes. `admitted` has
the members, with the bytes that each may store at most; one `waits_since` it was admitted, until its
submission is created. A component of its own, so
that an older version, which knows no quotas, can still open the folder."""

_EXPIRE_ROWS = 1000

_COLUMNS = (
    "at", "unfinished", "runs", "cpu_hour", "cpu_day", "stored", "reserved", "runs_per_minute",
    "cpu_seconds_per_hour", "cpu_seconds_per_day", "stored_bytes", "says_until",
)  # fmt: skip
_KEEP = (
    f"INSERT INTO quotas VALUES (?{', ?' * len(_COLUMNS)}) ON CONFLICT DO UPDATE SET "  # noqa: S608
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
)


def admit(
    db: sqlite3.Connection,
    payer: Payer,
    stores: Mapping[str, int],
    now: float,
    *,
    created: bool = False,
) -> tuple[Quota, ...]:
    """`stores`: by id, the bytes that each may store at most. `created`: the submissions are created in the
    same transaction. Raises QuotaUsedUp."""
    shares = [(share, look(db, share.name, now)[0]) for share in payer.shares]
    new = {id: most for id, most in stores.items() if not _payer_of(db, id)}
    if new:
        if lack := lack_of(shares, list(new.values())):
            raise QuotaUsedUp(lack, quotas_of(shares))
        waits_since = None if created else now
        members = [(id, payer.name, most, waits_since) for id, most in new.items()]
        db.executemany("INSERT INTO admitted VALUES (?, ?, ?, ?)", members)
        count, most = len(new), sum(new.values())
        shares = [(share, _admitted(used, count, most)) for share, used in shares]
        for share, used in shares:
            _keep(db, share.name, used, share.allowance)
    elif created:
        waiting = [(id,) for id in stores]
        db.executemany("UPDATE admitted SET waits_since = NULL WHERE id = ?", waiting)
    return quotas_of(shares)


def _admitted(used: Used, count: int, most: int) -> Used:
    return replace(
        used,
        unfinished=used.unfinished + count,
        runs=used.runs + count,
        reserved=used.reserved + most,
    )


def look(db: sqlite3.Connection, payer: str, now: float) -> tuple[Used, Allowance]:
    """What a payer has used by now, and the limits that it had when it was admitted last."""
    row = db.execute(
        "SELECT at, unfinished, runs, cpu_hour, cpu_day, stored, reserved, runs_per_minute, "
        "cpu_seconds_per_hour, cpu_seconds_per_day, stored_bytes FROM quotas WHERE payer = ?",
        [payer],
    ).fetchone()
    if row is None:
        return Used(now), Allowance()
    limits, used = Allowance(None, *row[7:]), Used(*row[:7])
    if limits.stored_bytes is not None and used.stored >= limits.stored_bytes:
        first = "SELECT min(until) FROM stored WHERE payer = ?"
        used = replace(used, stored_until=db.execute(first, [payer]).fetchone()[0])
    return used.sunk(now, limits), limits


def settle(db: sqlite3.Connection, id: str, cost: Cost, now: float) -> None:
    """A submission has ended: whoever was to pay for it pays."""
    payers, most = _leave(db, id)
    for payer in payers:
        used, limits = look(db, payer, now)
        used = replace(
            used,
            unfinished=used.unfinished - 1,
            reserved=used.reserved - most,
            cpu_hour=used.cpu_hour + cost.cpu_s,
            cpu_day=used.cpu_day + cost.cpu_s,
        )
        if limits.stored_bytes is not None:
            (body,) = db.execute(
                "SELECT coalesce(max(length(body)), 0) FROM submissions WHERE id = ?", [id]
            ).fetchone()
            stored = cost.stored + body
            db.execute("INSERT INTO stored VALUES (?, ?, ?, ?)", [id, payer, stored, cost.until])
            used = replace(used, stored=used.stored + stored)
        _keep(db, payer, used, limits)


def give_back(db: sqlite3.Connection, ids: Collection[str], now: float) -> None:
    """These submissions will not be."""
    for id in ids:
        payers, most = _leave(db, id)
        for payer in payers:
            used, limits = look(db, payer, now)
            used = replace(
                used,
                unfinished=used.unfinished - 1,
                reserved=used.reserved - most,
                runs=max(0.0, used.runs - 1),
            )
            _keep(db, payer, used, limits)


def erase(db: sqlite3.Connection, id: str, now: float) -> None:
    """What was kept of a submission is not kept any more."""
    for (payer,) in db.execute("SELECT payer FROM stored WHERE id = ?", [id]).fetchall():
        used, limits = look(db, payer, now)
        (stored,) = db.execute(
            "DELETE FROM stored WHERE (id, payer) = (?, ?) RETURNING bytes", [id, payer]
        ).fetchone()
        _keep(db, payer, replace(used, stored=used.stored - stored), limits)


def expire(db: sqlite3.Connection, now: float) -> bool:
    """Remove some bytes that have gone by themselves, some members whose submission never came to be, and
    some records that say nothing any more. Whether there may be more."""
    gone = db.execute(
        "DELETE FROM stored WHERE id IN (SELECT id FROM stored WHERE until <= ? LIMIT ?) "
        "RETURNING payer, bytes",
        [now, _EXPIRE_ROWS],
    ).fetchall()
    for payer, stored in gone:
        used, limits = look(db, payer, now)
        _keep(db, payer, replace(used, stored=used.stored - stored), limits)
    left = db.execute(
        "SELECT id FROM admitted WHERE waits_since < ? LIMIT ?", [now - LEFT_S, _EXPIRE_ROWS]
    ).fetchall()
    give_back(db, [id for (id,) in left], now)
    silent = "SELECT payer FROM quotas WHERE says_until <= ? LIMIT ?"
    deleted = db.execute(
        f"DELETE FROM quotas WHERE payer IN ({silent})",  # noqa: S608
        [now, _EXPIRE_ROWS],
    ).rowcount
    return max(len(gone), len(left), deleted) >= _EXPIRE_ROWS


def _payer_of(db: sqlite3.Connection, id: str) -> str | None:
    row = db.execute("SELECT payer FROM admitted WHERE id = ?", [id]).fetchone()
    return row[0] if row else None


def _leave(db: sqlite3.Connection, id: str) -> tuple[list[str], int]:
    """Remove a member. The records that it is noted in, none if it was no member, and what was reserved."""
    statement = "DELETE FROM admitted WHERE id = ? RETURNING payer, stores"
    row = db.execute(statement, [id]).fetchone()
    return (records_of(row[0]), row[1]) if row else ([], 0)


def _keep(db: sqlite3.Connection, payer: str, used: Used, limits: Allowance) -> None:
    row: Sequence[object] = [
        payer,
        used.at,
        used.unfinished,
        used.runs,
        used.cpu_hour,
        used.cpu_day,
        used.stored,
        used.reserved,
        limits.runs_per_minute,
        limits.cpu_seconds_per_hour,
        limits.cpu_seconds_per_day,
        limits.stored_bytes,
        None if used.unfinished or used.stored else used.empty_at(limits),
    ]
    db.execute(_KEEP, row)
