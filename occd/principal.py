"""Who asks for work, and whose a submission is.

An owner is text with a kind in front of it: `anon:` and the SHA-256 of a secret that the client made, `key:`
and the name that a key was given to, or `oidc:` and a person, as ISSUER#SUBJECT. Version 1 of occd knew no
kinds. It wrote the hash alone, and it refuses an owner with a colon. Messages therefore keep version 1's form
while version 1 can say it: nodes of both versions can read them, also after an upgrade was taken back. Inside
of occd an owner always has its kind.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, PlainSerializer

ANONYMOUS, KEY, PERSON = "anon:", "key:", "oidc:"

Scope = Literal["run", "read", "read-all", "admin"]
"""`run`: submit, type, cancel and erase. `read`: see what is one's own. `read-all`: see everything. `admin`:
everything, and the keys."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


def with_kind(owner: str) -> str:
    """An owner that was read, in any version's form. An owner of version 1 is an anonymous one."""
    return owner if ":" in owner else ANONYMOUS + owner


def as_version_1(owner: str) -> str:
    """The owner as version 1 writes and compares it. Version 1 cannot say an owner of another kind, which
    therefore stays as it is."""
    return owner.removeprefix(ANONYMOUS)


Owner = Annotated[str, AfterValidator(with_kind), PlainSerializer(as_version_1)]
"""An owner in a message."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `owner` is None when nobody says who asks: what is accepted then belongs to nobody."""

    owner: str | None = None
    scopes: frozenset[Scope] = frozenset({"run", "read"})
    class_name: str | None = None
    """Of the classes in the configuration. None: there are no accounts."""
    counted: str | None = None
    """Whose quotas are used up: an owner, or an address and the network above it (`quotas.ADDRESS`). None:
    nobody's."""
    credential: str | None = None
    """The id of the key or session that said so. It may end at any time."""
    name: str | None = None
    """What to call a person who signed in."""

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


NOBODY = Principal()


@dataclass(frozen=True, slots=True)
class Credential:
    """What a secret that occd gave out stands for. Times are Unix times in seconds."""

    id: str
    owner: str
    class_name: str
    scopes: frozenset[Scope]
    expires_at: float | None = None
