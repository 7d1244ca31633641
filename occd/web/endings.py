"""Tells connections that stay open when the key that opened them holds no more."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from occd.errors import OccdError
from occd.principal import Principal

EVERY_S = 1.0
"""With the two seconds for which a key is believed (`occd/keyring.py`), a connection ends within 5 s."""

ENDED = "the key was revoked or has expired"


@dataclass(slots=True)
class _Held:
    """A key by which connections are open."""

    principal: Principal
    ended: trio.Event = field(default_factory=trio.Event)
    connections: int = 0


class Endings:
    def __init__(self, is_still: Callable[[Principal], Awaitable[bool]]) -> None:
        self._is_still = is_still
        self._held: dict[str, _Held] = {}
        """By credential."""

    async def run(self) -> None:
        """Look after all keys by which connections are open, until cancelled: one look a key, however many
        connections it has."""
        while True:
            await trio.sleep(EVERY_S)
            for held in list(self._held.values()):
                try:
                    if not await self._is_still(held.principal):
                        held.ended.set()
                except OccdError:
                    break  # state is away: nobody can say now

    @contextmanager
    def of(self, principal: Principal) -> Iterator[trio.Event]:
        """While a connection is open: an event that is set when its key has ended."""
        credential = principal.credential
        if credential is None:
            yield trio.Event()
            return
        held = self._held.setdefault(credential, _Held(principal))
        held.connections += 1
        try:
            yield held.ended
        finally:
            held.connections -= 1
            if not held.connections:
                del self._held[credential]
