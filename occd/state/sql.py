"""The embedded state's tables and steps: plain functions of a connection, each run in a transaction."""

import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from occd import wire
from occd.errors import (
    AlreadyFinished,
    Conflict,
    EventsReset,
    Exhausted,
    FieldError,
    NotInteractive,
    Poisoned,
    Rejected,
    Stale,
    StdinFull,
    UnknownSubmission,
    Unreadable,
)
from occd.model import (
    MAX_ATTEMPTS,
    Event,
    Finished,
    LogEntry,
    Queued,
    Record,
    Result,
    Started,
    Status,
    Submission,
    Summary,
    Verdict,
    known_verdict,
)
from occd.principal import ANONYMOUS
from occd.sqlite import Step
from occd.state import (
    STDIN_UNREAD_MAX,
    WAITS_S,
    WATCH_BYTES,
    Created,
    Stdin,
    Taken,
    joined,
    rebuilt,
)

log = structlog.get_logger()


def second_shape(db: sqlite3.Connection) -> None:
    """Owners have a kind. Results no longer hold the output, which the log holds already."""
    db.execute(
        "UPDATE submissions SET owner = ? || owner, key = ? || key WHERE owner IS NOT NULL",
        [ANONYMOUS, ANONYMOUS],
    )
    db.execute("ALTER TABLE submissions ADD COLUMN log_from INTEGER NOT NULL DEFAULT 0")
    db.execute(
        "UPDATE submissions SET log_from = coalesce((SELECT max(seq) FROM events "
        'WHERE submission = number AND instr(event, \'"name":"started"\')), 0)'
    )
    numbers = db.execute("SELECT number FROM submissions WHERE result IS NOT NULL").fetchall()
    for (number,) in numbers:
        (stored,) = db.execute(
            "SELECT result FROM submissions WHERE number = ?", [number]
        ).fetchone()
        with suppress(Unreadable):  # for its reader to say
            result = wire.store_result(wire.load_result_1(stored).without_heads())
            db.execute("UPDATE submissions SET result = ? WHERE number = ?", [result, number])


MIGRATIONS: tuple[Step, ...] = (
    """
    CREATE TABLE submissions (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        body BLOB NOT NULL,
        status TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        excused INTEGER NOT NULL DEFAULT 0,
        last_seq INTEGER NOT NULL DEFAULT 0,
        published INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        result BLOB,
        key TEXT UNIQUE,
        digest TEXT,
        stdin_sent INTEGER NOT NULL DEFAULT 0,
        stdin_read INTEGER NOT NULL DEFAULT 0,
        stdin_ended INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX unpublished ON submissions (created_at) WHERE published = 0;
    CREATE INDEX finished ON submissions (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX queued ON submissions (number) WHERE status = 'queued';
    CREATE TABLE events (
        submission INTEGER NOT NULL REFERENCES submissions ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        time REAL NOT NULL,
        event BLOB NOT NULL,
        PRIMARY KEY (submission, seq)
    );
    CREATE TABLE stdin (
        submission INTEGER NOT NULL REFERENCES submissions ON DELETE CASCADE,
        start INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (submission, start)
    )
    """,
    """
    ALTER TABLE submissions ADD COLUMN owner TEXT;
    CREATE INDEX owned ON submissions (owner, created_at, id) WHERE owner IS NOT NULL
    """,
    """
    ALTER TABLE submissions ADD COLUMN language TEXT;
    ALTER TABLE submissions ADD COLUMN interactive INTEGER;
    ALTER TABLE submissions ADD COLUMN retry_of TEXT;
    ALTER TABLE submissions ADD COLUMN verdict TEXT;
    UPDATE submissions SET
        language = json_extract(CAST(body AS TEXT), '$.submission.language'),
        interactive = json_extract(CAST(body AS TEXT), '$.submission.interactive'),
        retry_of = json_extract(CAST(body AS TEXT), '$.submission.retry_of'),
        verdict = json_extract(CAST(result AS TEXT), '$.result.verdict')
    """,
    """
    CREATE TABLE withdrawn (id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
    CREATE INDEX withdrawn_until ON withdrawn (until)
    """,
    second_shape,
)
_EXPIRE_ROWS = 200


def create(
    db: sqlite3.Connection,
    submission: Submission,
    key: str | None,
    digest: str,
    position: int,
    estimate_s: float | None,
) -> tuple[Created, bool]:
    if key is not None:
        earlier = db.execute(
            "SELECT id, published, digest FROM submissions WHERE key = ?", [key]
        ).fetchone()
        if earlier:
            if earlier[2] != digest:
                raise Conflict("this idempotency key was used with another submission")
            return Created(earlier[0], bool(earlier[1])), False
    number = _insert(db, submission, key, digest)
    _append(db, number, 0, [Queued(position, estimate_s)])
    return Created(submission.id, published=False), True


def set_published(db: sqlite3.Connection, id: str) -> None:
    db.execute("UPDATE submissions SET published = 1 WHERE id = ?", [id])


def discard(db: sqlite3.Connection, id: str) -> int:
    statement = "DELETE FROM submissions WHERE id = ? AND published = 0 AND status = 'queued'"
    return db.execute(statement, [id]).rowcount


def unpublished(db: sqlite3.Connection, before: float) -> list[Submission]:
    statement = "SELECT body FROM submissions WHERE published = 0 AND created_at < ? LIMIT 100"
    found = []
    for (body,) in db.execute(statement, [before]):
        try:
            found.append(wire.decode_submission(body))
        except Poisoned as error:
            log.warning("a submission waits for a version that can read it", reason=str(error))
    return found


def count_queued(db: sqlite3.Connection) -> int:
    count: int = db.execute("SELECT count(*) FROM submissions WHERE status = 'queued'").fetchone()[
        0
    ]
    return count


def unfinished(db: sqlite3.Connection) -> set[str]:
    return {id for (id,) in db.execute("SELECT id FROM submissions WHERE status <> 'finished'")}


def begin(
    db: sqlite3.Connection, submission: Submission, version: str, node: str, taken: Taken
) -> tuple[int, bool]:
    """The attempt, and whether the submission was queued until now."""
    row = db.execute(
        "SELECT number, status, attempts, excused, last_seq FROM submissions WHERE id = ?",
        [submission.id],
    ).fetchone()
    if row is None:
        if db.execute("SELECT 1 FROM withdrawn WHERE id = ?", [submission.id]).fetchone():
            raise AlreadyFinished(submission.id)
        row = _insert(db, submission, None, ""), "forgotten", taken.attempts, 0, 0
        db.execute("UPDATE submissions SET stdin_sent = ? WHERE number = ?", [taken.stdin, row[0]])
    number, status, attempts, excused, last_seq = row
    if status == "finished":
        raise AlreadyFinished(submission.id)
    if attempts - excused >= MAX_ATTEMPTS:
        raise Exhausted(submission.id, attempts)
    db.execute(
        "UPDATE submissions SET status = 'running', attempts = ?, published = 1, log_from = ?, "
        "stdin_read = ?, started_at = coalesce(started_at, ?) WHERE number = ?",
        [attempts + 1, last_seq + 1, taken.stdin, time.time(), number],
    )
    _append(db, number, last_seq, [Started(attempts + 1, version, node)])
    return attempts + 1, status == "queued"


def excuse(db: sqlite3.Connection, id: str, attempt: int) -> None:
    db.execute(
        "UPDATE submissions SET excused = excused + 1 WHERE id = ? AND attempts = ?", [id, attempt]
    )


def append(db: sqlite3.Connection, id: str, attempt: int, events: Sequence[Event]) -> None:
    number, status, attempts, last_seq = _find(db, id)
    if status == "finished":
        raise AlreadyFinished(id)
    if attempts != attempt:
        raise Stale(id)
    _append(db, number, last_seq, events)


def finish(
    db: sqlite3.Connection,
    id: str,
    attempt: int | None,
    result: Result,
    submission: Submission | None,
) -> tuple[bool, bool]:
    """Whether this was its end, and whether it was queued until now."""
    try:
        number, status, attempts, last_seq = _find(db, id)
    except UnknownSubmission:
        if submission is None:
            return False, False
        number = _insert(db, submission, None, "")
        statement = "UPDATE submissions SET attempts = ?, published = 1 WHERE number = ?"
        db.execute(statement, [attempt or 0, number])
        result, events = rebuilt(result)
        _append(db, number, 0, events)
        _finish(db, number, len(events), result)
        return True, False
    if status == "finished" or attempt not in (None, attempts):
        return False, False
    _finish(db, number, last_seq, result)
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
    entries = _events(db, number, log_from, math.inf) if record.output_size else ()
    return replace(record, output=joined(loaded, entries))


def status(db: sqlite3.Connection, id: str) -> Status:
    return _find(db, id)[1]


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


def events(db: sqlite3.Connection, id: str, after: int) -> tuple[list[LogEntry], bool]:
    """Events beyond `after`, and whether none will follow them."""
    number, status, _, last_seq = _find(db, id)
    if after > last_seq:
        raise EventsReset(id)
    found = list(_events(db, number, after, WATCH_BYTES))
    last = found[-1].seq if found else after
    return found, status == "finished" and last == last_seq


def _events(
    db: sqlite3.Connection, number: int, after: int, bytes_max: float
) -> Iterator[LogEntry]:
    """Only the last event may exceed `bytes_max`."""
    size = 0
    statement = "SELECT seq, time, event FROM events WHERE submission = ? AND seq > ? ORDER BY seq"
    for seq, at, event in db.execute(statement, [number, after]):
        yield LogEntry(seq, at, wire.load_event(event))
        size += len(event)
        if size > bytes_max:
            return


def cancel(db: sqlite3.Connection, id: str) -> Status:
    """The status it had; what was queued is finished now."""
    number, status, attempts, last_seq = _find(db, id)
    if status != "finished":
        db.execute("UPDATE submissions SET cancelled = 1 WHERE number = ?", [number])
    if status == "queued":
        result = Result(Verdict.CANCELLED, attempts=attempts, finished_at=time.time())
        _finish(db, number, last_seq, result)
    return status


def cancelled(db: sqlite3.Connection) -> set[str]:
    """Those that were to be cancelled and have not ended yet."""
    rows = db.execute("SELECT id FROM submissions WHERE cancelled = 1 AND status <> 'finished'")
    return {id for (id,) in rows}


def send_stdin(
    db: sqlite3.Connection, id: str, data: bytes, offset: int | None, *, end: bool
) -> None:
    row = db.execute(
        "SELECT number, status, stdin_sent, stdin_read, stdin_ended, interactive "
        "FROM submissions WHERE id = ?",
        [id],
    ).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    number, status, sent, read, ended, interactive = row
    if status == "finished":
        raise AlreadyFinished(id)
    if not interactive:
        raise NotInteractive("this submission was not made with interactive: true")
    if offset is not None and offset > sent:
        message = f"{offset} leaves a gap: {sent} bytes have come so far"
        raise Rejected("stdin-gap", message, [FieldError("offset", message)])
    data = data if offset is None else data[sent - offset :]
    if ended and data:
        raise NotInteractive("its stdin has ended")
    if data and sent - read + len(data) > STDIN_UNREAD_MAX:
        raise StdinFull(sent - read)
    if data:
        db.execute("INSERT INTO stdin VALUES (?, ?, ?)", [number, sent, data])
    db.execute(
        "UPDATE submissions SET stdin_sent = ?, stdin_ended = ? WHERE number = ?",
        [sent + len(data), ended or end, number],
    )


def stdin(db: sqlite3.Connection, id: str, offset: int) -> Stdin:
    row = db.execute("SELECT number, stdin_ended FROM submissions WHERE id = ?", [id]).fetchone()
    if row is None:
        return Stdin(b"", ended=False)
    number, ended = row
    db.execute("UPDATE submissions SET stdin_read = ? WHERE number = ?", [offset, number])
    chunks = db.execute(
        "SELECT start, data FROM stdin WHERE submission = :number AND start >= coalesce("
        "(SELECT max(start) FROM stdin WHERE submission = :number AND start <= :offset), 0) "
        "ORDER BY start",
        {"number": number, "offset": offset},
    )
    data = b"".join(chunk[max(0, offset - start) :] for start, chunk in chunks)
    return Stdin(data, bool(ended))


def check(db: sqlite3.Connection) -> None:
    """Write something: a full or read-only disk must show."""
    db.execute("UPDATE versions SET version = version WHERE component = 'state'")


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


def _insert(db: sqlite3.Connection, submission: Submission, key: str | None, digest: str) -> int:
    cursor = db.execute(
        "INSERT INTO submissions (id, body, status, created_at, key, digest, owner, language, "
        "interactive, retry_of) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)",
        [
            submission.id,
            wire.encode_submission(submission),
            submission.created_at,
            key,
            digest,
            submission.owner,
            submission.language,
            submission.interactive,
            submission.retry_of,
        ],
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _find(db: sqlite3.Connection, id: str) -> tuple[int, Status, int, int]:
    row = db.execute(
        "SELECT number, status, attempts, last_seq FROM submissions WHERE id = ?", [id]
    ).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    number, status, attempts, last_seq = row
    return number, status, attempts, last_seq


def _append(db: sqlite3.Connection, number: int, last_seq: int, events: Sequence[Event]) -> None:
    now = time.time()
    rows = [
        (number, seq, now, wire.store_event(event))
        for seq, event in enumerate(events, start=last_seq + 1)
    ]
    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    db.execute(
        "UPDATE submissions SET last_seq = ? WHERE number = ?", [last_seq + len(events), number]
    )


def _finish(db: sqlite3.Connection, number: int, last_seq: int, result: Result) -> None:
    result = result.without_heads()
    _append(db, number, last_seq, [Finished(result)])
    db.execute(
        "UPDATE submissions SET status = 'finished', finished_at = ?, verdict = ?, result = ? "
        "WHERE number = ?",
        [result.finished_at, result.verdict, wire.store_result(result), number],
    )
