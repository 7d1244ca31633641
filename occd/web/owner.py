"""Who asks, by the secret that came along."""

import re
from collections.abc import Awaitable, Callable
from hashlib import sha256

from werkzeug.datastructures import Headers

from occd.accounts import AccountsConfig, Network
from occd.config import Config
from occd.errors import FieldError, Rejected
from occd.key import SECRET, digest_of, is_key
from occd.principal import ANONYMOUS, Credential, Principal
from occd.web.address import client_network, payer_of, share_of
from occd.web.headers import only
from occd.web.people import People
from occd.web.slowing import Failures

_VISIBLE = re.compile(r"[\x21-\x7e]{1,512}")
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{22,512}")
"""22 characters of base64 hold 128 bits."""

Find = Callable[[str], Awaitable[Credential | None]]
"""Gives the key with this SHA-256, if there is one that has not expired."""


class Callers:
    """Tells who calls. Without accounts, an owner is a client that knows the secret which the client made."""

    def __init__(self, config: Config, created: Find, people: People) -> None:
        """`created` knows the keys that were created, beside those of the configuration."""
        self._people = people
        self._accounts = config.accounts
        self._proxies = config.trusted_proxies
        self._created = created
        listed = self._accounts.keys if self._accounts else ()
        self._listed = {key.sha256: key.credential for key in listed}
        self._failures = Failures()

    async def caller(self, headers: Headers, peer: str, *, changes: bool) -> Principal:
        """By `Authorization: Bearer SECRET`, or by the cookie of a session; nobody without. `changes`: the
        call is more than a look. Raises Rejected."""
        given = only(headers, "Authorization")
        scheme, _, secret = (given or "").partition(" ")
        if scheme.lower() == "bearer":
            return await self.bearer(secret.strip(" \t"), headers, peer)
        if given is not None and self._accounts is not None:
            # Whoever meant to say who they are must not become nobody.
            raise Rejected("unauthorized", "write the header as Authorization: Bearer SECRET")
        if person := await self._people.caller(headers, changes=changes):
            return person
        return await self.bearer(None, headers, peer)

    async def bearer(self, secret: object, headers: Headers, peer: str) -> Principal:
        """Who knows this secret; nobody without one. Raises Rejected."""
        if isinstance(secret, str) and is_key(secret):
            return await self._by_key(secret, headers, peer)
        owner = None if secret is None else ANONYMOUS + digest_of_secret(secret)
        if self._accounts is None:
            return Principal(owner)
        address = self._address(headers, peer)
        class_name = self._accounts.class_in(address)
        if class_name is not None:
            return Principal(owner, class_name=class_name, counted=owner or share_of(address))
        if self._accounts.anonymous:
            class_name = self._accounts.anonymous.class_name
            return Principal(owner, class_name=class_name, counted=payer_of(address))
        if owner is not None:
            words = how_to_say_who(self._accounts)
            raise Rejected(
                "unauthorized", f"this server takes no secret that a client made: {words}"
            )
        return Principal(scopes=frozenset())

    async def is_still(self, principal: Principal) -> bool:
        """Whether the key, or the session, of a principal still holds."""
        if principal.credential is None or self._accounts is None:
            return True
        if (signed_in := await self._people.is_still(principal)) is not None:
            return signed_in
        found = await self._find(principal.credential)
        return found is not None and found.scopes >= principal.scopes

    async def _by_key(self, secret: str, headers: Headers, peer: str) -> Principal:
        """Without accounts no key is valid."""
        if self._accounts is None:
            raise Rejected("unauthorized", "this server has no accounts, and so knows no keys")
        digest = digest_of(secret) if _VISIBLE.fullmatch(secret) else ""
        found = self._listed.get(digest)
        if found is None and SECRET.fullmatch(secret):
            found = await self._created(digest)
        if found is None:
            await self._failures.slow(share_of(self._address(headers, peer)))
            raise Rejected("unauthorized", "this key is unknown, has expired or was revoked")
        if found.class_name not in self._accounts.classes:
            raise Rejected(
                "forbidden",
                f"the class of this key, {found.class_name}, is not in the configuration of this server "
                "any more",
            )
        return Principal(
            found.owner,
            found.scopes,
            found.class_name,
            counted=found.owner,
            credential=digest,
        )

    async def _find(self, digest: str) -> Credential | None:
        return self._listed.get(digest) or await self._created(digest)

    def _address(self, headers: Headers, peer: str) -> Network:
        return client_network(peer, headers.getlist("X-Forwarded-For"), self._proxies)


def how_to_say_who(accounts: AccountsConfig | None) -> str:
    """What a caller does who must not be nobody."""
    if accounts is None:
        return "this server has no accounts, and so no keys that may do this"
    also = ", or sign in" if accounts.oidc else ""
    return f"send a key, as Authorization: Bearer occd_…{also}"


def digest_of_secret(secret: object) -> str:
    """Raises Rejected for what is too short to be a secret."""
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        message = "must be 22 to 512 characters of A-Z a-z 0-9 . _ ~ + / = -, at random"
        raise Rejected("unauthorized", f"the secret {message}", [FieldError("bearer", message)])
    return sha256(secret.encode()).hexdigest()


def owner_of(principal: Principal) -> str:
    """For what only an owner can ask. Raises Rejected for nobody."""
    if principal.owner is None:
        raise Rejected("unauthorized", "say whose: Authorization: Bearer SECRET")
    return principal.owner
