"""Encodes the values that Redis holds, and decodes the replies of Redis."""

import json
import time
from collections.abc import Sequence
from typing import Any

from occd import wire
from occd.model import Ended, Event, Record, Recorded, Summary, Verdict
from occd.state import Node, recorded
from occd.state.redis_connect import Reply

BUCKET_S = 10
BUCKETS = 6
"""The rate of finished submissions is measured over BUCKETS counters of BUCKET_S seconds each."""

SUMMARY_FIELDS = ("language", "status", "verdict", "started_at", "finished_at")
"""The fields of a submission's hash that a list shows."""


def load_record(id: str, found: list[Reply]) -> Record | None:
    """None when Redis knows no such submission."""
    if found[0] == b"unknown":
        return None
    _, language, status, attempts, created_at, started_at, retry_of, size, last = found
    result = None
    if last:
        ended = wire.load_event(last.partition(b" ")[2])
        assert isinstance(ended, Ended)
        result = ended.result
    name: Any = status.decode()
    return Record(
        id,
        language.decode(),
        name,
        int(attempts),
        float(created_at),
        float(started_at) if started_at else None,
        retry_of.decode() or None,
        result,
        int(size),
    )


def load_summary(created_at: float, id: str, told: Sequence[bytes | None]) -> Summary:
    language, status, verdict, started_at, finished_at = (each and each.decode() for each in told)
    name: Any = status
    return Summary(
        id,
        language or "",
        name,
        Verdict(verdict) if verdict else None,
        created_at,
        float(started_at) if started_at else None,
        float(finished_at) if finished_at else None,
    )


def store_event(event: Event) -> bytes:
    return b"%.6f %s" % (time.time(), wire.store_event(event))


def load_event(seq: int, stored: bytes) -> Recorded:
    at, _, event = stored.partition(b" ")
    return recorded(seq, float(at), wire.load_event(event))


def estimate(waiting: int, counts: Sequence[bytes | None]) -> float | None:
    """Seconds until what comes after so many starts, by the rate of the last minute."""
    if not waiting:
        return 0.0
    finished = sum(int(count) for count in counts if count)
    return round(waiting * BUCKET_S * BUCKETS / finished, 1) if finished else None


def node_field(node: Node) -> str:
    return f"{node.name} {','.join(node.roles)}"


def load_node(told: bytes) -> Node:
    at, _, text = told.partition(b" ")
    fields = json.loads(text)
    languages = {name: tuple(each) for name, each in fields.pop("languages").items()}
    fields |= {"roles": tuple(fields["roles"]), "seen_at": float(at)}
    return Node(languages=languages, **fields)
