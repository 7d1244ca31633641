"""Owners of submissions. Until there are accounts, an owner is a client that knows the secret it made."""

import re
from hashlib import sha256

from werkzeug.datastructures import Headers

from occd.errors import FieldError, Rejected

_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{22,512}")
"""22 characters of base64 hold 128 bits."""


def owner_of(headers: Headers) -> str | None:
    """By `Authorization: Bearer SECRET`; nobody without one. Raises Rejected."""
    scheme, _, secret = headers.get("Authorization", "").partition(" ")
    return owner_by(secret.strip()) if scheme.lower() == "bearer" else None


def owner_by(secret: object) -> str | None:
    """The owner who knows this secret. Raises Rejected when it is too short to be one."""
    if secret is None:
        return None
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        message = "must be 22 to 512 characters of A-Z a-z 0-9 . _ ~ + / = -, at random"
        raise Rejected("unauthorized", f"the secret {message}", [FieldError("bearer", message)])
    return sha256(secret.encode()).hexdigest()


def needed(owner: str | None) -> str:
    if owner is None:
        raise Rejected("unauthorized", "say whose: Authorization: Bearer SECRET")
    return owner
