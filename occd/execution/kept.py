"""The log of an attempt, kept for a state that may be emptied: in memory, and beyond 1 MiB on disk."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

import structlog

from occd import wire
from occd.events import Event

log = structlog.get_logger()

_MEMORY_BYTES = 2**20
_BATCH = 64
"""Events that are given back together. An event of output has at most 32 KiB."""


class Kept:
    """`close` it: it may be a file. When the disk takes no more, nothing is kept any more: the program must
    not feel it."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
        self._size = 0
        self._open = True

    def close(self) -> None:
        self._open = False
        with suppress(OSError):  # writing the rest; the file is closed all the same
            self._file.close()

    def add(self, events: Iterable[Event]) -> None:
        if not self._open:
            return
        try:
            for event in events:
                self._size += self._file.write(wire.store_event(event) + b"\n")
        except OSError as error:
            self._give_up(error)

    @property
    def is_whole(self) -> bool:
        """Whether `batches` gives all that was added."""
        return self._open

    @property
    def size(self) -> int:
        """In bytes, as stored."""
        return self._size

    def batches(self) -> Iterator[list[Event]]:
        """All events, in order. None when they could not be kept."""
        if not self._open:
            return
        try:
            self._file.seek(0)
            lines = iter(self._file)
            while batch := [wire.load_event(line) for line in islice(lines, _BATCH)]:
                yield batch
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("a log is not kept for a state that may be emptied", reason=str(error))
        self.close()
        self._size = 0
