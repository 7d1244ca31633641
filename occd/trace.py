"""The system calls that a program made, as its result counts them. The list itself is a blob: see
`execution/traced.py`.

A stranger's program may have had a hand in all of it but in `ended`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from occd import rules

End = Literal["whole", "limit", "unreadable", "no_python", "not_permitted", "tracer_died"]
"""Why a trace ends where it ends: the program had ended; there would have been more than a trace holds; the
rest is none that a tracer of ours writes; there is no Python 3 where the program runs; the kernel lets nobody
trace there; the program killed the tracer, or the tracer failed."""

HERE = "trace.here"
"""The word by which a node announces that it can trace every program."""


def here(language: str, version: str) -> str:
    """The word by which a node that cannot trace every program announces that it can trace those."""
    return f"trace.{language}.{version}"


CALLS_MAX = 10_000
NAMES_MAX = 500
"""More names of calls than Linux has."""

BYTES_MAX = 6 * 2**20
"""The most bytes of a list, as JSON."""

STORED_MAX = 512 * 1024
"""The most bytes of a list, as it is stored: compressed."""

NAME = re.compile(r"[a-z0-9_]{1,40}")
ERROR = re.compile(r"E[A-Z0-9]{1,20}|-?[0-9]{1,10}")

_ENDED = re.compile(r"[a-z_]{1,40}")
_SECONDS_MAX = 1e9


@dataclass(frozen=True, slots=True)
class CallCount:
    """All calls of one name. `seconds` is how long they took together. `failed` counts those that ended with
    an error, `refused` those that the sandbox does not permit."""

    name: str
    count: int
    failed: int
    refused: int
    seconds: float

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise rules.Broken("is not the name of a call", "name")
        if not 0 <= self.refused <= self.failed <= self.count <= CALLS_MAX:
            raise rules.Broken("must rise from refused to failed to count", "count")
        if not 0 <= self.seconds <= _SECONDS_MAX:
            raise rules.Broken(f"must be between 0 and {_SECONDS_MAX:g}", "seconds")


@dataclass(frozen=True, slots=True)
class Trace:
    """`counts` has each name once: first the names of refused calls, then those that were called most."""

    ended: str
    """An `End`, perhaps of a later version."""
    calls: int = 0
    counts: tuple[CallCount, ...] = ()
    sha256: str | None = None
    """Of the list as it is stored. None: there is no list."""
    size: int = 0
    """Of the list as JSON, in bytes."""
    stored: int = 0
    """Of the list as it is stored, in bytes."""

    def __post_init__(self) -> None:
        if not _ENDED.fullmatch(self.ended):
            raise rules.Broken("is not the end of a trace", "ended")
        if self.sha256 is not None:
            rules.check("sha256", rules.sha256, self.sha256)
        if not 0 <= self.calls <= CALLS_MAX:
            raise rules.Broken(f"must be between 0 and {CALLS_MAX}", "calls")
        if len(self.counts) > NAMES_MAX:
            raise rules.Broken(f"has more than {NAMES_MAX} entries", "counts")
        for name, value, most in (
            ("size", self.size, BYTES_MAX),
            ("stored", self.stored, STORED_MAX),
        ):
            if not 0 <= value <= most:
                raise rules.Broken(f"must be between 0 and {most}", name)
