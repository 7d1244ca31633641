"""The steps of submissions in SQLite: plain functions of a connection, each run in a transaction."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace

from occd import wire
from occd.errors import AlreadyFinished, Conflict, Exhausted, Poisoned, UnknownSubmission
from occd.events import Event, Finished, Queued
from occd.model import (
    MAX_ATTEMPTS,
    Record,
    Result,
    Status,
    Submission,
    Summary,
    Verdict,
    known_verdict,
)
from occd.quotas import Payer, Quota
from occd.state import QUEUED, WAITS_S, Created, Taken
from occd.state.embedded import quotas_sql as quotas
from occd.state.embedded.controls import append_control
from occd.state.embedded.log import append_events, find, insert_events, stored_output
from occd.state.output import joined, rebuilt, started
from occd.state.quotas import cost_of

_EXPIRE_ROWS = 200


def create(
    db: sqlite3.Connection,
    submission: Submission,
    body: bytes | None,
    key: str | None,
    digest: str,
    position: int,
    estimate_s: float | None,
    payer: Payer | None,
    stores: int,
    published: bool,
) -> tuple[Created, bool]:
    """`body` is the submission, if it was encoded before."""
    if key is not None:
        earlier = db.execute(
            "SELECT id, published, digest FROM submissions WHERE key = ?", [key]
        ).fetchone()
        if earlier:
            if earlier[2] != digest:
                raise Conflict("this idempotency key was used with another submission")
            return Created(earlier[0], bool(earlier[1])), False
    left: tuple[Quota, ...] = ()
    if payer:
        left = quotas.admit(db, payer, {submission.id: stores}, time.time(), created=True)
    events = (Queued(position, estimate_s),)
    number = _insert(db, submission, body, key, digest, published=published, last_seq=1)
    insert_events(db, number, 0, events)
    return Created(submission.id, published=False, quotas=left), True


def known(db: sqlite3.Connection, key: str) -> bool:
    return bool(db.execute("SELECT 1 FROM submissions WHERE key = ?", [key]).fetchone())


def set_published(db: sqlite3.Connection, id: str) -> None:
    db.execute("UPDATE submissions SET published = 1 WHERE id = ?", [id])


def discard(db: sqlite3.Connection, id: str) -> int:
    statement = "DELETE FROM submissions WHERE id = ? AND published = 0 AND status = 'queued'"
    gone = db.execute(statement, [id]).rowcount
    if gone:
        quotas.give_back(db, [id], time.time())
    return gone


def unpublished(
    db: sqlite3.Connection, before: float
) -> tuple[list[Submission], dict[str, Poisoned]]:
    """Those that can be read, and for the others the reason by id."""
    statement = (
        "SELECT id, body FROM submissions "
        "WHERE published = 0 AND status = 'queued' AND created_at < ? LIMIT 100"
    )
    found, unread = [], {}
    for id, body in db.execute(statement, [before]):
        try:
            found.append(wire.decode_submission(body))
        except Poisoned as error:
            unread[id] = error
    return found, unread


def oldest(db: sqlite3.Connection) -> float | None:
    found = db.execute(
        "SELECT created_at FROM submissions WHERE status = 'queued' ORDER BY number LIMIT 1"
    ).fetchone()
    return found and float(found[0])


def count_queued(db: sqlite3.Connection) -> int:
    count: int = db.execute("SELECT count(*) FROM submissions WHERE status = 'queued'").fetchone()[
        0
    ]
    return count


def unfinished(db: sqlite3.Connection) -> set[str]:
    return {id for (id,) in db.execute("SELECT id FROM submissions WHERE status <> 'finished'")}


def begin(
    db: sqlite3.Connection, submission: Submission, version: str, node: str, taken: Taken
) -> tuple[int, bool, int]:
    """The attempt, whether the submission was queued until now, and the number of the last control."""
    row = db.execute(
        "SELECT number, status, attempts, excused, last_seq, controls FROM submissions WHERE id = ?",
        [submission.id],
    ).fetchone()
    if row is None:
        if _is_withdrawn(db, submission.id):
            raise AlreadyFinished(submission.id)
        number = _insert(db, submission, None, None, "")
        row = number, "forgotten", taken.attempts, 0, 0, taken.controls
        db.execute(
            "UPDATE submissions SET stdin_sent = ?, controls = ? WHERE number = ?",
            [taken.stdin, taken.controls, row[0]],
        )
        if not taken.attempts:
            append_events(db, row[0], 0, [QUEUED])
            row = *row[:4], 1, row[5]
    number, status, attempts, excused, last_seq, controls = row
    if status == "finished":
        raise AlreadyFinished(submission.id)
    if attempts - excused >= MAX_ATTEMPTS:
        raise Exhausted(submission.id, attempts)
    begun = insert_events(db, number, last_seq, [started(submission, attempts + 1, version, node)])
    db.execute(
        "UPDATE submissions SET status = 'running', attempts = ?, published = 1, log_from = ?, last_seq = ?, "
        "stdin_read = ?, signals = 0, resizes = 0, started_at = coalesce(started_at, ?) WHERE number = ?",
        [attempts + 1, begun, begun, taken.stdin, time.time(), number],
    )
    if attempts:  # signals are for the attempt that ran
        db.execute("DELETE FROM controls WHERE submission = ? AND kind = 'signal'", [number])
    return attempts + 1, status == "queued", controls


def excuse(db: sqlite3.Connection, id: str, attempt: int) -> None:
    db.execute(
        "UPDATE submissions SET excused = excused + 1 WHERE id = ? AND attempts = ?", [id, attempt]
    )


def finish(
    db: sqlite3.Connection,
    id: str,
    attempt: int | None,
    result: Result,
    events: Sequence[Event],
    submission: Submission | None,
    keep_s: float,
) -> tuple[bool, bool]:
    """Whether this was its end, and whether it was queued until now. `events` come before it."""
    try:
        number, status, attempts, last_seq = find(db, id)
    except UnknownSubmission:
        if submission is None or _is_withdrawn(db, id):
            return False, False
        number = _insert(db, submission, None, None, "")
        statement = "UPDATE submissions SET attempts = ?, published = 1 WHERE number = ?"
        db.execute(statement, [attempt or 0, number])
        _finish(db, number, id, 0, *rebuilt(result), keep_s)
        return True, False
    if status == "finished" or attempt not in (None, attempts):
        return False, False
    _finish(db, number, id, last_seq, result, events, keep_s)
    return True, status == "queued"


def get(db: sqlite3.Connection, id: str, output_max: int) -> Record:
    row = db.execute(
        "SELECT number, language, status, attempts, created_at, started_at, retry_of, result, log_from "
        "FROM submissions WHERE id = ?",
        [id],
    ).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    number, language, status, attempts, created_at, started_at, retry_of, result, log_from = row
    loaded = None if result is None else wire.load_result(result)
    record = Record(
        id, language, status, attempts, created_at, started_at, retry_of, loaded, log_from
    )
    if loaded is None or record.output_size > output_max:
        return record
    events = stored_output(db, number, log_from) if record.output_size else ()
    return replace(record, output=joined(loaded, events))


def status(db: sqlite3.Connection, id: str) -> Status:
    return find(db, id)[1]


def owner(db: sqlite3.Connection, id: str) -> str | None:
    row = db.execute("SELECT owner FROM submissions WHERE id = ?", [id]).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    found: str | None = row[0]
    return found


def submission(db: sqlite3.Connection, id: str) -> Submission:
    row = db.execute("SELECT body FROM submissions WHERE id = ?", [id]).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    return wire.decode_submission(row[0])


def owned(
    db: sqlite3.Connection, owner: str, before: float, before_id: str, limit: int
) -> list[Summary]:
    rows = db.execute(
        "SELECT id, language, status, verdict, created_at, started_at, finished_at "
        "FROM submissions WHERE owner = ? AND (created_at, id) < (?, ?) "
        "ORDER BY created_at DESC, id DESC LIMIT ?",
        [owner, before, before_id, limit],
    )
    return [
        Summary(id, language, status, known_verdict(verdict), *times)
        for id, language, status, verdict, *times in rows
    ]


def cancel(db: sqlite3.Connection, id: str, keep_s: float) -> tuple[Status, int]:
    """The status it had, and the number of the last control. What was queued is finished now."""
    number, status, attempts, last_seq = find(db, id)
    controls, cancelled = db.execute(
        "SELECT controls, cancelled FROM submissions WHERE number = ?", [number]
    ).fetchone()
    if status != "finished":
        db.execute("UPDATE submissions SET cancelled = 1 WHERE number = ?", [number])
    if status == "running" and not cancelled:
        controls = append_control(db, number, "cancel")
    if status == "queued":
        result = Result(Verdict.CANCELLED, attempts=attempts, finished_at=time.time())
        _finish(db, number, id, last_seq, result, (), keep_s)
    return status, controls


def erase(db: sqlite3.Connection, id: str) -> bool:
    number, status, *_ = find(db, id)
    if status != "finished":
        return False
    db.execute("INSERT OR REPLACE INTO withdrawn VALUES (?, ?)", [id, time.time() + WAITS_S])
    db.execute("DELETE FROM submissions WHERE number = ?", [number])
    quotas.erase(db, id, time.time())
    return True


def _is_withdrawn(db: sqlite3.Connection, id: str) -> bool:
    """It was cancelled before it began, or erased: what still lies in a queue is not to run."""
    return bool(db.execute("SELECT 1 FROM withdrawn WHERE id = ?", [id]).fetchone())


def expire(db: sqlite3.Connection, before: float) -> bool:
    """Remove some of what finished before a time; whether there may be more. What was cancelled before it
    began may still lie in a queue: that it is not to run is remembered."""
    now = time.time()
    old = "SELECT number FROM submissions WHERE finished_at < ? ORDER BY finished_at LIMIT ?"
    db.execute(
        f"INSERT OR REPLACE INTO withdrawn SELECT id, ? FROM submissions WHERE number IN ({old})"  # noqa: S608
        " AND cancelled AND started_at IS NULL",
        [now + WAITS_S, before, _EXPIRE_ROWS],
    )
    db.execute("DELETE FROM withdrawn WHERE until < ?", [now])
    statement = f"DELETE FROM submissions WHERE number IN ({old})"  # noqa: S608
    return db.execute(statement, [before, _EXPIRE_ROWS]).rowcount == _EXPIRE_ROWS


def _insert(
    db: sqlite3.Connection,
    submission: Submission,
    body: bytes | None,
    key: str | None,
    digest: str,
    *,
    published: bool = False,
    last_seq: int = 0,
) -> int:
    cursor = db.execute(
        "INSERT INTO submissions (id, body, status, created_at, key, digest, owner, language, "
        "interactive, retry_of, tty, published, last_seq) "
        "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            submission.id,
            wire.encode_submission(submission) if body is None else body,
            submission.created_at,
            key,
            digest,
            submission.owner,
            submission.language,
            submission.interactive,
            submission.retry_of,
            submission.tty is not None,
            published,
            last_seq,
        ],
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _finish(
    db: sqlite3.Connection,
    number: int,
    id: str,
    last_seq: int,
    result: Result,
    events: Sequence[Event],
    keep_s: float,
) -> None:
    quotas.settle(db, id, cost_of(result, keep_s), time.time())
    result = result.without_heads()
    last_seq = insert_events(db, number, last_seq, [*events, Finished(result)])
    db.execute(
        "UPDATE submissions SET status = 'finished', finished_at = ?, verdict = ?, result = ?, "
        "last_seq = ? WHERE number = ?",
        [result.finished_at, result.verdict, wire.store_result(result), last_seq, number],
    )
    for table in ("controls", "writers"):
        db.execute(f"DELETE FROM {table} WHERE submission = ?", [number])  # noqa: S608
