"""People for tests: browsers without a screen, and a server at which they sign in."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from provider import Provider
from redis_server import free_port
from serving import API, Answer, Server, serving

CLIENT_SECRET = "the-client's-own-secret"


def accounts(
    provider: Provider, folder: Path, anonymous: object = "refuse", **oidc: object
) -> dict[str, Any]:
    """The part of the configuration. `folder` gets the file with the client's secret."""
    secret = folder / "client-secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    settings = {
        "issuer": provider.issuer,
        "client_id": "occd",
        "client_secret_file": str(secret),
        "class_of": {"staff": "service"},
        "admin": ["ops"],
    }
    return {
        "anonymous": anonymous,
        "default_class": "student",
        "classes": {"student": {}, "service": {}, "visitor": {}},
        "oidc": settings | oidc,
    }


@contextmanager
def signing_in(data_dir: Path, accounts: dict[str, Any]) -> Iterator[Server]:
    """A server at which people sign in."""
    port = free_port()
    with serving(
        data_dir,
        port=str(port),
        accounts=json.dumps(accounts),
        http__public_url=f"http://127.0.0.1:{port}",
    ) as server:
        yield server


@dataclass
class Browser:
    """Keeps cookies and follows no redirect by itself."""

    server: Server
    cookies: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """As a page of the server would."""
        sent = {"Cookie": self.cookie} if self.cookies else {}
        if method != "GET":
            sent["Origin"] = self.origin
        answer = self.server.request(method, path, body, **(sent | headers))
        for line in answer.headers.get_all("Set-Cookie", []):
            pair, _, attributes = line.partition("; ")
            name, _, value = pair.partition("=")
            self.attributes[name] = attributes
            self.cookies[name] = value
            if "Max-Age=0" in attributes:
                del self.cookies[name]
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, b"", **headers)

    def set_off(self, query: str = "") -> str:
        """Where the browser is sent to sign in."""
        answer = self.get(f"/sign-in{query}")
        assert answer.status == 303, answer.body
        return str(answer.headers["Location"])

    def come_back(self, address: str) -> Answer:
        parts = urlsplit(address)
        assert parts.port == self.server.port
        return self.get(f"{parts.path}?{parts.query}")

    def sign_in(self, subject: str, query: str = "") -> Answer:
        answer = self.come_back(agree(self.set_off(query), subject))
        assert answer.status == 303, answer.body
        return answer

    def submit(self, **headers: str) -> Answer:
        body = b'{"language": "python", "source": "print(1)"}'
        return self.request("POST", f"{API}/submissions", body, **headers)


def agree(address: str, subject: str) -> str:
    """A person names themselves at the provider; where the browser is sent then."""
    parts = urlsplit(address)
    connection = HTTPConnection("127.0.0.1", parts.port or 0, timeout=60)
    head = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", f"{parts.path}?{parts.query}", urlencode({"sub": subject}), head)
    response = connection.getresponse()
    response.read()
    assert response.status == 302, response.status
    found = response.headers["Location"]
    connection.close()
    return str(found)


def parameters(address: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}
