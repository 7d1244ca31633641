"""The clients' input and signals for programs: stdin in SQLite, signals in memory."""

import sqlite3
from collections.abc import Sequence

from occd.errors import (
    AlreadyFinished,
    FieldError,
    NotInteractive,
    NotRunning,
    Rejected,
    StdinFull,
    UnknownSubmission,
)
from occd.state import SIGNALS_MAX, STDIN_UNREAD_MAX, Stdin
from occd.state.embedded.log import find
from occd.state.embedded.shared import Shared


class EmbeddedControls:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def send_stdin(self, subject: str, data: bytes, offset: int | None, *, end: bool) -> None:
        await self._shared.database.write(
            lambda db: _send_stdin(db, subject, data, offset, end=end)
        )
        self._shared.stdin.send(subject)

    async def stdin(self, subject: str, offset: int) -> Stdin:
        while True:
            with self._shared.stdin.expected(subject) as sent:
                stdin = await self._shared.surely(lambda db: _stdin(db, subject, offset))
                if stdin.data or stdin.ended:
                    return stdin
                await sent.wait()

    async def send_signal(self, subject: str, signal: str) -> None:
        status = (await self._shared.database.read(lambda db: find(db, subject)))[1]
        if status == "finished":
            raise AlreadyFinished(subject)
        if status == "running" and subject not in self._shared.signals:
            # A reader may see a start before this thread was told of it: what is written next is told after.
            await self._shared.database.write(lambda _: None)
        sent = self._shared.signals.get(subject)
        if sent is None:
            raise NotRunning(subject)
        if len(sent) >= SIGNALS_MAX:
            raise Rejected("too-many", f"one attempt takes at most {SIGNALS_MAX} signals")
        sent.append(signal)
        self._shared.signalled.send(subject)

    async def signals(self, subject: str, seen: int) -> Sequence[str]:
        while True:
            with self._shared.signalled.expected(subject) as sent:
                if signals := self._shared.signals.get(subject, [])[seen:]:
                    return signals
                await sent.wait()

    async def cancelled(self, subject: str) -> None:
        while True:
            with self._shared.cancel.expected(subject) as asked:
                if subject in self._shared.cancelled:
                    return
                await asked.wait()


def _send_stdin(
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


def _stdin(db: sqlite3.Connection, id: str, offset: int) -> Stdin:
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
