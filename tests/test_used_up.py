"""What clients see of quotas. What states promise of them is in contract/test_quotas.py."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from hashlib import sha256
from http.client import parse_headers
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import UPGRADE, Edge, edge, frame

from occd.broker.embedded import EmbeddedBroker
from occd.errors import QueueFull
from occd.quotas import Allowance, Used

KEY = "occd_quotas-of-a-key-0001"
LIMITS = {"unfinished": 4, "runs_per_minute": 1000}
PROGRAM = {"language": "python", "source": "print(1)"}


def accounts(limits: Mapping[str, object], **more: object) -> dict[str, Any]:
    digest = sha256(KEY.encode()).hexdigest()
    scopes = ["run", "read"]
    key = {"id": "k", "owner": "moodle", "class": "it", "scopes": scopes, "sha256": digest}
    return {
        "anonymous": {"class": "it"},
        "default_class": "it",
        "classes": {"it": dict(limits), "open": {}},
        "keys": [key],
    } | more


class Caller:
    def __init__(self, found: Edge, bearer: str | None = KEY) -> None:
        self._edge = found
        self._bearer = bearer

    async def call(
        self, call: str, body: object = None, **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers of an answer."""
        method, _, path = call.partition(" ")
        text = "" if body is None else json.dumps(body)
        if self._bearer:
            headers = {"Authorization": f"Bearer {self._bearer}"} | headers
        head = [
            f"{method} /api/v1{path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Connection: close",
            f"Content-Length: {len(text)}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        said = await self._edge.exchange("\r\n".join([*head, "", text]).encode())
        first, _, rest = said.partition(b"\r\n")
        told, _, content = rest.partition(b"\r\n\r\n")
        parsed = parse_headers(BytesIO(told + b"\r\n\r\n"))
        named = {name.lower(): value for name, value in parsed.items()}
        return int(first.split()[1]), json.loads(content), named

    async def submit(self, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        return await self.call("POST /submissions", PROGRAM, **headers)

    async def left(self, name: str = "unfinished") -> float:
        _, me, _ = await self.call("GET /me")
        found: float = me["quotas"][name]["left"]
        return found

    async def fill(self) -> None:
        while await self.left():
            assert (await self.submit())[0] == 202


@pytest.mark.trio
async def test_what_is_accepted_tells_what_is_left(tmp_path: Path) -> None:
    async with edge(tmp_path, accounts({"unfinished": 4, "runs_per_minute": 6})) as found:
        status, _, headers = await Caller(found).submit()
        assert status == 202
        assert headers["ratelimit-policy"] == (
            '"unfinished";q=4;qu="concurrent-requests", "runs_per_minute";q=6;w=60'
        )
        assert headers["ratelimit"] == '"unfinished";r=3, "runs_per_minute";r=5;t=10'
        assert "retry-after" not in headers


@pytest.mark.trio
async def test_beyond_a_quota_the_answer_names_it_and_when_it_frees(tmp_path: Path) -> None:
    async with edge(tmp_path, accounts({"runs_per_minute": 1, "cpu_seconds_per_day": 5})) as found:
        caller = Caller(found)
        assert (await caller.submit())[0] == 202
        status, problem, headers = await caller.submit()
        assert (status, problem["type"]) == (429, "quota")
        quota = problem["quota"]
        assert (quota["name"], quota["limit"], quota["left"]) == ("runs_per_minute", 1, 0)
        assert quota["frees_at"]
        assert problem["retry_after"] == int(headers["retry-after"]) > 50
        assert "runs_per_minute" in problem["detail"]
        assert headers["ratelimit"].startswith('"runs_per_minute";r=0;t=')
        assert headers["cache-control"] == "no-store"


@pytest.mark.trio
async def test_a_request_that_is_wrong_takes_nothing_and_is_refused_for_that(
    tmp_path: Path,
) -> None:
    """401, 403, the size, counts, fields and ceilings go before a quota."""
    limited = accounts(LIMITS | {"unfinished": 1, "ceilings": {"cpu_time": 2}})
    async with edge(tmp_path, limited) as found:
        caller = Caller(found)
        await caller.fill()
        wrong: dict[str, tuple[str, object]] = {
            "unauthorized": ("POST /submissions", PROGRAM),
            "invalid": ("POST /submissions", {"language": "python", "source": 1}),
            "limit-above-ceiling": ("POST /submissions", PROGRAM | {"limits": {"cpu_time": 3}}),
            "unknown-language": ("POST /submissions", PROGRAM | {"language": "klingon"}),
        }
        for kind, (call, body) in wrong.items():
            who = Caller(found, "occd_nobody-has-this-key") if kind == "unauthorized" else caller
            _, problem, headers = await who.call(call, body)
            assert problem["type"] == kind
            assert "ratelimit" not in headers
        assert (await caller.submit())[1]["type"] == "quota"


@pytest.mark.trio
async def test_a_full_queue_and_a_broker_that_is_away_give_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge(tmp_path, accounts(LIMITS | {"runs_per_minute": 3})) as found:
        caller = Caller(found)
        monkeypatch.setattr(EmbeddedBroker, "publishing", full)
        for _ in range(10):
            status, problem, _ = await caller.submit()
            assert (status, problem["type"]) == (503, "queue-full")
        assert (await caller.left(), await caller.left("runs_per_minute")) == (4, 3)
        batch = {"submissions": [PROGRAM] * 3}
        for query in ("", "?all_or_nothing=true"):
            _, answer, _ = await caller.call(f"POST /submissions/batch{query}", batch)
            kinds = {each["problem"]["type"] for each in answer["submissions"]}
            assert kinds == {"queue-full"}
        assert (await caller.left(), await caller.left("runs_per_minute")) == (4, 3)


def full(*_: object, **__: object) -> None:
    raise QueueFull("submission_queue", 5)


@pytest.mark.trio
async def test_a_repeated_request_is_free_also_at_the_limit(tmp_path: Path) -> None:
    async with edge(tmp_path, accounts({"unfinished": 2})) as found:
        caller = Caller(found)
        _, first, _ = await caller.submit(Idempotency_Key="one")
        await caller.fill()
        status, again, _ = await caller.submit(Idempotency_Key="one")
        assert (status, again["id"]) == (202, first["id"])
        assert (await caller.submit(Idempotency_Key="two"))[0] == 429
        await caller.call(f"DELETE /submissions/{first['id']}")
        status, other, _ = await caller.submit(Idempotency_Key="two")
        assert status == 202
        assert other["id"] != first["id"]


@pytest.mark.trio
async def test_each_item_of_a_batch_is_a_run_and_answers_for_itself(tmp_path: Path) -> None:
    async with edge(tmp_path, accounts({"unfinished": 3, "runs_per_minute": 50})) as found:
        caller = Caller(found)
        batch = {"submissions": [PROGRAM, {"language": "klingon", "source": ""}, *[PROGRAM] * 3]}
        status, answer, headers = await caller.call("POST /submissions/batch", batch)
        kinds = [each.get("problem", {}).get("type") for each in answer["submissions"]]
        assert kinds == [None, "unknown-language", None, None, "quota"]
        assert answer["submissions"][-1]["problem"]["quota"]["name"] == "unfinished"
        assert status == 202
        assert headers["ratelimit"].startswith('"unfinished";r=0, "runs_per_minute";r=47;')


@pytest.mark.trio
async def test_a_batch_of_all_or_nothing_takes_all_or_nothing(tmp_path: Path) -> None:
    async with edge(tmp_path, accounts({"unfinished": 5, "runs_per_minute": 50})) as found:
        caller = Caller(found)
        call, batch = "POST /submissions/batch?all_or_nothing=true", {"submissions": [PROGRAM] * 3}
        status, first, headers = await caller.call(call, batch, Idempotency_Key="b")
        assert status == 202
        assert headers["ratelimit"].startswith('"unfinished";r=2, "runs_per_minute";r=47;')
        status, problem, _ = await caller.call(call, batch)
        assert (status, problem["type"], problem["quota"]["left"]) == (429, "quota", 2)
        assert (await caller.left(), await caller.left("runs_per_minute")) == (2, 47)
        status, again, _ = await caller.call(call, batch, Idempotency_Key="b")
        assert status == 202
        assert [each["id"] for each in again["submissions"]] == [
            each["id"] for each in first["submissions"]
        ]
        assert (await caller.left(), await caller.left("runs_per_minute")) == (2, 47)
        six = {"submissions": [PROGRAM] * 6}
        status, problem, headers = await caller.call(call, six)
        assert (status, "retry_after" in problem, "retry-after" in headers) == (429, False, False)


@pytest.mark.trio
async def test_a_test_is_no_run_and_a_rerun_is_one(tmp_path: Path) -> None:
    async with edge(tmp_path, accounts({"unfinished": 2})) as found:
        caller = Caller(found)
        tests = [{"stdin": "", "expected_stdout": "1"}] * 20
        status, made, _ = await caller.call("POST /submissions", PROGRAM | {"tests": tests})
        assert (status, await caller.left()) == (202, 1)
        status, _, headers = await caller.call(f"POST /submissions/{made['id']}/rerun")
        assert (status, headers["ratelimit"]) == (202, '"unfinished";r=0')
        status, problem, _ = await caller.call(f"POST /submissions/{made['id']}/rerun")
        assert (status, problem["type"]) == (429, "quota")


@pytest.mark.trio
async def test_a_websocket_that_submits_is_told_the_same(tmp_path: Path) -> None:
    async with edge(tmp_path, accounts({"unfinished": 1})) as found:
        await Caller(found).fill()
        upgrade = UPGRADE[:-2] + b"Authorization: Bearer %b\r\n\r\n" % KEY.encode()
        wanted = json.dumps({"type": "submit", "ref": "it", "submission": PROGRAM})
        said = await found.exchange(upgrade + frame(wanted.encode()), b'"ref":"it"}')
        problem = json.loads(said[said.index(b'{"type":"error"') :])["problem"]
        assert (problem["type"], problem["status"]) == ("quota", 429)
        assert (problem["quota"]["name"], problem["retry_after"]) == ("unfinished", 5)


@pytest.mark.trio
async def test_me_says_who_calls_and_what_is_left(tmp_path: Path) -> None:
    limits = {"unfinished": 2, "cpu_seconds_per_hour": 100, "ceilings": {"cpu_time": 3}}
    async with edge(tmp_path, accounts(limits)) as found:
        await Caller(found).submit()
        _, me, _ = await Caller(found).call("GET /me")
        assert {name: me[name] for name in ("kind", "name", "class", "scopes")} == {
            "kind": "key",
            "name": "moodle",
            "class": "it",
            "scopes": ["read", "run"],
        }
        assert me["quotas"] == {
            "unfinished": {"limit": 2, "left": 1, "frees_at": None},
            "cpu_seconds_per_hour": {"limit": 100.0, "left": 100.0, "frees_at": None},
        }
        assert me["ceilings"]["cpu_time"] == 3
        _, limited, _ = await Caller(found).call("GET /limits")
        assert (limited["ceilings"], limited["defaults"]["cpu_time"]) == (me["ceilings"], 3)
        _, offered, _ = await Caller(found).call("GET /languages")
        assert {each["limits"]["cpu_time"] for each in offered["languages"]} == {3}
        for bearer, kind in ((None, "nobody"), ("an-anonymous-owner-00001", "anonymous")):
            _, me, _ = await Caller(found, bearer).call("GET /me")
            assert (me["kind"], me["name"], me["class"]) == (kind, None, "it")
            assert me["quotas"]["unfinished"]["left"] == 2


@pytest.mark.trio
async def test_without_accounts_nothing_is_counted(tmp_path: Path) -> None:
    async with edge(tmp_path) as found:
        _, _, headers = await Caller(found, None).submit()
        assert "ratelimit" not in headers
        _, me, _ = await Caller(found, None).call("GET /me")
        assert (me["kind"], me["class"], me["quotas"]) == ("nobody", None, {})
        _, limits, _ = await Caller(found, None).call("GET /limits")
        assert limits["ceilings"] == me["ceilings"]


@pytest.mark.trio
async def test_invented_owners_share_the_quota_and_the_turn_of_their_address(
    tmp_path: Path,
) -> None:
    async with edge(tmp_path, accounts({"unfinished": 3})) as found:
        statuses = [
            (await Caller(found, f"invented-secret-number-{at}").submit())[0] for at in range(5)
        ]
        assert statuses == [202] * 3 + [429] * 2
        # There is no trusted proxy, so nobody believes this.
        assert (await Caller(found, None).submit(X_Forwarded_For="192.0.2.7"))[0] == 429
        assert (await Caller(found).submit())[0] == 202
    with closing(sqlite3.connect(tmp_path / "occd.db")) as db:
        turns = [owner for (owner,) in db.execute("SELECT owner FROM messages ORDER BY number")]
    assert turns == ["addr:127.0.0.1"] * 3 + ["key:moodle"]


@pytest.mark.trio
async def test_in_a_network_with_a_class_each_secret_counts_for_itself(tmp_path: Path) -> None:
    school = accounts({"unfinished": 1}, networks={"127.0.0.0/8": "it"})
    async with edge(tmp_path, school) as found:
        students = [Caller(found, f"secret-of-student-number-{at}") for at in range(300)]
        for student in students:
            assert (await student.submit())[0] == 202
        assert (await students[7].submit())[0] == 429


times = st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60)


@given(times, st.integers(1, 20))
def test_in_no_time_are_more_runs_admitted_than_the_limit_and_what_freed(
    tries: list[tuple[float, bool]], limit: int
) -> None:
    """Also when some of them are given back."""
    allowance, now, used = Allowance(runs_per_minute=limit), 1000.0, Used(1000.0)
    admitted: list[float] = []
    for passed, gives_back in tries:
        now += passed
        used = used.sunk(now, allowance)
        if used.lack(allowance, 1) is None:
            used = Used(now, runs=used.runs + 1)
            if gives_back:
                used = Used(now, runs=max(0.0, used.runs - 1))
            else:
                admitted.append(now)
    for first, began in enumerate(admitted):
        for last, ended in enumerate(admitted[first:], 1):
            assert last <= limit + (ended - began) * limit / 60 + 1e-6
