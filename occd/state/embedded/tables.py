"""The embedded state's tables, and how those of an older version are brought to this form."""

import sqlite3
from contextlib import suppress

from occd import wire
from occd.errors import Unreadable
from occd.migration import Step
from occd.principal import ANONYMOUS


def second_shape(db: sqlite3.Connection) -> None:
    """Owners have a kind. Results no longer hold the output, which the log holds already. Stdin, its end and
    cancels are numbered controls."""
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
    _number_controls(db)


def _number_controls(db: sqlite3.Connection) -> None:
    """Of what has not finished: nobody reads the others any more."""
    db.execute(
        """
        CREATE TABLE controls (
            submission INTEGER NOT NULL REFERENCES submissions ON DELETE CASCADE,
            number INTEGER NOT NULL,
            kind TEXT NOT NULL,
            start INTEGER,
            data BLOB NOT NULL,
            PRIMARY KEY (submission, number)
        )
        """
    )
    db.execute(
        "INSERT INTO controls SELECT submission, row_number() OVER (PARTITION BY submission "
        "ORDER BY start), 'stdin', start, data FROM stdin JOIN submissions ON number = submission "
        "WHERE status <> 'finished'"
    )
    count = "(SELECT count(*) FROM controls WHERE submission = submissions.number)"
    for column, kind in {"stdin_ended": "end", "cancelled": "cancel"}.items():
        db.execute(
            f"INSERT INTO controls SELECT number, {count} + 1, ?, NULL, x'' FROM submissions "  # noqa: S608
            f"WHERE {column} AND status <> 'finished'",
            [kind],
        )
    db.execute("ALTER TABLE submissions ADD COLUMN controls INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE submissions ADD COLUMN signals INTEGER NOT NULL DEFAULT 0")
    db.execute(f"UPDATE submissions SET controls = {count} WHERE status <> 'finished'")  # noqa: S608
    db.execute("DROP TABLE stdin")


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
    """
    ALTER TABLE submissions ADD COLUMN tty INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE submissions ADD COLUMN resizes INTEGER NOT NULL DEFAULT 0
    """,
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        class TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL,
        used_at REAL
    )
    """,
    """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        groups TEXT NOT NULL,
        expires_at REAL NOT NULL,
        rotated_at REAL NOT NULL,
        before TEXT NOT NULL
    );
    CREATE INDEX sessions_owner ON sessions (owner, expires_at);
    CREATE INDEX sessions_expiry ON sessions (expires_at)
    """,
    """
    CREATE TABLE writers (
        submission INTEGER NOT NULL REFERENCES submissions ON DELETE CASCADE,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (submission, name)
    ) WITHOUT ROWID
    """,
)
