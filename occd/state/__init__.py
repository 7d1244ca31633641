"""The state seam: submissions, the logs of what happened to them, the controls that clients send to their
programs, the files that programs left, the nodes, the inboxes of nodes, what principals use, the keys that
were created, and the people who signed in. Each part has a Protocol here and a file in each implementation.

Every method is one atomic step, also when the step changes several parts: `begin` counts an attempt and
appends `started`. A method raises StateUnavailable when the server of state cannot be reached for some
seconds: the step may then have happened, and the caller can repeat it. Three kinds of method never raise it,
and wait out the outage instead: methods that wait for news, `begin`, and `append`. The latter two happen
once, however often they have to be sent.

Logs, controls and blobs belong to a *subject*, named by its id. The only subjects today are submissions.
"""

import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from occd import rules
from occd.config import Config
from occd.errors import FieldError, Rejected
from occd.events import Event, LogEntry, Queued
from occd.key import Key
from occd.model import Record, Result, Status, Submission, Summary, Terminal
from occd.quotas import Payer, Quota
from occd.sessions import Sessions
from occd.sqlite import Database
from occd.state.control import ControlEntry
from occd.state.inbox import Letter

NODE_TTL_S = 15.0
"""A node is forgotten this many seconds after its last announcement."""

SIGNALS_MAX = 1000
"""The number of signals that one attempt can be sent."""

RESIZES_MAX = 1000
"""The number of sizes that a terminal's window can be given during one attempt."""

STDIN_UNREAD_MAX = 2**20
"""Bytes of stdin that may wait for the program to read them."""

STDIN_MAX = 64 * 2**20
"""Bytes of stdin that clients can send to one submission, since state keeps them until its end. Each control
counts CONTROL_BYTES more."""

WRITERS_MAX = 1000
"""Writers of one program's stdin that have a name. State keeps how much each has sent."""

CONTROL_BYTES = 64
"""A control counts so many bytes beside its data."""

WAITS_S = 7 * 24 * 3600.0
"""No message waits in a queue for longer. A cancel of a waiting submission is remembered for this time, also
when the submission itself has been forgotten."""

UNREAD = "a submission waits for a version that can read it"
"""The line of the log for what `unpublished` leaves to a later version."""

WATCH_BYTES = 2**18
"""The bytes of a log that are returned at once. Only the last event may exceed them."""


@dataclass(frozen=True, slots=True)
class Created:
    """When the idempotency key was used before, `id` is the id of that earlier submission."""

    id: str
    published: bool
    quotas: tuple[Quota, ...] = ()
    """Those of the payer, with this submission counted. None for an earlier one, which is free."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an attempt has got from its clients: the number of the last control, and the bytes of stdin. And
    how many attempts there were before it, and whether its log follows, until `whole`."""

    controls: int = 0
    stdin: int = 0
    attempts: int = 0
    log: bool = False


NOTHING = Taken()

QUEUED = Queued(1, None)
"""The first event of a submission that was forgotten since it was queued."""


WAIT_BOUNDS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""The waiting times by which `Load` counts. Nodes of all versions count by these."""

_WORDS_MAX = 1000
_COUNT_MAX = 10**15


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an execute node is, and what it has done since it started."""

    since: float
    """When it started. Counts of another start are other counts."""
    slots: int
    slots_used: int
    seats: int
    seats_used: int
    running: Mapping[str, int]
    """Submissions that it has taken, by language."""
    verdicts: Mapping[str, int]
    """Attempts that came to a result, by verdict."""
    waits: tuple[int, ...]
    """First attempts by how long their submissions had waited: up to each of WAIT_BOUNDS_S, and longer."""

    def __post_init__(self) -> None:
        rules.moment(self.since)
        if len(self.waits) != len(WAIT_BOUNDS_S) + 1:
            raise rules.Broken(
                "there is one count for each bound, and one for what is longer", "waits"
            )
        words = (*self.running, *self.verdicts)
        if len(words) > _WORDS_MAX or any(len(each) > rules.VERSION_MAX for each in words):
            raise rules.Broken("too many words, or too long ones", "load")
        counts = (
            self.slots, self.slots_used, self.seats, self.seats_used,
            *self.running.values(), *self.verdicts.values(), *self.waits,
        )  # fmt: skip
        if not all(0 <= each <= _COUNT_MAX for each in counts):
            raise rules.Broken("no count is that", "load")


@dataclass(frozen=True, slots=True)
class Node:
    """A process of ours: its roles and its load. Each role announces itself; `nodes` merges them."""

    name: str
    roles: tuple[str, ...]
    languages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The languages that an execute node can run, with versions newest first."""
    running: int = 0
    connections: int = 0
    following: int = 0
    """The number of submissions that its connections follow."""
    started_at: float = 0.0
    seen_at: float = 0.0
    accepts: frozenset[str] | None = None
    """The fields of a submission that an execute node understands (`wire.FIELDS`), and a word for each
    language that it can format (`languages.formats`). None: no announcement, so the node understands the
    fields of version 1."""
    load: Load | None = None
    """Of an execute node. None: the node runs no programs, or its version does not tell."""
    holds: tuple[str, ...] | None = None
    """The properties of its sandbox (`levels.py`; other versions may know more). None: as for `load`."""
    warm: tuple[str, ...] = ()
    """The languages of which it has something that programs then find made: precompiled parts, or a template.
    Told with `holds`."""

    def __post_init__(self) -> None:
        for versions in self.languages.values():
            if any(len(each) > rules.VERSION_MAX for each in versions):
                raise rules.Broken("a version is too long", "languages")


def read_cursor(text: str | None) -> tuple[float, str]:
    """The time and id of a `Summary.cursor`. The page begins with older submissions. Raises Rejected."""
    if text is None:
        return 1e12, ""
    at, _, id = text.partition("~")
    if not re.fullmatch(r"\d{1,12}(\.\d{1,9})?", at):
        message = "is not one that a list gave"
        raise Rejected("bad-request", f"cursor {message}", [FieldError("cursor", message)])
    return float(at), id


class Submissions(Protocol):
    async def create(
        self,
        submission: Submission,
        key: str | None,
        digest: str,
        payer: Payer | None = None,
        stores: int = 0,
    ) -> Created:
        """Record a submission as queued and append `queued`. Idempotent per key: the same key with the same
        digest of the request returns the earlier submission. With another digest raises Conflict.

        `payer` pays for a new submission, unless `Quotas.admit` has admitted its id before. `stores` are the
        bytes that it may store at most, which count until its end. Raises QuotaUsedUp, and then records
        nothing. State remembers who pays: `finish` charges the payer with what the submission took, once."""

    async def known(self, key: str) -> bool:
        """Whether a submission is recorded under this idempotency key."""

    async def published(self, id: str) -> None:
        """Note that the broker has the submission."""

    async def discard(self, id: str, payer: Payer | None = None) -> None:
        """Forget a submission that the broker did not take, and give its payer back what it took. Does
        nothing to a published one. `payer`, if known, is for a store that carried this out once, and then
        could not say so."""

    async def unpublished(self, before: float) -> Sequence[Submission]:
        """Submissions created before a time that no broker confirmed, because a process died in between.
        Submissions that this version cannot read are left for a later version."""

    async def oldest(self) -> float | None:
        """When the submission was created that has waited longest; None when none waits."""

    async def begin(
        self, submission: Submission, version: str, node: str, taken: Taken = NOTHING
    ) -> int:
        """Count a start and append `started`. Returns the attempt, from now on the only writer. Also works
        for a forgotten submission: the attempts and the clients' controls then go on after `taken`.
        The log of such a first attempt begins with QUEUED, so that its events have the numbers that they had:
        a client may come back with one of them.

        Raises AlreadyFinished, also for a forgotten submission that was erased or cancelled before it began,
        and Exhausted when all attempts are used up.
        """

    async def whole(self, id: str, attempt: int) -> None:
        """The log of an attempt that began with `taken.log` is whole again, and so are its files."""

    async def excuse(self, id: str, attempt: int) -> None:
        """Note that a drain of ours cut this attempt off, so that the attempt does not count. Its number
        stays used, so that clients clear its output."""

    async def finish(
        self, id: str, attempt: int | None, result: Result, submission: Submission | None = None
    ) -> bool:
        """Store the result and append `finished`, in one step, both without the heads of the output, which
        the log holds. Returns False and changes nothing when the submission has a result already or
        `attempt` is stale; None stands for any attempt. A forgotten submission is recorded anew from
        `submission`, if given, with the heads as its log (`rebuilt`), unless it was erased. While the attempt
        tells its log anew, waits for `whole`. When that does not come within a minute, the attempt's node
        has died, and the submission counts as forgotten: half a log would lack what the result counts."""

    async def get(self, id: str, output_max: int = 0) -> Record:
        """The record of a submission, with its output when this has at most `output_max` bytes. Raises
        UnknownSubmission."""

    async def status(self, id: str) -> Status:
        """The status alone, which costs little however large the submission is. Raises UnknownSubmission."""

    async def owner(self, id: str) -> str | None:
        """Whose a submission is. Raises UnknownSubmission."""

    async def submission(self, id: str) -> Submission:
        """The whole submission as its client sent it. Raises UnknownSubmission, or Poisoned when this version
        cannot read it."""

    async def owned(self, owner: str, before: str | None, limit: int) -> Sequence[Summary]:
        """An owner's submissions, newest first. `before` is the `cursor` of the last submission of the page
        before."""

    async def settled(self, id: str, output_max: int = 0) -> Record:
        """Wait until the submission is finished. Returns the record, as `get`. Raises UnknownSubmission."""

    async def cancel(self, id: str) -> bool:
        """Finish a queued submission as cancelled at once; append a control for a running one, which later
        attempts get too. False when the submission was finished before. Raises UnknownSubmission."""

    async def erase(self, submission: Submission) -> bool:
        """Forget at once all that is kept of a submission that has finished, and free its idempotency key. A
        late message of the submission neither runs nor records anything. False when it has not finished.
        Raises UnknownSubmission."""


class Log(Protocol):
    """Events, numbered from 1. The attempt that began last is the only writer."""

    async def append(self, subject: str, attempt: int, events: Sequence[Event]) -> None:
        """Append events in order. Without events, only check.

        Raises Stale, AlreadyFinished or UnknownSubmission.
        """

    async def entries(
        self, subject: str, after: int, bytes_max: int = WATCH_BYTES
    ) -> Sequence[LogEntry]:
        """Events with seq > `after`, as `watch` returns them, without waiting: none when there are none.
        About `bytes_max` as stored, which is at most WATCH_BYTES, and at least one event.

        Raises UnknownSubmission, or EventsReset when `after` lies beyond the log."""

    def followed(self, subject: str) -> bool:
        """Whether somebody may wait for events, as far as this process can know. Costs nothing."""

    async def watch(self, subject: str, after: int) -> Sequence[LogEntry]:
        """Wait for events with seq > `after`. Returns them in order, about WATCH_BYTES at most. Returns none
        exactly when the subject has ended and no event follows `after`.

        Raises UnknownSubmission, or EventsReset when `after` lies beyond the log.
        """


class Controls(Protocol):
    """The controls that clients send to one program: a log, numbered from 1. The log goes when the program's
    submission finishes."""

    async def send_stdin(
        self, subject: str, data: bytes, offset: int | None, *, end: bool, writer: str = ""
    ) -> None:
        """Append input, and its end with `end`. `offset` counts the bytes that this writer sent before, so
        that repeated bytes are dropped. Without a writer `offset` counts the bytes that all writers sent.

        Raises UnknownSubmission, AlreadyFinished, NotInteractive, StdinFull, or Rejected for a gap, for more
        than STDIN_MAX bytes, and for more than WRITERS_MAX writers.
        """

    async def send_signal(self, subject: str, signal: str) -> None:
        """Append a signal, by name. Only the attempt that runs now gets it.

        Raises UnknownSubmission, AlreadyFinished, NotRunning, or Rejected for too many.
        """

    async def send_resize(self, subject: str, window: Terminal) -> None:
        """Append a size for the window of the terminal. A later attempt gets it, too.

        Raises UnknownSubmission, AlreadyFinished, NoTerminal, NotRunning, or Rejected for too many.
        """

    async def watch(self, subject: str, after: int) -> Sequence[ControlEntry]:
        """Wait for controls with a number > `after`. Returns them in order, about WATCH_BYTES at most. Only
        for the process that began the attempt. Waits also when state has forgotten the subject."""

    async def took(self, subject: str, stdin: int) -> None:
        """Note that the program took so many bytes of stdin. All others count as unread: of these there may
        be STDIN_UNREAD_MAX. Like `watch`, waits out an outage."""


class Blobs(Protocol):
    """Bytes that belong to a subject, and go with it."""

    @property
    def bytes_max(self) -> int:
        """How many bytes one subject may have."""

    async def put(self, subject: str, sha256: str, data: bytes) -> None:
        """Store bytes, which are safe after the return. Waits out an outage."""

    async def get(self, subject: str, sha256: str) -> bytes | None:
        """None when they are not there any more."""

    async def forget(self, subject: str) -> None:
        """Remove all bytes of a subject."""


class Nodes(Protocol):
    async def announce(self, node: Node) -> bool:
        """Announce a role of a node and its load. Repeat this well within NODE_TTL_S. Returns whether state
        knew the role before. If it should have known the role, state may have forgotten more."""

    async def withdraw(self, node: Node) -> None:
        """Note that this role of the node ends."""

    async def live(self) -> Sequence[Node]:
        """All nodes with a recent announcement, by name."""


class Inboxes(Protocol):
    """An inbox for each node: letters to the seats of the node, which are numbered from 0. Letters have
    rising numbers. Only the process that opened the inbox last reads them, in order.

    A letter comes at least once. It comes again when the reader is cut off before it said `handled`, and when
    its sender repeats it. A letter is dropped when it was not handled within INBOX_TTL_S.
    """

    async def open(self, node: str) -> int:
        """Become the only reader of a node. Returns the reader's number. What an earlier reader did not
        handle is still there, if state has heard of that reader within INBOX_TTL_S."""

    async def send(self, node: str, seat: int, data: bytes) -> None:
        """Append a letter.

        Raises NodeGone when no reader was heard for INBOX_TTL_S, InboxFull when LETTERS_MAX or
        LETTERS_BYTES_MAX are unhandled, or Rejected for more than LETTER_MAX bytes.
        """

    async def watch(self, node: str, reader: int, after: int) -> Sequence[Letter]:
        """Wait for letters with a number > `after`. Returns them in order, about WATCH_BYTES at most. Raises
        Stale when a later reader has opened the inbox. Until then the inbox is this reader's, also after an
        emptying."""

    async def handled(self, node: str, reader: int, number: int) -> None:
        """Drop the letters up to a number. Like `watch`, waits out an outage, and raises Stale."""

    async def close(self, node: str, reader: int) -> None:
        """The node ends: drop its letters, and refuse new ones. Raises Stale."""


class Presence(Protocol):
    """The subjects that somebody follows now (`occd/state/presence.py`)."""

    async def touch(self, subjects: Collection[str]) -> None:
        """Note that somebody follows these subjects. This is believed for PRESENT_S."""

    async def here(self, subject: str) -> bool:
        """Whether anybody follows a subject. False also when state has forgotten it: ask again after
        RENEW_S. Raises StateUnavailable also when state could not be told of followers now."""


class Quotas(Protocol):
    """What principals use. A submission is *admitted* by its id as a member of its payer's record. Whatever
    ends it removes the member, and only who removes it charges the payer or gives back: so each happens once.
    The parts of state do so themselves (`create`, `discard`, `finish`, `cancel`, `erase`). A member that
    nothing removed, because a process died in between, is removed some minutes later.

    A record goes by itself when it says nothing any more. After an emptying quotas begin anew."""

    async def admit(self, payer: Payer, stores: Mapping[str, int]) -> tuple[Quota, ...]:
        """Admit submissions that are about to be created, all of them in one step or none. `stores` has their
        ids, and the bytes that each may store at most. Those that were admitted before take nothing. Raises
        QuotaUsedUp. Without ids only look. Returns the payer's quotas."""

    async def give_back(self, payer: Payer, ids: Collection[str]) -> None:
        """For submissions that were admitted, and will not be created."""


class Keys(Protocol):
    """The keys that were created (`occd/key.py`)."""

    async def add(self, key: Key) -> None:
        """Raises Rejected when there are KEYS_MAX. Keys that expired long ago make room."""

    async def all(self) -> Sequence[Key]:
        """By creation, those that have expired among them."""

    async def find(self, sha256: str) -> Key | None:
        """The key of this hash, also when it has expired."""

    async def revoke(self, id: str) -> None:
        """Forget a key, if there is one of this id."""

    async def expire(self, id: str, at: float) -> None:
        """Let a key expire at a time, unless it does so before."""

    async def used(self, times: Mapping[str, float]) -> None:
        """Note when keys were used last, by id. A key that was revoked meanwhile stays forgotten."""

    async def warnings(self) -> Sequence[str]:
        """One line when keys were there and are gone, because somebody emptied the server of state."""


class Store(Protocol):
    """Where all parts lie."""

    @property
    def can_be_emptied(self) -> bool:
        """Whether state may forget what it was told, because somebody emptied its server. An attempt then
        keeps its log until the end."""

    async def check(self) -> None:
        """Raises StateError or DataFolderError when a submission could not be recorded now."""

    async def warnings(self) -> Sequence[str]:
        """Settings that work but are not safe, one line each with the remedy."""


@dataclass(frozen=True, slots=True)
class State:
    """All parts of one store."""

    submissions: Submissions
    log: Log
    controls: Controls
    blobs: Blobs
    nodes: Nodes
    inboxes: Inboxes
    presence: Presence
    quotas: Quotas
    keys: Keys
    sessions: Sessions
    store: Store
    backup: Callable[[], AsyncIterator[bytes]] | None = None
    """Makes a backup (`occd/backup.py`). None where another server keeps the state."""


def merged(told: Iterable[Node]) -> list[Node]:
    """One node for each name, from the announcements of its roles."""
    found: dict[str, Node] = {}
    for each in told:
        other = found.get(each.name)
        found[each.name] = (
            each
            if other is None
            else replace(
                each,
                roles=tuple(sorted({*each.roles, *other.roles})),
                languages={**other.languages, **each.languages},
                running=each.running + other.running,
                connections=each.connections + other.connections,
                following=each.following + other.following,
                started_at=min(each.started_at, other.started_at),
                seen_at=max(each.seen_at, other.seen_at),
                accepts=other.accepts if each.accepts is None else each.accepts,
                load=each.load or other.load,
                holds=other.holds if each.holds is None else each.holds,
                warm=each.warm or other.warm,
            )
        )
    return [found[name] for name in sorted(found)]


def check_state_settings(config: Config) -> None:
    """Raises ConfigError for faults that can be found without a server."""
    if config.redis:
        from occd.state.redis.connect import Redis

        Redis(config.redis)


@asynccontextmanager
async def open_state(config: Config, database: Database | None) -> AsyncIterator[State]:
    """Open Redis where the configuration names one, which needs no database. Raises ConfigError or
    StateUnavailable when Redis cannot be used."""
    if config.redis:
        from occd.state.redis import open_redis

        async with open_redis(config.redis, config.results.keep_s) as redis:
            yield redis
    else:
        from occd.state.embedded import open_embedded

        assert database is not None
        async with open_embedded(config, database) as embedded:
            yield embedded
