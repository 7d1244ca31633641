"""The life of a key: created, used, replaced, revoked, expired; and what comes of wrong ones."""

import json
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
import trio
from in_process import UPGRADE, Edge, edge, frame
from pydantic import SecretStr
from redis_server import shared_redis
from serving import PATIENCE_S, Client, Server, connected
from trio_websocket import ConnectionClosed

from occd.config import Config, RedisConfig
from occd.errors import DataFolderError, Rejected, StateUnavailable, Unreadable
from occd.events import Output
from occd.key import SECRET, Key
from occd.keyring import FRESH_S, NOTED_EVERY_S, Keyring
from occd.log import set_up_logging
from occd.model import Record
from occd.principal import Principal
from occd.state import Keys
from occd.state.redis import open_redis
from occd.web import slowing
from occd.web.endings import Endings
from occd.web.slowing import FREE, WAIT_S, WAITING_OF_ONE, Failures
from occd.web.socket import FRAMES

ADMIN, SERVICE = "occd_the-admins-own-key", "occd_a-service-of-the-file"
PROGRAM = b'{"language": "python", "source": "print(1)"}'
DEAD_S = 5.0
"""Within this time a revoked key is dead on every node."""


def listed(id: str, secret: str, owner: str, scopes: list[str]) -> dict[str, Any]:
    digest = sha256(secret.encode()).hexdigest()
    return {"id": id, "sha256": digest, "owner": owner, "class": "all", "scopes": scopes}


ACCOUNTS: dict[str, Any] = {
    "anonymous": {"class": "all"},
    "default_class": "all",
    "classes": {"all": {}, "gone": {}},
    "keys": [
        listed("boss", ADMIN, "boss", ["admin"]),
        listed("service", SERVICE, "service", ["run", "read"]),
    ],
}


@dataclass
class Calls:
    edge: Edge

    async def ask(
        self, method: str, path: str, bearer: str | None = ADMIN, body: object = None
    ) -> tuple[int, Any]:
        sent = b"" if body is None else json.dumps(body).encode()
        said = f"\r\nAuthorization: Bearer {bearer}" if bearer else ""
        return await self.edge.ask(f"{method} /api/v1{path} HTTP/1.1{said}".encode(), sent)

    async def create(self, owner: str = "moodle", **fields: object) -> dict[str, Any]:
        wanted = {"owner": owner, "class": "all"} | fields
        status, made = await self.ask("POST", "/keys", body=wanted)
        assert status == 201, made
        return dict(made)

    async def uses(self, secret: str) -> int:
        """The status of a call by this key."""
        return (await self.ask("GET", "/submissions", secret))[0]

    async def submit(self, secret: str, **fields: object) -> str:
        body = json.loads(PROGRAM) | fields
        status, made = await self.ask("POST", "/submissions", secret, body)
        assert status == 202, made
        return str(made["id"])

    async def revoke(self, made: Mapping[str, Any], query: str = "") -> dict[str, Any]:
        status, said = await self.ask("DELETE", f"/keys/{made['id']}{query}")
        assert status == 200, said
        return dict(said)

    @asynccontextmanager
    async def socket(self, **headers: str) -> AsyncIterator[Client]:
        async with connected(cast(Server, self.edge), **headers) as client:
            yield client


@pytest.fixture
async def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Calls]:
    monkeypatch.setattr("occd.keyring.DEAD_S", 0.1)  # there is no other node
    async with edge(tmp_path / "data", ACCOUNTS) as found:
        yield Calls(found)


def bearer(made: Mapping[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['key']}"}


async def close_code(client: Client) -> tuple[int, str]:
    """How the server closes, within the time in which a key dies."""
    with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionClosed) as closed:
        await _receive_all(client)
    reason = closed.value.reason
    assert reason is not None
    return reason.code, reason.reason or ""


async def _receive_all(client: Client) -> None:
    while True:
        client.frames.append(await client.receive())


# the life of a key


async def test_a_created_key_is_told_once_and_used(calls: Calls) -> None:
    made = await calls.create(scopes=["read", "run"])
    assert SECRET.fullmatch(made["key"])
    assert await calls.uses(made["key"]) == 200
    status, said = await calls.ask("GET", "/keys")
    assert status == 200
    assert made["key"] not in json.dumps(said)
    assert sha256(made["key"].encode()).hexdigest() not in json.dumps(said)
    boss, service, found = said["keys"]
    assert (boss["id"], boss["from"], service["from"]) == ("boss", "configuration", "configuration")
    assert found["used_at"] > found["created_at"]
    assert found | {"created_at": None, "used_at": None} == {
        "id": made["id"],
        "owner": "moodle",
        "class": "all",
        "scopes": ["run", "read"],
        "created_at": None,
        "expires_at": None,
        "used_at": None,
        "from": "created",
    }


async def test_all_keys_of_an_owner_share_everything(calls: Calls) -> None:
    first, second = await calls.create(), await calls.create()
    id = await calls.submit(first["key"])
    assert (await calls.ask("GET", f"/submissions/{id}", second["key"]))[0] == 200
    assert (await calls.ask("GET", f"/submissions/{id}", SERVICE))[0] == 404


async def test_a_revoked_key_is_refused_at_once_where_it_was_revoked(calls: Calls) -> None:
    made = await calls.create()
    assert await calls.uses(made["key"]) == 200
    said = await calls.revoke(made)
    assert said == {"id": made["id"], "owner": "moodle", "others": [], "cancelled": None}
    assert await calls.uses(made["key"]) == 401
    assert (await calls.ask("DELETE", f"/keys/{made['id']}"))[0] == 404


async def test_a_key_is_replaced(calls: Calls) -> None:
    old = await calls.create(scopes=["read"], expires_s=3600)
    id = await calls.submit(SERVICE)
    status, new = await calls.ask("POST", f"/keys/{old['id']}/rotate")
    assert (status, new["scopes"], new["owner"]) == (201, ["read"], "moodle")
    assert new["id"] != old["id"]
    assert new["expires_at"] > old["expires_at"]
    assert await calls.uses(new["key"]) == 200
    assert await calls.uses(old["key"]) == 401
    status, third = await calls.ask("POST", f"/keys/{new['id']}/rotate?keep_s=3000")
    assert status == 201
    assert await calls.uses(new["key"]) == await calls.uses(third["key"]) == 200
    assert id


@pytest.mark.parametrize("query", ["?keep_s=-1", "?keep_s=x", "?keep_s=1e300", "?keep=1"])
async def test_a_wrong_time_replaces_nothing(calls: Calls, query: str) -> None:
    made = await calls.create()
    status, said = await calls.ask("POST", f"/keys/{made['id']}/rotate{query}")
    assert status in (400, 422), said
    assert await calls.uses(made["key"]) == 200
    assert len((await calls.ask("GET", "/keys"))[1]["keys"]) == 3


async def test_a_key_expires(calls: Calls) -> None:
    made = await calls.create(expires_s=1.0)
    with trio.fail_after(PATIENCE_S):
        while await calls.uses(made["key"]) == 200:  # noqa: ASYNC110
            await trio.sleep(0.1)
    assert await calls.uses(made["key"]) == 401


async def test_revoking_cancels_only_where_no_other_key_of_the_owner_holds(calls: Calls) -> None:
    first, second = await calls.create(), await calls.create()
    id = await calls.submit(first["key"])
    said = await calls.revoke(first, "?cancel=true")
    assert (said["others"], said["cancelled"]) == ([second["id"]], None)
    assert (await calls.ask("GET", f"/submissions/{id}", second["key"]))[1]["status"] == "queued"
    said = await calls.revoke(second, "?cancel=true")
    assert (said["others"], said["cancelled"]) == ([], 1)
    assert (await calls.ask("GET", f"/submissions/{id}"))[1]["verdict"] == "cancelled"


async def test_revoking_without_cancel_leaves_submissions_to_their_owner(calls: Calls) -> None:
    made = await calls.create()
    id = await calls.submit(made["key"])
    await calls.revoke(made)
    later = await calls.create()
    status, said = await calls.ask("GET", f"/submissions/{id}", later["key"])
    assert (status, said["status"]) == (200, "queued")


async def test_a_cancel_that_was_cut_off_can_be_repeated(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await calls.create()
    id = await calls.submit(made["key"])
    with monkeypatch.context() as patch:

        async def away(*_: object) -> None:
            raise DataFolderError("the disk is full")

        patch.setattr(calls.edge.submit._state.submissions, "cancel", away)
        assert (await calls.ask("DELETE", f"/keys/{made['id']}?cancel=true"))[0] == 503
    assert await calls.uses(made["key"]) == 401  # it holds no more all the same
    assert (await calls.revoke(made, "?cancel=true"))["cancelled"] == 1
    assert (await calls.ask("GET", f"/submissions/{id}"))[1]["verdict"] == "cancelled"


async def test_keys_of_the_configuration_are_changed_there(calls: Calls) -> None:
    for method, path in (("DELETE", "/keys/service"), ("POST", "/keys/service/rotate")):
        status, said = await calls.ask(method, path)
        assert (status, said["type"]) == (409, "configured")
    assert await calls.uses(SERVICE) == 200


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"owner": "a b"}, "owner"),
        ({"owner": "oidc:https://x#y"}, "owner"),
        ({"owner": 1}, "owner"),
        ({"owner": None}, "owner"),
        ({"class": "unknown"}, "class"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["run", "root"]}, "scopes"),
        ({"scopes": "run"}, "scopes"),
        ({"expires_s": 0}, "expires_s"),
        ({"expires_s": True}, "expires_s"),
        ({"expires_s": 1e30}, "expires_s"),
        ({"owner_": "x"}, "owner_"),
        ({"\ud800": "x"}, "\ud800"),
    ],
)
async def test_a_wrong_key_is_not_made(calls: Calls, fields: dict[str, Any], field: str) -> None:
    wanted = {"owner": "moodle", "class": "all"} | fields
    status, said = await calls.ask("POST", "/keys", body=wanted)
    assert (status, said["errors"][0]["field"]) == (422, field)
    assert len((await calls.ask("GET", "/keys"))[1]["keys"]) == 2


async def test_without_accounts_no_key_is_made_and_none_is_valid(tmp_path: Path) -> None:
    async with edge(tmp_path) as found:
        keyring = Keyring(Config(), found.state.keys, _cancel_nothing)
        with pytest.raises(Rejected):
            await keyring.create("moodle", "all", ["run"], None)
        status, said = await Calls(found).ask("GET", "/submissions", "occd_" + "a" * 43)
        assert (status, said["type"]) == (401, "unauthorized")


async def test_a_key_whose_class_is_gone_is_told_so(calls: Calls) -> None:
    key = Key(
        "k", sha256(b"occd_" + b"a" * 43).hexdigest(), "key:a", "no-class", frozenset({"run"}), 1.0
    )
    await calls.edge.state.keys.add(key)
    status, said = await calls.ask("GET", "/submissions", "occd_" + "a" * 43)
    assert (status, said["type"]) == (403, "forbidden")
    assert "no-class" in said["detail"]


async def test_while_state_is_away_nobody_becomes_anonymous(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await calls.create()

    async def away(_: str) -> None:
        raise StateUnavailable("Redis is away", 5)

    monkeypatch.setattr(calls.edge.state.keys, "find", away)
    status, said = await calls.ask("POST", "/submissions", made["key"], json.loads(PROGRAM))
    assert (status, said["type"]) == (503, "unavailable")
    assert (await calls.ask("POST", "/submissions", SERVICE, json.loads(PROGRAM)))[0] == 202
    upgrade = UPGRADE.replace(
        b"\r\n\r\n", f"\r\nAuthorization: Bearer {made['key']}\r\n\r\n".encode()
    )
    assert b" 503 " in (await calls.edge.exchange(upgrade, b"}")).splitlines()[0]


# what a node believes


@dataclass
class Told:
    """State that counts how often it is asked."""

    keys: dict[str, Key] = field(default_factory=dict)
    looks: int = 0
    used_: list[dict[str, float]] = field(default_factory=list)
    away: bool = False

    async def find(self, sha256: str) -> Key | None:
        await trio.lowlevel.checkpoint()
        self.looks += 1
        return self.keys.get(sha256)

    async def used(self, times: Mapping[str, float]) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StateUnavailable("away", 5)
        self.used_.append(dict(times))


async def _cancel_nothing(_: str) -> int:
    return 0


def keyring_of(told: Told) -> Keyring:
    config = Config.model_validate({"accounts": ACCOUNTS})
    return Keyring(config, cast(Keys, told), _cancel_nothing)


def a_key(id: str = "k") -> Key:
    return Key(id, sha256(id.encode()).hexdigest(), "key:moodle", "all", frozenset({"run"}), 1.0)


async def test_a_busy_key_costs_a_look_in_two_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    key = a_key()
    told = Told({key.sha256: key})
    keyring = keyring_of(told)
    for _ in range(100):
        assert await keyring.find(key.sha256) == key.credential
    assert told.looks == 1
    told.keys.clear()  # revoked by another node
    await trio.sleep(FRESH_S - 0.01)
    assert await keyring.find(key.sha256) is not None
    await trio.sleep(0.02)
    assert await keyring.find(key.sha256) is None
    for _ in range(100):
        assert await keyring.find(key.sha256) is None
    assert told.looks == 2


async def test_what_is_believed_of_wrong_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("occd.keyring._BELIEVED_MAX", 100)
    keyring = keyring_of(Told())
    for number in range(1000):
        assert await keyring.find(f"{number}") is None
    assert len(keyring._believed) == 100


async def test_the_last_use_is_noted_once_a_minute_beside_the_requests(
    autojump_clock: trio.testing.MockClock,
) -> None:
    key = a_key()
    told = Told({key.sha256: key})
    keyring = keyring_of(told)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keyring.run)
        for _ in range(100):
            await keyring.find(key.sha256)
            await trio.sleep(0.5)
        assert told.used_ == []
        told.away = True
        await trio.sleep(NOTED_EVERY_S)
        assert told.used_ == []
        told.away = False
        await trio.sleep(2 * NOTED_EVERY_S)
        assert [list(each) for each in told.used_] == [["k"]]
        nursery.cancel_scope.cancel()
    assert abs(told.used_[0]["k"] - time.time()) < 60


async def test_a_key_that_one_node_revokes_is_dead_on_another() -> None:
    server = shared_redis()
    redis = RedisConfig(url=SecretStr(server.url), prefix="t-keys")
    config = Config.model_validate({"accounts": ACCOUNTS})
    async with open_redis(redis, 60) as one, open_redis(redis, 60) as other:
        first = Keyring(config, one.keys, _cancel_nothing)
        second = Keyring(config, other.keys, _cancel_nothing)
        issued = await first.create("moodle", "all", ["run"], None)
        assert await second.find(issued.key.sha256) is not None
        await first.revoke(issued.key.id, cancel=False)
        with trio.fail_after(2 * DEAD_S):  # the machine may be busy
            while await second.find(issued.key.sha256):  # noqa: ASYNC110
                await trio.sleep(0.05)


# connections that stay open


async def test_a_websocket_of_a_revoked_key_is_closed(calls: Calls) -> None:
    made = await calls.create()
    async with calls.socket(**bearer(made)) as client, calls.socket(**bearer(made)) as other:
        id = await client.submit("print(1)")
        await client.until(id, "queued")
        await calls.revoke(made)
        with trio.fail_after(2 * DEAD_S):
            for each in (client, other):
                code, reason = await close_code(each)
                assert (code, "revoked" in reason) == (4401, True)
    assert calls.edge.access.endings._held == {}


async def test_a_websocket_of_an_expired_key_is_closed(calls: Calls) -> None:
    made = await calls.create(expires_s=1.5)
    async with calls.socket(**bearer(made)) as client:
        assert (await close_code(client))[0] == 4401


async def test_other_websockets_stay_open(calls: Calls) -> None:
    made, other = await calls.create(), await calls.create()
    async with (
        calls.socket(**bearer(made)) as client,
        calls.socket(**bearer(other)) as stays,
        calls.socket() as nobody,
        calls.socket(Authorization=f"Bearer {SERVICE}") as configured,
    ):
        await calls.revoke(made)
        assert (await close_code(client))[0] == 4401
        for each in (stays, nobody, configured):
            await each.submit("print(1)")


async def test_what_is_damaged_of_one_keeps_no_connection_of_others_open() -> None:
    async def is_still(principal: Principal) -> bool:
        await trio.lowlevel.checkpoint()
        if principal.credential == "damaged":
            raise Unreadable("somebody else wrote over it")
        return False

    endings = Endings(is_still)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endings.run)
        with endings.of(Principal(credential="damaged")) as one:
            with endings.of(Principal(credential="other")) as other, trio.fail_after(PATIENCE_S):
                await other.come.wait()
            assert not one.come.is_set()
        nursery.cancel_scope.cancel()


async def test_many_keys_are_looked_at_together() -> None:
    """One after the other, the keys of 5,000 connections took more than the five seconds."""
    looked = 0
    together = trio.Event()

    async def is_still(principal: Principal) -> bool:
        nonlocal looked
        looked += 1
        if looked == 10:
            together.set()
        await together.wait()
        return principal.credential != "99"

    endings = Endings(is_still)
    with ExitStack() as stack:
        ends = [stack.enter_context(endings.of(Principal(credential=f"{n}"))) for n in range(100)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endings.run)
            with trio.fail_after(PATIENCE_S):
                await ends[99].come.wait()
            nursery.cancel_scope.cancel()
        assert [each.come.is_set() for each in ends] == [False] * 99 + [True]


async def test_a_websocket_stays_open_while_state_is_away(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = await calls.create(), trio.Event()

    async def away(_: str) -> None:
        asked.set()
        raise StateUnavailable("Redis is away", 5)

    async with calls.socket(**bearer(made)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(calls.edge.state.keys, "find", away)
            with trio.fail_after(PATIENCE_S):
                await asked.wait()
        await client.submit("print(1)")
        await calls.revoke(made)
        assert (await close_code(client))[0] == 4401


async def test_the_first_frame_may_say_who_it_is(calls: Calls) -> None:
    made = await calls.create()
    async with calls.socket() as client:
        assert (await client.ask("hello", bearer=made["key"]))["type"] == "done"
        id = await client.submit("print(1)")
        assert (await calls.ask("GET", f"/submissions/{id}", made["key"]))[0] == 200
        assert (await calls.ask("GET", f"/submissions/{id}", None))[0] == 404
        await calls.revoke(made)
        assert (await close_code(client))[0] == 4401


@pytest.mark.parametrize(
    "said", [{"bearer": "occd_" + "a" * 43}, {"bearer": "short"}, {"bearer": 7}, {}]
)
async def test_frames_behind_a_refused_hello_come_from_nobody_and_are_not_taken(
    calls: Calls, said: dict[str, object]
) -> None:
    async with calls.socket() as client:
        submit = {"type": "submit", "submission": json.loads(PROGRAM)}
        await client.socket.send_message(json.dumps({"type": "hello"} | said))
        await client.socket.send_message(json.dumps(submit))
        assert (await close_code(client))[0] == 4401
        assert [frame["type"] for frame in client.frames] == ["error"]


async def test_a_websocket_of_nobody_who_may_do_nothing_is_closed_without_hello(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occd.web.socket.HELLO_S", 2.0)
    submission = json.loads(PROGRAM)
    async with edge(tmp_path / "data", ACCOUNTS | {"anonymous": "refuse"}) as found:
        calls = Calls(found)
        async with calls.socket() as stays, calls.socket() as in_frames:
            assert (await stays.ask("hello", bearer=SERVICE))["type"] == "done"
            accepted = await in_frames.ask("submit", submission=submission, bearer=SERVICE)
            assert accepted["type"] == "accepted"
            async with calls.socket() as silent:
                code, reason = await close_code(silent)
                assert (code, "hello" in reason) == (4401, True)
            await stays.submit("print(1)")  # they had come before
            again = await in_frames.ask("submit", submission=submission, bearer=SERVICE)
            assert again["type"] == "accepted"


async def test_hello_comes_first_and_once(calls: Calls) -> None:
    async with calls.socket() as client:
        await client.submit("print(1)")
        answer = await client.ask("hello", bearer=SERVICE)
        assert answer["problem"]["type"] == "bad-request"
        assert (await close_code(client))[0] == 4401
    async with calls.socket(Authorization=f"Bearer {ADMIN}") as client:
        answer = await client.ask("hello", bearer=SERVICE)
        assert answer["problem"]["type"] == "bad-request"


async def test_a_bearer_in_submit_is_this_submissions(calls: Calls) -> None:
    made = await calls.create()
    async with calls.socket() as client:
        answer = await client.ask(
            "submit",
            submission=json.loads(PROGRAM) | {"interactive": True},
            bearer=made["key"],
        )
        id = answer["id"]
        assert (await client.ask("stdin", id=id, data="x"))["type"] == "done"
        assert (await calls.ask("GET", f"/submissions/{id}", None))[0] == 404
        mine = await client.submit("print(1)")
        assert (await calls.ask("GET", f"/submissions/{mine}", None))[0] == 200  # nobody's
        await calls.revoke(made)
        assert (await close_code(client))[0] == 4401


@pytest.mark.parametrize(
    ("accept", "last"),
    [
        ("text/event-stream", b"event: problem\n"),
        ("application/x-ndjson", b'{"type":"error"'),
    ],
)
@pytest.mark.parametrize("submits", [True, False])
async def test_a_stream_of_a_revoked_key_ends_and_says_why(
    calls: Calls, accept: str, last: bytes, submits: bool
) -> None:
    made = await calls.create()
    form = "sse" if "event" in accept else "ndjson"
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {made['key']}\r\nAccept: {accept}\r\n"
    if submits:
        request = f"POST /api/v1/submissions?stream={form} HTTP/1.1\r\n{head}"
        sent = f"{request}Content-Length: {len(PROGRAM)}\r\n\r\n".encode() + PROGRAM
    else:
        id = await calls.submit(made["key"])
        sent = f"GET /api/v1/submissions/{id}/events HTTP/1.1\r\n{head}\r\n".encode()
    found: list[bytes] = []

    async def follow() -> None:
        found.append(await calls.edge.exchange(sent, b"0\r\n\r\n"))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            while not calls.edge.access.endings._held:  # noqa: ASYNC110
                await trio.sleep(0.02)
            await calls.revoke(made)
    end = found[0].rpartition(last)[2]
    assert b'"unauthorized"' in end
    assert b"revoked" in end


@pytest.mark.parametrize("way", ["websocket", "text/event-stream", "application/x-ndjson"])
async def test_who_reads_slowly_does_not_keep_the_connection_of_a_revoked_key(
    calls: Calls, way: str
) -> None:
    made = await calls.create()
    id = await calls.submit(made["key"])
    state = calls.edge.state
    attempt = await state.submissions.begin(await state.submissions.submission(id), "3.11", "runs")
    # More than the kernel takes for a client that does not read.
    await state.log.append(id, attempt, [Output("run", "stdout", bytes(2**15))] * 100)
    said = b"\r\nAuthorization: Bearer %b\r\n" % made["key"].encode()
    if way == "websocket":
        subscribe = frame(json.dumps({"type": "subscribe", "id": id}).encode())
        sent = UPGRADE.replace(b"\r\n", said, 1) + subscribe
    else:
        head = b"GET /api/v1/submissions/%b/events HTTP/1.1\r\nHost: 127.0.0.1" % id.encode()
        sent = head + said + b"Accept: %b\r\n\r\n" % way.encode()
    narrow = trio.socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await narrow.connect(("127.0.0.1", calls.edge.port))
    async with trio.SocketStream(narrow) as stream:
        await stream.send_all(sent)
        assert await stream.receive_some(512)
        await calls.revoke(made)
        with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
            while await stream.receive_some(512):  # noqa: ASYNC110
                await trio.sleep(0.2)  # so that it takes a while to read one event
    assert calls.edge.access.endings._held == {}


async def test_a_long_answer_tells_a_revoked_key_nothing_more(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await calls.create()
    ids = [await calls.submit(made["key"]) for _ in range(3)]
    look = calls.edge.submit.get

    async def revoke_meanwhile(id: str, output_max: int = 0) -> Record:
        if id == ids[1]:
            await calls.revoke(made)
        return await look(id, output_max)

    monkeypatch.setattr(calls.edge.submit, "get", revoke_meanwhile)
    _, said = await calls.ask("GET", f"/submissions?ids={','.join(ids)}", made["key"])
    found = [each.get("problem", {}).get("type") for each in said["submissions"]]
    assert found == [None, None, "unauthorized"]


async def test_a_call_that_waits_is_refused_when_its_key_was_revoked(calls: Calls) -> None:
    made = await calls.create()
    id = await calls.submit(made["key"])
    answers: list[int] = []

    async def wait() -> None:
        answers.append((await calls.ask("GET", f"/submissions/{id}?wait=2", made["key"]))[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        while not calls.edge.submit._following.count:  # noqa: ASYNC110
            await trio.sleep(0.02)
        await calls.revoke(made)
    assert answers == [401]


# those who try


async def test_whoever_fails_often_waits_and_is_then_turned_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    failures = Failures()
    began = trio.current_time()
    for _ in range(FREE):
        await failures.slow("addr:1")
    assert trio.current_time() == began
    refused: list[str] = []

    async def fail(client: str) -> None:
        try:
            await failures.slow(client)
        except Rejected as error:
            refused.append(error.kind)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(fail, "addr:1")
        nursery.start_soon(fail, "addr:2")
    assert trio.current_time() == began + WAIT_S
    assert refused == ["too-many-failures"] * (50 - WAITING_OF_ONE)
    await trio.sleep(60)
    began = trio.current_time()
    await failures.slow("addr:1")
    assert trio.current_time() == began


async def test_many_addresses_are_counted_in_bounded_memory(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slowing, "CLIENTS_MAX", 100)
    failures = Failures()
    for number in range(1000):
        await failures.slow(f"addr:{number}")
    assert len(failures._levels) == 100
    for number in range(900, 1000):
        for _ in range(FREE):
            failures._count(f"addr:{number}")
    refused = 0

    async def fail(number: int) -> None:
        nonlocal refused
        try:
            await failures.slow(f"addr:{number}")
        except Rejected:
            refused += 1

    async with trio.open_nursery() as nursery:
        for number in range(900, 1000):
            nursery.start_soon(fail, number)
            nursery.start_soon(fail, number)
    assert refused == 200 - slowing.WAITING_MAX


async def test_a_key_that_holds_is_not_slowed_beside_wrong_ones(calls: Calls) -> None:
    made = await calls.create()
    wrong = "occd_" + "x" * 43
    statuses: list[int] = []

    async def fail() -> None:
        statuses.append(await calls.uses(wrong))

    async with trio.open_nursery() as nursery:
        for _ in range(FREE + WAITING_OF_ONE + 5):
            nursery.start_soon(fail)
        while statuses.count(429) < 5:  # noqa: ASYNC110
            await trio.sleep(0.02)
        assert statuses.count(401) == FREE  # the others wait
        assert await calls.uses(made["key"]) == await calls.uses(SERVICE) == 200
        assert statuses.count(401) == FREE
    assert statuses.count(401) == FREE + WAITING_OF_ONE


# wrong headers, and keys in wrong places


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer",
        "Authorization: Bearer ",
        "Authorization:",
        "Authorization: occd_" + "a" * 43,
        "Authorization: Basic b2NjZDp4",
        "Authorization: Bearer\tocc",
        "Authorization: Bearer occd_" + "a" * 43,
        "Authorization: Bearer OCCD_" + "a" * 43,
        "Authorization: Bearer occd_" + "a" * 42,
        "Authorization: Bearer occd_" + "a" * 44,
        "Authorization: Bearer occd_" + "a" * 20_000,
        "Authorization: Bearer occd_",
        "Authorization: Bearer occd_a b",
        "Authorization: Bearer occd_ü" + "a" * 42,
        "Authorization: Bearer üüüüüüüüüüüüüüüüüüüüüüüüü",
        "Authorization: Bearer \xa0" + "a" * 43,
    ],
)
async def test_who_meant_to_say_who_it_is_never_becomes_nobody(calls: Calls, header: str) -> None:
    head = f"POST /api/v1/submissions HTTP/1.1\r\n{header}".encode("latin-1")
    status, said = await calls.edge.ask(head, PROGRAM)
    assert (status, said["type"]) == (401, "unauthorized")
    head = f"POST /api/v1/submissions HTTP/1.1\r\n{header}".encode()
    status, said = await calls.edge.ask(head, PROGRAM)
    assert (status, said["type"]) == (401, "unauthorized")


async def test_a_header_that_is_there_twice_is_refused(calls: Calls) -> None:
    headers = (f"Authorization: Bearer {key}" for key in (ADMIN, SERVICE))
    twice = "\r\n".join(["GET /api/v1/submissions HTTP/1.1", *headers])
    assert (await calls.edge.ask(twice.encode()))[0] == 400


async def test_a_huge_header_is_refused_by_the_edge(calls: Calls) -> None:
    head = b"GET /api/v1/submissions HTTP/1.1\r\nAuthorization: Bearer occd_" + b"a" * 40_000
    assert (await calls.edge.ask(head))[0] == 431


@pytest.mark.parametrize(
    "bearer", ["occd_\ud800" + "a" * 43, "occd_" + "a" * 100_000, "\ud800" * 30]
)
async def test_a_strange_bearer_in_a_frame_is_refused(calls: Calls, bearer: str) -> None:
    async with calls.socket() as client:
        answer = await client.ask("submit", submission=json.loads(PROGRAM), bearer=bearer)
        assert answer["problem"]["type"] == "unauthorized"


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/submissions?key={}",
        "/api/v1/submissions?limit={}",
        "/api/v1/submissions/{}",
        "/api/v1/keys/{}",
        "/{}",
        "/?bearer={}",
        "/static/{}",
        "/readyz?token={}",
        "http://127.0.0.1/api/v1/submissions?key={}",
    ],
)
@pytest.mark.parametrize("form", ["occd_{}", "OCCD_{}", "occd%5F{}", "%6fccd_{}"])
async def test_a_key_in_an_address_is_refused_and_not_repeated(
    calls: Calls, target: str, form: str
) -> None:
    secret = "k" * 43
    path = target.format(form.format(secret))
    status, said = await calls.edge.ask(f"GET {path} HTTP/1.1".encode())
    assert (status, said["type"]) == (400, "key-in-address")
    assert secret not in json.dumps(said)


async def test_a_key_in_the_address_of_a_websocket_is_refused(calls: Calls) -> None:
    upgrade = UPGRADE.replace(b"/ws", b"/ws?token=occd_" + b"k" * 43)
    said = await calls.edge.exchange(upgrade, b"}")
    assert b" 400 " in said.splitlines()[0]
    assert b'"key-in-address"' in said
    assert b"kkkk" not in said


async def test_a_server_without_accounts_takes_such_addresses_as_before(tmp_path: Path) -> None:
    async with edge(tmp_path) as found:
        status, said = await found.ask(b"GET /api/v1/submissions/occd_%b HTTP/1.1" % (b"k" * 43))
        assert (status, said["type"]) == (404, "unknown-submission")


# a key is in no log, no error and no page


async def _misuse(calls: Calls, secret: str) -> list[bytes]:
    """The answers to what people do with a key, rightly and wrongly."""
    answers: list[bytes] = []
    headers = (
        f"Authorization: Bearer {secret}",
        f"Authorization: Bearer {secret}x",
        f"Authorization: Bearer {secret} {secret}",
        f"Authorization: {secret}",
        f"Authorization: Basic {secret}",
        f"Authorization: Bearer {secret}\r\nAuthorization: Bearer {secret}",
        f"Idempotency-Key: {secret} {secret}",
        f"Cookie: occd_session={secret}; occd={secret}",
        f"Origin: http://{secret}.example.org",
        f"Last-Event-ID: {secret}",
        f"Content-Length: {secret}",
        f"{secret}: x",
        f"{secret}",
    )
    bodies = (
        json.dumps({"language": "python", "source": "1", "bearer": secret}),
        json.dumps({"language": secret, "source": "1"}),
        json.dumps({"language": "python", "source": "1", "limits": {"memory": secret}}),
        json.dumps({"owner": f"{secret} ", "class": "all"}),
        json.dumps({"owner": "a", "class": secret, "scopes": [secret], "expires_s": secret}),
        f'{{"language": {secret}',
        secret,
    )
    targets = (
        "/", "/api/v1/submissions", "/api/v1/keys", "/api/v1/submissions/unknown/events",
        f"/api/v1/keys/{secret}", f"/{secret}", f"/api/v1/submissions?key={secret}",
        f"/?source={secret}", f"//{secret}/", f"http://{secret}@127.0.0.1/",
    )  # fmt: skip
    for target in targets:
        for header in headers:
            head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{header}"
            answers.append(await calls.edge.exchange(f"{head}\r\n\r\n".encode()))
        for body in bodies:
            head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close"
            length = f"Authorization: Bearer {ADMIN}\r\nContent-Length: {len(body)}"
            answers.append(await calls.edge.exchange(f"{head}\r\n{length}\r\n\r\n{body}".encode()))
    for hello in (secret, f"{secret}x"):
        async with calls.socket() as client:
            answers.append(json.dumps(await client.ask("hello", bearer=hello)).encode())
    async with calls.socket() as client:
        for frame in FRAMES:
            wrong = {field: secret for field in FRAMES[frame] if field != "id"}
            told = await client.ask(frame, id="unknown", **wrong) if frame != "hello" else {}
            answers.append(json.dumps(told).encode())
    return answers


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("broken", [False, True])
async def test_a_planted_key_is_in_no_line_of_the_log_and_in_no_answer(
    calls: Calls,
    broken: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At every level of every library. `broken`: a mistake of ours where keys are looked up."""
    monkeypatch.setattr(slowing, "WAIT_S", 0.0)
    caplog.set_level(0)
    set_up_logging()
    made = await calls.create(scopes=["run", "read", "admin"])
    secret = str(made["key"])
    if broken:

        async def fail(sha256: str) -> None:
            raise RuntimeError("a mistake")

        monkeypatch.setattr(calls.edge.state.keys, "find", fail)
    planted = [secret, secret.removeprefix("occd_"), sha256(secret.encode()).hexdigest()]
    answers = await _misuse(calls, secret)
    assert len(answers) > 150
    for answer in answers:
        told = answer.decode(errors="replace")
        assert not any(each in told for each in planted), told
    out, err = capfd.readouterr()
    logged = out + err + caplog.text
    assert ("a mistake" in logged) == broken
    assert not any(each in logged for each in planted)
