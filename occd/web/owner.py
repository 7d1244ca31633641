"""Who asks, by the secret that came along."""

import re
from collections.abc import Awaitable, Callable
from hashlib import sha256

from werkzeug.datastructures import Headers

from occd.config import Config
from occd.errors import FieldError, Rejected
from occd.principal import ANONYMOUS, Credential, Principal
from occd.web.address import client_network, share_of
from occd.web.headers import only

KEY_PREFIX = "occd_"
"""Every key that occd gives out begins so. A secret that begins so is never an anonymous owner's: a mistyped
key must not become one."""

_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{22,512}")
"""22 characters of base64 hold 128 bits."""

Find = Callable[[str], Awaitable[Credential | None]]
"""Gives the key with this SHA-256, if there is one that has not expired."""


class Callers:
    """Tells who calls. Without accounts, an owner is a client that knows the secret which the client made."""

    def __init__(self, config: Config, created: Find) -> None:
        """`created` knows the keys that were created, beside those of the configuration."""
        self._accounts = config.accounts
        self._proxies = config.trusted_proxies
        self._created = created
        listed = self._accounts.keys if self._accounts else ()
        self._listed = {key.sha256: key.credential for key in listed}

    async def caller(self, headers: Headers, peer: str) -> Principal:
        """By `Authorization: Bearer SECRET`; nobody without one. Raises Rejected."""
        scheme, _, secret = (only(headers, "Authorization") or "").partition(" ")
        given = secret.strip() if scheme.lower() == "bearer" else None
        return await self.bearer(given, headers, peer)

    async def bearer(self, secret: object, headers: Headers, peer: str) -> Principal:
        """Who knows this secret; nobody without one. Raises Rejected."""
        if isinstance(secret, str) and secret.startswith(KEY_PREFIX):
            return await self._by_key(secret)
        owner = None if secret is None else ANONYMOUS + digest_of_secret(secret)
        if self._accounts is None:
            return Principal(owner)
        address = client_network(peer, headers.getlist("X-Forwarded-For"), self._proxies)
        class_name = self._accounts.class_in(address)
        if class_name is not None:
            return Principal(owner, class_name=class_name, counted=owner or share_of(address))
        if self._accounts.anonymous:
            class_name = self._accounts.anonymous.class_name
            return Principal(owner, class_name=class_name, counted=share_of(address))
        if owner is not None:
            raise Rejected("unauthorized", "this server takes keys and people who signed in only")
        return Principal(scopes=frozenset())

    async def is_still(self, principal: Principal) -> bool:
        """Whether the key of a principal still holds."""
        if principal.credential is None or self._accounts is None:
            return True
        found = await self._find(principal.credential)
        return found is not None and found.scopes >= principal.scopes

    async def _by_key(self, secret: str) -> Principal:
        digest = sha256(secret.encode()).hexdigest()
        found = await self._find(digest)
        if found is None:
            raise Rejected("unauthorized", "this key is unknown, has expired or was revoked")
        return Principal(
            found.owner,
            found.scopes,
            found.class_name,
            counted=found.owner,
            credential=digest,
        )

    async def _find(self, digest: str) -> Credential | None:
        """Without accounts no key is valid."""
        if self._accounts is None:
            return None
        return self._listed.get(digest) or await self._created(digest)


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
