"""Controls in SQLite, and in memory who waits for them.

A running subject's last number is in memory, so that an attempt that nobody sends anything costs no read.
"""

import sqlite3
from collections.abc import Sequence
from functools import partial

from occd.errors import (
    AlreadyFinished,
    FieldError,
    NoTerminal,
    NotInteractive,
    NotRunning,
    Rejected,
    StdinFull,
    UnknownSubmission,
)
from occd.events import Unknown
from occd.model import Terminal
from occd.state import (
    CONTROL_BYTES,
    RESIZES_MAX,
    SIGNALS_MAX,
    STDIN_MAX,
    STDIN_UNREAD_MAX,
    WATCH_BYTES,
    WRITERS_MAX,
)
from occd.state.control import (
    Cancel,
    Control,
    ControlEntry,
    End,
    Resize,
    Signal,
    Stdin,
    load_window,
    store_window,
)
from occd.state.embedded.shared import Shared


class EmbeddedControls:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def send_stdin(
        self, subject: str, data: bytes, offset: int | None, *, end: bool, writer: str = ""
    ) -> None:
        await self._shared.database.write(
            lambda db: _send_stdin(db, subject, data, offset, end=end, writer=writer),
            then=partial(self._shared.control, subject),
        )

    async def send_signal(self, subject: str, signal: str) -> None:
        await self._shared.database.write(
            lambda db: _send_signal(db, subject, signal),
            then=partial(self._shared.control, subject),
        )

    async def send_resize(self, subject: str, window: Terminal) -> None:
        await self._shared.database.write(
            lambda db: _send_resize(db, subject, window),
            then=partial(self._shared.control, subject),
        )

    async def watch(self, subject: str, after: int) -> Sequence[ControlEntry]:
        while True:
            with self._shared.sent.expected(subject) as sent:
                if self._shared.controls.get(subject, 0) > after:
                    found = await self._shared.surely(
                        lambda: self._shared.database.read(lambda db: _controls(db, subject, after))
                    )
                    if found:
                        return found
                await sent.wait()

    async def took(self, subject: str, stdin: int) -> None:
        statement = "UPDATE submissions SET stdin_read = ? WHERE id = ?"
        await self._shared.surely(
            lambda: self._shared.database.write(
                lambda db: db.execute(statement, [stdin, subject]), hurry=False
            )
        )


def append_control(
    db: sqlite3.Connection, number: int, kind: str, data: bytes = b"", start: int | None = None
) -> int:
    """The number of the control."""
    last: int = db.execute(
        "UPDATE submissions SET controls = controls + 1 WHERE number = ? RETURNING controls",
        [number],
    ).fetchall()[0][0]
    db.execute("INSERT INTO controls VALUES (?, ?, ?, ?, ?)", [number, last, kind, start, data])
    return last


def _send_stdin(
    db: sqlite3.Connection, id: str, data: bytes, offset: int | None, *, end: bool, writer: str
) -> int:
    """The number of the last control."""
    row = db.execute(
        "SELECT number, status, stdin_sent, stdin_read, stdin_ended, interactive, controls "
        "FROM submissions WHERE id = ?",
        [id],
    ).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    number, status, sent, read, ended, interactive, last = row
    if status == "finished":
        raise AlreadyFinished(id)
    if not interactive:
        raise NotInteractive("this submission was not made with interactive: true")
    before = _typed(db, number, writer) if writer else sent
    if offset is not None and offset > before:
        message = f"{offset} leaves a gap: {before} bytes have come so far"
        raise Rejected("stdin-gap", message, [FieldError("offset", message)])
    data = data if offset is None else data[before - offset :]
    if ended and data:
        raise NotInteractive("its stdin has ended")
    if data and sent - read + len(data) > STDIN_UNREAD_MAX:
        raise StdinFull(sent - read)
    if data and sent + len(data) + CONTROL_BYTES * (last + 1) > STDIN_MAX:
        raise Rejected("too-many", f"a program takes at most {STDIN_MAX} bytes of stdin")
    if data and writer:
        _note_typed(db, number, writer, before, len(data))
    if data:
        last = append_control(db, number, "stdin", data, sent)
    if end and not ended:
        last = append_control(db, number, "end")
    db.execute(
        "UPDATE submissions SET stdin_sent = ?, stdin_ended = ? WHERE number = ?",
        [sent + len(data), ended or end, number],
    )
    return int(last)


def _typed(db: sqlite3.Connection, number: int, writer: str) -> int:
    """The bytes that a writer has sent."""
    row = db.execute(
        "SELECT bytes FROM writers WHERE submission = ? AND name = ?", [number, writer]
    ).fetchone()
    return row[0] if row else 0


def _note_typed(db: sqlite3.Connection, number: int, writer: str, before: int, more: int) -> None:
    """Raises Rejected when there are too many writers."""
    if before == 0:
        count = db.execute(
            "SELECT count(*) FROM writers WHERE submission = ?", [number]
        ).fetchone()[0]
        if count >= WRITERS_MAX:
            raise Rejected("too-many", f"a program has at most {WRITERS_MAX} writers")
    db.execute("INSERT OR REPLACE INTO writers VALUES (?, ?, ?)", [number, writer, before + more])


def _send_signal(db: sqlite3.Connection, id: str, signal: str) -> int:
    """The number of the control."""
    row = db.execute(
        "SELECT number, status, signals FROM submissions WHERE id = ?", [id]
    ).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    number, status, signals = row
    if status == "finished":
        raise AlreadyFinished(id)
    if status != "running":
        raise NotRunning(id)
    if signals >= SIGNALS_MAX:
        raise Rejected("too-many", f"one attempt takes at most {SIGNALS_MAX} signals")
    db.execute("UPDATE submissions SET signals = signals + 1 WHERE number = ?", [number])
    return append_control(db, number, "signal", signal.encode())


def _send_resize(db: sqlite3.Connection, id: str, window: Terminal) -> int:
    """The number of the control."""
    row = db.execute(
        "SELECT number, status, tty, resizes FROM submissions WHERE id = ?", [id]
    ).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    number, status, tty, resizes = row
    if status == "finished":
        raise AlreadyFinished(id)
    if not tty:
        raise NoTerminal(id)
    if status != "running":
        raise NotRunning(id)
    if resizes >= RESIZES_MAX:
        raise Rejected("too-many", f"one attempt takes at most {RESIZES_MAX} sizes of its window")
    db.execute("UPDATE submissions SET resizes = resizes + 1 WHERE number = ?", [number])
    return append_control(db, number, "resize", store_window(window))


def _controls(db: sqlite3.Connection, id: str, after: int) -> list[ControlEntry]:
    rows = db.execute(
        "SELECT controls.number, kind, start, data FROM controls JOIN submissions "
        "ON submissions.number = submission WHERE id = ? AND controls.number > ? "
        "ORDER BY controls.number",
        [id, after],
    )
    found: list[ControlEntry] = []
    size = 0
    for number, kind, start, data in rows:
        found.append(ControlEntry(number, _control(kind, start, data)))
        size += len(data) + CONTROL_BYTES
        if size > WATCH_BYTES:
            break
    return found


def _control(kind: str, start: int | None, data: bytes) -> Control:
    match kind:
        case "stdin" if start is not None:
            return Stdin(start, data)
        case "end":
            return End()
        case "signal":
            return Signal(data.decode(errors="replace"))
        case "resize" if window := load_window(data):
            return Resize(window)
        case "cancel":
            return Cancel()
    return Unknown()
