"""Signing in and out: `GET /sign-in` sends the browser to the provider, which sends it back to
`GET /sign-in/callback`.

The cookie of a login is all that is kept of the login: strangers who set off and never come back cost nothing
and crowd nobody out. The cookie shows that the browser that comes back is the one that went. `state`, nonce
and verifier follow from the cookie, which nobody can find out from them. The provider takes a code once.
Whatever else comes along decides nothing, and is never shown.
"""

import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import structlog
from quart import Blueprint, Response, request

from occd.config import Config
from occd.errors import OccdError, Rejected
from occd.web.access import Access, Call, peer_of
from occd.web.address import client_network, share_of
from occd.web.pages import Pages
from occd.web.people import People, Person
from occd.web.problems import problem_of
from occd.web.query import check_parameters

log = structlog.get_logger()

LOGIN_S = 600.0
"""How long a person may take at the provider."""

_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}\.([0-9]{1,12})\.((?:[0-9a-f]{2}){1,501})")
"""A secret, when the login ends as a Unix time in seconds, and where the person goes then, in hexadecimal."""

_NEXT = re.compile(r"/(?!/|sign-in)[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}")
"""An address below `public_url`."""


@dataclass(frozen=True, slots=True)
class Login:
    """A person who was sent to the provider, as the cookie says."""

    cookie: str
    next: str

    @property
    def state(self) -> str:
        return self._made("state")

    @property
    def nonce(self) -> str:
        return self._made("nonce")

    @property
    def verifier(self) -> str:
        return self._made("verifier")

    def _made(self, what: str) -> str:
        digest = sha256(f"{what} {self.cookie}".encode()).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")


def begun(then: str) -> Login:
    ends_at = int(time.time() + LOGIN_S)
    return Login(f"{secrets.token_urlsafe(32)}.{ends_at}.{then.encode().hex()}", then)


def told_by(cookie: str) -> Login | None:
    """None when the login has ended, or was none."""
    if (parts := _COOKIE.fullmatch(cookie)) is None or int(parts[1]) <= time.time():
        return None
    then = bytes.fromhex(parts[2]).decode(errors="replace")  # a neighbour may have set the cookie
    return Login(cookie, then) if _NEXT.fullmatch(then) else None


class SignInService(Protocol):
    """The provider."""

    async def address(self, state: str, nonce: str, verifier: str) -> str: ...

    async def person(self, code: str, nonce: str, verifier: str, client: str) -> Person: ...


def sign_in_routes(
    config: Config, provider: SignInService, people: People, pages: Pages
) -> Blueprint:
    routes = Blueprint("sign_in", __name__)
    assert config.accounts
    assert config.accounts.oidc
    home, issuer, cookies = (
        config.http.public_url or "",
        config.accounts.oidc.issuer,
        people.cookies,
    )

    async def told(answer: Callable[[], Awaitable[Response]]) -> Response:
        """A person reads a page, and a program a problem."""
        try:
            return await answer()
        except OccdError as error:
            problem = problem_of(error)
            if (
                request.accept_mimetypes.best_match(("application/problem+json", "text/html"))
                != "text/html"
            ):
                return problem.response()
            response = pages.page(
                "signin.html",
                problem.status,
                _root(),
                problem=problem,
                sign_in=sign_in_address(config),
            )
            if problem.retry_after:
                response.headers["Retry-After"] = str(problem.retry_after)
            return response

    @routes.get("/sign-in")
    async def sign_in() -> Response:
        return await told(_begin)

    async def _begin() -> Response:
        check_parameters(request.args, ("next",))
        then = request.args.get("next", "/")
        if not _NEXT.fullmatch(then):
            raise Rejected("bad-request", "next must be a path of this server, as in /")
        login = begun(then)
        address = await provider.address(login.state, login.nonce, login.verifier)
        response = Response(b"", 303, {"Location": address})
        cookies.write(response, cookies.login, login.cookie, LOGIN_S)
        return response

    @routes.get("/sign-in/callback")
    async def callback() -> Response:
        return await told(_finish)

    async def _finish() -> Response:
        given, cookie = request.args, cookies.read(request.headers, cookies.login)
        login = told_by(cookie) if cookie else None
        if login is None or given.get("state") != login.state:
            raise Rejected(
                "sign-in-expired",
                "a sign-in has ten minutes, and ends in the browser in which it began: sign in again",
            )
        if given.get("iss", issuer) != issuer:
            raise Rejected("sign-in-refused", "another provider has answered")
        if (code := given.get("code")) is None:
            raise Rejected(
                "sign-in-cancelled", "the provider did not let you in, or you stopped there"
            )
        forwarded = request.headers.getlist("X-Forwarded-For")
        address = client_network(peer_of(request.scope), forwarded, config.trusted_proxies)
        person = await provider.person(code, login.nonce, login.verifier, share_of(address))
        response = Response(b"", 303, {"Location": home + login.next})
        principal = await people.sign_in(person, request.headers, response)
        cookies.forget(response, cookies.login)
        log.info(
            "a person signed in",
            owner=person.owner,
            class_name=principal.class_name,
            scopes=",".join(sorted(principal.scopes)),
            values_of_claim=len(person.groups),  # none where the claim has another name
        )
        return response

    return routes


def sign_out_routes(access: Access, people: People) -> Blueprint:
    routes = Blueprint("sign_out", __name__)
    access.guard(routes, {"sign_out.sign_out": Call()})

    @routes.post("/sign-out")
    async def sign_out() -> Response:
        response = Response("", 204)
        await people.sign_out(request.headers, response)
        return response

    return routes


def sign_in_address(config: Config) -> str:
    """Whole, because a page that was opened at another name of the server would lose the login's cookie."""
    return f"{config.http.public_url}/sign-in"


def _root() -> str:
    """From this page's address to the editor's."""
    return "../" if request.path.endswith("/callback") else "./"
