"""The attempts that have ended and keep their logs until their results are stored."""

from contextlib import closing
from typing import Protocol

import trio

ATTEMPTS_MAX = 64
"""Each may have an open file."""

BYTES_MAX = 64 * 2**20
"""Of the submissions, which are kept beside the logs."""


class Lingers(Protocol):
    async def linger(self) -> None: ...

    def close(self) -> None: ...


class Lingering:
    """When results are stored slower than programs end, the oldest log is given up. Of its output then only
    the beginning, which the result has, outlives an emptied state."""

    def __init__(self) -> None:
        self._sizes: dict[trio.CancelScope, int] = {}

    async def linger(self, attempt: Lingers, size: int) -> None:
        """`size` is that of the submission, in bytes."""
        with closing(attempt), trio.CancelScope() as scope:
            self._sizes[scope] = size
            try:
                self._give_up()
                await attempt.linger()
            finally:
                self._sizes.pop(scope, None)

    def _give_up(self) -> None:
        while len(self._sizes) > ATTEMPTS_MAX or sum(self._sizes.values()) > BYTES_MAX:
            oldest = next(iter(self._sizes))
            del self._sizes[oldest]
            oldest.cancel()
