"""Who waits for a jail that does not stand yet. A stuck kernel, or engine, reports no error."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

STUCK = (
    "The machine may be overloaded, or its kernel stuck: look for processes in state D "
    "(ps -eo pid,stat,wchan,args); only a restart of the machine ends these"
)


class Waits:
    """The start times of all waits."""

    def __init__(self, long_s: float = 5.0, hint: str = STUCK) -> None:
        """A wait of more than `long_s` seconds is long; `hint` tells what may be wrong then."""
        self._long_s = long_s
        self._hint = hint
        self._since: dict[object, float] = {}

    @property
    def too_long(self) -> str | None:
        """What is wrong while somebody has been waiting for long."""
        now = trio.current_time()
        if now - min(self._since.values(), default=now) > self._long_s:
            return f"no jail has become ready for {self._long_s:.0f} s. {self._hint}"
        return None

    @contextmanager
    def one_more(self) -> Iterator[None]:
        key = object()
        self._since[key] = trio.current_time()
        try:
            yield
        finally:
            del self._since[key]
