"""Tells connections that stay open when the key, or the session, that opened them holds no more."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from occd.errors import DataFolderError, OccdError, Rejected, StateUnavailable
from occd.principal import PERSON, Principal
from occd.web.budget import Held

EVERY_S = 1.0
LAST_WORD_S = 0.5
"""With the two seconds for which a key is believed (`occd/keyring.py`), or the three of a session, a
connection ends within 5 s."""

_AT_ONCE = 32
"""So many keys are looked at together: one after the other, thousands would take seconds."""


def ended(principal: Principal) -> Rejected:
    """Why a principal whose key or session holds no more is refused."""
    if (principal.owner or "").startswith(PERSON):
        return Rejected("signed-out", "your sign-in has ended: sign in again, or sign out")
    return Rejected("unauthorized", "the key was revoked or has expired: ask for another one")


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a key, or of a session, while a connection is open."""

    come: trio.Event
    why: Rejected


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
            left = iter(list(self._held.values()))
            async with trio.open_nursery() as nursery:
                for _ in range(_AT_ONCE):
                    nursery.start_soon(self._look, left, nursery.cancel_scope)

    async def _look(self, left: Iterator[_Held], all_looks: trio.CancelScope) -> None:
        for held in left:
            try:
                if not await self._is_still(held.principal):
                    held.ended.set()
            except (StateUnavailable, DataFolderError):
                all_looks.cancel()  # nobody can say now
            except OccdError:
                continue  # this one was damaged, and must not hold up the others

    @contextmanager
    def of(self, principal: Principal) -> Iterator[Ending]:
        """While a connection is open."""
        credential = principal.credential
        if credential is None:
            yield Ending(trio.Event(), ended(principal))
            return
        held = self._held.setdefault(credential, _Held(principal))
        held.connections += 1
        try:
            yield Ending(held.ended, ended(principal))
        finally:
            held.connections -= 1
            if not held.connections:
                del self._held[credential]


@asynccontextmanager
async def last_word(held: Held) -> AsyncIterator[None]:
    """While a client is told that its key has ended. Who does not read this is cut off: such a client would
    otherwise decide how long its connection stays open."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cut_off, held)
        yield
        nursery.cancel_scope.cancel()


async def _cut_off(held: Held) -> None:
    await trio.sleep(LAST_WORD_S)
    held.cut_off()
