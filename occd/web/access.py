"""What each call needs, and whether the caller has it: the one place that decides.

Without accounts an id is the right to read, cancel and type. With accounts, a submission that has an owner is
its owner's, and for all others it does not exist. Nobody's submission is open to whoever knows its id.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from quart import Blueprint, g, request
from werkzeug.datastructures import Headers

from occd.config import Config
from occd.errors import Rejected, StateUnavailable, UnknownSubmission
from occd.key import LIKE_A_KEY
from occd.principal import Principal, Scope
from occd.web.endings import Endings, ended
from occd.web.ids import checked_id
from occd.web.origin import check_origin
from occd.web.owner import how_to_say_who, owner_of
from occd.web.query import check_parameters

_OWNERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Call:
    """What a call needs, and what its address takes behind the `?`. A call without a scope is open to
    everybody."""

    scope: Scope | None = None
    takes: tuple[str, ...] = ()


class Who(Protocol):
    """Tells who calls: `Callers`, or `Administrators` at the control socket."""

    async def caller(self, headers: Headers, peer: str, *, changes: bool) -> Principal: ...

    async def bearer(self, secret: object, headers: Headers, peer: str) -> Principal: ...

    async def is_still(self, principal: Principal) -> bool: ...


class Access:
    def __init__(
        self, config: Config, callers: Who, owner: Callable[[str], Awaitable[str | None]]
    ) -> None:
        """`owner` gives whose a submission is, and raises UnknownSubmission."""
        self._config = config
        self._callers = callers
        self._owner = owner
        self.endings = Endings(callers.is_still)
        self._owners: dict[str, str | None] = {}

    async def caller(self, headers: Headers, peer: str, *, changes: bool) -> Principal:
        """Raises Rejected."""
        return await self._callers.caller(headers, peer, changes=changes)

    async def bearer(self, secret: object, headers: Headers, peer: str) -> Principal:
        """Raises Rejected."""
        return await self._callers.bearer(secret, headers, peer)

    async def class_of(self, headers: Headers, scope: Mapping[str, Any]) -> str | None:
        """The class of a caller, for what everybody gets an answer to, also while state is away."""
        with suppress(Rejected, StateUnavailable):
            return (await self.caller(headers, peer_of(scope), changes=False)).class_name
        return None

    async def refuse_ended(self, principal: Principal) -> None:
        """For what took a while since the caller was known. Raises Rejected when the key has ended."""
        if not await self._callers.is_still(principal):
            raise ended(principal)

    def need(self, principal: Principal, scope: Scope) -> None:
        """Raises Rejected when the caller has not this scope."""
        if principal.may(scope) or (scope == "read" and principal.may("read-all")):
            return
        if principal.owner is None:
            raise Rejected("unauthorized", how_to_say_who(self._config.accounts))
        have = ", ".join(sorted(principal.scopes))
        raise Rejected("forbidden", f"this needs the scope {scope}, and you have {have}")

    def owner_for(self, principal: Principal, scope: Scope, asked: str | None) -> str:
        """Whose submissions a call is about: the caller's own, or, for callers with this scope, those of the
        owner that is asked for. Raises Rejected."""
        own = owner_of(principal)
        if asked in (None, own):
            return own
        self.need(principal, scope)
        assert asked
        return asked

    async def need_of(self, principal: Principal, scope: Scope, id: str) -> None:
        """`need`, of the submission with this id. Raises UnknownSubmission, too, for another one's."""
        self.need(principal, scope)
        if self._config.accounts is None or principal.may("admin"):
            return
        if scope == "read" and principal.may("read-all"):
            return
        if await self._whose(id) not in (None, principal.owner):
            raise UnknownSubmission(id)

    async def _whose(self, id: str) -> str | None:
        """An owner never changes, so it is asked for once. What is not known is asked for each time."""
        if id in self._owners:
            return self._owners[id]
        owner = await self._owner(id)
        if len(self._owners) >= _OWNERS_MAX:
            self._owners.clear()
        self._owners[id] = owner
        return owner

    def guard(self, blueprint: Blueprint, calls: Mapping[str, Call]) -> None:
        """Check before each call what all have in common: where it comes from, what its address takes, who
        calls, and whether this caller may. `calls` has every endpoint of the blueprint."""

        @blueprint.before_request
        async def check() -> None:
            if changes := request.method not in ("GET", "HEAD", "OPTIONS"):
                check_origin(request.headers, self._config.http)
            call = calls[request.endpoint or ""]
            check_parameters(request.args, call.takes)
            if call.scope is None:
                return
            peer = peer_of(request.scope)
            g.caller = caller = await self.caller(request.headers, peer, changes=changes)
            self.need(caller, call.scope)
            if (id := (request.view_args or {}).get("id")) is not None:
                await self.need_of(caller, call.scope, checked_id(id))


def refuse_key_in_address(scope: Mapping[str, Any]) -> None:
    """Addresses are kept in logs and histories. Raises Rejected, and does not repeat the key."""
    target = unquote(scope["raw_path"]) + "?" + unquote(scope["query_string"])
    if LIKE_A_KEY.search(target):
        raise Rejected(
            "key-in-address",
            "send a key as Authorization: Bearer, or in the frame hello; others may have seen this address "
            "in a log, so replace the key",
        )


def caller() -> Principal:
    """Who makes the call that is being answered."""
    found: Principal = g.caller
    return found


def peer_of(scope: Mapping[str, object]) -> str:
    """The address at the other end of the connection."""
    client = scope.get("client")
    return str(client[0]) if isinstance(client, tuple | list) and client else ""
