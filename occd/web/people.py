"""People who signed in, by the cookie of their browser."""

import secrets
import time
from dataclasses import dataclass
from hashlib import sha256

from quart import Response
from werkzeug.datastructures import Headers

from occd.accounts import OidcConfig
from occd.config import Config
from occd.errors import Rejected
from occd.principal import PERSON, Principal, Scope
from occd.sessions import SESSION_S, Session, Sessions
from occd.web.cookies import Cookies
from occd.web.headers import only

_CREDENTIAL = "session:"
"""In front of the id of a session, which is no secret."""

_BELIEVED_S = 3.0
"""A connection of a session that has ended stays open no longer than this and a second (`endings.py`)."""
_BELIEVED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in, as the provider says."""

    owner: str
    name: str
    groups: tuple[str, ...]
    """The values of the claim that decides on the class."""


class People:
    """Without `accounts.oidc` nobody has signed in, whatever cookie there is."""

    def __init__(self, config: Config, sessions: Sessions) -> None:
        self._accounts = config.accounts
        self._oidc = config.accounts.oidc if config.accounts else None
        self._origin = config.http.public_origin
        self._sessions = sessions
        self._believed: dict[str, float] = {}
        """Until when a session need not be asked for again, by id, for the connections that it has open."""
        self.cookies = Cookies(config.http)

    async def caller(self, headers: Headers, *, changes: bool) -> Principal | None:
        """The person whose browser sends this, if it has the cookie of a session. Another site's page cannot
        use the cookie. Raises Rejected when the session has ended, so that a person does not become somebody
        else without notice."""
        if (
            self._oidc is None
            or (value := self.cookies.read(headers, self.cookies.session)) is None
        ):
            return None
        origin = only(headers, "Origin")
        if origin is None and changes:
            raise _no_origin()
        if origin not in (None, self._origin):
            return None
        session, _ = await self._find(value)
        found = self._principal(session, self._oidc) if session else None
        if found is None:
            raise Rejected("signed-out", "your sign-in has ended: sign in again, or sign out")
        return found

    async def is_still(self, principal: Principal) -> bool | None:
        """Whether the session of a principal still holds. None: it is no person's."""
        credential = principal.credential or ""
        if not credential.startswith(_CREDENTIAL):
            return None
        id, now = credential.removeprefix(_CREDENTIAL), time.time()
        if self._believed.get(id, 0) > now:
            return True
        session = await self._sessions.find(id)
        if session is None or now >= session.expires_at:
            self._believed.pop(id, None)
            return False
        if len(self._believed) >= _BELIEVED_MAX:
            self._believed.clear()
        self._believed[id] = now + _BELIEVED_S
        return True

    async def sign_in(self, person: Person, headers: Headers, response: Response) -> Principal:
        """Begin a session. One that the browser brought along ends."""
        assert self._oidc
        known = {*self._oidc.class_of, *self._oidc.admin}
        hashed = sha256(person.owner.encode()).hexdigest()[:32]
        id, secret, now = f"{hashed}.{secrets.token_hex(8)}", secrets.token_urlsafe(32), time.time()
        groups = tuple(each for each in dict.fromkeys(person.groups) if each in known)
        session = Session(
            id, _hash(secret), person.owner, person.name, groups, now + SESSION_S, now
        )
        await self._sessions.open(session)
        await self._close(headers)
        self.cookies.write(response, self.cookies.session, f"{id}.{secret}", SESSION_S)
        principal = self._principal(session, self._oidc)
        assert principal
        return principal

    async def sign_out(self, headers: Headers, response: Response) -> None:
        """Raises Rejected when another page than ours asks."""
        if self.cookies.read(headers, self.cookies.session) and self._oidc:
            if only(headers, "Origin") != self._origin:
                raise _no_origin()
            await self._close(headers)
        self.cookies.forget(response, self.cookies.session)

    async def rotate(self, headers: Headers, response: Response) -> None:
        """Give the browser a new secret, if it is time. For a call whose answer the page waits for."""
        if (
            self._oidc is None
            or (value := self.cookies.read(headers, self.cookies.session)) is None
        ):
            return
        session, hashed = await self._find(value)
        new, now = secrets.token_urlsafe(32), time.time()
        if session is None or session.rotated(hashed, "", now) is None:
            return
        if await self._sessions.rotate(session.id, hashed, _hash(new), now):
            left = session.expires_at - now
            self.cookies.write(response, self.cookies.session, f"{session.id}.{new}", left)

    async def _close(self, headers: Headers) -> None:
        value = self.cookies.read(headers, self.cookies.session)
        session, _ = await self._find(value) if value else (None, "")
        if session:
            await self._sessions.close(session.id)
            self._believed.pop(session.id, None)

    async def _find(self, value: str) -> tuple[Session | None, str]:
        """The session of a cookie, if the secret holds, and the secret's hash."""
        id, _, secret = value.rpartition(".")
        hashed = _hash(secret)
        session = await self._sessions.find(id)
        return session if session and session.knows(hashed, time.time()) else None, hashed

    def _principal(self, session: Session, oidc: OidcConfig) -> Principal | None:
        """As the configuration says now. None for a person of another provider."""
        assert self._accounts
        if not session.owner.startswith(f"{PERSON}{oidc.issuer}#"):
            return None
        classes = (name for group, name in oidc.class_of.items() if group in session.groups)
        scopes: frozenset[Scope] = frozenset({"run", "read"})
        if set(oidc.admin) & set(session.groups):
            scopes |= {"admin"}
        return Principal(
            session.owner,
            scopes,
            next(classes, self._accounts.default_class),
            counted=session.owner,
            credential=_CREDENTIAL + session.id,
            name=session.name,
        )


def _no_origin() -> Rejected:
    return Rejected(
        "forbidden-origin", "a call that comes with the cookie of a session must name its Origin"
    )


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
