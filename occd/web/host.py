"""Which names the server answers to.

A foreign page can let a name of its own lead to this server (DNS rebinding). The browser then takes the page
and the server for one origin, and the page may use the whole API. Only the name in the header `Host` shows
the attack. An IP address in `Host` cannot have been rebound, and nobody else owns a loopback name.
"""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from occd.config import Config
from occd.errors import Rejected

ALWAYS = frozenset({"/healthz", "/readyz"})
"""Supervisors may ask for these paths under any name."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,254})(:[0-9]{0,5})?")
_LOOPBACK = "localhost"


class Hosts:
    """`any`: occd answers to every name, because it listens beyond loopback, and neither `http.hosts` nor
    `http.public_url` is set. These two are names of the clients' address, and not of another one (`at`)."""

    def __init__(self, config: Config, at: str | None = None) -> None:
        listen = _bare((at or config.listen).rpartition(":")[0])
        public = _bare(urlsplit(config.http.public_url or "").hostname or listen)
        named = at is None and (config.http.hosts or config.http.public_url)
        self.any = not (named or is_loopback(listen))
        self._names = {_LOOPBACK, f"*.{_LOOPBACK}", listen, public, *config.http.hosts}

    def check(self, headers: Headers, target: str) -> None:
        """Raises Rejected when the request is for a name that is not ours. `target` is the request's path, or
        its whole URL, as proxies send it. With a URL, both the URL's name and `Host` are checked."""
        if self.any:
            return
        given = headers.getlist("Host")
        self._check(given[0] if len(given) == 1 else "")
        if not target.startswith("/"):
            self._check(target.partition("://")[2].partition("/")[0])

    def _check(self, host: str) -> None:
        found = _HOST.fullmatch(host)
        if found is None:
            raise Rejected("unknown-host", "The request must name one host, in the header Host")
        name = _bare(found[1])
        if not (_address(name) or name in self._names or self._below(name)):
            raise Rejected(
                "unknown-host",
                f"This server does not answer to {name}. If that is its name, list it in the "
                f"configuration: http: {{hosts: [{name}]}}",
            )

    def _below(self, name: str) -> bool:
        """Whether `*.example.org` is listed, for `a.b.example.org`."""
        labels = name.split(".")
        return any(f"*.{'.'.join(labels[at:])}" in self._names for at in range(1, len(labels)))


def _bare(host: str) -> str:
    """The name in the form for comparison: lower case, without the root's dot and the brackets of IPv6."""
    return host.strip("[]").removesuffix(".").lower()


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether clients at this address are on this machine. `host` may be a name."""
    if address := _address(host):
        return address.is_loopback
    if host == _LOOPBACK or host.endswith(f".{_LOOPBACK}"):
        return True
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False  # an unknown name: nobody can listen there either
    return all(ip_address(each[4][0]).is_loopback for each in found)
