"""What occd believes of a provider, asked of a real one that can be told to answer falsely."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from people import CLIENT_SECRET, accounts, agree, parameters
from provider import Provider as Process
from provider import providing
from structlog.testing import capture_logs

from occd.config import Config
from occd.errors import ConfigError, ProviderAway, Rejected
from occd.web.oidc import Provider
from occd.web.people import Person

REDIRECT = "http://127.0.0.1:1/sign-in/callback"


@pytest.fixture(scope="module")
def its_process() -> Iterator[Process]:
    with providing() as process:
        yield process


@pytest.fixture
def process(its_process: Process) -> Process:
    its_process.tell()
    its_process.person("ada", name="Ada", groups=["staff"])
    return its_process


@pytest.fixture
def provider(process: Process, tmp_path: Path) -> Provider:
    return Provider(config(process, tmp_path))


def config(process: Process, folder: Path, **oidc: str) -> Config:
    given = accounts(process, folder, **oidc)
    return Config.model_validate({"accounts": given, "http": {"public_url": "http://127.0.0.1:1"}})


async def code_of(provider: Provider, subject: str = "ada") -> str:
    address = await provider.address("the-state", "the-nonce", "v" * 43)
    came = await trio.to_thread.run_sync(agree, address, subject)
    return parameters(came)["code"]


async def person_of(provider: Provider, subject: str = "ada") -> Person:
    return await provider.person(await code_of(provider, subject), "the-nonce", "v" * 43, "a")


async def test_a_person_has_an_owner_a_name_and_groups(
    process: Process, provider: Provider
) -> None:
    assert await person_of(provider) == Person(f"oidc:{process.issuer}#ada", "Ada", ("staff",))


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"name": "Ada Lövelace"}, "Ada Lövelace"),
        ({"name": " ", "preferred_username": "ada1815"}, "ada1815"),
        ({"email": "ada@example.org"}, "somebody"),  # no scope was asked for it
        ({}, "somebody"),
        ({"name": 7}, "somebody"),
        ({"name": "A\u202ed\x1b[0ma\n"}, "Ad[0ma"),
        ({"name": "x" * 200}, "x" * 100),
        ({"name": "\u200b"}, "somebody"),
    ],
    ids=str,
)
async def test_a_name_is_short_and_can_be_shown(
    claims: dict[str, object], name: str, process: Process, provider: Provider
) -> None:
    process.person("somebody", **claims)
    assert (await person_of(provider, "somebody")).name == name


@pytest.mark.parametrize(
    ("given", "groups"),
    [
        (["a", "b"], ("a", "b")),
        ("a", ("a",)),
        (None, ()),
        (7, ()),
        ({"a": 1}, ()),
        (["a", 7, None, ["b"], "c"], ("a", "c")),
    ],
    ids=str,
)
async def test_the_claim_is_a_text_or_texts(
    given: object, groups: tuple[str, ...], process: Process, provider: Provider
) -> None:
    process.person("somebody", groups=given)
    assert (await person_of(provider, "somebody")).groups == groups


async def test_the_secret_goes_to_the_providers_token_endpoint_alone(
    process: Process, provider: Provider
) -> None:
    before = len(process.asked())
    await person_of(provider)
    asked = process.asked()[before:]
    assert [each["path"] for each in asked if each["authorization"]] == ["/oauth2/token"]
    assert CLIENT_SECRET not in json.dumps(asked)


async def test_new_keys_of_the_provider_are_found(process: Process, provider: Provider) -> None:
    await person_of(provider)
    process.tell(rotate=True)
    assert (await person_of(provider)).name == "Ada"
    # Whoever has the old keys is not believed any more.
    process.tell(token={"forged": True})
    with pytest.raises(Rejected):
        await person_of(provider)


async def test_a_claim_that_only_userinfo_has_is_found(
    process: Process, provider: Provider
) -> None:
    process.tell(token={"claims": {"groups": None}}, userinfo={"groups": ["ops"]})
    assert (await person_of(provider)).groups == ("ops",)
    process.tell(token={"claims": {"groups": None}}, userinfo={"groups": ["ops"], "sub": "root"})
    with pytest.raises(Rejected, match="another person"):
        await person_of(provider)


BAD_ANSWERS: dict[str, dict[str, Any]] = {
    "an error": {"body": "x", "status": 500},
    "not found": {"body": "x", "status": 404},
    "no JSON": {"body": "<html>"},
    "no object": {"body": "[1]"},
    "empty": {"body": ""},
    "too long": {"body": "x" * 1000, "times": 10_000},
    "a long number": {"body": "1" * 1000, "times": 100},
    "deep": {"body": "[" * 1000, "times": 100},
    "elsewhere": {"body": "", "status": 302, "headers": {"Location": "http://127.0.0.1:1/"}},
    "packed": {"body": "x", "headers": {"Content-Encoding": "gzip"}},
}


@pytest.mark.parametrize("answer", BAD_ANSWERS)
@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks", "/userinfo"])
async def test_what_is_no_answer_is_no_answer(
    path: str, answer: str, process: Process, provider: Provider
) -> None:
    no_groups = {"claims": {"groups": None}}
    process.tell(answer={path: BAD_ANSWERS[answer]}, token=no_groups)
    with pytest.raises(ProviderAway):
        await person_of(provider)
    process.tell()
    assert (await person_of(provider)).name == "Ada"


@pytest.mark.parametrize("answer", [*BAD_ANSWERS, "odd tokens"])
async def test_what_is_no_token_is_no_token(
    answer: str, process: Process, provider: Provider
) -> None:
    odd = {"body": '{"id_token": {"a": [1]}, "expires_in": "x", "access_token": 7}'}
    code = await code_of(provider)
    process.tell(answer={"/oauth2/token": BAD_ANSWERS.get(answer, odd)})
    with pytest.raises((ProviderAway, Rejected)):
        await provider.person(code, "the-nonce", "v" * 43, "a")


@pytest.mark.parametrize(
    "said",
    [
        {"error": {}},
        {"error": ["invalid_grant"], "error_description": 7},
        {"access_token": "\u00fc", "token_type": "Bearer"},
        {"access_token": "\ud800", "token_type": "Bearer"},
        {"access_token": "a\r\nX: y", "token_type": "Bearer"},
    ],
    ids=str,
)
async def test_a_strange_token_is_refused_or_left_out(
    said: dict[str, object], process: Process, provider: Provider
) -> None:
    """Userinfo is asked with the access token, because the token of the person lacks the claim."""
    process.tell(token={"claims": {"groups": None}}, said=said)
    try:
        assert (await person_of(provider)).groups == ()
    except Rejected as error:
        assert error.kind == "sign-in-refused"  # noqa: PT017


@pytest.mark.parametrize("methods", [7, True, {}, "client_secret_post", [7]], ids=str)
async def test_strange_methods_are_left_out(
    methods: object, process: Process, provider: Provider
) -> None:
    process.tell(metadata={"token_endpoint_auth_methods_supported": methods})
    assert (await person_of(provider)).name == "Ada"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"authorization_endpoint": "http://evil.example/"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": "http://evil.example/"},
        {"token_endpoint": 7},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": "https://["},
        {"jwks_uri": "https://127.0.0.1:port/"},
        {"jwks_uri": "https://127.0.0.1:70000/"},
        {"jwks_uri": "https://evil.example/\ud800"},
        {"jwks_uri": "https://evil.example/" + "x" * 70_000},
        {"authorization_endpoint": "https://evil.example/\r\nX: y"},
        {"token_endpoint": "https://evil.example/\0"},
    ],
    ids=lambda given: str(given)[:60],
)
async def test_a_provider_that_names_wrong_addresses_is_not_asked(
    metadata: dict[str, object], process: Process, provider: Provider
) -> None:
    issuer = process.issuer
    right = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth2/authorize",
        "token_endpoint": f"{issuer}/oauth2/token",
        "jwks_uri": f"{issuer}/jwks",
    }
    path = "/.well-known/openid-configuration"
    process.tell(answer={path: {"body": json.dumps(right | metadata)}})
    with pytest.raises(ProviderAway):
        await provider.address("s", "n", "v" * 43)
    process.tell(answer={path: {"body": json.dumps(right)}})
    await provider.address("s", "n", "v" * 43)


@pytest.mark.parametrize("name", ["jwks_uri", "userinfo_endpoint"])
async def test_a_host_that_cannot_be_is_away(
    name: str, process: Process, provider: Provider
) -> None:
    code = await code_of(provider)
    told = {"metadata": {name: "https://a..b/"}, "token": {"claims": {"groups": None}}}
    process.tell(**told)
    provider._metadata_at = -math.inf
    with pytest.raises(ProviderAway):
        await provider.person(code, "the-nonce", "v" * 43, "a")


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [{"kty": "oct", "k": "c2VjcmV0"}],
        [{"kty": "RSA"}],
        [7],
        "x",
        [{"kty": "RSA", "n": "x", "e": "AQAB", "use": "enc"}],
    ],
    ids=str,
)
async def test_keys_that_are_none_are_left_out(
    keys: object, process: Process, provider: Provider
) -> None:
    process.tell(answer={"/jwks": {"body": json.dumps({"keys": keys})}})
    with pytest.raises(ProviderAway):
        await person_of(provider)


async def test_codes_of_one_client_do_not_keep_out_another(
    process: Process, provider: Provider
) -> None:
    """A hundred of one, which the provider will refuse, come before one of another."""
    codes = [f"junk-{number}" for number in range(100)]
    right = await code_of(provider)

    async def bring(code: str) -> None:
        with pytest.raises(Rejected):
            await provider.person(code, "the-nonce", "w" * 43, "a stranger")

    process.stop()
    async with trio.open_nursery() as nursery:
        for code in codes:
            nursery.start_soon(bring, code)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(provider.person, right, "the-nonce", "v" * 43, "somebody")
        await trio.testing.wait_all_tasks_blocked()
        process.go_on()
    brought = [each.get("code") for each in process.asked()]
    asked = [code for code in brought if code in (*codes, right)]
    assert asked.index(right) < 50
    assert provider._turns._of == {}


async def test_a_provider_that_hangs_does_not_hold_anybody(
    process: Process, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await code_of(provider)
    monkeypatch.setattr("occd.web.oidc._PATIENCE_S", 0.5)
    process.stop()
    try:
        with trio.fail_after(30), pytest.raises(ProviderAway):
            await provider.person(code, "the-nonce", "v" * 43, "a")
    finally:
        process.go_on()


async def test_a_provider_that_is_not_there_is_away(tmp_path: Path) -> None:
    with providing() as process:
        provider = Provider(config(process, tmp_path))
    with pytest.raises(ProviderAway):
        await provider.address("s", "n", "v" * 43)


@pytest.mark.parametrize("name", ["client_secret_file", "ca_file"])
def test_a_file_that_is_not_there_is_named(name: str, process: Process, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"accounts\.oidc\.{name}: there is no file"):
        Provider(config(process, tmp_path, **{name: str(tmp_path / "absent")}))


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_secret_is_refused(text: str, process: Process, tmp_path: Path) -> None:
    secret = tmp_path / "empty"
    secret.write_text(text)
    with pytest.raises(ConfigError, match=r"accounts\.oidc\.client_secret_file: .* is empty"):
        Provider(config(process, tmp_path, client_secret_file=str(secret)))


async def test_the_log_tells_the_issuer_that_the_provider_names(
    process: Process, tmp_path: Path
) -> None:
    """A slash at its end is easily forgotten."""
    provider = Provider(config(process, tmp_path, issuer=f"{process.issuer}/"))
    with capture_logs() as logged, pytest.raises(ProviderAway):
        await provider.address("s", "n", "v" * 43)
    assert repr(process.issuer) in logged[-1]["reason"]
