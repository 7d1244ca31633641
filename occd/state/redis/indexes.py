"""The keys in Redis that lie beside the submissions: sets of ids, idempotency keys, and the rate of ends."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256

import structlog
import trio

from occd import wire
from occd.errors import Conflict, Poisoned, Unreadable
from occd.model import Result, Submission, Summary
from occd.rules import Broken
from occd.state import UNREAD, WAITS_S, read_cursor
from occd.state.redis.connect import Command
from occd.state.redis.store import RedisStore
from occd.state.redis.values import BUCKET_S, BUCKETS, SUMMARY_FIELDS, load_id, load_summary
from occd.trouble import Trouble

log = structlog.get_logger()

_YOUNG_S = 60.0
"""A younger submission may still be on its way, and is not healed yet."""

_HEAL_EVERY_S = 60.0
_HEAL_AT_ONCE = 200
_SPARE = 32
"""A page of a list reads this many additional ids, because some ids may belong to expired submissions or to
submissions of the page before, created in the same microsecond."""


class Indexes:
    def __init__(self, store: RedisStore, keep_s: float) -> None:
        self._store = store
        self._keep_s = keep_s
        self._unread = Trouble(UNREAD)

    async def unpublished(self, before: float) -> Sequence[Submission]:
        key = self._store.key("unpublished")
        command = ("ZRANGE", key, "-inf", f"({before}", "BYSCORE", "LIMIT", 0, 100, "WITHSCORES")
        (found,) = await self._store.link.run(command, certain=False)
        submissions, unread = [], False
        for id, score in zip(found[::2], found[1::2], strict=True):
            look = ("HMGET", self._store.keys(load_id(id))[0], "status", "published", "body")
            (found_of,) = await self._store.looks([look])
            status, published, body = found_of or (None, None, None)
            if status == b"queued" and published != b"1":
                try:
                    submissions.append(wire.decode_submission(body or b""))
                except Poisoned as error:
                    unread = True
                    self._unread.tell(error, submission=load_id(id))
            elif status or float(score) < time.time() - _YOUNG_S:
                await self._store.link.run(("ZREM", key, id))
        if not unread:
            self._unread.over()
        return submissions

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        at, before_id = read_cursor(before)
        key, wanted = self._owner_key(owner), limit + _SPARE
        page: list[Summary] = []
        passed = 0  # ids that stay in the index
        while len(page) < limit:
            part = ("LIMIT", passed, wanted, "WITHSCORES")
            (found,) = await self._store.link.run(
                ("ZRANGE", key, at, "-inf", "BYSCORE", "REV", *part), certain=False
            )
            members, scores = found[::2], map(float, found[1::2])
            if not members:
                break
            ids = list(map(load_id, members))
            looks = [("HMGET", self._store.keys(id)[0], *SUMMARY_FIELDS) for id in ids]
            told = await self._store.looks(looks)
            known = [each for each in zip(scores, ids, told, strict=True) if each[2] and each[2][1]]
            if gone := [each for each, of in zip(members, told, strict=True) if not (of and of[1])]:
                await self._store.link.run(("ZREM", key, *gone))
            passed += len(known)
            page += _readable(each for each in known if each[:2] < (at, before_id))
        return page[:limit]

    async def heal(self) -> None:
        """Remove ids that no longer wait from the waiting ids. They stay there when a process dies between
        two steps."""
        key = self._store.key("queued")
        trouble = Trouble("healing will try again")
        while True:
            await trio.sleep(_HEAL_EVERY_S)
            with trouble.survived():
                command = ("ZRANGE", key, "-inf", time.time() - _YOUNG_S, "BYSCORE", "LIMIT", 0)
                (ids,) = await self._store.link.run((*command, _HEAL_AT_ONCE), certain=False)
                looks = [("HGET", self._store.keys(load_id(id))[0], "status") for id in ids]
                states = await self._store.looks(looks) if ids else []
                gone = [id for id, status in zip(ids, states, strict=True) if status != b"queued"]
                if gone:
                    await self._store.link.run(("ZREM", key, *gone))

    def key(self, key: str) -> str:
        """The name of an idempotency key's key."""
        return self._store.key(f"k:{sha256(key.encode()).hexdigest()}")

    async def reserve(
        self, name: str, submission: Submission, digest: str
    ) -> tuple[str, bool | None]:
        """The id for the new submission, or the id of an earlier one and whether that one is published."""
        now = time.time()
        lasts = int(self._keep_s + WAITS_S)
        reserve = self._store.script("reserve", [name], submission.id, digest, now, lasts)
        (found,) = await self._store.link.run(reserve)
        id = load_id(found[0])
        if id == submission.id:
            return id, None
        look = ("HMGET", self._store.keys(id)[0], "status", "published")
        ((known, published),) = await self._store.link.run(look)
        if found[1] == digest.encode():  # its creator may have died in between
            return id, published == b"1" if known else None
        if known or float(found[2]) > now - _YOUNG_S:
            raise Conflict("this idempotency key was used with another submission")
        await self._store.link.run(self._store.script("release", [name], id))
        return await self.reserve(name, submission, digest)

    async def add(self, submission: Submission) -> None:
        if commands := self.adding(submission):
            await self._store.link.run(*commands)

    def adding(self, submission: Submission) -> list[Command]:
        """Add the submission to its owner's index. The entry outlives the submission."""
        if submission.owner is None:
            return []
        key = self._owner_key(submission.owner)
        lasts = int(self._keep_s + WAITS_S)
        return [
            ("ZADD", key, submission.created_at, submission.id),
            ("ZREMRANGEBYSCORE", key, "-inf", f"({time.time() - lasts}"),
            ("EXPIRE", key, lasts),
        ]

    async def remove(self, submission: Submission, key: str) -> None:
        """`key` is the name of its idempotency key's key, or nothing."""
        commands: list[Command] = []
        if submission.owner:
            commands.append(("ZREM", self._owner_key(submission.owner), submission.id))
        if key:
            commands.append(self._store.script("release", [key], submission.id))
        if commands:
            await self._store.link.run(*commands)

    async def after_end(
        self, id: str, key: bytes, result: Result | None, paying: Sequence[Command]
    ) -> None:
        """Update the other keys after an end, and carry out `paying`. A repetition of the end repeats this,
        too."""
        commands: list[Command] = [
            *paying,
            ("ZREM", self._store.key("queued"), id),
            ("ZREM", self._store.key("unpublished"), id),
        ]
        if key:
            at = result.finished_at if result else time.time()
            commands.append(("PEXPIREAT", key, int(1000 * (at + self._keep_s)), "LT"))
        if result:
            bucket = self._bucket(int(time.time()) // BUCKET_S)
            commands += [("INCR", bucket), ("EXPIRE", bucket, 2 * BUCKET_S * BUCKETS)]
        with suppress(Unreadable):  # the end is stored, and a damaged key must not undo that
            await self._store.link.run(*commands)

    def rate(self) -> Command:
        now = int(time.time()) // BUCKET_S
        return ("MGET", *(self._bucket(now - back) for back in range(BUCKETS)))

    def _bucket(self, number: int) -> str:
        return self._store.key(f"{{done}}:{number}")

    def _owner_key(self, owner: str) -> str:
        return self._store.key(f"o:{owner}")


def _readable(known: Iterable[tuple[float, str, list[bytes | None]]]) -> Iterator[Summary]:
    """Skip a damaged submission, so that the list still shows the others."""
    for at, id, told in known:
        try:
            yield load_summary(at, id, told)
        except (Unreadable, Broken) as error:
            log.warning(
                "a damaged submission is left out of a list", submission=id, reason=str(error)
            )
