"""Who asks, by the secret that came along. Until there are accounts, an owner is a client that knows the
secret which the client made."""

import re
from hashlib import sha256

from werkzeug.datastructures import Headers

from occd.errors import FieldError, Rejected
from occd.principal import ANONYMOUS, NOBODY, Principal
from occd.web.headers import only

_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{22,512}")
"""22 characters of base64 hold 128 bits."""


def principal_of(headers: Headers) -> Principal:
    """By `Authorization: Bearer SECRET`; nobody without one. Raises Rejected."""
    scheme, _, secret = (only(headers, "Authorization") or "").partition(" ")
    return principal_by(secret.strip()) if scheme.lower() == "bearer" else NOBODY


def principal_by(secret: object) -> Principal:
    """The one who knows this secret. Raises Rejected when it is too short to be one."""
    if secret is None:
        return NOBODY
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        message = "must be 22 to 512 characters of A-Z a-z 0-9 . _ ~ + / = -, at random"
        raise Rejected("unauthorized", f"the secret {message}", [FieldError("bearer", message)])
    return Principal(ANONYMOUS + sha256(secret.encode()).hexdigest())


def owner_of(principal: Principal) -> str:
    """For what only an owner can ask. Raises Rejected for nobody."""
    if principal.owner is None:
        raise Rejected("unauthorized", "say whose: Authorization: Bearer SECRET")
    return principal.owner
