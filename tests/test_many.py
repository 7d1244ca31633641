"""Calls about many submissions at once, and about one once more, of a running server."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import API, PATIENCE_S, Answer, Server, serving
from test_api import OBJECT, SLEEPS, assert_problem

LIST = f"{API}/submissions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("many") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One program at a time, and four in all."""
    folder = tmp_path_factory.mktemp("narrow")
    with serving(folder / "data", queue__length_max="4", execute__slots="1") as server:
        yield server


def owner(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name:_<22}"}


def program(source: str, **fields: Any) -> dict[str, Any]:
    return {"language": "python", "source": source} | fields


NOBODY: dict[str, str] = {}


def post(server: Server, path: str, headers: dict[str, str] = NOBODY, body: bytes = b"") -> Answer:
    return server.request("POST", f"{LIST}/{path}", body, **headers)


def batch(server: Server, items: list[Any], query: str = "", **headers: str) -> Answer:
    body = json.dumps({"submissions": items}).encode()
    return post(server, f"batch{query}", headers, body)


def answers(answer: Answer, status: int = 202) -> list[dict[str, Any]]:
    assert answer.status == status, answer.body[:1000]
    found: list[dict[str, Any]] = answer.json()["submissions"]
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    """For each, its status or the type of its problem."""
    return [each["problem"]["type"] if "problem" in each else each["status"] for each in found]


# A batch


def test_each_of_a_batch_answers_for_itself_in_order(server: Server) -> None:
    items = [
        program("print(0)"),
        {"language": "klingon", "source": ""},
        program("print(2)", limits={"cpu_time": 1e6}),
        "no object",
        program("print(4)", network=True),
        program("print(5)", stdin={"base64": "!"}),
        program("print(6)", wait=1),
        program("print(7)"),
    ]
    found = answers(batch(server, items))
    assert kinds(found) == [
        "queued", "unknown-language", "limit-above-ceiling", "invalid", "not-yet", "invalid", "invalid",
        "queued",
    ]  # fmt: skip
    assert list(found[0]) == OBJECT
    for at in (0, 7):
        assert server.result(found[at]["id"])["run"]["stdout"] == f"{at}\n"
    assert all(each["id"] is None for each in found[1:7])


def test_a_batch_of_a_thousand_runs_in_its_order(server: Server) -> None:
    """Only the first ends by itself, however fast the machine is."""
    began = time.monotonic()
    lasting: dict[str, Any] = {"limits": {"wall_time": 60}}
    waits = [program(f"import time; time.sleep(60); {n}", **lasting) for n in range(1, 1000)]
    found = answers(batch(server, [program("print(0)"), *waits], **owner("many")))
    assert kinds(found) == ["queued"] * 1000
    assert time.monotonic() - began < PATIENCE_S
    created = [each["created_at"] for each in found]
    assert created == sorted(created)
    assert server.result(found[0]["id"])["run"]["stdout"] == "0\n"
    first = post(server, "cancel", owner("many")).json()
    rest = post(server, f"cancel?cursor={first['cursor']}", owner("many")).json()
    assert len(first["submissions"]) + len(rest["submissions"]) == 999
    assert rest["cursor"] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"submissions": [program("1")] * 1001}, "more than 1000 entries"),
        ({"submissions": {}}, "a batch is"),
        ({"submissions": [], "all_or_nothing": True}, "a batch is"),
        ([program("1")], "a batch is"),
        ({}, "a batch is"),
    ],
)
def test_what_is_no_batch_is_refused_whole(server: Server, body: Any, words: str) -> None:
    answer = post(server, "batch", body=json.dumps(body).encode())
    assert words in assert_problem(answer, 422, "invalid")["detail"]


def test_a_hostile_batch_has_a_short_answer(server: Server) -> None:
    wrong = {"language": "python", "files": [{}] * 15, **{f"x{n}": 0 for n in range(50)}}
    answer = batch(server, [wrong] * 200)
    assert set(kinds(answers(answer))) == {"invalid"}
    assert len(answer.body) < 500_000
    assert_problem(batch(server, [[0] * 100] * 1000), 413, "too-large")
    assert answers(batch(server, [])) == []


def test_all_or_nothing_submits_nothing_when_one_is_wrong(server: Server) -> None:
    mine = owner("whole")
    items = [program("1"), program("2", version="99"), program("3", args=["\0"])]
    problem = assert_problem(batch(server, items, "?all_or_nothing=true", **mine), 422, "batch")
    named = [each["field"] for each in problem["errors"]]
    assert named == ["submissions.1.version", "submissions.2.args.0"]
    assert server.get(LIST, **mine).json()["submissions"] == []
    found = answers(batch(server, items[:1] * 3, "?all_or_nothing=true", **mine))
    assert kinds(found) == ["queued"] * 3
    assert_problem(batch(server, items, "?all_or_nothing=yes"), 422, "invalid")


def test_a_batch_that_comes_again_is_known_again(server: Server) -> None:
    items = [program(f"print({n})") for n in range(5)]
    key = {"idempotency_key": "a-batch"} | owner("again")
    first = [each["id"] for each in answers(batch(server, items, **key))]
    items[2] = program("print('other')")
    again = answers(batch(server, items, **key))
    assert [each.get("id") for each in again] == [*first[:2], None, *first[3:]]
    assert again[2]["problem"]["type"] == "idempotency-conflict"
    one = server.post(items[0], **key).json()  # the key of one submission is another key
    assert one["id"] not in first


def test_what_a_full_queue_does_not_take_is_told_beside_it(narrow: Server) -> None:
    mine = owner("full")
    found = answers(batch(narrow, [program(SLEEPS)] * 9, **mine))
    taken = kinds(found).index("queue-full")
    assert 4 <= taken <= 5  # one may have begun meanwhile
    assert kinds(found)[taken:] == ["queue-full"] * (9 - taken)
    assert found[-1]["problem"]["retry_after"] > 0
    cancelled = post(narrow, "cancel", mine)
    assert len(answers(cancelled, 200)) == taken


# Many by id


def test_many_by_id_come_in_the_order_of_the_question(server: Server) -> None:
    ids = [server.submit(f"print('{'x' * n}')") for n in (1, 2, 40_000)]
    results = [server.result(id) for id in ids]
    asked = [ids[2], "unknown", "../x", ids[0], "", ids[1], ids[0]]
    found = answers(server.get(f"{LIST}?ids={','.join(asked)}"), 200)
    problem = {"type": "unknown-submission", "status": 404}
    assert found[0::3] == [results[2], results[0], results[0]]
    assert found[5] == results[1]
    for at in (1, 2, 4):
        assert found[at]["id"] == asked[at]
        assert found[at]["problem"].items() >= problem.items()


def test_a_question_by_id_has_a_bound(server: Server) -> None:
    ids = ",".join(["x"] * 100)
    assert len(answers(server.get(f"{LIST}?ids={ids}"), 200)) == 100
    for query in (f"ids={ids},x", "ids=x&limit=5", "ids=x&cursor=5"):
        assert_problem(server.get(f"{LIST}?{query}"), 422, "invalid")
    assert answers(server.get(f"{LIST}?ids="), 200) == []
    long = answers(server.get(f"{LIST}?ids={'x' * 10_000}"), 200)
    assert len(long[0]["id"]) == 64


def test_only_the_fields_that_are_wanted_are_sent(server: Server) -> None:
    id = server.submit("print('x' * 100_000)")
    whole = server.result(id)
    few = server.get(f"{LIST}/{id}?fields=verdict,status").json()
    assert few == {name: whole[name] for name in ("id", "status", "verdict")}
    run = server.get(f"{LIST}/{id}?fields=run&wait=1").json()
    assert run == {"id": id, "run": whole["run"]}
    (listed,) = answers(server.get(f"{LIST}?ids={id}&fields=verdict"), 200)
    assert listed == {"id": id, "verdict": "ok"}
    mine = owner("fields")
    server.post(program("1"), **mine)
    (summary,) = answers(server.get(f"{LIST}?fields=status", **mine), 200)
    assert set(summary) == {"id", "status"}
    for query in ("fields=", "fields=output", "fields=run,,id", "fields=" + "run," * 1000):
        assert_problem(server.get(f"{LIST}/{id}?{query}"), 422, "invalid")
    assert_problem(server.get(f"{LIST}?fields=run", **mine), 422, "invalid")


def test_fields_without_output_do_not_read_the_output(server: Server) -> None:
    """A result at the ceiling of output, asked for by many at once."""
    id = server.submit("print('x' * (16 * 2**20 - 1))", limits={"output": 16 * 2**20})
    server.get(f"{LIST}/{id}?fields=verdict&wait={PATIENCE_S}")
    with ThreadPoolExecutor(16) as pool:
        query = f"{LIST}?fields=verdict,message&ids={','.join([id] * 100)}"
        found = list(pool.map(lambda _: server.get(query), range(64)))
    for each in found:
        assert len(each.body) < 20_000
        assert answers(each, 200) == [{"id": id, "verdict": "ok", "message": None}] * 100


# Once more


def test_a_rerun_is_a_new_submission_of_the_same(server: Server) -> None:
    body = program(
        "import sys; print(input(), sys.argv[1:])", stdin="in", args=["a", "b"], user_id="label"
    )
    id = server.post(body, **owner("first")).json()["id"]
    assert server.result(id)["run"]["stdout"] == "in ['a', 'b']\n"
    answer = post(server, f"{id}/rerun?wait=60", owner("second"))
    assert answer.status == 200
    again = answer.json()
    assert (again["retry_of"], again["run"]["stdout"]) == (id, "in ['a', 'b']\n")
    assert again["id"] != id
    assert answer.headers["Location"] == f"{LIST}/{again['id']}"
    listed = answers(server.get(LIST, **owner("second")), 200)
    assert [each["id"] for each in listed] == [again["id"]]
    assert len(answers(server.get(LIST, **owner("first")), 200)) == 1


def test_tests_are_rerun_and_told_among_many(server: Server) -> None:
    tests = [{"stdin": "1", "expected_stdout": "1"}, {"stdin": "2", "expected_stdout": "3"}]
    id = server.submit("print(input())", tests=tests)
    first = server.result(id)
    assert first["verdict"] == "wrong_answer"
    again = post(server, f"{id}/rerun?wait=60").json()
    assert (again["verdict"], again["retry_of"]) == ("wrong_answer", id)
    assert [each["verdict"] for each in again["tests"]] == ["accepted", "wrong_answer"]
    found = answers(server.get(f"{LIST}?ids={again['id']},{id}"), 200)
    assert found == [again, first]
    listed = answers(server.get(f"{LIST}?ids={id}&fields=tests"), 200)
    assert listed == [{"id": id, "tests": first["tests"]}]


def test_a_rerun_is_repeated_by_its_key_only(server: Server) -> None:
    id, other = (server.submit(f"print({n})") for n in range(2))
    key = {"idempotency_key": "rerun"}
    first, again = (post(server, f"{id}/rerun", key) for _ in range(2))
    assert (first.status, first.json()["id"]) == (202, again.json()["id"])
    conflict = post(server, f"{other}/rerun", key)
    assert_problem(conflict, 409, "idempotency-conflict")
    free = post(server, f"{id}/rerun").json()
    assert free["id"] not in (id, first.json()["id"])


def test_a_rerun_that_cannot_be_is_refused(server: Server) -> None:
    id = server.submit("1")
    assert_problem(post(server, "unknown/rerun"), 404, "unknown-submission")
    answer = post(server, f"{id}/rerun", body=b'{"stdin": "x"}')
    assert "takes no body" in assert_problem(answer, 400, "bad-request")["detail"]
    foreign = post(server, f"{id}/rerun", {"origin": "http://evil.example"})
    assert_problem(foreign, 403)


def test_a_rerun_passes_the_ceilings_of_today(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        id = server.submit("1", limits={"memory": 2**30})
    with serving(tmp_path / "data", ceilings__memory=str(2**29)) as server:
        answer = post(server, f"{id}/rerun")
        assert_problem(answer, 422, "limit-above-ceiling")


# Erasing


def erase(server: Server, id: str, query: str = "?erase=true", **headers: str) -> Answer:
    return server.request("DELETE", f"{LIST}/{id}{query}", b"", **headers)


def test_what_is_erased_leaves_nothing_that_a_client_could_see(server: Server) -> None:
    mine = owner("erases")
    key = {"idempotency_key": "erased"} | mine
    writes = program("open('secret.txt', 'w').write('secret')", artifacts=["*.txt"])
    id = server.post(writes, "?wait=60", **key).json()["id"]
    assert server.get(f"{LIST}/{id}/artifacts/secret.txt").body == b"secret"
    answer = erase(server, id, **mine)
    assert (answer.status, answer.body) == (204, b"")
    assert_problem(server.get(f"{LIST}/{id}"), 404, "unknown-submission")
    assert_problem(server.get(f"{LIST}/{id}/artifacts/secret.txt"), 404)
    assert not (server.data_dir / "blobs" / id).exists()
    assert_problem(erase(server, id, **mine), 404, "unknown-submission")
    assert_problem(post(server, f"{id}/rerun"), 404, "unknown-submission")
    assert answers(server.get(LIST, **mine), 200) == []
    assert server.post(program("print('other')"), "?wait=60", **key).json()["id"] != id


def test_a_connection_goes_on_after_an_erasing(server: Server) -> None:
    id = server.run("print(1)")["id"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.connect()
    first = connection.sock
    connection.request("DELETE", f"{API}/submissions/{id}?erase=true")
    assert connection.getresponse().read() == b""
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    assert connection.sock is first
    connection.close()
    assert "application-failed" not in server.log.read_text()


def test_only_what_has_finished_is_erased_and_only_by_its_owner(server: Server) -> None:
    mine = owner("keeps")
    id = server.post(program(SLEEPS), **mine).json()["id"]
    assert_problem(erase(server, id, **mine), 409, "not-finished")
    server.request("DELETE", f"{LIST}/{id}")
    assert server.result(id)["verdict"] == "cancelled"
    for whose in (NOBODY, owner("another")):
        assert_problem(erase(server, id, **whose), 401, "unauthorized")
    assert_problem(erase(server, id, "?erase=yes", **mine), 422, "invalid")
    assert erase(server, id, "?erase=false", **mine).status == 200
    assert server.result(id)["verdict"] == "cancelled"
    assert erase(server, id, **mine).status == 204
    nobodys = server.submit("1")
    server.result(nobodys)
    assert erase(server, nobodys).status == 204  # an id is the right to it, as to read it


# Cancelling all of one's own


def test_all_of_ones_own_are_cancelled_and_nobody_elses(narrow: Server) -> None:
    mine, theirs = owner("mine"), owner("theirs")
    done = narrow.post(program("1"), "?wait=60", **mine).json()["id"]
    running = narrow.post(program(SLEEPS), **mine).json()["id"]
    narrow.wait_running(running)
    waiting = [narrow.post(program("1"), **mine).json()["id"] for _ in range(2)]
    other = narrow.post(program("print('other')"), **theirs).json()["id"]
    answer = post(narrow, "cancel", mine)
    found = {each["id"]: each["status"] for each in answers(answer, 200)}
    assert answer.json()["cursor"] is None
    assert found.keys() == {running, *waiting}
    assert {found[id] for id in waiting} == {"finished"}
    assert done not in found
    for id in (running, *waiting):
        assert narrow.result(id)["verdict"] == "cancelled"
    assert narrow.result(other)["run"]["stdout"] == "other\n"
    assert answers(post(narrow, "cancel", mine), 200) == []


def test_only_an_owner_cancels_all(server: Server) -> None:
    assert_problem(post(server, "cancel"), 401, "unauthorized")
    answer = post(server, "cancel", owner("x"), b'{"ids": []}')
    assert_problem(answer, 400, "bad-request")
    assert_problem(post(server, "cancel?ids=x", owner("x")), 400)
