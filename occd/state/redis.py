"""The state of many processes: all of it in Redis.

Theory of operation. The keys of one submission share a hash tag, and one script changes them in one step.
The other keys (waiting and unpublished ids, idempotency keys, owners) change in steps of their own, before or
after that step. The order lets a death in between be healed: by a repetition of the step, by the sweep, or by
comparing with the submission itself. Every step can be repeated.

    PREFIX:{ID} :e :i :s   a submission, its events, stdin, signals
    PREFIX:{ID}:c          it was cancelled before it began
    PREFIX:unpublished     ids by creation: added before the submission, removed after the broker has it
    PREFIX:queued          ids by creation of waiting submissions
    PREFIX:o:OWNER         an owner's ids by creation
    PREFIX:k:DIGEST        an idempotency key: the id that is reserved for the key
    PREFIX:{done}:N        how many finished in the N-th ten seconds
    PREFIX:nodes           the announcements of nodes
    PREFIX:accepts         the fields of a submission that nodes understand: apart, for older readers
    PREFIX:e:ID PREFIX:x:… channels: to followers, to the process that runs the submission
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from hashlib import sha256

import structlog
import trio

from occd import wire
from occd.config import RedisConfig
from occd.errors import (
    AlreadyFinished,
    Conflict,
    EventsReset,
    Exhausted,
    FieldError,
    NotInteractive,
    NotRunning,
    Poisoned,
    Rejected,
    Stale,
    StateError,
    StateUnavailable,
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
)
from occd.rules import Broken
from occd.state import (
    NODE_TTL_S,
    NOTHING,
    SIGNALS_MAX,
    STDIN_UNREAD_MAX,
    WAITS_S,
    WATCH_BYTES,
    Created,
    Node,
    Stdin,
    Taken,
    joined,
    merged,
    read_cursor,
    rebuilt,
)
from occd.state.redis_connect import Command, Redis, Reply
from occd.state.redis_link import Link, open_link
from occd.state.redis_news import News, Topic, open_news
from occd.state.redis_scripts import SHAS
from occd.state.redis_values import (
    BUCKET_S,
    BUCKETS,
    SUMMARY_FIELDS,
    estimate,
    load_event,
    load_events,
    load_id,
    load_nodes,
    load_record,
    load_status,
    load_summary,
    node_field,
    store_accepts,
    store_event,
    store_node,
)
from occd.trouble import Trouble

log = structlog.get_logger()

LAYOUT = 2
"""The second form of the keys. PREFIX stands below for the prefix of the configuration with this number."""

_RETRY_S = 0.5
_YOUNG_S = 60.0
"""A younger submission may still be on its way, and is not healed yet."""

_HEAL_EVERY_S = 60.0
_HEAL_AT_ONCE = 200
_START_S = 30.0
_SPARE = 32
"""A page of a list reads this many additional ids, because some ids may belong to expired submissions or to
submissions of the page before, created in the same microsecond."""


class RedisState:
    """Use `open_redis`."""

    can_be_emptied = True

    def __init__(self, prefix: str, keep_s: float, link: Link, news: News, me: str) -> None:
        self._prefix = f"{prefix}{LAYOUT}"
        self._old_nodes = f"{prefix}:nodes"
        self._keep_s = keep_s
        self._link = link
        self._news = news
        self._me = me
        self._number = 0
        self._starts = Trouble("a start waits for state")
        self._events = Trouble("events wait for state")

    async def create(self, submission: Submission, key: str | None, digest: str) -> Created:
        name = ""
        if key is not None:
            name = f"{self._prefix}:k:{sha256(key.encode()).hexdigest()}"
            id, published = await self._reserve(name, submission, digest)
            if published is not None:
                return Created(id, published)
            submission = replace(submission, id=id)
        id, created_at = submission.id, submission.created_at
        counts, position, _ = await self._link.run(
            self._rate(),
            self._script("enqueue", [self._all("queued")], id, created_at),
            ("ZADD", self._all("unpublished"), created_at, id),
        )
        event = Queued(position, estimate(position - 1, counts))
        made = await self._step(
            "create",
            id,
            self._channel(id),
            wire.encode_submission(submission),
            created_at,
            name,
            submission.language,
            int(submission.interactive),
            store_event(event),
            submission.retry_of or "",
        )
        await self._index(submission)
        return Created(id, published=made[0] == b"was there" and made[1] == b"1")

    async def published(self, id: str) -> None:
        await self._link.run(
            self._step_command("published", id), ("ZREM", self._all("unpublished"), id)
        )

    async def discard(self, id: str) -> None:
        said, *rest = await self._step("discard", id)
        if said == b"gone":
            await self._link.run(
                ("ZREM", self._all("queued"), id),
                ("ZREM", self._all("unpublished"), id),
                *([self._script("release", [rest[0].decode()], id)] if rest[0] else []),
            )

    async def unpublished(self, before: float) -> Sequence[Submission]:
        key = self._all("unpublished")
        command = ("ZRANGE", key, "-inf", f"({before}", "BYSCORE", "LIMIT", 0, 100, "WITHSCORES")
        (found,) = await self._link.run(command, certain=False)
        submissions = []
        for id, score in zip(found[::2], found[1::2], strict=True):
            look = ("HMGET", self._keys(load_id(id))[0], "status", "published", "body")
            (found_of,) = await self._looks([look])
            status, published, body = found_of or (None, None, None)
            if status == b"queued" and published != b"1":
                try:
                    submissions.append(wire.decode_submission(body or b""))
                except Poisoned as error:
                    log.warning(
                        "a submission waits for a version that can read it",
                        id=load_id(id),
                        reason=str(error),
                    )
            elif status or float(score) < time.time() - _YOUNG_S:
                await self._link.run(("ZREM", key, id))
        return submissions

    async def begin(
        self, submission: Submission, version: str, node: str, taken: Taken = NOTHING
    ) -> int:
        id = submission.id
        before, mark, after = store_event(Started(0, version, node)).partition(b'"attempt":0')
        assert mark
        said, *rest = (
            await self._surely(
                self._starts,
                id,
                self._step_command(
                    "begin",
                    id,
                    self._channel(id),
                    wire.encode_submission(submission),
                    submission.created_at,
                    submission.language,
                    int(submission.interactive),
                    secrets.token_hex(8),
                    MAX_ATTEMPTS,
                    time.time(),
                    self._me,
                    before + mark[:-1],
                    after,
                    taken.stdin,
                    taken.signals,
                    taken.attempts,
                    submission.retry_of or "",
                ),
                ("ZREM", self._all("queued"), id),
                ("ZREM", self._all("unpublished"), id),
                *self._index_commands(submission),
            )
        )[0]
        match said:
            case b"begun":
                return int(rest[0])
            case b"exhausted":
                raise Exhausted(id, int(rest[0]))
        await self._after_end(id, rest[0], None)
        raise AlreadyFinished(id)

    async def excuse(self, id: str, attempt: int) -> None:
        await self._step("excuse", id, attempt)

    async def append(self, id: str, attempt: int, events: Sequence[Event]) -> None:
        step = self._step_command(
            "append",
            id,
            self._channel(id),
            attempt,
            self._me,
            self._next(),
            *map(store_event, events),
        )
        ((said, *_),) = await self._surely(self._events, id, step)
        _refuse(id, said)

    async def finish(
        self, id: str, attempt: int | None, result: Result, submission: Submission | None = None
    ) -> bool:
        shortened, events = rebuilt(result)
        said, key = await self._step(
            "finish",
            id,
            self._channel(id),
            "" if attempt is None else attempt,
            secrets.token_hex(8),
            result.finished_at,
            self._expiry(result),
            store_event(Finished(result.without_heads())),
            result.verdict,
            wire.encode_submission(submission) if submission else "",
            submission.created_at if submission else "",
            submission.language if submission else "",
            (submission.retry_of or "") if submission else "",
            store_event(Finished(shortened.without_heads())),
            *map(store_event, events),
        )
        done: bool = said == b"done"
        await self._after_end(id, key, result if done else None)
        if submission and done:
            await self._index(submission)
        return done

    async def get(self, id: str, output_max: int = 0) -> Record:
        found = await self._step("get", id, 2 * output_max, certain=False)
        return await self._complete(load_record(id, found), output_max)

    async def entries(self, id: str, after: int) -> Sequence[LogEntry]:
        said, *rest = await self._step("events", id, after, WATCH_BYTES, certain=False)
        _refuse(id, b"" if said == b"finished" else said)
        return load_events(id, after, rest)[1]

    async def status(self, id: str) -> Status:
        return load_status(await self._known(id, "status"))

    async def submission(self, id: str) -> Submission:
        return wire.decode_submission(await self._known(id, "body"))

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        at, before_id = read_cursor(before)
        key, wanted = self._owner_key(owner), limit + _SPARE
        page: list[Summary] = []
        passed = 0  # ids that stay in the index
        while len(page) < limit:
            part = ("LIMIT", passed, wanted, "WITHSCORES")
            (found,) = await self._link.run(
                ("ZRANGE", key, at, "-inf", "BYSCORE", "REV", *part), certain=False
            )
            members, scores = found[::2], map(float, found[1::2])
            if not members:
                break
            ids = list(map(load_id, members))
            looks = [("HMGET", self._keys(id)[0], *SUMMARY_FIELDS) for id in ids]
            told = await self._looks(looks)
            known = [each for each in zip(scores, ids, told, strict=True) if each[2] and each[2][1]]
            if gone := [each for each, of in zip(members, told, strict=True) if not (of and of[1])]:
                await self._link.run(("ZREM", key, *gone))
            passed += len(known)
            page += _readable(each for each in known if each[:2] < (at, before_id))
        return page[:limit]

    async def settled(self, id: str, output_max: int = 0) -> Record:
        with self._news.topic(self._channel(id)) as topic:
            while True:
                before = topic.session, topic.ended
                record = load_record(id, await self._patiently("get", id, 2 * output_max))
                if record.status == "finished":
                    return await self._complete(record, output_max)
                while before == (topic.session, topic.ended):
                    await topic.changed()

    async def watch(self, id: str, after: int) -> Sequence[LogEntry]:
        with self._news.topic(self._channel(id)) as topic:
            log = topic.log
            while True:
                known = topic.beyond(after)
                if known is None and not topic.current(after):
                    known = await self._look(topic, id, after)
                if log not in (0, topic.log):
                    raise EventsReset(id)
                log = topic.log
                if known is not None:
                    return known
                if topic.current(after) or not topic.session:
                    await topic.changed()

    async def cancel(self, id: str) -> bool:
        result = Result(Verdict.CANCELLED, finished_at=time.time())
        said, *rest = await self._step(
            "cancel",
            id,
            self._channel(id),
            id,
            secrets.token_hex(8),
            result.finished_at,
            self._expiry(result),
            store_event(Finished(result)),
            result.verdict,
            self._expiry(result, WAITS_S),
        )
        if said == b"unknown":
            raise UnknownSubmission(id)
        if said != b"running":
            await self._after_end(id, rest[0], result if said == b"queued" else None)
        return bool(said != b"finished")

    async def cancelled(self, id: str) -> None:
        while True:
            with self._news.inbox.expected(f"c{id}") as told:
                command = ("HGET", self._keys(id)[0], "cancelled")
                if await self._patiently_run(command):
                    return
                await told.wait()

    async def send_stdin(self, id: str, data: bytes, offset: int | None, *, end: bool) -> None:
        said, *rest = await self._step(
            "send_stdin",
            id,
            id,
            "" if offset is None else offset,
            int(end),
            STDIN_UNREAD_MAX,
            self._me,
            self._next(),
            data,
        )
        match said:
            case b"not interactive":
                raise NotInteractive("this submission was not made with interactive: true")
            case b"ended":
                raise NotInteractive("its stdin has ended")
            case b"full":
                raise StdinFull(int(rest[0]))
            case b"gap":
                message = f"{offset} leaves a gap: {rest[0]} bytes have come so far"
                raise Rejected("stdin-gap", message, [FieldError("offset", message)])
        _refuse(id, said)

    async def stdin(self, id: str, offset: int) -> Stdin:
        while True:
            with self._news.inbox.expected(f"i{id}") as told:
                said, *rest = await self._patiently("stdin", id, offset)
                if said == b"known" and (rest[0] or rest[1] == b"1"):
                    return Stdin(rest[0], ended=rest[1] == b"1")
                await told.wait()

    async def send_signal(self, id: str, signal: str) -> None:
        said, *_ = await self._step(
            "send_signal", id, id, signal, SIGNALS_MAX, self._me, self._next()
        )
        match said:
            case b"queued":
                raise NotRunning(id)
            case b"too many":
                raise Rejected("too-many", f"one attempt takes at most {SIGNALS_MAX} signals")
        _refuse(id, said)

    async def signals(self, id: str, seen: int) -> Sequence[str]:
        while True:
            with self._news.inbox.expected(f"s{id}") as told:
                if found := await self._patiently("signals", id, seen):
                    return [each.decode(errors="replace") for each in found]
                await told.wait()

    async def announce(self, node: Node) -> bool:
        told = {"accepts": store_accepts(node), "nodes": store_node(node)}
        commands = [
            self._script("announce", [self._all(key)], node_field(node), text)
            for key, text in told.items()
        ]
        *_, known = await self._link.run(*commands)
        return bool(known == b"known")

    async def withdraw(self, node: Node) -> None:
        field = node_field(node)
        await self._link.run(*(("HDEL", self._all(key), field) for key in ("nodes", "accepts")))

    async def nodes(self) -> Sequence[Node]:
        looks = [
            self._script("nodes", [self._all(key)], NODE_TTL_S) for key in ("nodes", "accepts")
        ]
        told, accepting = await self._link.run(*looks, certain=False)
        return merged(load_nodes(sorted(told), accepting))

    async def check(self) -> None:
        _, older = await self._link.run(
            ("SET", self._all("check"), time.time(), "EX", 60),
            self._script("nodes", [self._old_nodes], NODE_TTL_S),
        )
        if names := sorted({node.name for node in load_nodes(older, ())}):
            raise StateError(
                f"an older version of occd, which keeps its data in another form, still uses this Redis "
                f"({', '.join(names)}): stop all of its processes, then start the new ones"
            )

    async def warnings(self) -> Sequence[str]:
        try:
            info, keep = await self._link.run(
                ("INFO", "persistence"), ("INFO", "memory"), certain=False
            )
        except StateUnavailable as error:
            return [f"whether Redis keeps its data cannot be seen: {error}"]
        found = []
        if b"aof_enabled:0" in info:
            found.append(
                "Redis keeps no append-only file: when Redis dies, all changes of submissions since its "
                "last snapshot are lost; set `appendonly yes` and `appendfsync always`"
            )
        elif (await self._setting("appendfsync")) not in (b"always", None):
            found.append(
                "Redis does not write through (appendfsync is not always): a power cut loses the changes "
                "of the last second or more; set `appendfsync always`"
            )
        if b"maxmemory:0\r" not in keep and b"maxmemory_policy:noeviction" not in keep:
            found.append(
                "Redis forgets submissions when its memory is full (maxmemory-policy); set "
                "`maxmemory-policy noeviction`"
            )
        return found

    async def heal(self) -> None:
        """Remove ids that no longer wait from the waiting ids. They stay there when a process dies between
        two steps."""
        key = self._all("queued")
        trouble = Trouble("healing will try again")
        while True:
            await trio.sleep(_HEAL_EVERY_S)
            with trouble.survived():
                command = ("ZRANGE", key, "-inf", time.time() - _YOUNG_S, "BYSCORE", "LIMIT", 0)
                (ids,) = await self._link.run((*command, _HEAL_AT_ONCE), certain=False)
                looks = [("HGET", self._keys(load_id(id))[0], "status") for id in ids]
                states = await self._looks(looks) if ids else []
                gone = [id for id, status in zip(ids, states, strict=True) if status != b"queued"]
                if gone:
                    await self._link.run(("ZREM", key, *gone))

    async def _reserve(
        self, name: str, submission: Submission, digest: str
    ) -> tuple[str, bool | None]:
        """The id for the new submission, or the id of an earlier one and whether that one is published."""
        now = time.time()
        lasts = int(self._keep_s + WAITS_S)
        reserve = self._script("reserve", [name], submission.id, digest, now, lasts)
        (found,) = await self._link.run(reserve)
        id = load_id(found[0])
        if id == submission.id:
            return id, None
        look = ("HMGET", self._keys(id)[0], "status", "published")
        ((known, published),) = await self._link.run(look)
        if found[1] == digest.encode():  # its creator may have died in between
            return id, published == b"1" if known else None
        if known or float(found[2]) > now - _YOUNG_S:
            raise Conflict("this idempotency key was used with another submission")
        await self._link.run(self._script("release", [name], id))
        return await self._reserve(name, submission, digest)

    async def _look(self, topic: Topic, id: str, after: int) -> list[LogEntry] | None:
        """The events beyond `after`. Empty when the log ended at `after`, None when no event has come."""
        session, tail = topic.session, topic.tail
        said, *rest = await self._patiently("events", id, after, WATCH_BYTES)
        if said == b"unknown":
            raise UnknownSubmission(id)
        which, found = load_events(id, after, rest)
        last, ended = int(rest[0]), said == b"finished"
        topic.seen(session, tail, which, last, ended=ended)
        return found if found or ended else None

    async def _complete(self, record: Record, output_max: int) -> Record:
        """The record with its output, if the output is short."""
        if record.result is None or record.output_size > output_max:
            return replace(record, output=None)
        if record.output is None:
            entries: list[LogEntry] = []
            after = record.log_from
            while more := await self.entries(record.id, after) if record.output_size else ():
                entries += more
                after = more[-1].seq
            record = replace(record, output=joined(record.result, entries))
        return record

    async def _index(self, submission: Submission) -> None:
        if commands := self._index_commands(submission):
            await self._link.run(*commands)

    def _index_commands(self, submission: Submission) -> list[Command]:
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

    async def _after_end(self, id: str, key: bytes, result: Result | None) -> None:
        """Update the other keys after an end. A repetition of the end repeats this, too."""
        commands: list[Command] = [
            ("ZREM", self._all("queued"), id),
            ("ZREM", self._all("unpublished"), id),
        ]
        if key:
            at = result.finished_at if result else time.time()
            commands.append(("PEXPIREAT", key, int(1000 * (at + self._keep_s)), "LT"))
        if result:
            bucket = f"{self._prefix}:{{done}}:{int(time.time()) // BUCKET_S}"
            commands += [("INCR", bucket), ("EXPIRE", bucket, 2 * BUCKET_S * BUCKETS)]
        with suppress(Unreadable):  # the end is stored, and a damaged key must not undo that
            await self._link.run(*commands)

    async def _known(self, id: str, field: str) -> bytes:
        (found,) = await self._link.run(("HGET", self._keys(id)[0], field), certain=False)
        if found is None:
            raise UnknownSubmission(id)
        value: bytes = found
        return value

    async def _looks(self, looks: Sequence[Command]) -> list[Reply]:
        """What each finds. None for a key that was damaged, which must not hide the others."""
        try:
            return await self._link.run(*looks, certain=False)
        except Unreadable:
            if len(looks) == 1:
                return [None]
        return [found for look in looks for found in await self._looks([look])]

    async def _patiently(self, step: str, id: str, *args: str | bytes | float) -> list[Reply]:
        found: list[Reply] = await self._patiently_run(self._step_command(step, id, *args))
        return found

    async def _patiently_run(self, command: Command) -> Reply:
        """Wait as long as it takes. The caller goes on when Redis is back."""
        while True:
            try:
                return (await self._link.run(command, certain=False))[0]
            except StateUnavailable:
                await trio.sleep(_RETRY_S)

    async def _surely(self, trouble: Trouble, id: str, *commands: Command) -> list[Reply]:
        """Send the very same step until Redis answers. Redis recognizes a step that it carried out late. The
        first command is the submission's own. The others change keys that lie elsewhere: when one of those
        was damaged, the submission goes on without them."""
        while True:
            try:
                done = await self._link.run(*commands)
            except Unreadable:
                if len(commands) == 1:
                    raise
                commands = commands[:1]
            except StateUnavailable as error:
                trouble.tell(error, id=id)
                await trio.sleep(_RETRY_S)
            else:
                trouble.over()
                return done

    async def _step(
        self, name: str, id: str, *args: str | bytes | float, certain: bool = True
    ) -> list[Reply]:
        command = self._step_command(name, id, *args)
        found: list[Reply] = (await self._link.run(command, certain=certain))[0]
        return found

    def _step_command(self, name: str, id: str, *args: str | bytes | float) -> Command:
        return self._script(name, self._keys(id), *args)

    def _script(self, name: str, keys: Sequence[str], *args: str | bytes | float) -> Command:
        return ("EVALSHA", SHAS[name], len(keys), *keys, *args)

    def _rate(self) -> Command:
        now = int(time.time()) // BUCKET_S
        return ("MGET", *(f"{self._prefix}:{{done}}:{now - back}" for back in range(BUCKETS)))

    def _keys(self, id: str) -> list[str]:
        base = f"{self._prefix}:{{{id}}}"
        return [base, f"{base}:e", f"{base}:i", f"{base}:s", f"{base}:c"]

    def _all(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _owner_key(self, owner: str) -> str:
        return f"{self._prefix}:o:{owner}"

    def _channel(self, id: str) -> str:
        return f"{self._prefix}:e:{id}"

    def _expiry(self, result: Result, longer_s: float = 0.0) -> int:
        """The time at which Redis is to forget the submission, in milliseconds."""
        return int(1000 * (result.finished_at + self._keep_s + longer_s))

    def _next(self) -> int:
        """A number above the number of every earlier step of this process. Call this as the step is sent."""
        self._number += 1
        return self._number

    async def _setting(self, name: str) -> bytes | None:
        """A setting of the server, or None when the server does not show its configuration."""
        try:
            (found,) = await self._link.run(("CONFIG", "GET", name), certain=False)
        except StateUnavailable:
            return None
        return found[1] if found else None


@asynccontextmanager
async def open_redis(config: RedisConfig, keep_s: float) -> AsyncIterator[RedisState]:
    """Raises ConfigError for settings that cannot work, StateUnavailable when Redis refuses us or does not
    answer for half a minute."""
    redis = Redis(config)
    me = f"{config.prefix}{LAYOUT}:x:{secrets.token_hex(8)}"
    async with open_link(redis) as link, open_news(redis, me, load_event) as news:
        state = RedisState(config.prefix, keep_s, link, news, me)
        await _reach(state)
        for line in await state.warnings():
            log.warning(line)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(state.heal)
            try:
                yield state
            finally:
                nursery.cancel_scope.cancel()


async def _reach(state: RedisState) -> None:
    """Wait for Redis to come up. Raise at once for a fault that waiting does not mend."""
    deadline = trio.current_time() + _START_S
    while True:
        try:
            await state.check()
            return
        except StateError as error:
            final = isinstance(error, StateUnavailable) and error.final
            if final or trio.current_time() > deadline:
                raise
            log.warning("waiting for Redis", reason=str(error))
        await trio.sleep(_RETRY_S)


def _readable(known: Iterable[tuple[float, str, list[bytes | None]]]) -> Iterator[Summary]:
    """Skip a damaged submission, so that the list still shows the others."""
    for at, id, told in known:
        try:
            yield load_summary(at, id, told)
        except (Unreadable, Broken) as error:
            log.warning("a damaged submission is left out of a list", id=id, reason=str(error))


def _refuse(id: str, said: bytes) -> None:
    match said:
        case b"unknown":
            raise UnknownSubmission(id)
        case b"finished":
            raise AlreadyFinished(id)
        case b"stale":
            raise Stale(id)
