"""The log of an attempt, kept for a state that may be emptied: in memory, and beyond 1 MiB on disk."""

import tempfile
from collections.abc import Iterable, Iterator

from occd import wire
from occd.model import Event

_MEMORY_BYTES = 2**20
_BATCH = 64
"""Events that are given back together. An event of output has at most 32 KiB."""


class Kept:
    """`close` it: it may be a file."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
        self._size = 0

    def close(self) -> None:
        self._file.close()

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            self._size += self._file.write(wire.store_event(event) + b"\n")

    @property
    def size(self) -> int:
        """In bytes, as stored."""
        return self._size

    def batches(self) -> Iterator[list[Event]]:
        """All events, in order."""
        self._file.seek(0)
        batch = []
        for line in self._file:
            batch.append(wire.load_event(line))
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch
