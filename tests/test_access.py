"""Who may make which call is exactly what docs/accounts.md says, on every route and every frame."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from in_process import UPGRADE, Edge, edge, frame

from occd.sessions import Session
from occd.web.socket import FRAMES

PAGE = (Path(__file__).parents[1] / "docs" / "accounts.md").read_text()
SITE, ISSUER = "https://code.example.org", "https://login.example.org"
SECRETS = {"one": "an-anonymous-owner-000001", "other": "an-anonymous-owner-000002"}
KEYS = {
    "full": ("key-owner", ["run", "read"]),
    "run": ("key-owner", ["run"]),
    "read": ("key-owner", ["read"]),
    "read-all": ("reader", ["read-all"]),
    "admin": ("boss", ["admin"]),
}
REFUSALS = {
    "unauthorized": "401",
    "signed-out": "401",
    "forbidden": "403",
    "unknown-submission": "404",
}


def accounts(anonymous: object) -> dict[str, Any]:
    keys = [
        {"id": name, "owner": owner, "class": "all", "scopes": scopes, "sha256": digest(name)}
        for name, (owner, scopes) in KEYS.items()
    ]
    return {
        "anonymous": anonymous,
        "default_class": "all",
        "classes": {"all": {}},
        "keys": keys,
        "oidc": {"issuer": ISSUER, "client_id": "occd"},
    }


async def sign_in(edge: Edge) -> None:
    """What the callback of the provider does."""
    now, owner = time.time(), f"oidc:{ISSUER}#ada"
    for name, until in (("one", now + 3600), ("two", now)):
        session = Session(f"person.{name}", hashed("the-secret"), owner, "Ada", (), until, now)
        await edge.state.sessions.open(session)


def key(name: str) -> str:
    return f"occd_{name}-key"


def digest(name: str) -> str:
    return hashed(key(name))


def hashed(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this head, without their quotes."""
    part = re.split(rf"^\| {first} \|", PAGE, flags=re.M)[1].split("\n\n")[0]
    lines = part.splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines]


CALLS = {call: (need, of) for call, need, of in table("call")}
ANSWERS = {
    row[0]: dict(
        zip(
            ("nothing yet", "own", "another's", "nobody's", "the caller", "the server"),
            row[1:],
            strict=True,
        )
    )
    for row in table("caller")
}


@dataclass
class World:
    """An edge, and submissions of everybody."""

    edge: Edge
    numbers: Any = field(default_factory=count)

    async def make(self, bearer: str | None) -> str:
        """A new submission of a caller, by its way in."""
        status, said = await self.call("POST /api/v1/submissions", bearer, "")
        assert status == "202", said
        made: str = said["id"]
        return made

    async def call(self, call: str, bearer: str | None, id: str) -> tuple[str, Any]:
        """The status and the JSON of an answer."""
        method, _, path = call.partition(" ")
        body = BODIES.get(call, "")
        head = [
            f"{method} {path.replace('<id>', id).replace('<path:name>', 'a.txt')} HTTP/1.1",
            "Host: 127.0.0.1",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *said_by(bearer),
        ]
        # A stream would go on until the program ends.
        until = b"\r\n\r\n" if path.endswith("/events") else b""
        said = await self.edge.exchange("\r\n".join([*head, "", body]).encode(), until)
        status, _, rest = said.partition(b"\r\n\r\n")
        code = status.split()[1].decode()
        return code, json.loads(rest) if rest.startswith(b"{") else {}

    async def send(self, kind: str, bearer: str | None, id: str) -> tuple[str, Any]:
        """The type of the problem that answers a frame, if one does."""
        wanted = {"type": kind, "ref": "it", **FRAME_FIELDS.get(kind, {})}
        if kind != "submit":
            wanted["id"] = id
        head = "\r\n".join(["", *said_by(bearer), "", ""]).encode()
        upgrade = UPGRADE.replace(b"\r\n\r\n", head)
        said = await self.edge.exchange(
            upgrade + frame(json.dumps(wanted).encode()), b'"ref":"it"}'
        )
        if b" 101 " not in said.split(b"\r\n")[0]:
            return said.split()[1].decode(), json.loads(said.partition(b"\r\n\r\n")[2])
        return "101", the_answer(said).get("problem", {})


def said_by(caller: str | None) -> list[str]:
    """The headers of a key, of an anonymous owner's secret, or of a session's cookie."""
    if caller is None:
        return []
    if caller.startswith("session:"):
        cookie = f"__Host-occd_session={caller.removeprefix('session:')}"
        return [f"Cookie: {cookie}", f"Origin: {SITE}"]
    return [f"Authorization: Bearer {caller}"]


def the_answer(said: bytes) -> dict[str, Any]:
    """The frame that answers: events of the submission may have come before."""
    text = said.partition(b"\r\n\r\n")[2].decode(errors="replace")
    decoder, at = json.JSONDecoder(), 0
    while (at := text.index("{", at)) >= 0:
        found, at = decoder.raw_decode(text, at)
        if found.get("ref") == "it":
            return dict(found)
    raise AssertionError(text)


PROGRAM = '{"language": "python", "source": "print(1)", "interactive": true}'
BODIES = {
    "POST /api/v1/submissions": PROGRAM,
    "POST /api/v1/submissions/batch": f'{{"submissions": [{PROGRAM}]}}',
}
FRAME_FIELDS: Mapping[str, Mapping[str, object]] = {
    "submit": {"submission": json.loads(PROGRAM)},
    "stdin": {"data": "x"},
    "signal": {"signal": "SIGINT"},
    "resize": {"rows": 24, "cols": 80},
}


def bearer_of(caller: str, need: str) -> str | None:
    """The secret of a caller of the table, for a call with this need."""
    if caller.startswith("nobody"):
        return None
    if caller.startswith("an anonymous owner"):
        return SECRETS["one"]
    lacking = {"run": "read", "read": "run"}
    return {
        "a key with the scope": key("full"),
        "a key without the scope": key(lacking.get(need, "full")),
        "read-all, for a call that needs read": key("read-all"),
        "admin": key("admin"),
        "a wrong key": "occd_mistyped-and-long-enough",
        "a person who signed in": "session:person.one.the-secret",
        "a person whose session has ended": "session:person.two.the-secret",
    }[caller]


async def assert_answers(world: World, caller: str, may_submit: Mapping[str, str | None]) -> None:
    for call, (need, of) in CALLS.items():
        bearer = bearer_of(caller, need)
        if caller.startswith("read-all") and need != "read":
            continue
        expected = ANSWERS[caller]
        columns = ("own", "another's", "nobody's") if of == "a submission" else (of,)
        cells = {column: expected[column] for column in columns if expected[column]}
        for whose, answer in cells.items():
            if whose == "own" and (
                bearer is None or caller == "read-all, for a call that needs read"
            ):
                continue
            if need == "nothing" and not (call == "hello" and bearer and answer == "401"):
                answer = "yes"  # where a frame comes, its handshake has said who calls
            if need == "to be anybody" and (
                caller.startswith("nobody") or caller == "a key without the scope"
            ):
                answer = "yes"
            owner = {"own": bearer, "another's": SECRETS["other"], "nobody's": None}.get(whose)
            id = ""
            if of == "a submission":
                id = await world.make(may_submit.get(whose, owner))
            ask = world.call if call[0].isupper() else world.send
            status, said = await ask(call, bearer, id)
            kind = said.get("type", "") if isinstance(said, dict) else ""
            found = REFUSALS.get(kind, "yes")
            assert found == answer, (caller, call, whose, status, said)
            assert found == "yes" or status in (found, "101"), (caller, call, whose, status, said)
            if found == "yes":
                assert status[0] != "5", (caller, call, whose, status, said)


@pytest.mark.trio
async def test_every_route_and_every_frame_is_in_the_table(tmp_path: Path) -> None:
    async with edge(tmp_path) as found:
        routes = {
            f"{method} {rule.rule}"
            for rule in found.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
            if rule.rule.startswith("/api/") and not rule.websocket
        }
    assert routes | set(FRAMES) == set(CALLS)


ROWS = [name for name in ANSWERS if "without accounts" not in name and "refuse" not in name]


@pytest.mark.trio
@pytest.mark.parametrize("caller", ROWS)
async def test_with_accounts_each_caller_gets_what_the_table_says(
    caller: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.web.slowing.WAIT_S", 0.0)
    async with edge(tmp_path, accounts({"class": "all"}), public_url=SITE) as found:
        await sign_in(found)
        # Of a key, what is its own was made by another key of the same owner.
        own = {"own": key("full")} if caller.startswith("a key") else {}
        if caller in ("a wrong key", "a person whose session has ended"):
            own = {"own": key("full")}
        await assert_answers(World(found), caller, own)


@pytest.mark.trio
@pytest.mark.parametrize("caller", [name for name in ANSWERS if "refuse" in name])
async def test_a_server_that_refuses_anonymous_callers_says_so_to_each(
    caller: str, tmp_path: Path
) -> None:
    async with edge(tmp_path, accounts("refuse"), public_url=SITE) as found:
        made = {whose: key("full") for whose in ("own", "another's", "nobody's")}
        await assert_answers(World(found), caller, made)


@pytest.mark.trio
@pytest.mark.parametrize("caller", [name for name in ANSWERS if "without accounts" in name])
async def test_without_accounts_an_id_is_the_right_to_read_cancel_and_type(
    caller: str, tmp_path: Path
) -> None:
    async with edge(tmp_path) as found:
        await assert_answers(World(found), caller, {})


@pytest.mark.trio
async def test_another_owners_are_listed_with_read_all_and_cancelled_by_an_administrator(
    tmp_path: Path,
) -> None:
    async with edge(tmp_path, accounts({"class": "all"}), public_url=SITE) as found:
        world = World(found)
        ids = [await world.make(key("full")) for _ in range(2)]
        of = "?owner=key:key-owner"

        async def ask(call: str, name: str | None) -> tuple[str, Any]:
            return await world.call(call, name and key(name), "")

        for name in ("read-all", "admin", "full"):
            status, said = await ask(f"GET /api/v1/submissions{of}", name)
            assert status == "200", said
            assert {each["id"] for each in said["submissions"]} == set(ids)
        elsewhere = "?owner=key:boss"
        assert (await ask(f"GET /api/v1/submissions{elsewhere}", "full"))[0] == "403"
        assert (await ask(f"GET /api/v1/submissions{of}", None))[0] == "401"
        for wrong in ("oidc:https://a", "moodle", "key:a%20b"):
            assert (await ask(f"GET /api/v1/submissions?owner={wrong}", "admin"))[0] == "422"
        assert (await ask("GET /api/v1/submissions?owner=oidc:https://a%23b", "admin"))[0] == "200"
        assert (await ask(f"GET /api/v1/submissions?ids={ids[0]}&owner=key:a", "admin"))[0] == "422"
        cancel = "POST /api/v1/submissions/cancel"
        for name in ("read-all", "read", "run"):
            assert (await ask(f"{cancel}{elsewhere}", name))[0] == "403"
        status, said = await ask(f"{cancel}{of}", "admin")
        assert (status, {each["id"] for each in said["submissions"]}) == ("200", set(ids))
