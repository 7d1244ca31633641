"""Keys of two daemons over one Redis: revoked on one, dead on both; and what an emptied Redis leaves."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from redis_server import RedisServer, redis_server
from serving import API, PATIENCE_S, Answer, Client, Server, connected, serving
from trio_websocket import ConnectionClosed

ADMIN, SERVICE = "occd_the-admins-own-key", "occd_a-service-of-the-file"
PROGRAM = b'{"language": "python", "source": "print(input())", "interactive": true}'
DEAD_S = 5.0


def listed(id: str, secret: str, scopes: list[str]) -> dict[str, Any]:
    digest = sha256(secret.encode()).hexdigest()
    return {"id": id, "sha256": digest, "owner": id, "class": "all", "scopes": scopes}


ACCOUNTS = json.dumps(
    {
        "anonymous": {"class": "all"},
        "default_class": "all",
        "classes": {"all": {}},
        "keys": [listed("boss", ADMIN, ["admin"]), listed("service", SERVICE, ["run", "read"])],
    }
)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> Iterator[tuple[Server, Server]]:
    folder: Path = tmp_path_factory.mktemp("keys-apart")
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(
                serving(folder / name, redis__url=redis.url, node=name, accounts=ACCOUNTS)
            )
            for name in ("one", "other")
        )
        yield one, other


def create(server: Server, owner: str = "moodle") -> tuple[str, str]:
    """The secret of a new key, and its id."""
    wanted = json.dumps({"owner": owner, "class": "all"}).encode()
    made = server.request("POST", f"{API}/keys", wanted, authorization=f"Bearer {ADMIN}").json()
    return made["key"], made["id"]


def revoke(server: Server, id: str, query: str = "") -> Answer:
    return server.request("DELETE", f"{API}/keys/{id}{query}", authorization=f"Bearer {ADMIN}")


def status(server: Server, secret: str) -> int:
    return server.get(f"{API}/submissions", authorization=f"Bearer {secret}").status


async def closed(client: Client) -> int:
    with pytest.raises(ConnectionClosed) as ended:
        await _receive_all(client)
    assert ended.value.reason
    return ended.value.reason.code


async def _receive_all(client: Client) -> None:
    while True:
        await client.receive()


async def test_a_key_that_one_node_revokes_is_dead_on_the_other_within_five_seconds(
    servers: tuple[Server, Server],
) -> None:
    one, other = servers
    secret, id = create(one)
    assert status(other, secret) == 200
    async with connected(other, Authorization=f"Bearer {secret}") as client:
        submission = await client.submit("print(input())", interactive=True)
        await client.until(submission, "started")
        assert (await trio.to_thread.run_sync(revoke, one, id)).status == 200
        began = time.monotonic()
        with trio.fail_after(PATIENCE_S):
            assert await closed(client) == 4401
        assert await trio.to_thread.run_sync(status, other, secret) == 401
        assert time.monotonic() - began < 2 * DEAD_S  # the machine may be busy
    looked = one.get(f"{API}/submissions/{submission}", authorization=f"Bearer {ADMIN}")
    assert looked.json()["status"] == "running"


async def test_what_a_key_submits_until_it_is_dead_is_cancelled_too(
    servers: tuple[Server, Server],
) -> None:
    """The other node believes in the key for two seconds, and its WebSocket is open for longer."""
    one, other = servers
    secret, id = create(one, "fast")
    submitted: list[str] = []

    async def submit_on() -> None:
        async with connected(other, Authorization=f"Bearer {secret}") as client:
            with suppress(ConnectionClosed):
                while True:
                    submitted.append(await client.submit("print(input())", interactive=True))
                    await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit_on)
        while not submitted:  # noqa: ASYNC110
            await trio.sleep(0.05)
        answer = await trio.to_thread.run_sync(revoke, one, id, "?cancel=true")
    for each in submitted:
        looked = one.get(f"{API}/submissions/{each}?wait=20", authorization=f"Bearer {ADMIN}")
        assert looked.json()["verdict"] == "cancelled"
    assert answer.json()["cancelled"] >= len(submitted) > 1  # the last answer may not have come


async def test_an_emptied_redis_leaves_the_keys_of_the_file_and_nobody_becomes_anonymous(
    servers: tuple[Server, Server], redis: RedisServer
) -> None:
    one, other = servers
    secret, _ = create(one)
    assert status(other, secret) == status(other, SERVICE) == 200
    async with connected(other, Authorization=f"Bearer {secret}") as client:
        redis.do("FLUSHALL")
        assert await closed(client) == 4401
    for server in servers:
        refused = server.post(PROGRAM, authorization=f"Bearer {secret}")
        assert (refused.status, refused.json()["type"]) == (401, "unauthorized")
        assert status(server, SERVICE) == 200
    for server in servers:
        ready = server.get("/readyz")
        assert ready.status == 200
        assert [each for each in ready.json()["warnings"] if "create them again" in each]
        assert "keys that were created are gone" in server.log.read_text()
    again, _ = create(other)
    assert status(one, again) == 200
