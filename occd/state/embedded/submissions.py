"""Submissions in SQLite, and in memory who waits for their ends."""

import sqlite3
import time
from collections.abc import Sequence
from functools import partial

import trio

from occd.events import Event
from occd.model import Record, Result, Status, Submission, Summary
from occd.quotas import Payer
from occd.sqlite import Part
from occd.state import NOTHING, UNREAD, Created, Taken, read_cursor
from occd.state.embedded import submissions_sql as sql
from occd.state.embedded.shared import Shared
from occd.trouble import Trouble

_EXPIRE_EVERY_S = 60.0
_TOLD_BYTES = 2**14
"""With so much output those who wait for an end get the record at once. Others read it: a thread for it."""


class EmbeddedSubmissions:
    def __init__(self, shared: Shared, keep_s: float, *, durable_begin: bool) -> None:
        """`durable_begin`: a start survives a power cut. It must where the queues are elsewhere: they
        would keep the result of an attempt of which nothing is known, and such a result is dropped."""
        self._shared = shared
        self.database = self._database = shared.database
        self._keep_s = keep_s
        self._durable_begin = durable_begin
        self._unread = Trouble(UNREAD)

    async def load(self) -> None:
        self._shared.unfinished = await self._database.read(sql.unfinished)
        self._shared.queued = await self._database.read(sql.count_queued)

    async def create(
        self,
        submission: Submission,
        key: str | None,
        digest: str,
        payer: Payer | None = None,
        stores: int = 0,
    ) -> Created:
        part = self.creating(submission, None, key, digest, payer, stores)
        try:
            # On disk, and with it the promise: a power cut that takes the message away takes the mark
            # `published` too, so the sweep publishes again.
            created, _ = await self._database.write(part.work, durable=True, then=part.then)
        except BaseException:
            part.undo()
            raise
        return created

    def creating(
        self,
        submission: Submission,
        body: bytes | None,
        key: str | None,
        digest: str,
        payer: Payer | None,
        stores: int,
        *,
        published: bool = False,
    ) -> Part[tuple[Created, bool]]:
        """`create` as a part of a transaction, and whether the submission is new. `body` is the submission,
        if it was encoded before. `published`: another part publishes it."""
        position, estimate = self._shared.queued + 1, self._shared.estimate()
        self._shared.queued += 1  # before it is written, so that no other is told the same position

        def work(db: sqlite3.Connection) -> tuple[Created, bool]:
            return sql.create(
                db, submission, body, key, digest, position, estimate, payer, stores, published
            )

        def made(found: tuple[Created, bool]) -> None:
            if found[1]:
                self._shared.unfinished.add(submission.id)
            else:
                undo()

        def undo() -> None:
            self._shared.queued -= 1

        return Part(work, made, undo)

    async def known(self, key: str) -> bool:
        return await self._database.read(lambda db: sql.known(db, key))

    async def published(self, id: str) -> None:
        await self._database.write(lambda db: sql.set_published(db, id), hurry=False)

    async def discard(self, id: str, payer: Payer | None = None) -> None:
        def forget(gone: int) -> None:
            if gone:
                self._shared.queued -= 1
                self._shared.end(id)

        await self._database.write(lambda db: sql.discard(db, id), then=forget)

    async def unpublished(self, before: float) -> Sequence[Submission]:
        found, unread = await self._database.read(lambda db: sql.unpublished(db, before))
        for id, error in unread.items():
            self._unread.tell(error, submission=id)
        if not unread:
            self._unread.over()
        return found

    async def oldest(self) -> float | None:
        return await self._database.read(sql.oldest)

    async def begin(
        self, submission: Submission, version: str, node: str, taken: Taken = NOTHING
    ) -> int:
        def begun(found: tuple[int, bool, int]) -> None:
            _, was_queued, controls = found
            self._shared.queued -= was_queued
            self._shared.unfinished.add(submission.id)
            self._shared.controls[submission.id] = controls
            self._shared.grown.send(submission.id)

        attempt, _, _ = await self._shared.surely(
            lambda: self._database.write(
                lambda db: sql.begin(db, submission, version, node, taken),
                durable=self._durable_begin,
                then=begun,
            )
        )
        return attempt

    async def whole(self, id: str, attempt: int) -> None:
        """Nothing waits for it: nobody empties this state."""
        await trio.lowlevel.checkpoint()

    async def excuse(self, id: str, attempt: int) -> None:
        await self._database.write(lambda db: sql.excuse(db, id, attempt))

    async def finish(
        self, id: str, attempt: int | None, result: Result, submission: Submission | None = None
    ) -> bool:
        part = self.finishing(id, attempt, result, (), submission)
        done, _, _ = await self._database.write(part.work, durable=True, then=part.then)
        return done

    def finishing(
        self,
        id: str,
        attempt: int | None,
        result: Result,
        events: Sequence[Event],
        submission: Submission | None = None,
    ) -> Part[tuple[bool, bool, Record | None]]:
        """`finish` as a part of a transaction. `events` are the last ones of the attempt, which were not
        appended yet. Where somebody waits for the end, also the record with its output, if this is short."""
        output_max = _TOLD_BYTES if self._shared.ended.expected(id) else 0

        def work(db: sqlite3.Connection) -> tuple[bool, bool, Record | None]:
            done, was_queued = sql.finish(db, id, attempt, result, events, submission, self._keep_s)
            told = sql.get(db, id, output_max) if done and output_max else None
            return done, was_queued, told

        def finished(found: tuple[bool, bool, Record | None]) -> None:
            done, was_queued, told = found
            self._shared.queued -= was_queued
            if done:
                self._shared.count_finish()
                self._shared.end(id, told)

        return Part(work, finished)

    async def get(self, id: str, output_max: int = 0) -> Record:
        return await self._database.read(lambda db: sql.get(db, id, output_max))

    async def status(self, id: str) -> Status:
        return await self._database.read(lambda db: sql.status(db, id))

    async def owner(self, id: str) -> str | None:
        return await self._database.read(lambda db: sql.owner(db, id))

    async def submission(self, id: str) -> Submission:
        return await self._database.read(lambda db: sql.submission(db, id))

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        at, id = read_cursor(before)
        return await self._database.read(lambda db: sql.owned(db, owner, at, id, limit))

    async def settled(self, id: str, output_max: int = 0) -> Record:
        record: Record | None = None
        while id in self._shared.unfinished:
            record = await self._shared.ended.wait(id)
        if record and record.output is not None and record.output_size <= output_max:
            return record
        return await self.get(id, output_max)

    async def cancel(self, id: str) -> bool:
        def cancelled(found: tuple[Status, int]) -> None:
            status, controls = found
            if status == "queued":
                self._shared.queued -= 1
                self._shared.end(id)
            if status == "running":
                self._shared.control(id, controls)

        status, _ = await self._database.write(
            lambda db: sql.cancel(db, id, self._keep_s), durable=True, then=cancelled
        )
        return status != "finished"

    async def erase(self, submission: Submission) -> bool:
        return await self._database.write(lambda db: sql.erase(db, submission.id), durable=True)

    async def expire(self) -> None:
        """Remove what finished too long ago, a little at a time so that nobody waits for it."""
        trouble = Trouble("what is too old stays in the data folder for now")
        while True:
            with trouble.survived():
                expired = partial(sql.expire, before=time.time() - self._keep_s)
                while await self._database.write(expired):  # noqa: ASYNC110  (a little at a time)
                    await trio.lowlevel.checkpoint()
            await trio.sleep(min(_EXPIRE_EVERY_S, max(1.0, self._keep_s)))
