"""Events in SQLite, and who waits for more of them in memory."""

import math
import sqlite3
import time
from collections.abc import Iterator, Sequence

from occd import wire
from occd.errors import AlreadyFinished, EventsReset, Stale, UnknownSubmission
from occd.events import Event, LogEntry
from occd.model import Status
from occd.state import WATCH_BYTES
from occd.state.embedded.shared import Shared


class EmbeddedLog:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def append(self, subject: str, attempt: int, events: Sequence[Event]) -> None:
        await self._shared.surely(
            lambda: self._shared.database.write(
                lambda db: _append_to(db, subject, attempt, events),
                then=lambda _: self._shared.grown.send(subject),
            )
        )

    async def entries(
        self, subject: str, after: int, bytes_max: int = WATCH_BYTES
    ) -> Sequence[LogEntry]:
        most = min(bytes_max, WATCH_BYTES)
        return (await self._shared.database.read(lambda db: _events(db, subject, after, most)))[0]

    def followed(self, subject: str) -> bool:
        return subject in self._shared.followed

    async def watch(self, subject: str, after: int) -> Sequence[LogEntry]:
        if subject in self._shared.unfinished:
            self._shared.followed.add(subject)  # until its end: between two calls, too
        while True:
            with self._shared.grown.expected(subject) as grown:
                events, ended = await self._shared.database.read(
                    lambda db: _events(db, subject, after, WATCH_BYTES)
                )
                if events or ended:
                    return events
                await grown.wait()


def find(db: sqlite3.Connection, id: str) -> tuple[int, Status, int, int]:
    """The number, status, attempts and last event of a submission."""
    row = db.execute(
        "SELECT number, status, attempts, last_seq FROM submissions WHERE id = ?", [id]
    ).fetchone()
    if row is None:
        raise UnknownSubmission(id)
    number, status, attempts, last_seq = row
    return number, status, attempts, last_seq


def append_events(
    db: sqlite3.Connection, number: int, last_seq: int, events: Sequence[Event]
) -> None:
    last_seq = insert_events(db, number, last_seq, events)
    db.execute("UPDATE submissions SET last_seq = ? WHERE number = ?", [last_seq, number])


def insert_events(
    db: sqlite3.Connection, number: int, last_seq: int, events: Sequence[Event]
) -> int:
    """Returns the number of the last event, for the caller to note with the submission."""
    now = time.time()
    rows = [
        (number, seq, now, wire.store_event(event))
        for seq, event in enumerate(events, start=last_seq + 1)
    ]
    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    return last_seq + len(events)


def stored_events(
    db: sqlite3.Connection, number: int, after: int, bytes_max: float = math.inf
) -> Iterator[LogEntry]:
    """Only the last event may exceed `bytes_max`."""
    size = 0
    statement = "SELECT seq, time, event FROM events WHERE submission = ? AND seq > ? ORDER BY seq"
    for seq, at, event in db.execute(statement, [number, after]):
        yield LogEntry(seq, at, wire.load_event(event))
        size += len(event)
        if size > bytes_max:
            return


def stored_output(db: sqlite3.Connection, number: int, after: int) -> Iterator[Event]:
    """All events of output beyond `after`, and perhaps others."""
    statement = (
        "SELECT event FROM events WHERE submission = ? AND seq > ? AND instr(event, ?) ORDER BY seq"
    )
    for (event,) in db.execute(statement, [number, after, wire.OUTPUT]):
        yield wire.load_event(event)


def _append_to(db: sqlite3.Connection, id: str, attempt: int, events: Sequence[Event]) -> None:
    number, status, attempts, last_seq = find(db, id)
    if status == "finished":
        raise AlreadyFinished(id)
    if attempts != attempt:
        raise Stale(id)
    append_events(db, number, last_seq, events)


def _events(
    db: sqlite3.Connection, id: str, after: int, bytes_max: int
) -> tuple[list[LogEntry], bool]:
    """Events beyond `after`, and whether none will follow them."""
    number, status, _, last_seq = find(db, id)
    if after > last_seq:
        raise EventsReset(id)
    found = list(stored_events(db, number, after, bytes_max))
    last = found[-1].seq if found else after
    return found, status == "finished" and last == last_seq
