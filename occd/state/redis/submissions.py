"""Submissions in Redis, and the indexes that lie beside them: waiting, unpublished, owners, idempotency keys.

One script changes all keys of a submission. The indexes change in steps of their own, before or after that
step. The order lets a death in between be healed: by a repetition of the step, by the sweep, or by comparing
with the submission itself.
"""

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import trio

from occd import rules, wire
from occd.errors import (
    AlreadyFinished,
    Exhausted,
    Poisoned,
    QuotaUsedUp,
    UnknownSubmission,
    Unreadable,
)
from occd.events import Finished, LogEntry, Queued
from occd.model import MAX_ATTEMPTS, Record, Result, Status, Submission, Summary, Verdict
from occd.quotas import Payer, Quota
from occd.state import NOTHING, QUEUED, WAITS_S, Created, Taken
from occd.state.output import joined, rebuilt, started
from occd.state.quotas import cost_of
from occd.state.redis.connect import Command
from occd.state.redis.indexes import Indexes
from occd.state.redis.log import RedisLog
from occd.state.redis.quotas import RedisQuotas
from occd.state.redis.store import RedisStore
from occd.state.redis.values import (
    estimate,
    load_id,
    load_record,
    load_status,
    store_event,
)
from occd.trouble import Trouble

_WHOLE_S = 60.0
"""How long a result waits for the log that its attempt tells anew."""

_LATER_S = 0.2


class RedisSubmissions:
    def __init__(
        self,
        store: RedisStore,
        log: RedisLog,
        indexes: Indexes,
        quotas: RedisQuotas,
        keep_s: float,
    ) -> None:
        self._store = store
        self._log = log
        self._indexes = indexes
        self._quotas = quotas
        self._keep_s = keep_s
        self._starts = Trouble("a start waits for state")

    async def create(
        self,
        submission: Submission,
        key: str | None,
        digest: str,
        payer: Payer | None = None,
        stores: int = 0,
    ) -> Created:
        name = ""
        if key is not None:
            name = self._indexes.key(key)
            id, published = await self._indexes.reserve(name, submission, digest)
            if published is not None:
                return Created(id, published)
            submission = replace(submission, id=id)
        left = await self._admit(payer, submission.id, stores, name)
        id, created_at = submission.id, submission.created_at
        counts, position, _ = await self._store.link.run(
            self._indexes.rate(),
            self._store.script("enqueue", [self._store.key("queued")], id, created_at),
            ("ZADD", self._store.key("unpublished"), created_at, id),
        )
        event = Queued(position, estimate(position - 1, counts))
        made = await self._store.step(
            "create",
            id,
            self._store.channel(id),
            wire.encode_submission(submission),
            created_at,
            name,
            submission.language,
            int(submission.interactive),
            store_event(event),
            submission.retry_of or "",
            int(submission.tty is not None),
            submission.owner or "",
            payer.name if payer else "",
        )
        await self._indexes.add(submission)
        return Created(id, made[0] == b"was there" and made[1] == b"1", left)

    async def _admit(
        self, payer: Payer | None, id: str, stores: int, name: str
    ) -> tuple[Quota, ...]:
        """`name` is the name of the idempotency key's key, if there is one. A repetition of the request has
        the same id, and may be admitted at the same time: what is refused leaves that one everything."""
        if payer is None:
            return ()
        if not name:
            return await self._quotas.admit(payer, {id: stores})
        try:
            return await self._quotas.ask(payer, {id: stores})
        except QuotaUsedUp as error:
            refused = error
        (alone,) = await self._store.link.run(self._store.script("refuse", [name], id))
        if alone:
            await self._quotas.forget(payer, [id])
        raise refused

    async def known(self, key: str) -> bool:
        (id,) = await self._store.link.run(("HGET", self._indexes.key(key), "id"), certain=False)
        if id is None:
            return False
        (there,) = await self._store.link.run(
            ("EXISTS", self._store.keys(load_id(id))[0]), certain=False
        )
        return bool(there)

    async def published(self, id: str) -> None:
        await self._store.link.run(
            self._store.step_command("published", id), ("ZREM", self._store.key("unpublished"), id)
        )

    async def discard(self, id: str, payer: Payer | None = None) -> None:
        said, *rest = await self._store.step("discard", id)
        if said == b"gone":
            name = rest[1].decode() or (payer.name if payer else "")
            await self._store.link.run(
                ("ZREM", self._store.key("queued"), id),
                ("ZREM", self._store.key("unpublished"), id),
                *([self._store.script("release", [rest[0].decode()], id)] if rest[0] else []),
                *(self._quotas.giving_back(name, id) if name else []),
            )

    async def unpublished(self, before: float) -> Sequence[Submission]:
        return await self._indexes.unpublished(before)

    async def oldest(self) -> float | None:
        command = ("ZRANGE", self._store.key("queued"), 0, 0, "WITHSCORES")
        (found,) = await self._store.link.run(command, certain=False)
        return rules.moment_or_none(float(found[1])) if found else None

    async def begin(
        self, submission: Submission, version: str, node: str, taken: Taken = NOTHING
    ) -> int:
        id = submission.id
        before, mark, after = store_event(started(submission, 0, version, node)).partition(
            b'"attempt":0'
        )
        assert mark
        said, *rest = (
            await self._store.surely(
                self._starts,
                id,
                self._store.step_command(
                    "begin",
                    id,
                    self._store.channel(id),
                    wire.encode_submission(submission),
                    submission.created_at,
                    submission.language,
                    int(submission.interactive),
                    secrets.token_hex(8),
                    MAX_ATTEMPTS,
                    time.time(),
                    self._store.me,
                    before + mark[:-1],
                    after,
                    taken.stdin,
                    taken.controls,
                    taken.attempts,
                    submission.retry_of or "",
                    int(submission.tty is not None),
                    store_event(QUEUED),
                    submission.owner or "",
                    _WHOLE_S if taken.log else "",
                ),
                ("ZREM", self._store.key("queued"), id),
                ("ZREM", self._store.key("unpublished"), id),
                *self._indexes.adding(submission),
            )
        )[0]
        match said:
            case b"begun":
                return int(rest[0])
            case b"exhausted":
                raise Exhausted(id, int(rest[0]))
        await self._indexes.after_end(id, rest[0], None, ())
        raise AlreadyFinished(id)

    async def whole(self, id: str, attempt: int) -> None:
        step = self._store.step_command("whole", id, attempt)
        await self._store.surely(self._starts, id, step)

    async def excuse(self, id: str, attempt: int) -> None:
        await self._store.step("excuse", id, attempt)

    async def finish(
        self, id: str, attempt: int | None, result: Result, submission: Submission | None = None
    ) -> bool:
        shortened, events = rebuilt(result)
        step = partial(
            self._store.step,
            "finish",
            id,
            self._store.channel(id),
            "" if attempt is None else attempt,
            secrets.token_hex(8),
            result.finished_at,
            self._expiry(result),
            store_event(Finished(result.without_heads())),
            result.verdict,
            *self._cost(result),
            wire.encode_submission(submission) if submission else "",
            submission.created_at if submission else "",
            submission.language if submission else "",
            (submission.retry_of or "") if submission else "",
            store_event(Finished(shortened.without_heads())),
            (submission.owner or "") if submission else "",
            *map(store_event, events),
        )
        while (answer := await step())[0] == b"later":
            await self._until_whole(id, str(attempt), float(answer[1]))
        said, key, payer, owes = answer
        done: bool = said == b"done"
        await self._indexes.after_end(
            id, key, result if done else None, self._paying(id, payer, owes)
        )
        if submission and done:
            await self._indexes.add(submission)
        return done

    async def _until_whole(self, id: str, attempt: str, left_s: float) -> None:
        """Wait for the rest of the log, at most so long. The look is short: a result may have MiB."""
        look = ("HMGET", self._store.keys(id)[0], "attempts", "whole_by" + attempt)
        with trio.move_on_after(left_s):
            while True:
                ((latest, whole_by),) = await self._store.link.run(look, certain=False)
                if whole_by is None or latest != attempt.encode():
                    return
                await trio.sleep(_LATER_S)

    async def get(self, id: str, output_max: int = 0) -> Record:
        found = await self._store.step("get", id, 2 * output_max, certain=False)
        return await self._complete(load_record(id, found), output_max)

    async def status(self, id: str) -> Status:
        return load_status(await self._known(id, "status"))

    async def owner(self, id: str) -> str | None:
        key = self._store.keys(id)[0]
        (found,) = await self._store.link.run(("HGET", key, "owner"), certain=False)
        if found is None:  # unknown, or recorded by a version that noted no owner
            try:
                return (await self.submission(id)).owner
            except Poisoned as error:
                raise Unreadable(str(error)) from error
        return found.decode() or None

    async def submission(self, id: str) -> Submission:
        return wire.decode_submission(await self._known(id, "body"))

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        return await self._indexes.owned(owner, before, limit)

    async def settled(self, id: str, output_max: int = 0) -> Record:
        with self._store.news.topic(self._store.channel(id)) as topic:
            while True:
                before = topic.session, topic.ended
                record = load_record(id, await self._store.patiently("get", id, 2 * output_max))
                if record.status == "finished":
                    return await self._complete(record, output_max)
                while before == (topic.session, topic.ended):
                    await topic.changed()

    async def cancel(self, id: str) -> bool:
        result = Result(Verdict.CANCELLED, finished_at=time.time())
        said, *rest = await self._store.step(
            "cancel",
            id,
            self._store.channel(id),
            id,
            secrets.token_hex(8),
            result.finished_at,
            self._expiry(result),
            store_event(Finished(result)),
            result.verdict,
            self._expiry(result, WAITS_S),
            *self._cost(result),
        )
        if said == b"unknown":
            raise UnknownSubmission(id)
        if said != b"running":
            key, payer, owes = rest
            ended = result if said == b"queued" else None
            await self._indexes.after_end(id, key, ended, self._paying(id, payer, owes))
        return bool(said != b"finished")

    async def erase(self, submission: Submission) -> bool:
        id, until = submission.id, int(1000 * (time.time() + WAITS_S))
        await self._settle_before_erasing(id)
        said, key = await self._store.step("erase", id, secrets.token_hex(8), until)
        if said == b"unknown":
            raise UnknownSubmission(id)
        if said == b"gone":
            await self._indexes.remove(submission, key.decode())
        return bool(said == b"gone")

    async def _settle_before_erasing(self, id: str) -> None:
        """Whoever stored the end may not have charged it yet, or have died. Nobody can charge it afterwards.
        A death in between leaves what can be erased again."""
        look = ("HMGET", self._store.keys(id)[0], "status", "payer", "cost")
        ((status, payer, cost),) = await self._store.link.run(look)
        if status == b"finished" and payer:
            with suppress(Unreadable):  # the payer's record is damaged, and the submission is not
                await self._store.link.run(
                    *self._paying(id, payer, cost or b""),
                    *self._quotas.erasing(payer.decode(), id),
                )

    async def _complete(self, record: Record, output_max: int) -> Record:
        """The record with its output, if the output is short."""
        if record.result is None or record.output_size > output_max:
            return replace(record, output=None)
        if record.output is None:
            entries: list[LogEntry] = []
            after = record.log_from
            while more := await self._log.entries(record.id, after) if record.output_size else ():
                entries += more
                after = more[-1].seq
            record = replace(record, output=joined(record.result, (each.event for each in entries)))
        return record

    async def _known(self, id: str, field: str) -> bytes:
        (found,) = await self._store.link.run(
            ("HGET", self._store.keys(id)[0], field), certain=False
        )
        if found is None:
            raise UnknownSubmission(id)
        value: bytes = found
        return value

    def _cost(self, result: Result) -> tuple[float, int, float]:
        cost = cost_of(result, self._keep_s)
        return cost.cpu_s, cost.stored, cost.until

    def _paying(self, id: str, payer: bytes, cost: bytes) -> list[Command]:
        """Also after an end that came before: whoever stored it may have died since."""
        if not payer:
            return []
        return self._quotas.settling(payer.decode(), id, cost.decode(errors="replace"))

    def _expiry(self, result: Result, longer_s: float = 0.0) -> int:
        """The time at which Redis is to forget the submission, in milliseconds."""
        return int(1000 * (result.finished_at + self._keep_s + longer_s))
