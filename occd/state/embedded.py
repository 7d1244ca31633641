"""The state of one process: submissions, events and stdin in SQLite, who waits for them in memory."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import trio

from occd.config import Config
from occd.errors import AlreadyFinished, DataFolderError, NotRunning, Rejected
from occd.model import Event, LogEntry, Record, Result, Status, Submission, Summary
from occd.sqlite import Database, Work
from occd.state import (
    NODE_TTL_S,
    NOTHING,
    SIGNALS_MAX,
    Created,
    Node,
    Stdin,
    Taken,
    merged,
    read_cursor,
    sql,
)
from occd.state.wakeups import Wakeups
from occd.trouble import Trouble

T = TypeVar("T")

_EXPIRE_EVERY_S = 60.0
_RETRY_S = 0.5
_RATE_WINDOW_S = 60.0


class EmbeddedState:
    can_be_emptied = False

    def __init__(self, database: Database, keep_s: float) -> None:
        self._database = database
        self._keep_s = keep_s
        self._queued = 0
        self._finishes: deque[float] = deque()
        self._log = Wakeups()
        self._end = Wakeups()
        self._cancel = Wakeups()
        self._stdin = Wakeups()
        self._unfinished: set[str] = set()
        self._cancelled: set[str] = set()
        self._signals: dict[str, list[str]] = {}
        self._signalled = Wakeups()
        self._trouble = Trouble("programs and their output wait for the data folder")
        self._nodes: dict[tuple[str, tuple[str, ...]], tuple[float, Node]] = {}

    async def load(self) -> None:
        await self._database.migrate("state", sql.MIGRATIONS)
        self._unfinished = await self._database.read(sql.unfinished)
        self._queued = await self._database.read(sql.count_queued)
        self._cancelled = await self._database.read(sql.cancelled)

    async def create(self, submission: Submission, key: str | None, digest: str) -> Created:
        position, estimate = self._queued + 1, self._estimate()
        self._queued += 1  # before it is written, so that no other is told the same position
        try:
            created, new = await self._database.write(
                # On disk, and with it the promise: a power cut that takes the message away takes the
                # mark `published` too, so the sweep publishes again.
                lambda db: sql.create(db, submission, key, digest, position, estimate),
                durable=True,
                then=lambda made: self._unfinished.add(submission.id) if made[1] else None,
            )
        except BaseException:
            self._queued -= 1
            raise
        self._queued -= not new
        return created

    async def published(self, id: str) -> None:
        await self._database.write(lambda db: sql.set_published(db, id), hurry=False)

    async def discard(self, id: str) -> None:
        def forget(gone: int) -> None:
            if gone:
                self._queued -= 1
                self._announce_end(id)

        await self._database.write(lambda db: sql.discard(db, id), then=forget)

    async def unpublished(self, before: float) -> Sequence[Submission]:
        return await self._database.read(lambda db: sql.unpublished(db, before))

    async def begin(
        self, submission: Submission, version: str, node: str, taken: Taken = NOTHING
    ) -> int:
        def begun(found: tuple[int, bool]) -> None:
            _, was_queued = found
            self._queued -= was_queued
            self._unfinished.add(submission.id)
            self._signals[submission.id] = [""] * taken.signals  # so that their numbers go on
            self._log.send(submission.id)

        attempt, _ = await self._surely(
            lambda db: sql.begin(db, submission, version, node, taken), begun
        )
        return attempt

    async def excuse(self, id: str, attempt: int) -> None:
        await self._database.write(lambda db: sql.excuse(db, id, attempt))

    async def append(self, id: str, attempt: int, events: Sequence[Event]) -> None:
        await self._surely(
            lambda db: sql.append(db, id, attempt, events), lambda _: self._log.send(id)
        )

    async def finish(
        self, id: str, attempt: int | None, result: Result, submission: Submission | None = None
    ) -> bool:
        def finished(found: tuple[bool, bool]) -> None:
            done, was_queued = found
            self._queued -= was_queued
            if done:
                self._finishes.append(time.monotonic())
                self._announce_end(id)

        done, _ = await self._database.write(
            lambda db: sql.finish(db, id, attempt, result, submission), durable=True, then=finished
        )
        return done

    async def get(self, id: str, output_max: int = 0) -> Record:
        return await self._database.read(lambda db: sql.get(db, id, output_max))

    async def entries(self, id: str, after: int) -> Sequence[LogEntry]:
        return (await self._database.read(lambda db: sql.events(db, id, after)))[0]

    async def status(self, id: str) -> Status:
        return await self._database.read(lambda db: sql.status(db, id))

    async def submission(self, id: str) -> Submission:
        return await self._database.read(lambda db: sql.submission(db, id))

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        at, id = read_cursor(before)
        return await self._database.read(lambda db: sql.owned(db, owner, at, id, limit))

    async def settled(self, id: str, output_max: int = 0) -> Record:
        while id in self._unfinished:
            with self._end.expected(id) as ended:
                await ended.wait()
        return await self.get(id, output_max)

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]:
        while True:
            with self._log.expected(id) as grown:
                events, ended = await self._database.read(lambda db: sql.events(db, id, after))
                if events or ended:
                    return events
                await grown.wait()

    async def cancel(self, id: str) -> bool:
        def cancelled(status: str) -> None:
            if status == "queued":
                self._queued -= 1
                self._announce_end(id)
            if status == "running":
                self._cancelled.add(id)
                self._cancel.send(id)

        status = await self._database.write(
            lambda db: sql.cancel(db, id), durable=True, then=cancelled
        )
        return status != "finished"

    async def cancelled(self, id: str) -> None:
        while True:
            with self._cancel.expected(id) as asked:
                if id in self._cancelled:
                    return
                await asked.wait()

    async def send_stdin(self, id: str, data: bytes, offset: int | None, *, end: bool) -> None:
        await self._database.write(lambda db: sql.send_stdin(db, id, data, offset, end=end))
        self._stdin.send(id)

    async def stdin(self, id: str, offset: int) -> Stdin:
        while True:
            with self._stdin.expected(id) as sent:
                stdin = await self._surely(lambda db: sql.stdin(db, id, offset))
                if stdin.data or stdin.ended:
                    return stdin
                await sent.wait()

    async def send_signal(self, id: str, signal: str) -> None:
        status = await self.status(id)
        if status == "finished":
            raise AlreadyFinished(id)
        if status == "running" and id not in self._signals:
            # A reader may see a start before this thread was told of it: what is written next is told after.
            await self._database.write(lambda _: None)
        sent = self._signals.get(id)
        if sent is None:
            raise NotRunning(id)
        if len(sent) >= SIGNALS_MAX:
            raise Rejected("too-many", f"one attempt takes at most {SIGNALS_MAX} signals")
        sent.append(signal)
        self._signalled.send(id)

    async def signals(self, id: str, seen: int) -> Sequence[str]:
        while True:
            with self._signalled.expected(id) as sent:
                if signals := self._signals.get(id, [])[seen:]:
                    return signals
                await sent.wait()

    async def announce(self, node: Node) -> bool:
        now, key = trio.current_time(), (node.name, node.roles)
        known = key in self._nodes and self._nodes[key][0] > now
        self._nodes[key] = now + NODE_TTL_S, replace(node, seen_at=time.time())
        return known

    async def withdraw(self, node: Node) -> None:
        self._nodes.pop((node.name, node.roles), None)

    async def nodes(self) -> Sequence[Node]:
        now = trio.current_time()
        self._nodes = {key: each for key, each in self._nodes.items() if each[0] > now}
        return merged(node for _, node in self._nodes.values())

    async def warnings(self) -> Sequence[str]:
        return ()

    async def check(self) -> None:
        await self._database.check()
        await self._database.write(sql.check)

    async def expire(self) -> None:
        """Remove what finished too long ago, a little at a time so that nobody waits for it."""
        trouble = Trouble("what is too old stays in the data folder for now")
        while True:
            with trouble.survived():
                expired = partial(sql.expire, before=time.time() - self._keep_s)
                while await self._database.write(expired):  # noqa: ASYNC110  (a little at a time)
                    await trio.lowlevel.checkpoint()
            await trio.sleep(min(_EXPIRE_EVERY_S, max(1.0, self._keep_s)))

    async def _surely(self, work: Work[T], then: Callable[[T], None] = lambda _: None) -> T:
        """However long the data folder takes nothing: a program that runs must not feel it."""
        while True:
            try:
                done = await self._database.write(work, then=then)
            except DataFolderError as error:
                self._trouble.tell(error)
                await trio.sleep(_RETRY_S)
            else:
                self._trouble.over()
                return done

    def _announce_end(self, id: str) -> None:
        self._unfinished.discard(id)
        self._cancelled.discard(id)
        self._signals.pop(id, None)
        self._log.send(id)
        self._end.send(id)

    def _estimate(self) -> float | None:
        """Seconds until a new submission starts, by the rate of the last minute."""
        now = time.monotonic()
        while self._finishes and self._finishes[0] < now - _RATE_WINDOW_S:
            self._finishes.popleft()
        if not self._queued:
            return 0.0
        if not self._finishes:
            return None
        rate = len(self._finishes) / max(now - self._finishes[0], 1.0)
        return round(self._queued / rate, 1)


@asynccontextmanager
async def open_embedded(config: Config, database: Database) -> AsyncIterator[EmbeddedState]:
    state = EmbeddedState(database, config.results.keep_s)
    await state.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(state.expire)
        yield state
        nursery.cancel_scope.cancel()
