"""Who asks for work, and whose a submission is.

An owner is text with a kind in front of it. Today there is one kind: `anon:` and the SHA-256 of a secret that
the client made. Version 1 of occd knew no kinds. It wrote the hash alone, and it refuses an owner with a
colon. Messages therefore keep version 1's form while version 1 can say it: nodes of both versions can read
them, also after an upgrade was taken back. Inside of occd an owner always has its kind.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

ANONYMOUS = "anon:"


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


NOBODY = Principal()
