"""People who signed in."""

from dataclasses import dataclass, replace
from typing import Protocol

SESSION_S = 12 * 3600.0
SESSIONS_MAX = 20
"""Of one person. One more ends the oldest."""

ROTATE_S = 3600.0
"""A session gets a new secret when it is used after this time."""

OVERLAP_S = 600.0
"""The secret before holds for this time: the answer with the new one may still be on its way, or lost."""

LOST_S = 60.0
"""Whoever comes with the secret before after this time has not got the new one, and gets another."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person who signed in. State keeps SHA-256s of secrets alone. Times are Unix times in seconds."""

    id: str
    """The hash of the owner, a dot, and a name of the session."""
    sha256: str
    owner: str
    """With its kind (`occd/principal.py`)."""
    name: str
    """What to call the person."""
    groups: tuple[str, ...]
    """Those of the person's values of the claim that the configuration knows."""
    expires_at: float
    rotated_at: float
    before: str = ""
    """The SHA-256 of the secret before."""

    def knows(self, sha256: str, now: float) -> bool:
        """Whether this is the hash of a secret that holds now."""
        if now >= self.expires_at:
            return False
        return sha256 == self.sha256 or (
            sha256 == self.before != "" and now < self.rotated_at + OVERLAP_S
        )

    def rotated(self, sha256: str, new: str, now: float) -> "Session | None":
        """With a new secret in the place of this one. None when it is not time for that."""
        after = ROTATE_S if sha256 == self.sha256 else LOST_S
        if not self.knows(sha256, now) or now < self.rotated_at + after:
            return None
        return replace(self, sha256=new, before=sha256, rotated_at=now)


class Sessions(Protocol):
    """The part of state that keeps them."""

    async def open(self, session: Session) -> None:
        """Beyond SESSIONS_MAX of one person the oldest ends."""

    async def find(self, id: str) -> Session | None:
        """Perhaps one that has expired."""

    async def rotate(self, id: str, sha256: str, new: str, now: float) -> bool:
        """Give a session the secret with the hash `new`, if this is the hash of one that holds, and if it is
        time (`Session.rotated`)."""

    async def close(self, id: str) -> None:
        """End a session, if there is one of this id."""
