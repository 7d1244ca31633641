"""People sign in at a real provider, and only they are who they say they are."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trio
from in_process import edge
from people import CLIENT_SECRET, Browser, accounts, agree, parameters, signing_in
from provider import Provider, providing
from redis_server import RedisServer, free_port, redis_server
from serving import API, PATIENCE_S, Answer, Client, Server, connected, serving
from trio_websocket import ConnectionClosed

from occd.sessions import ROTATE_S, SESSIONS_MAX, Session
from occd.sqlite import Database
from occd.web.signin import Login


@pytest.fixture(scope="module")
def its_process() -> Iterator[Provider]:
    with providing() as provider:
        yield provider


@pytest.fixture
def provider(its_process: Provider) -> Provider:
    its_process.tell()
    its_process.person("ada", name="Ada Lovelace", groups=["staff", "other"])
    its_process.person("root", name="Root", groups=["ops"])
    its_process.person("sam", groups=[])
    return its_process


@pytest.fixture(scope="module")
def server(its_process: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("people")
    with signing_in(folder / "data", accounts(its_process, folder)) as server:
        yield server


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server)


def problem(answer: Answer) -> str:
    return str(answer.json()["type"])


def test_a_person_signs_in_and_out(provider: Provider, browser: Browser) -> None:
    assert browser.submit().status == 401
    answer = browser.sign_in("ada")
    assert answer.headers["Location"] == f"{browser.origin}/"
    assert list(browser.cookies) == ["occd_session"]
    attributes = browser.attributes["occd_session"].split("; ")
    assert {"HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=43200"} <= set(attributes)
    assert browser.submit().status == 202
    before = browser.cookie
    assert browser.request("POST", f"{API}/sign-out").status == 204
    assert browser.cookies == {}
    assert browser.submit().status == 401
    again = browser.submit(Cookie=before)
    assert (again.status, problem(again)) == (401, "signed-out")


def test_what_a_person_submits_is_theirs_in_every_browser(
    provider: Provider, server: Server
) -> None:
    one, other, somebody = Browser(server), Browser(server), Browser(server)
    one.sign_in("ada")
    other.sign_in("ada")
    somebody.sign_in("sam")
    id = one.submit().json()["id"]
    assert other.get(f"{API}/submissions/{id}").status == 200
    assert somebody.get(f"{API}/submissions/{id}").status == 404
    assert other.get(f"{API}/submissions").json()["submissions"][0]["id"] == id


def test_an_administrator_sees_everything(provider: Provider, server: Server) -> None:
    one, admin = Browser(server), Browser(server)
    one.sign_in("ada")
    admin.sign_in("root")
    id = one.submit().json()["id"]
    assert admin.get(f"{API}/submissions/{id}").status == 200


def test_the_browser_is_sent_to_the_provider_with_pkce_state_and_nonce(
    provider: Provider, browser: Browser
) -> None:
    one, other = (parameters(browser.set_off()) for _ in range(2))
    assert one["redirect_uri"] == f"{browser.origin}/sign-in/callback"
    assert one["response_type"] == "code"
    assert one["client_id"] == "occd"
    assert one["scope"] == "openid profile"
    assert one["code_challenge_method"] == "S256"
    for name in ("state", "nonce", "code_challenge"):
        assert len(one[name]) >= 43
        assert one[name] != other[name]


def test_the_address_to_come_back_to_is_the_configurations(
    provider: Provider, browser: Browser
) -> None:
    """Whatever a request says of the host."""
    answer = browser.get(
        "/sign-in", Host="localhost", X_Forwarded_Host="evil.example", X_Forwarded_Proto="https"
    )
    sent = parameters(answer.headers["Location"])
    assert sent["redirect_uri"] == f"{browser.origin}/sign-in/callback"


@pytest.mark.parametrize("then", ["/", "/?x=1", "/sub/page", "/a%20b"])
def test_a_person_comes_back_to_where_they_were(
    then: str, provider: Provider, browser: Browser
) -> None:
    answer = browser.sign_in("ada", "?" + urlencode({"next": then}))
    assert answer.headers["Location"] == browser.origin + then


@pytest.mark.parametrize(
    "then",
    [
        "",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "evil.example",
        "@evil.example",
        ".evil.example",
        ":80/",
        "/\t/evil.example",
        "\t//evil.example",
        "/\r\nLocation: https://evil.example",
        "/\0",
        "/sign-in",
        "/sign-in?next=/sign-in",
        "/" + "x" * 600,
        "/ü",
    ],
)
def test_nobody_is_sent_elsewhere(then: str, provider: Provider, browser: Browser) -> None:
    answer = browser.get("/sign-in?" + urlencode({"next": then}))
    assert (answer.status, problem(answer)) == (400, "bad-request")
    assert browser.cookies == {}


def test_an_address_twice_is_refused(browser: Browser) -> None:
    assert browser.get("/sign-in?next=/&next=//evil.example").status == 400


# what comes back is compared with what went out


def test_a_wrong_state_signs_nobody_in(provider: Provider, browser: Browser) -> None:
    came = agree(browser.set_off(), "ada")
    code, state = parameters(came)["code"], parameters(came)["state"]
    for query in (
        {"code": code, "state": state[:-1] + "_"},
        {"code": code, "state": ""},
        {"code": code},
        {"state": "x"},
        {},
    ):
        answer = browser.come_back(f"{browser.origin}/sign-in/callback?{urlencode(query)}")
        assert (answer.status, problem(answer)) == (400, "sign-in-expired")
        assert "occd_session" not in browser.cookies
    assert browser.come_back(came).status == 303


def test_a_login_is_used_once(provider: Provider, browser: Browser) -> None:
    """The browser forgets it, and the provider takes its code once."""
    came = agree(browser.set_off(), "ada")
    login = browser.cookie
    assert browser.come_back(came).status == 303
    assert problem(browser.come_back(came)) == "sign-in-expired"
    path = came.removeprefix(browser.origin)
    again = Browser(browser.server).get(path, Cookie=login)
    assert (again.status, problem(again)) == (403, "sign-in-refused")


def test_a_login_that_somebody_else_has_made_signs_nobody_in(server: Server) -> None:
    """Who can set the cookie knows the state that follows from it."""
    begins, later = f"{'s' * 43}.", f"{'s' * 43}.{int(time.time()) + 60}."
    elsewhere = [
        later + then.encode().hex() for then in ("//evil", "@evil", "/sign-in", "/\r\nX: y")
    ]
    broken = [begins, later, f"{later}2", f"{later}2g", f"{later}ff", f"{begins}x.2f", "."]
    for cookie in (*elsewhere, *broken, f"{begins}{int(time.time()) - 1}.2f"):
        state = Login(cookie, "/").state
        answer = server.get(
            f"/sign-in/callback?state={state}&code=x", Cookie=f"occd_login={cookie}"
        )
        assert (answer.status, problem(answer)) == (400, "sign-in-expired")


async def test_nothing_is_kept_of_strangers_who_set_off_and_never_come_back(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = accounts(provider, tmp_path)
    async with edge(tmp_path / "data", given, public_url="http://127.0.0.1:1") as found:
        head = b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n"
        written: list[object] = []
        monkeypatch.setattr(Database, "write", written.append)
        assert (await found.exchange(head)).startswith(b"HTTP/1.1 303")
        assert not written


def test_an_attackers_login_does_not_become_a_victims(provider: Provider, server: Server) -> None:
    """Login CSRF: the victim is sent to the attacker's callback, and would work in the attacker's name."""
    attacker, victim = Browser(server), Browser(server)
    came = agree(attacker.set_off(), "sam")
    answer = victim.come_back(came)
    assert (answer.status, problem(answer)) == (400, "sign-in-expired")
    victim.set_off()  # has a cookie of a login of its own
    answer = victim.come_back(agree(attacker.set_off(), "sam"))
    assert (answer.status, problem(answer)) == (400, "sign-in-expired")
    assert "occd_session" not in victim.cookies


def test_a_planted_session_becomes_nobodys(provider: Provider, server: Server) -> None:
    """Session fixation: a session begins with a secret that nobody knew before."""
    attacker, victim = Browser(server), Browser(server)
    attacker.sign_in("sam")
    planted = attacker.cookies["occd_session"]
    victim.cookies["occd_session"] = planted
    victim.sign_in("ada")
    assert victim.cookies["occd_session"] != planted
    assert attacker.submit().status == 401  # what a browser brings along ends
    made_up = Browser(server, {"occd_session": "0" * 32 + "." + "0" * 16 + "." + "A" * 43})
    assert made_up.submit().status == 401
    made_up.sign_in("ada")
    assert "A" * 43 not in made_up.cookies["occd_session"]


@pytest.mark.parametrize(
    "cookie",
    [
        "occd_session=",
        "occd_session=x",
        "occd_session=.",
        "occd_session=..",
        "occd_session=" + "x" * 5000,
        "occd_session=a.b.c; occd_session=d.e.f",
        'occd_session="a.b.c"',
        "occd_session=%00.%00.%00",
        "occd_session={a}.b.c",
        "=; ;;; occd_session",
        "\xff\xfe",
    ],
)
def test_a_cookie_that_is_none_is_nobodys(cookie: str, server: Server) -> None:
    answer = Browser(server).submit(Cookie=cookie)
    assert answer.status == 401
    assert Browser(server).get("/", Cookie=cookie).status == 200


def test_whoever_comes_with_a_strange_cookie_does_not_become_nobody(
    its_process: Provider, provider: Provider, tmp_path: Path
) -> None:
    """A neighbouring host may have set one of two."""
    open_to_all = accounts(its_process, tmp_path, anonymous={"class": "visitor"})
    with signing_in(tmp_path / "data", open_to_all) as server:
        browser = Browser(server)
        assert browser.submit(Cookie="occd_session=").status == 202
        browser.sign_in("ada")
        for cookie in (
            f"occd_session=a.b.c; {browser.cookie}",
            "occd_session={a}",
            "occd_session=x",
        ):
            answer = browser.submit(Cookie=cookie)
            assert (answer.status, problem(answer)) == (401, "signed-out")
            assert problem(browser.get(f"{API}/me", Cookie=cookie)) == "signed-out"
            assert browser.request("POST", f"{API}/sign-out", Cookie=cookie).status == 204


@pytest.mark.parametrize(
    "token",
    [
        {"later_s": -7200},
        {"claims": {"nonce": "another"}},
        {"claims": {"nonce": None}},
        {"claims": {"aud": "another"}},
        {"claims": {"aud": ["another", "occd"]}},
        {"claims": {"aud": ["another", "occd"], "azp": "another"}},
        {"claims": {"aud": None}},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"iss": None}},
        {"claims": {"sub": None}},
        {"claims": {"sub": 7}},
        {"claims": {"sub": ""}},
        {"claims": {"sub": "x y"}},
        {"claims": {"sub": "{x}"}},
        {"claims": {"sub": "ü"}},
        {"claims": {"sub": "x" * 256}},
        {"claims": {"nbf": 99999999999}},
        {"claims": {"at_hash": "x"}},
        {"forged": True},
        {"alg": "HS256"},
        {"alg": "none"},
        {"header": {"kid": "another"}},
        {"forged": True, "header": {"kid": "another"}},
        {"forged": True, "header": {"jku": "https://evil.example/jwks"}},
        {"none": True},
    ],
    ids=str,
)
def test_a_wrong_token_signs_nobody_in(
    token: dict[str, object], provider: Provider, browser: Browser
) -> None:
    provider.tell(token=token)
    came = agree(browser.set_off(), "ada")
    answer = browser.come_back(came)
    assert (answer.status, problem(answer)) == (403, "sign-in-refused")
    assert "occd_session" not in browser.cookies


def test_a_wrong_code_signs_nobody_in(provider: Provider, browser: Browser) -> None:
    for code in ("wrong", "", "x" * 3000):
        state = parameters(browser.set_off())["state"]
        answer = browser.get(f"/sign-in/callback?{urlencode({'code': code, 'state': state})}")
        assert (answer.status, problem(answer)) == (403, "sign-in-refused")


def test_another_providers_answer_is_refused(provider: Provider, browser: Browser) -> None:
    came = agree(browser.set_off(), "ada")
    answer = browser.come_back(f"{came}&iss=https://evil.example")
    assert (answer.status, problem(answer)) == (403, "sign-in-refused")
    came = agree(browser.set_off(), "ada")
    assert browser.come_back(f"{came}&iss={provider.issuer}").status == 303


def test_who_stops_at_the_provider_is_told_so(provider: Provider, browser: Browser) -> None:
    state = parameters(browser.set_off())["state"]
    said = urlencode({"error": "access_denied", "error_description": "<b>x</b>", "state": state})
    answer = browser.get(f"/sign-in/callback?{said}", Accept="text/html")
    assert answer.status == 403
    assert b"You were not signed in" in answer.body
    assert b"<b>x" not in answer.body
    assert b"access_denied" not in answer.body


# other pages cannot use the cookie


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://127.0.0.1:1",
        "https://127.0.0.1",
        "null",
        "",
    ],
)
def test_a_foreign_page_cannot_use_the_cookie(
    origin: str, provider: Provider, browser: Browser
) -> None:
    browser.sign_in("ada")
    answer = browser.submit(Origin=origin)
    assert (answer.status, problem(answer)) == (403, "forbidden-origin")
    assert browser.request("POST", f"{API}/sign-out", Origin=origin).status == 403
    assert browser.submit().status == 202


def test_only_the_servers_own_page_signs_a_person_out(provider: Provider, browser: Browser) -> None:
    browser.sign_in("ada")
    cookie = browser.cookie
    origins: list[dict[str, str]] = [{}, {"Origin": browser.origin.replace("http:", "https:")}]
    for origin in origins:
        answer = browser.server.request("POST", f"{API}/sign-out", b"", Cookie=cookie, **origin)
        assert (answer.status, problem(answer)) == (403, "forbidden-origin")
        assert "Set-Cookie" not in answer.headers
    assert browser.submit().status == 202
    for _ in range(2):  # also once more
        assert browser.request("POST", f"{API}/sign-out", Cookie=cookie).status == 204
        assert browser.submit(Cookie=cookie).status == 401


def test_a_call_with_the_cookie_names_its_origin(provider: Provider, browser: Browser) -> None:
    """A browser does with every call that changes something."""
    browser.sign_in("ada")
    body = b'{"language": "python", "source": "print(1)"}'
    answer = browser.server.post(body, Cookie=browser.cookie)
    assert (answer.status, problem(answer)) == (403, "forbidden-origin")
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "bKdPyn3u98cTfZJSh4TNeQ==",
    }
    assert browser.get(f"{API}/ws", **upgrade).status == 403
    assert browser.get(f"{API}/ws", **upgrade, Origin="http://127.0.0.1:1").status == 403


def test_a_person_has_at_most_so_many_sessions(provider: Provider, server: Server) -> None:
    browsers = [Browser(server) for _ in range(SESSIONS_MAX + 1)]
    for each in browsers:
        each.sign_in("sam")
    assert [each.get(f"{API}/submissions").status for each in browsers] == [
        401,
        *[200] * SESSIONS_MAX,
    ]


@pytest.fixture(scope="module")
def nodes(
    its_process: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server, RedisServer]]:
    """Two nodes that meet in Redis, and answer for the first one's address."""
    with redis_server() as redis, ExitStack() as stack:
        folder, home = tmp_path_factory.mktemp("nodes"), f"http://127.0.0.1:{free_port()}"
        port = home.rpartition(":")[2]
        key = {"id": "k", "owner": "o", "class": "student", "sha256": sha256(KEY).hexdigest()}
        given = json.dumps(accounts(its_process, folder) | {"keys": [key]})
        one, other = (
            stack.enter_context(
                serving(
                    folder / name,
                    port=port if name == "one" else "0",
                    accounts=given,
                    http__public_url=home,
                    redis__url=redis.url,
                )
            )
            for name in ("one", "other")
        )
        yield one, other, redis


KEY = b"occd_a-key-of-the-configuration"


def test_any_node_finishes_a_login_and_knows_a_session(
    provider: Provider, nodes: tuple[Server, Server, RedisServer]
) -> None:
    browser = Browser(nodes[0])
    came = agree(browser.set_off(), "ada").removeprefix(browser.origin)
    elsewhere = Browser(nodes[1], browser.cookies)
    assert elsewhere.get(came).status == 303
    assert browser.submit().status == 202
    assert browser.submit(Origin="http://127.0.0.1:1").status == 403


async def test_signing_out_ends_what_the_session_holds_open_on_every_node(
    provider: Provider, nodes: tuple[Server, Server, RedisServer]
) -> None:
    browser = Browser(nodes[0])
    await trio.to_thread.run_sync(browser.sign_in, "ada")
    head = {"Cookie": browser.cookie, "Origin": browser.origin}
    async with connected(nodes[1], **head) as client:
        id = await client.submit("import time; time.sleep(60)", interactive=True)
        await client.until(id, "queued")
        await trio.to_thread.run_sync(browser.request, "POST", f"{API}/sign-out")
        began = trio.current_time()
        code, reason = await closing(client)
        assert (code, reason) == (4401, "your sign-in has ended: sign in again, or sign out")
        # Twice what is promised, for a machine that is busy.
        assert trio.current_time() - began < 10


def test_a_stream_of_a_person_who_signs_out_ends_and_says_why(
    provider: Provider, browser: Browser
) -> None:
    browser.sign_in("ada")
    sleeps = json.dumps({"language": "python", "source": "import time; time.sleep(60)"}).encode()
    id = browser.request("POST", f"{API}/submissions", sleeps).json()["id"]
    connection = HTTPConnection("127.0.0.1", browser.server.port, timeout=PATIENCE_S)
    head = {"Cookie": browser.cookie, "Accept": "application/x-ndjson"}
    connection.request("GET", f"{API}/submissions/{id}/events", headers=head)
    answer = connection.getresponse()
    assert answer.status == 200
    browser.request("POST", f"{API}/sign-out")
    last = json.loads(answer.read().splitlines()[-1])
    assert last["problem"]["type"] == "signed-out"
    assert "key" not in last["problem"]["detail"]
    connection.close()


def test_the_log_tells_the_operator_what_the_claim_made_of_a_person(
    provider: Provider, browser: Browser
) -> None:
    for name, found in (
        ("ada", ("service", "read,run", 2)),
        ("root", ("student", "admin,read,run", 1)),
        ("sam", ("student", "read,run", 0)),
    ):
        browser.sign_in(name)
        told = [json.loads(line) for line in browser.server.log.read_text().splitlines()]
        last = [line for line in told if line.get("owner", "").endswith(f"#{name}")][-1]
        assert (last["class_name"], last["scopes"], last["values_of_claim"]) == found


def test_a_person_is_told_of_no_key(provider: Provider, browser: Browser) -> None:
    browser.sign_in("ada")
    answer = browser.get(f"{API}/keys")
    assert answer.status == 403
    assert answer.json()["detail"] == "this needs the scope admin, and you have read, run"


def test_where_people_sign_in_nobody_is_told_of_both_ways(browser: Browser) -> None:
    for head in ({}, {"Authorization": "Bearer 0123456789012345678901"}):
        answer = browser.get(f"{API}/submissions", **head)
        assert answer.status == 401
        said = answer.json()["detail"]
        assert said.endswith("send a key, as Authorization: Bearer occd_…, or sign in")


def test_the_way_to_sign_in_is_whole_in_every_page(browser: Browser) -> None:
    """A page may have been opened at another name of the server, where a login's cookie would be lost."""
    whole = f'href="{browser.origin}/sign-in"'.encode()
    assert whole in browser.get("/").body
    told = browser.get("/sign-in/callback", Accept="text/html")
    assert whole in told.body
    assert b"<p>A sign-in has ten minutes" in told.body
    assert f"browsers find the page at {browser.origin}/\n" in browser.server.output.read_text()


async def closing(client: Client) -> tuple[int, str | None]:
    """The code with which the server closes, and its words."""
    with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionClosed) as closed:
        await receive_all(client)
    reason = closed.value.reason
    assert reason
    return reason.code, reason.reason


async def receive_all(client: Client) -> None:
    while True:
        await client.receive()


def test_an_emptied_redis_makes_nobody_somebody_else(
    provider: Provider, nodes: tuple[Server, Server, RedisServer]
) -> None:
    browser = Browser(nodes[0])
    browser.sign_in("ada")
    login = browser.set_off()
    nodes[2].do("FLUSHALL")
    answer = browser.submit()
    assert (answer.status, problem(answer)) == (401, "signed-out")
    assert browser.come_back(agree(login, "ada")).status == 303
    mine = f"{API}/submissions"
    assert browser.server.get(mine, Authorization=f"Bearer {KEY.decode()}").status == 200
    assert browser.get(mine).status == 200


async def test_a_session_in_use_gets_a_new_secret(tmp_path: Path) -> None:
    """And its cookie is one that only this host can set, and that goes by https alone."""
    home, issuer, now = "https://code.example.org", "https://login.example.org", time.time()
    oidc = {"issuer": issuer, "client_id": "occd"}
    given = {"anonymous": "refuse", "default_class": "all", "classes": {"all": {}}, "oidc": oidc}
    hashed = sha256(b"old").hexdigest()
    opened = Session("p.s", hashed, f"oidc:{issuer}#ada", "Ada", (), now + 3600, now - ROTATE_S)

    async def look(cookie: str) -> tuple[bytes, str | None]:
        head = f"GET {API}/me HTTP/1.1\r\nHost: code.example.org\r\nConnection: close\r\n"
        said = await found.exchange(f"{head}Cookie: {cookie}\r\n\r\n".encode())
        (line,) = re.findall(r"set-cookie: ([^\r]*)", said.decode(), re.I) or [None]
        return said.split()[1], line

    async with edge(tmp_path, given, public_url=home) as found:
        await found.state.sessions.open(opened)
        name = "__Host-occd_session"
        status, line = await look(f"{name}=p.s.old")
        assert status == b"200"
        assert line
        new, *attributes = line.split("; ")
        assert re.fullmatch(rf"{name}=p\.s\.[A-Za-z0-9_-]{{43}}", new)
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(attributes)
        for cookie in (new, f"{name}=p.s.old"):  # whose answer may be on its way
            assert await look(cookie) == (b"200", None)
        assert (await look(f"{name}=p.s.other"))[0] == b"401"
        assert (await look("occd_session=p.s.old"))[0] == b"200"  # is nobody's
        said = await found.exchange(
            f"GET {API}/me HTTP/1.1\r\nHost: code.example.org\r\nConnection: close\r\n"
            f"Origin: {home}.evil.example\r\nCookie: {new}\r\n\r\n".encode()
        )
        assert b'"kind":"nobody"' in said


def test_secrets_are_in_no_log_and_no_page(provider: Provider, browser: Browser) -> None:
    address = browser.set_off()
    came = agree(address, "ada")
    login = browser.cookies["occd_login"]
    browser.come_back(came)
    (asked,) = [each for each in provider.asked() if each["path"] == "/oauth2/token"][-1:]
    secrets = [
        login,
        browser.cookies["occd_session"],
        parameters(came)["code"],
        parameters(came)["state"],
        parameters(address)["nonce"],
        asked["code_verifier"],
        CLIENT_SECRET,
    ]
    shown = browser.get("/").body + browser.get("/sign-in/callback", Accept="text/html").body
    logged = browser.server.log.read_bytes() + browser.server.output.read_bytes()
    for each in secrets:
        assert len(each) >= 20
        assert each.encode() not in shown
        assert each.encode() not in logged
