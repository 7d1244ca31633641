"""docs/api.md says what is so: its examples are sent to a real server, and what it shows comes back."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pages import Page, shape
from serving import API, PATIENCE_S, Server, connected, serving

PAGE = Page("api.md")
LIST = f"{API}/submissions"
OWNER: dict[str, Any] = {"authorization": "Bearer " + "o" * 22}

VARIES = {
    "id", "version", "cpu_time", "wall_time", "memory", "created_at", "started_at", "finished_at",
}  # fmt: skip
"""Fields of which the page shows only what they look like."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("examples")
    with serving(folder / "data", languages='["python"]') as server:
        yield server


def fits(shown: Any, found: Any) -> bool:
    """Whether an answer has the fields that the page shows, in their order, and no others. Null on the page
    stands for any value."""
    if isinstance(shown, dict):
        return list(shown) == list(found) and all(fits(shown[name], found[name]) for name in shown)
    if isinstance(shown, list):
        return bool(found) and all(fits(shown[0], each) for each in found)
    return shown is None or shown == found


def test_the_example_of_a_submission_gives_the_example_of_a_result(server: Server) -> None:
    asked, *_, shown = map(json.loads, PAGE.blocks("json"))
    answer = server.post(asked, f"?wait={PATIENCE_S}")
    assert answer.status == 200

    def compare(shown: Any, found: Any, name: str = "") -> None:
        assert type(shown) is type(found), name
        if isinstance(shown, dict):
            assert list(shown) == list(found)
            for each in shown:
                compare(shown[each], found[each], each)
        elif name not in VARIES:
            assert shown == found, name

    compare(shown, answer.json())


def test_the_examples_of_a_trace_have_the_fields_of_a_trace(server: Server) -> None:
    _, account, listed, _ = map(json.loads, PAGE.blocks("json"))
    source = "import socket; socket.socket().connect(('93.184.216.34', 80))"
    result = server.post(
        {"language": "python", "source": source, "trace": True}, f"?wait={PATIENCE_S}"
    ).json()
    found = result["trace"]
    assert list(found) == list(account)
    assert (found["ended"], found["refused"]) == (account["ended"], account["refused"])
    assert list(found["counts"][0]) == list(account["counts"][0])
    calls = server.get(f"{API}/submissions/{result['id']}/trace").json()
    assert list(calls) == list(listed)
    assert list(calls["calls"][0]) == list(listed["calls"][0])


def test_the_table_of_limits_is_what_the_server_tells(server: Server) -> None:
    told = server.get(f"{API}/limits").json()
    rows = {
        re.findall(r"`(\w+)`", row[0])[0]: row
        for row in PAGE.rows("limit | default | ceiling")[:-1]
    }
    assert list(rows) == list(told["defaults"]) == list(told["ceilings"])
    sizes = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    for name, (_, default, ceiling) in rows.items():
        for cell, value in ((default, told["defaults"][name]), (ceiling, told["ceilings"][name])):
            number, unit = re.match(r"(?:max\()?(\d+) ?(\w+)?", cell).groups()  # type: ignore[union-attr]
            assert float(number) * sizes.get(unit, 1) == value, (name, cell)


def test_lists_have_the_fields_that_the_page_shows(server: Server) -> None:
    asked: dict[str, Any] = {
        "language": "python",
        "source": "open('a.txt', 'w'); import os; os.mkfifo('b.txt')",
    }
    result = server.post(asked | {"artifacts": ["*"]}, f"?wait={PATIENCE_S}", **OWNER).json()
    listed = server.get(f"{LIST}?limit=20", **OWNER).json()
    assert fits(PAGE.after("`GET /submissions?limit=20&cursor=` →"), listed)
    assert fits([PAGE.after("`artifacts` of the object lists")], result["artifacts"][:1])
    assert fits([PAGE.after("`left_out` what matched and was not kept:")], result["left_out"])
    fewer = server.get(f"{LIST}/{result['id']}?fields=status,verdict").json()
    assert fewer == {"id": result["id"], "status": "finished", "verdict": "ok"}

    found = server.get(f"{LIST}?ids={result['id']},unknown").json()
    assert fits(PAGE.after("`GET /submissions?ids=A,B` →"), found)
    assert found["submissions"][0] == result
    assert fits(PAGE.after("An id of which nothing is known has"), found["submissions"][1])


def test_batches_and_what_cancels_them_have_the_fields_that_the_page_shows(server: Server) -> None:
    body = PAGE.after("`POST /submissions/batch` with")
    wait = {
        "language": "python",
        "source": "import time; time.sleep(200)",
        "limits": {"wall_time": 200},
    }
    body["submissions"] = [wait, {"language": "klingon"}]
    answer = server.request("POST", f"{LIST}/batch", json.dumps(body).encode(), **OWNER)
    assert answer.status == 202
    found = answer.json()
    assert fits(PAGE.after("(at most 1,000) → 202 and"), found)
    assert fits(PAGE.after("in order, as the object or as"), found["submissions"][1])
    cancelled = server.request("POST", f"{LIST}/cancel", **OWNER).json()
    assert fits(PAGE.after("cancels the owner's unfinished submissions →"), cancelled)
    id = found["submissions"][0]["id"]
    assert server.result(id)["verdict"] == "cancelled"
    again = server.request("POST", f"{LIST}/{id}/rerun", **OWNER)
    assert (again.status, again.json()["retry_of"]) == (202, id)
    assert server.request("DELETE", f"{LIST}/{again.json()['id']}").status == 202
    assert server.request("DELETE", f"{LIST}/{id}?erase=true", **OWNER).status == 204


def test_languages_have_the_fields_that_the_page_shows(server: Server) -> None:
    assert fits(PAGE.after("`GET /languages` →"), server.get(f"{API}/languages").json())


async def test_each_frame_of_the_page_is_answered_as_the_page_says(server: Server) -> None:
    source = "import signal; signal.signal(2, print); print('up', flush=True)\nwhile True: input()"
    given: dict[str, Any] = {
        "submission": {
            "language": "python",
            "source": source,
            "tty": {"rows": 24, "cols": 80},
        },
        "idempotency_key": "examples",
        "bearer": "o" * 22,
        "data": "typed\n",
        "offset": 0,
        "writer": "one",
    }
    async with connected(server) as client:
        for sent, answer in PAGE.rows("client sends | answer"):
            frame = shape(re.search(r"`(\{.*\})`", sent)[1])  # type: ignore[index]
            filled = {
                name: given.get(name) if each is None else each for name, each in frame.items()
            }
            assert None not in filled.values(), frame
            said = await client.ask(str(filled.pop("type")), **filled)
            said.pop("ref")
            kind = re.search("accepted|done", answer)[0]  # type: ignore[index]
            names = ("type", "id") if "id" in frame or kind == "accepted" else ("type",)
            assert (said["type"], tuple(said)) == (kind, names), said
            given |= {name: said[name] for name in names if name == "id"}
            if kind == "accepted":
                await client.until_output(said["id"], "up\r\n")
        error = await client.ask("subscribe", id="unknown", after=0)
        assert set(PAGE.after("An error is")) == set(error)


async def test_each_event_has_the_fields_of_its_row(server: Server) -> None:
    judged: dict[str, Any] = {"tests": [{"expected_stdout": "hi"}]}
    leaves: dict[str, Any] = {"artifacts": ["a"]}
    async with connected(server) as client:
        frames = []
        for more in (judged, leaves):
            id = await client.submit("open('a', 'w'); print('hi')", **more)
            frames += await client.until(id, "finished")
    shown = PAGE.after('An error is `{"type": "error", "ref", "id", "problem": {…}}`. Events:')
    events: dict[str, list[str]] = {}
    for frame in frames:
        assert list(frame) == list(shown)
        name, *fields = frame["event"]
        assert name == "name"
        assert events.setdefault(frame["event"]["name"], fields) == fields
    rows = {row[0].strip("| `"): row[1] for row in PAGE.rows("event | fields")}
    assert events == {name: fields_of(cell) for name, cell in rows.items() if name != "unknown"}


def fields_of(cell: str) -> list[str]:
    """The names at the beginning of a cell, without what is said of their values."""
    names = re.split(r"[.:;]|, the ", re.sub(r"\(.*?\)", "", cell))[0]
    return [name for name in re.findall(r"`(\w+)`", names) if name not in ("start", "end")]
