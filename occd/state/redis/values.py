"""Encodes the values that Redis holds, and decodes the replies of Redis."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from occd import rules, wire
from occd.errors import EventsReset, UnknownSubmission, Unreadable
from occd.events import Event, Finished, LogEntry, Unknown
from occd.model import Record, Status, Summary, known_verdict
from occd.state import Load, Node
from occd.state.output import joined
from occd.state.redis.connect import Reply

BUCKET_S = 10
BUCKETS = 6
"""The rate of finished submissions is measured over BUCKETS counters of BUCKET_S seconds each."""

SUMMARY_FIELDS = ("language", "status", "verdict", "started_at", "finished_at")
"""The fields of a submission's hash that a list shows."""

_REASON_MAX = 200
_HOLDS_MAX = 100
_COUNT = re.compile(rb"\d{1,9}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Accepts:
    name: str
    roles: tuple[str, ...]
    started_at: float
    accepts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Loaded:
    name: str
    roles: tuple[str, ...]
    started_at: float
    load: Load


@dataclass(frozen=True, slots=True)
class _Holding:
    name: str
    roles: tuple[str, ...]
    started_at: float
    holds: tuple[str, ...]
    warm: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, words in (("holds", self.holds), ("warm", self.warm)):
            if len(words) > _HOLDS_MAX or any(len(each) > rules.VERSION_MAX for each in words):
                raise rules.Broken("too many words, or too long ones", field)


_READ = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")
_nodes = TypeAdapter(
    tuple[Node], config=_READ
)  # a tuple, because pydantic takes no config here for a dataclass
_accepts = TypeAdapter(tuple[_Accepts], config=_READ)
_loads = TypeAdapter(tuple[_Loaded], config=_READ)
_holding = TypeAdapter(tuple[_Holding], config=_READ)

_STATUSES: dict[bytes, Status] = {each.encode(): each for each in get_args(Status)}


def load_record(id: str, found: list[Reply]) -> Record:
    """The output is there if its events are. Raises UnknownSubmission and Unreadable."""
    if found[0] == b"unknown":
        raise UnknownSubmission(id)
    _, language, status, attempts, created_at, started_at, retry_of, log_from, last, *stored = found
    result = output = None
    if status == b"finished":
        ended = wire.load_event(last.partition(b" ")[2])
        if not isinstance(ended, Finished):
            raise Unreadable("the last event of what has finished is no result")
        result = ended.result
        if stored:
            output = joined(result, (load_event(0, each).event for each in stored))
    return Record(
        id,
        _text(language),
        load_status(status),
        _count(attempts),
        _moment(created_at) or 0.0,
        _moment(started_at),
        _text(retry_of) or None,
        result,
        log_from,
        output,
    )


def load_id(member: bytes) -> str:
    """An id of a set or an index. A foreign id names no submission, and is removed like an expired one."""
    return member.decode(errors="backslashreplace")


def load_summary(created_at: float, id: str, told: Sequence[bytes | None]) -> Summary:
    """Raises Unreadable."""
    language, status, verdict, started_at, finished_at = told
    return Summary(
        id,
        _text(language),
        load_status(status),
        known_verdict(_text(verdict)),
        created_at,
        _moment(started_at),
        _moment(finished_at),
    )


def _text(told: bytes | None) -> str:
    return (told or b"").decode(errors="backslashreplace")


def load_status(told: bytes | None) -> Status:
    status = _STATUSES.get(told or b"")
    if status is None:
        raise Unreadable("no status of ours")
    return status


def _count(told: bytes) -> int:
    if not _COUNT.fullmatch(told):
        raise Unreadable("no count of ours")
    return int(told)


def _moment(told: bytes | None) -> float | None:
    if not told:
        return None
    try:
        seconds = float(told)
        rules.moment(seconds)
    except ValueError:
        raise Unreadable("no time of ours") from None
    return seconds


def store_event(event: Event) -> bytes:
    return b"%.6f %s" % (time.time(), wire.store_event(event))


def load_event(seq: int, stored: bytes) -> LogEntry:
    at, _, event = stored.partition(b" ")
    try:
        return LogEntry(seq, _moment(at) or 0.0, wire.load_event(event))
    except Unreadable:
        return LogEntry(seq, 0.0, Unknown())


def load_events(id: str, after: int, told: Sequence[Reply]) -> tuple[int, list[LogEntry]]:
    """The number of a log, and its events from `after` on. Raises EventsReset and Unreadable."""
    last, which, *stored = told
    if not which.isdigit():
        raise Unreadable("the number of a log is none of ours")
    if after > last:
        raise EventsReset(id)
    return int(which), [load_event(seq, text) for seq, text in enumerate(stored, start=after + 1)]


def estimate(waiting: int, counts: Sequence[bytes | None]) -> float | None:
    """Seconds until a submission starts behind `waiting` others, by the rate of the last minute."""
    if not waiting:
        return 0.0
    finished = sum(int(count) for count in counts if count and _COUNT.fullmatch(count))
    return round(waiting * BUCKET_S * BUCKETS / finished, 1) if finished else None


def node_field(node: Node) -> str:
    return f"{node.name} {','.join(node.roles)}"


def store_node(node: Node) -> bytes:
    """The form that the first version of occd reads, which cannot load a record with an additional field."""
    fields = asdict(node)
    del fields["accepts"], fields["load"], fields["holds"], fields["warm"]
    return json.dumps(fields).encode()


def store_accepts(node: Node) -> bytes:
    accepts = _Accepts(node.name, node.roles, node.started_at, tuple(sorted(node.accepts or ())))
    return json.dumps(asdict(accepts)).encode()


def store_load(node: Node, load: Load) -> bytes:
    return json.dumps(asdict(_Loaded(node.name, node.roles, node.started_at, load))).encode()


def store_holds(node: Node, holds: tuple[str, ...]) -> bytes:
    told = _Holding(node.name, node.roles, node.started_at, holds, node.warm)
    return json.dumps(asdict(told)).encode()


def load_nodes(
    told: Iterable[bytes],
    accepting: Iterable[bytes],
    loaded: Iterable[bytes],
    holding: Iterable[bytes],
    *,
    unread: Callable[[Exception], None],
) -> Iterator[Node]:
    """The readable nodes. The announced fields count only for the process that announced them, because a
    process of another version may have started later under the same name."""
    accepts = {
        (each.name, each.roles, each.started_at): each.accepts
        for _, each in _said(_accepts, accepting, unread)
    }
    loads = {
        (each.name, each.roles, each.started_at): each.load
        for _, each in _said(_loads, loaded, unread)
    }
    holds = {
        (each.name, each.roles, each.started_at): each
        for _, each in _said(_holding, holding, unread)
    }
    for at, node in _said(_nodes, told, unread):
        process = node.name, node.roles, node.started_at
        accepted = frozenset(accepts.get(process, ()))
        beside = holds.get(process)
        yield replace(
            node,
            seen_at=at,
            accepts=accepted or None,
            load=loads.get(process),
            holds=beside.holds if beside else None,
            warm=beside.warm if beside else (),
        )


def _said(
    kind: TypeAdapter[tuple[T]], told: Iterable[bytes], unread: Callable[[Exception], None]
) -> Iterator[tuple[float, T]]:
    """Each readable announcement with its time."""
    for each in told:
        at, _, text = each.partition(b" ")
        try:
            (value,) = kind.validate_json(b"[%s]" % text)
            yield _moment(at) or 0.0, value
        except (ValidationError, Unreadable) as error:
            unread(Unreadable(str(error)[:_REASON_MAX]))
