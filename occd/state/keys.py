"""Keys that were created while occd runs, beside those of the configuration."""

from dataclasses import dataclass

from occd.principal import Scope

KEYS_MAX = 10_000

EXPIRED_KEPT_S = 7 * 24 * 3600.0
"""A key that has expired is listed for this time, and may then be forgotten."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was given to somebody. State keeps its SHA-256 alone. Times are Unix times in seconds."""

    id: str
    sha256: str
    owner: str
    """With its kind (`occd/principal.py`)."""
    class_name: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    used_at: float | None = None
