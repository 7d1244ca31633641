"""How many bytes this process holds for strangers: one budget for all, with a share for each client and each
connection.

Theory of operation. A connection holds input that has not been handled yet (a head, a body, a message, also
in parts), and output that the client has not taken yet (a result, events). The first FREE bytes of each
connection are free. Further bytes are charged to the connection, to its client (the owner whose secret came
with the request, else the session or the address: `clients.py`) and to the process. A client that exceeds its
share is refused. When the whole budget is used up, the connection that has been charged for longest is cut
off, if it has been charged for OLD_S or more. So clients that hold bytes without progress cannot keep out the
others, however slowly they trickle. If no connection is as old, the newcomer is refused.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from occd import metrics
from occd.config import HttpConfig
from occd.errors import BudgetFull, ShareFull
from occd.web.clients import ClientOf, RawHeaders, by_secret_or_peer

HELD = "occd.held"
"""The name of the connection's `Held` among the extensions of the application's scope."""

FREE = 2**14
"""Half of what a connection itself takes (36 KiB were measured)."""

OLD_S = 10.0
_HEAVY = 2
_HEAVY_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Shares:
    process: int = 128 * 2**20
    client: int = 96 * 2**20
    connection: int = 96 * 2**20


def shares(config: HttpConfig) -> Shares:
    return Shares(config.held_bytes, config.held_client_bytes, config.held_connection_bytes)


class Budget:
    """The budget of this process."""

    def __init__(self, limits: Shares) -> None:
        self.heavy = trio.CapacityLimiter(_HEAVY)
        """Bounds work that takes several times its bytes of memory for a moment."""
        self.charged = 0
        self._limits = limits
        self._clients: Counter[str] = Counter()
        self._charged_since: dict[Held, float] = {}
        """The oldest first."""

    def charge(self, held: "Held", size: int) -> None:
        if self._clients[held.client] + size > self._limits.client:
            raise ShareFull(f"one client holds at most {self._limits.client} bytes")
        while self.charged + size > self._limits.process:
            self._cut_oldest(held)
        self.charged += size
        metrics.HELD.inc(size)
        self._clients[held.client] += size
        self._charged_since.setdefault(held, trio.current_time())

    def give_back(self, held: "Held", size: int, *, rest: bool) -> None:
        self.charged -= size
        metrics.HELD.dec(size)
        self._clients[held.client] -= size
        if not self._clients[held.client]:
            del self._clients[held.client]
        if rest:
            del self._charged_since[held]

    def limit_connection(self, size: int) -> None:
        if size > self._limits.connection:
            raise ShareFull(f"one connection holds at most {self._limits.connection} bytes")

    def _cut_oldest(self, newcomer: "Held") -> None:
        oldest = next((held for held in self._charged_since if held is not newcomer), None)
        if oldest is None or trio.current_time() - self._charged_since[oldest] < OLD_S:
            raise BudgetFull("the server holds as much as it may")
        oldest.cut_off()
        oldest.close()


class Held:
    """The bytes that one connection holds. Call `close` at its end. Raises BudgetFull or ShareFull."""

    def __init__(
        self,
        budget: Budget,
        address: str,
        cut_off: Callable[[], None],
        client_of: ClientOf = by_secret_or_peer,
    ) -> None:
        self.cut_off: Callable[[], None] = cut_off
        self.client = address
        self.heavy = budget.heavy
        self._budget = budget
        self._address = address
        self._client_of = client_of
        self._headers: RawHeaders = ()
        self._size = self._charged = self._request = 0
        self._closed = False

    def begin_request(self, headers: RawHeaders) -> None:
        self._headers = headers

    def hold(self, size: int) -> None:
        if self._closed:
            raise BudgetFull("this connection was cut off")
        beyond = self._size + size - FREE - self._charged
        if beyond > 0:
            self._budget.limit_connection(self._size + size)
            if not self._charged:
                self.client = self._client_of(self._address, self._headers)
            self._budget.charge(self, beyond)
            self._charged += beyond
        self._size += size

    def release(self, size: int) -> None:
        if self._closed:
            return
        self._size -= size
        surplus = self._charged - max(0, self._size - FREE)
        if surplus > 0:
            self._charged -= surplus
            self._budget.give_back(self, surplus, rest=not self._charged)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        self.hold(size)
        try:
            yield
        finally:
            self.release(size)

    def hold_for_request(self, size: int) -> None:
        """Hold bytes until the request has been answered, or until `release_request`."""
        self.hold(size)
        self._request += size

    def release_request(self) -> None:
        self.release(self._request)
        self._request = 0

    def close(self) -> None:
        """Give all bytes back. Nothing can be held afterwards."""
        if self._charged:
            self._budget.give_back(self, self._charged, rest=True)
        self._charged = 0
        self._closed = True
        self.cut_off = _nothing  # the connection holds this object: see `Protocol.let_go`


def _nothing() -> None:
    """Cut off a connection that has ended already."""


@asynccontextmanager
async def heavy_if(held: Held, size: int) -> AsyncIterator[None]:
    """Take turns with other long requests; a short one goes ahead."""
    if size <= _HEAVY_BYTES:
        yield
    else:
        async with held.heavy:
            yield
