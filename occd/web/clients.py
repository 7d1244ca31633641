"""Whose the bytes of a request are, as long as nobody has looked who calls."""

from collections.abc import Callable, Sequence
from hashlib import sha256

from werkzeug.datastructures import Headers

from occd.config import Config
from occd.errors import Rejected
from occd.web.address import client_network, share_of
from occd.web.cookies import Cookies
from occd.web.owner import digest_of_secret

RawHeaders = Sequence[tuple[bytes, bytes]]
ClientOf = Callable[[str, RawHeaders], str]
"""The name of a client, by the address at the other end of the connection and the headers of the request."""


class Clients:
    def __init__(self, config: Config) -> None:
        self._proxies = config.trusted_proxies
        signs_in = config.accounts is not None and config.accounts.oidc is not None
        self._cookies = Cookies(config.http) if signs_in else None

    def of(self, peer: str, raw: RawHeaders) -> str:
        """By the secret, or the session, that came along; else by the address. So whoever shares an address
        with others, as all do behind a proxy, has a share of his own."""
        if secret := _by_secret(raw):
            return secret
        headers = Headers(
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
        )
        if self._cookies and (session := self._cookies.read(headers, self._cookies.session)):
            return sha256(session.encode()).hexdigest()
        return share_of(client_network(peer, headers.getlist("X-Forwarded-For"), self._proxies))


def by_secret_or_peer(peer: str, raw: RawHeaders) -> str:
    return _by_secret(raw) or peer


def _by_secret(raw: RawHeaders) -> str | None:
    for name, value in raw:
        scheme, _, secret = value.decode("latin-1").partition(" ")
        if name == b"authorization" and scheme.lower() == "bearer":
            try:
                return digest_of_secret(secret.strip())
            except Rejected:
                return None  # the request will be refused; until then it has no owner
    return None
