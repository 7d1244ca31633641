"""How the first version of occd reads what a node says of itself in Redis: a copy from commit 99529c6."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    roles: tuple[str, ...]
    languages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    running: int = 0
    connections: int = 0
    following: int = 0
    started_at: float = 0.0
    seen_at: float = 0.0


def load_node(told: bytes) -> Node:
    at, _, text = told.partition(b" ")
    fields = json.loads(text)
    languages = {name: tuple(each) for name, each in fields.pop("languages").items()}
    fields |= {"roles": tuple(fields["roles"]), "seen_at": float(at)}
    return Node(languages=languages, **fields)
