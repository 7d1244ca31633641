"""The provider at which people sign in: OpenID Connect's authorization code with PKCE.

What the provider says is input. Its answers have a size and a time. Its addresses and its keys are fetched
when they are needed, the keys again when a token is signed with one that is not known.
"""

import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import structlog
import trio
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from occd.accounts import is_safe_address, owner_of_person
from occd.config import Config
from occd.errors import ConfigError, ProviderAway, Rejected
from occd.rules import Broken
from occd.settings import check_readable, read_password
from occd.web.people import Person
from occd.web.turns import Turns

log = structlog.get_logger()

CALLBACK = "/sign-in/callback"

_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""Signatures that only the provider can make."""

_CODES = frozenset(
    {"invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "unauthorized_client"}
)
"""What a provider says of a code, or of us, that is worth a word in the log."""

_TOKEN = re.compile("[!-~]+")
"""An access token that a header can have."""

_UNREADABLE = (ValueError, TypeError, RecursionError)
"""What is raised for JSON that is none, for values of another type, and for what is nested too deeply."""

_PATIENCE_S = 10.0
_BYTES_MAX = 2**19
_KNOWN_S = 3600.0
_AT_ONCE = 32
_CLOCKS_S = 60
"""How far the provider's clock may be from ours."""
_NAME_MAX = 100
_GROUPS_MAX = 1000


class _Unfit(Exception):
    """What the provider answers is nothing that a provider answers. The words are ours."""


class _Bounded(httpx2.AsyncHTTPTransport):
    """Ends an answer that is too large, and one that could become so when it is unpacked."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            await response.aclose()
            raise _Unfit("the answer is compressed")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _BoundedStream(response.stream)
        return response


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # To the end, which the time of the call bounds: httpx2 cleans up after no reader who stops earlier.
        size = 0
        async for piece in self._stream:
            size += len(piece)
            if size <= _BYTES_MAX:
                yield piece
        if size > _BYTES_MAX:
            raise _Unfit("the answer is too large")

    async def aclose(self) -> None:
        await self._stream.aclose()


class Provider:
    def __init__(self, config: Config) -> None:
        """Raises ConfigError for files that cannot be read."""
        assert config.accounts
        assert config.accounts.oidc
        self._oidc = oidc = config.accounts.oidc
        secret, verify = oidc.client_secret_file, oidc.ca_file
        self._secret = read_password(secret, "accounts.oidc.client_secret_file") if secret else None
        if secret and not self._secret:
            raise ConfigError(
                f"accounts.oidc.client_secret_file: {secret} is empty; without a secret leave the setting out"
            )
        if verify:
            check_readable(verify, "accounts.oidc.ca_file")
        self._transport = _Bounded(
            verify=ssl.create_default_context(cafile=str(verify)) if verify else True
        )
        self._redirect_uri = f"{config.http.public_url}{CALLBACK}"
        self._turns = Turns(_AT_ONCE)
        self._metadata: dict[str, Any] = {}
        self._metadata_at = -_KNOWN_S
        self._keys = KeySet([])
        self._keys_at = -_KNOWN_S
        self._fetching = trio.Lock()

    async def address(self, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes to sign in. Raises ProviderAway."""
        async with self._asking():
            metadata = await self._known()
        address, _ = self._client(metadata).create_authorization_url(
            metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
        )
        return str(address)

    async def person(self, code: str, nonce: str, verifier: str, client: str) -> Person:
        """Whom the provider means by a code that this client brought. Raises ProviderAway, or Rejected when
        the provider or we refuse the code, the token, or the person."""
        async with self._asking(), self._turns.of(client):
            metadata = await self._known()
            token = await self._token(metadata, code, verifier)
            claims = await self._claims(metadata, token, nonce)
            if self._oidc.claim not in claims:
                claims |= await self._userinfo(metadata, token, claims["sub"])
        return self._person(claims)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """While the provider is asked. Errors of the connection become ProviderAway."""
        try:
            with trio.fail_after(_PATIENCE_S):  # noqa: ASYNC100  (the caller has checkpoints)
                yield
        except (_Unfit, trio.TooSlowError, httpx2.HTTPError, OSError, UnicodeError) as error:
            # A name such as a..b, which no host can have, is a UnicodeError.
            log.warning("the provider does not answer", reason=_kind(error))
            raise ProviderAway("the provider at which people sign in does not answer") from None

    def _client(self, metadata: Mapping[str, Any]) -> Any:
        """Made anew each time, because it keeps the token of whom it asked for."""
        given = metadata.get("token_endpoint_auth_methods_supported")
        methods = given if isinstance(given, list) else []
        post = "client_secret_post" in methods and "client_secret_basic" not in methods
        method = "client_secret_post" if post else "client_secret_basic"
        return AsyncOAuth2Client(
            self._oidc.client_id,
            self._secret,
            token_endpoint_auth_method=method if self._secret else "none",
            scope=" ".join(dict.fromkeys(("openid", *self._oidc.scopes))),
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            transport=self._transport,
            timeout=_PATIENCE_S,
            follow_redirects=False,
        )

    async def _known(self) -> Mapping[str, Any]:
        async with self._fetching:
            if trio.current_time() >= self._metadata_at + _KNOWN_S:
                issuer = self._oidc.issuer
                found = await self._get(
                    f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
                )
                if (named := found.get("issuer")) != issuer:
                    raise _Unfit(
                        f"the provider names another issuer: {ascii(named)[:200]}; a slash at the end counts"
                    )
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                    if not is_safe_address(str(found.get(name))):
                        raise _Unfit(f"the provider names no {name} that begins with https")
                self._metadata, self._metadata_at = found, trio.current_time()
            return self._metadata

    async def _keys_of(self, metadata: Mapping[str, Any], newer_than: float) -> KeySet:
        async with self._fetching:
            if self._keys_at <= newer_than:
                found = await self._get(metadata["jwks_uri"])
                self._keys, self._keys_at = _key_set(found), trio.current_time()
            return self._keys

    async def _get(self, address: str, token: str | None = None) -> dict[str, Any]:
        """An object in JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx2.AsyncClient(transport=self._transport, timeout=_PATIENCE_S)
        response = await client.get(address, headers=headers, follow_redirects=False)
        if response.status_code != 200:
            raise _Unfit(f"the provider answers {response.status_code}")
        try:
            found = response.json()
        except _UNREADABLE:
            found = None
        if not isinstance(found, dict):
            raise _Unfit("the provider's answer is not an object in JSON")
        return found

    async def _token(self, metadata: Mapping[str, Any], code: str, verifier: str) -> Any:
        try:
            token = await self._client(metadata).fetch_token(
                metadata["token_endpoint"],
                grant_type="authorization_code",
                code=code,
                code_verifier=verifier,
                redirect_uri=self._redirect_uri,
            )
        except (AuthlibBaseError, *_UNREADABLE) as error:
            raise self._refused(f"the provider refused the code: {_kind(error)}") from None
        if not isinstance(token.get("id_token"), str):
            raise self._refused("the provider gave no token of the person")
        return token

    async def _claims(
        self, metadata: Mapping[str, Any], token: Mapping[str, Any], nonce: str
    ) -> dict[str, Any]:
        now = trio.current_time()
        keys = await self._keys_of(metadata, now - _KNOWN_S)
        try:
            try:
                decoded = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS)
            except (InvalidKeyIdError, BadSignatureError):
                # The provider has new keys. Nobody can make us ask for them but the provider.
                keys = await self._keys_of(metadata, now)
                decoded = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS)
            required = {
                "iss": {"essential": True, "value": self._oidc.issuer},
                "aud": {"essential": True, "value": self._oidc.client_id},
            }
            known = {
                "nonce": nonce,
                "client_id": self._oidc.client_id,
                "access_token": token.get("access_token"),
            }
            claims = CodeIDToken(decoded.claims, decoded.header, required, known)
            claims.validate(now=int(time.time()), leeway=_CLOCKS_S)
        except (JoseError, *_UNREADABLE) as error:
            raise self._refused(f"the provider's token is not valid: {_kind(error)}") from None
        return dict(claims)

    async def _userinfo(
        self, metadata: Mapping[str, Any], token: Mapping[str, Any], subject: object
    ) -> dict[str, Any]:
        """What the token does not say, if the provider says it elsewhere."""
        address, access = metadata.get("userinfo_endpoint"), token.get("access_token")
        if not (isinstance(access, str) and _TOKEN.fullmatch(access)):
            return {}
        if not is_safe_address(str(address)):
            return {}
        found = await self._get(str(address), access)
        if found.get("sub") != subject:
            raise self._refused("the provider tells of another person")
        return found

    def _person(self, claims: Mapping[str, Any]) -> Person:
        subject = claims["sub"]
        try:
            if not isinstance(subject, str) or not 0 < len(subject) <= 255:
                raise Broken("must have 1 to 255 characters")
            owner = owner_of_person(self._oidc.issuer, subject)
        except Broken:
            raise self._refused(
                "the provider names you in a way that this server cannot keep: it takes up to 255 characters "
                "of ASCII, without spaces and braces"
            ) from None
        names = (claims.get(name) for name in ("name", "preferred_username", "email"))
        name = next((each for each in names if isinstance(each, str) and each.strip()), subject)
        shown = "".join(each for each in name.strip() if each.isprintable())[:_NAME_MAX]
        value = claims.get(self._oidc.claim, ())
        values = (value,) if isinstance(value, str) else value
        groups = [each for each in values if isinstance(each, str)] if _is_list(values) else []
        return Person(owner, shown or subject, tuple(groups[:_GROUPS_MAX]))

    def _refused(self, reason: str) -> Rejected:
        log.warning("a sign-in was refused", reason=reason)
        return Rejected("sign-in-refused", reason)


def _is_list(values: object) -> bool:
    return isinstance(values, list | tuple)


def _key_set(found: dict[str, Any]) -> KeySet:
    """The keys that sign. One that we do not understand is left out."""
    keys = []
    given = found.get("keys")
    for each in given if isinstance(given, list) else []:
        if isinstance(each, dict) and each.get("use", "sig") == "sig" and each.get("kty") != "oct":
            try:
                keys += KeySet.import_key_set({"keys": [each]}).keys
            except (JoseError, KeyError, *_UNREADABLE):
                continue
    if not keys:
        raise _Unfit("the provider has no keys that are known here")
    return KeySet(keys)


def _kind(error: BaseException) -> str:
    """What went wrong, without a word of the provider's, which may repeat what it was sent."""
    if isinstance(error, _Unfit):
        return str(error)
    if isinstance(error, AuthlibBaseError) and str(error.error) in _CODES:
        return str(error.error)
    claim = getattr(error, "claim", None)
    return f"{type(error).__name__} {claim}" if isinstance(claim, str) else type(error).__name__
