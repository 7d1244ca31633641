"""Whose a submission is, the edge remembers for a while: within a bound, and never wrongly."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import trio
from serving import API, serving
from werkzeug.datastructures import Headers

from occd.config import Config
from occd.errors import UnknownSubmission
from occd.principal import Principal
from occd.web import access as module
from occd.web.access import Access

MOST = 20
OWNERS = ("key:a", "anon:b", "oidc:https://i#c", None)
ACCOUNTS: dict[str, Any] = {
    "anonymous": {"class": "it"},
    "default_class": "it",
    "classes": {"it": {}},
}


class Asked:
    """State, which takes a moment. `owners` are by id."""

    def __init__(self) -> None:
        self.owners: dict[str, str | None] = {}
        self.times = 0

    async def owner(self, id: str) -> str | None:
        self.times += 1
        await trio.lowlevel.checkpoint()
        if id not in self.owners:
            raise UnknownSubmission(id)
        return self.owners[id]


class Uncalled:
    """Nobody says here who they are."""

    async def caller(self, headers: Headers, peer: str, *, changes: bool) -> Principal:
        raise NotImplementedError

    async def bearer(self, secret: object, headers: Headers, peer: str) -> Principal:
        raise NotImplementedError

    async def is_still(self, principal: Principal) -> bool:
        raise NotImplementedError


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def access(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setattr(module, "_OWNERS_MAX", MOST)
    return Access(Config.model_validate({"accounts": ACCOUNTS}), Uncalled(), asked.owner)


async def may(access: Access, owner: str | None, id: str) -> bool:
    try:
        await access.need_of(Principal(owner), "read", id)
    except UnknownSubmission:
        return False
    return True


async def test_it_is_asked_for_once_and_what_is_unknown_each_time(
    access: Access, asked: Asked
) -> None:
    asked.owners["known"] = "key:a"
    for _ in range(3):
        assert await may(access, "key:a", "known")
        assert not await may(access, "anon:b", "known")
    assert asked.times == 1
    for turn in range(3):
        assert not await may(access, "key:a", "unknown")
        assert asked.times == 2 + turn
    asked.owners["unknown"] = "key:a"  # it was on its way to state
    assert await may(access, "key:a", "unknown")
    assert not await may(access, "anon:b", "unknown")


async def test_it_holds_so_many_and_is_right_whatever_was_dropped(
    access: Access, asked: Asked
) -> None:
    """Many callers at once, each about ids of everybody."""
    chance = random.Random(11)
    asked.owners = {f"id-{n}": OWNERS[n % len(OWNERS)] for n in range(3 * MOST)}
    wrong: list[object] = []

    async def ask() -> None:
        for _ in range(100):
            id, owner = chance.choice(list(asked.owners)), chance.choice(OWNERS)
            if await may(access, owner, id) != (asked.owners[id] in (None, owner)):
                wrong.append((id, owner))
            if len(access._owners) > MOST:
                wrong.append(len(access._owners))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert wrong == []
    assert asked.times > MOST


def test_what_was_erased_is_unknown_to_all_and_stays_its_owners(tmp_path: Path) -> None:
    """Its owner was known when it was erased."""
    mine, other = ({"authorization": f"Bearer {name:-<24}"} for name in ("mine", "other"))
    with serving(tmp_path / "data", accounts=json.dumps(ACCOUNTS)) as server:
        answer = server.post({"language": "python", "source": "print(1)"}, **mine)
        path = f"{API}/submissions/{answer.json()['id']}"
        assert server.get(f"{path}?wait=60", **mine).json()["status"] == "finished"
        assert server.get(path, **other).status == 404
        assert server.request("DELETE", f"{path}?erase=true", b"", **mine).status == 204
        for caller in (mine, other, {}):
            for method, query in (("GET", ""), ("DELETE", ""), ("DELETE", "?erase=true")):
                said = server.request(method, path + query, b"", **caller)
                assert (said.status, said.json()["type"]) == (404, "unknown-submission")
            assert server.request("POST", f"{path}/rerun", b"", **caller).status == 404
