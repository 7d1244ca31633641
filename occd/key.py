"""A key that occd gave out: what is known of it, and what its secret looks like.

A secret is `occd_` and 43 characters, which hold 256 random bits. occd keeps its SHA-256 alone. Nobody can
guess so many bits, so a fast hash is enough, and to find a hash in a table tells nobody another one.
"""

import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

from occd.principal import Credential, Scope

PREFIX = "occd_"
"""Every key begins so, in upper or lower case. A secret that begins so is never an anonymous owner's: a
mistyped key must not become one."""

SECRET = re.compile(r"occd_[A-Za-z0-9_-]{43}")

LIKE_A_KEY = re.compile(r"occd_[A-Za-z0-9._~+/=-]{22,}", re.IGNORECASE)
"""A text in which a key may stand. Operators may have made the keys of the configuration otherwise."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was created. Times are Unix times in seconds."""

    id: str
    sha256: str
    owner: str
    """With its kind (`occd/principal.py`)."""
    class_name: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    used_at: float | None = None

    @property
    def credential(self) -> Credential:
        return Credential(self.id, self.owner, self.class_name, self.scopes, self.expires_at)

    def lives(self, now: float) -> bool:
        return self.expires_at is None or self.expires_at > now


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key, and its secret, which nobody can ask for again."""

    secret: str
    key: Key


@dataclass(frozen=True, slots=True)
class Revoked:
    """A key that holds no more."""

    owner: str
    others: tuple[str, ...]
    """The ids of the keys of this owner that still hold."""
    cancelled: int | None
    """How many submissions of the owner were cancelled. None: this was not asked for, or there are others."""


def new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def new_id() -> str:
    return secrets.token_hex(6)


def digest_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def is_key(secret: object) -> bool:
    """Whether somebody meant a key."""
    return isinstance(secret, str) and secret[: len(PREFIX)].lower() == PREFIX


def without_keys(text: str) -> str:
    """The text for a log or an answer, where somebody put a key into a wrong place."""
    return LIKE_A_KEY.sub(f"{PREFIX}…", text)
