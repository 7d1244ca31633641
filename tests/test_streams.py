"""Streams of events over plain HTTP, from servers in both set-ups."""

import base64
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from rabbitmq_server import shared as shared_rabbitmq
from redis_server import shared_redis
from serving import API, PATIENCE_S, Client, Server, connected, serving, without_output
from streams import LINES, SSE, Stream, Told, followed, streamed, type_in

from occd.web.stream import ALIVE_S

HELLO = {"language": "python", "source": "print('hi')"}
ECHO = """
import sys
print("name? ", end="", flush=True)
for line in sys.stdin: print("got", line, flush=True)
"""
SLEEPS = "import time; print('on', flush=True); time.sleep(60)"
FORMS = {"sse": SSE, "ndjson": LINES}
ALIVE = {"sse": b"\n:\n\n", "ndjson": b'{"type":"alive"}'}

form = pytest.mark.parametrize("kind", FORMS.values(), ids=FORMS)


@pytest.fixture(scope="module", params=["alone", "apart"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Broker and state are in the process, or in RabbitMQ and Redis."""
    folder = tmp_path_factory.mktemp("streams")
    settings: dict[str, Any] = {}
    if request.param == "apart":
        settings = {
            "rabbitmq__url": shared_rabbitmq().add_vhost(),
            "redis__url": shared_redis().url,
            "redis__prefix": f"streams-{os.getpid()}",
            "languages": '["python"]',
        }
    with serving(folder / "data", execute__slots="4", **settings) as server:
        yield server
        assert '"level": "error"' not in server.log.read_text()
    if request.param == "apart":
        shared_rabbitmq().delete_vhost(settings["rabbitmq__url"])


@pytest.fixture(scope="module")
def done(server: Server) -> list[dict[str, Any]]:
    """The events of a submission that has finished, as the WebSocket tells them."""

    async def follow() -> list[dict[str, Any]]:
        async with connected(server) as client:
            source = "import sys; print('out\\n'); print('\\u2028é', file=sys.stderr)"
            return await client.until(await client.submit(source), "finished")

    return trio.run(follow)


def id_of(frames: list[dict[str, Any]]) -> str:
    return str(frames[0]["id"])


def written(told: list[Told]) -> str:
    return "".join(each.written for each in told)


def numbers(told: list[Told]) -> list[int | None]:
    return [each.id for each in told]


def cancel(server: Server, id: str) -> None:
    server.request("DELETE", f"{API}/submissions/{id}")


# Following


@form
def test_a_stream_tells_what_the_websocket_tells(
    server: Server, done: list[dict[str, Any]], kind: str
) -> None:
    with followed(server, id_of(done), accept=kind, accept_encoding="gzip, br") as stream:
        told = stream.rest()
    assert [each.frame for each in told] == done
    assert [each.name for each in told] == [frame["event"]["name"] for frame in done]
    assert numbers(told) == list(range(1, len(done) + 1))
    assert told[-1].frame["event"]["result"] == without_output(server.look(id_of(done)))
    headers = stream.response.headers
    assert (headers["Content-Type"], headers["Cache-Control"]) == (kind, "no-store")
    assert (headers["X-Accel-Buffering"], headers["Content-Encoding"]) == ("no", None)


@form
def test_a_program_is_seen_live_and_the_connection_can_be_used_again(
    server: Server, kind: str
) -> None:
    """The program waits for words that are sent only when its own have come."""
    id = server.submit(ECHO, interactive=True)
    with followed(server, id, accept=kind) as stream:
        seen = stream.until_written("name? ")
        type_in(server, id, "Ann\n")
        seen += stream.until_written("got Ann\n")
        type_in(server, id, "", eof=True)
        seen += stream.rest()
        assert (seen[-1].name, numbers(seen)) == ("finished", list(range(1, len(seen) + 1)))
        stream.connection.request("GET", f"{API}/submissions/{id}?fields=verdict")
        answer = json.loads(stream.connection.getresponse().read())
        assert answer == {"id": id, "verdict": "ok"}


def test_a_submission_that_waits_is_followed_from_its_place_in_the_queue(server: Server) -> None:
    busy = [server.submit(SLEEPS) for _ in range(4)]
    for id in busy:
        server.wait_running(id)
    id = server.submit("print('at last')")
    with followed(server, id) as stream:
        (queued,) = stream.until("queued")
        assert queued.frame["event"]["position"] >= 1
        for each in busy:
            cancel(server, each)
        assert written(stream.rest()) == "at last\n"


@form
def test_any_last_number_resumes_exactly(
    server: Server, done: list[dict[str, Any]], kind: str
) -> None:
    for after in range(len(done)):
        for query, headers in (
            (f"?after={after}", {}),
            ("", {"last_event_id": str(after)}),
            ("?after=1", {"last_event_id": str(after)}),  # as a browser comes again
        ):
            with followed(server, id_of(done), query, accept=kind, **headers) as stream:
                assert [each.frame for each in stream.rest()] == done[after:]


def test_a_stream_is_open_before_it_has_an_event(server: Server) -> None:
    id = server.submit(ECHO, interactive=True)
    with followed(server, id) as stream:
        (*_, last) = stream.until("output")
    before = time.monotonic()
    with followed(server, id, last_event_id=str(last.id)):
        assert time.monotonic() - before < ALIVE_S / 2
    cancel(server, id)


def test_a_stream_that_breaks_off_is_resumed_while_the_program_runs(server: Server) -> None:
    id = server.submit(ECHO, interactive=True)
    seen: list[Told] = []
    for word in ("a\n", "b\n", "c\n"):
        headers = {"last_event_id": str(seen[-1].id)} if seen else {}
        with followed(server, id, **headers) as stream:
            type_in(server, id, word)
            seen += stream.until_written(f"got {word}")
    type_in(server, id, "", eof=True)
    with followed(server, id, last_event_id=str(seen[-1].id)) as stream:
        seen += stream.rest()
    assert numbers(seen) == list(range(1, len(seen) + 1))
    assert written(seen) == "name? got a\n\ngot b\n\ngot c\n\n"


@form
def test_who_has_all_is_told_so_and_does_not_come_again(
    server: Server, done: list[dict[str, Any]], kind: str
) -> None:
    """A browser comes again after every end, unless it gets 204."""
    path = f"{API}/submissions/{id_of(done)}/events"
    for query, headers in (
        (f"?after={len(done)}", {}),
        ("", {"last_event_id": str(len(done))}),
    ):
        answer = server.get(path + query, accept=kind, **headers)
        assert (answer.status, answer.body) == (204, b"")


@form
@pytest.mark.parametrize("by", ["after", "last_event_id"])
def test_a_number_beyond_the_log_is_told_and_all_events_follow(
    server: Server, done: list[dict[str, Any]], kind: str, by: str
) -> None:
    number = str(len(done) + 1 if by == "after" else 2**53)
    query, headers = (f"?after={number}", {}) if by == "after" else ("", {by: number})
    with followed(server, id_of(done), query, accept=kind, **headers) as stream:
        reset, *told = stream.rest()
    assert (reset.name, reset.id) == ("events-reset", 0)
    assert reset.frame["type"] == "error"
    assert reset.frame["id"] == id_of(done)
    assert reset.frame["problem"]["type"] == "events-reset"
    assert [each.frame for each in told] == done


@pytest.mark.parametrize(
    "number", ["x", "-1", "1.5", str(2**53 + 1), "9" * 5000, "1,2", "٣", "0x1"]
)
def test_what_is_no_number_of_an_event_is_refused_by_name(
    server: Server, done: list[dict[str, Any]], number: str
) -> None:
    path = f"{API}/submissions/{id_of(done)}/events"
    header = number.encode().decode("latin-1")
    answers = [server.get(path, last_event_id=header)]
    if number.isascii():
        answers.append(server.get(f"{path}?after={number}"))
    statuses = [
        (each.status, each.json()["type"], each.json()["errors"][0]["field"]) for each in answers
    ]
    expected = [(400, "bad-request", "last_event_id"), (422, "invalid", "after")]
    assert statuses == expected[: len(answers)]
    assert all("must be a whole number from 0" in each.json()["detail"] for each in answers)


def test_a_parameter_that_means_nothing_and_an_unknown_id_are_told(server: Server) -> None:
    id = server.submit("pass")
    wrong = server.get(f"{API}/submissions/{id}/events?afer=1")
    assert (wrong.status, wrong.json()["errors"][0]["field"]) == (400, "afer")
    unknown = server.get(f"{API}/submissions/nobody/events")
    assert (unknown.status, unknown.json()["type"]) == (404, "unknown-submission")
    assert server.request("POST", f"{API}/submissions/{id}/events").status == 405


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", SSE),
        ("text/*", SSE),
        ("text/event-stream", SSE),
        (f"{LINES};q=0.1, {SSE};q=0.9", SSE),
        ("application/*", LINES),
        (f"text/html, {LINES}", LINES),
        ("application/json", None),
        (f"{SSE};q=0", None),
        (";;;", None),
    ],
)
def test_the_form_is_one_that_the_client_accepts(
    server: Server, done: list[dict[str, Any]], accept: str, kind: str | None
) -> None:
    if kind:
        with followed(server, id_of(done), accept=accept) as stream:
            assert stream.response.headers["Content-Type"] == kind
        return
    answer = server.get(f"{API}/submissions/{id_of(done)}/events", accept=accept)
    assert (answer.status, answer.json()["type"]) == (406, "not-acceptable")
    assert SSE in answer.json()["detail"]
    assert LINES in answer.json()["detail"]


def test_head_tells_what_would_come_and_does_not_wait(server: Server) -> None:
    id = server.submit(SLEEPS)
    path = f"{API}/submissions/{id}/events"
    answer = server.request("HEAD", path)
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, SSE, b"")
    assert server.request("HEAD", path, accept="image/png").status == 406
    assert server.request("HEAD", f"{API}/submissions/nobody/events").status == 404
    cancel(server, id)


# Submitting and following in one call


@pytest.mark.parametrize("name", FORMS)
def test_a_submission_is_followed_in_the_call_that_submits_it(server: Server, name: str) -> None:
    body = {"language": "python", "source": ECHO, "interactive": True}
    with streamed(server, f"/submissions?stream={name}", body) as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == FORMS[name]
        (accepted,) = stream.until("accepted")
        id, shown = accepted.frame["id"], accepted.frame["submission"]
        assert (accepted.frame["type"], accepted.id) == ("accepted", None)
        assert headers["Location"] == f"{API}/submissions/{id}"
        assert (shown["id"], shown["status"], shown["run"]) == (id, "queued", None)
        assert list(shown) == list(server.look(id))
        seen = stream.until_written("name? ")
        type_in(server, id, "Ann\n", eof=True)
        seen += stream.rest()
    assert (seen[-1].name, numbers(seen)) == ("finished", list(range(1, len(seen) + 1)))
    assert written(seen) == "name? got Ann\n\n"
    with followed(server, id, f"?after={len(seen) - 1}") as stream:
        assert [each.frame for each in stream.rest()] == [seen[-1].frame]


@pytest.mark.parametrize("name", FORMS)
def test_accepted_comes_first_also_to_a_client_that_sends_no_more(
    server: Server, name: str
) -> None:
    """A sign of life follows at once, which tells whether this client has left."""
    body = json.dumps({"language": "python", "source": "input()", "interactive": True})
    head = f"POST {API}/submissions?stream={name} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            client.shutdown(socket.SHUT_WR)
            said = b""
            while ALIVE[name] not in said:
                said += client.recv(2**16)
        _, _, told = said.partition(b"chunked\r\n\r\n")
        assert b"accepted" in told.partition(ALIVE[name])[0], said
        found = re.search(rb'"id":"([^"]+)"', told)
        assert found
        cancel(server, found[1].decode())


def test_a_submission_outlives_the_call_that_follows_it(server: Server) -> None:
    body = {"language": "python", "source": ECHO, "interactive": True}
    with streamed(server, "/submissions?stream=sse", body) as stream:
        id = stream.until("accepted")[0].frame["id"]
    type_in(server, id, "Ann\n", eof=True)
    assert server.result(id)["run"]["stdout"] == "name? got Ann\n\n"


def test_a_repeated_key_follows_the_same_submission(server: Server) -> None:
    def frames(headers: dict[str, str]) -> list[Any]:
        with streamed(server, "/submissions?stream=sse", HELLO, **headers) as stream:
            return [each.frame for each in stream.rest()]

    key = {"idempotency_key": f"key-{time.monotonic_ns()}"}
    first, again = frames(key), frames(key)
    assert first[1:] == again[1:]
    assert (first[0]["id"], again[0]["submission"]["status"]) == (again[0]["id"], "finished")
    assert again[0]["submission"] == without_output(server.look(first[0]["id"]))
    other = server.post(HELLO | {"source": "2"}, "?stream=sse", **key)
    assert (other.status, other.json()["type"]) == (409, "idempotency-conflict")
    assert frames({})[0]["id"] != first[0]["id"]


@pytest.mark.parametrize(
    ("query", "body", "status", "field"),
    [
        ("?stream=xml", HELLO, 422, "stream"),
        ("?stream=", HELLO, 422, "stream"),
        ("?stream=sse&wait=1", HELLO, 400, "wait"),
        ("?stream=sse&stream=sse", HELLO, 400, "stream"),
        ("?stream=sse", HELLO | {"langauge": "c"}, 422, "langauge"),
        ("?stream=ndjson", b"{", 400, None),
    ],
)
def test_a_fault_before_the_first_event_is_an_ordinary_problem(
    server: Server, query: str, body: Any, status: int, field: str | None
) -> None:
    answer = server.post(body, query)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert field in [None, *(each["field"] for each in answer.json().get("errors", ()))]
    assert status == 400 or field


def test_a_foreign_page_cannot_submit(server: Server) -> None:
    answer = server.post(HELLO, "?stream=sse", origin="http://evil.example")
    assert answer.status == 403


# The end of the server


@form
def test_a_stop_is_told_and_the_stream_ends_well(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path / "data", grace_s="0.5") as server:
        id = server.submit(SLEEPS)
        with followed(server, id, accept=kind) as stream:
            seen = stream.until_written("on\n")
            server.signal(signal.SIGTERM)
            seen += stream.rest()
    assert seen[-1].name == "problem"
    assert seen[-1].id is None
    assert seen[-1].frame["problem"]["type"] == "shutting-down"
    assert seen[-1].frame["id"] == id


def test_a_program_that_ends_while_the_server_stops_is_followed_to_its_end(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "data") as server:
        source = "import time; print(1, flush=True); time.sleep(1); print(2)"
        id = server.submit(source)
        with followed(server, id) as stream:
            stream.until_written("1\n")
            server.signal(signal.SIGTERM)
            rest = stream.rest()
    assert (written(rest), rest[-1].name) == ("2\n", "finished")


# Transcripts

TALKS = """
import sys, time
sys.stdout.buffer.write(b"out\\n"); sys.stdout.flush(); time.sleep(0.3)
sys.stderr.buffer.write(b"\\xff"); sys.stderr.flush(); time.sleep(0.3)
sys.stdout.buffer.write(b"more\\n"); sys.stdout.flush()
"""


def transcript(server: Server, id: str, query: str = "") -> list[dict[str, Any]]:
    answer = server.get(f"{API}/submissions/{id}?transcript=true{query}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["transcript"]
    return found


def test_a_transcript_has_the_pieces_in_their_order_with_their_times(server: Server) -> None:
    result = server.run(TALKS)
    assert "transcript" not in result
    pieces = transcript(server, result["id"])
    assert [(each["stream"], each["data"]) for each in pieces] == [
        ("stdout", "out\n"),
        ("stderr", {"base64": base64.b64encode(b"\xff").decode()}),
        ("stdout", "more\n"),
    ]
    of_step = {"stage": "run", "program": "solution", "test": None}
    assert [each | of_step for each in pieces] == pieces
    first, second, third = (each["time"] for each in pieces)
    assert first > 0
    assert first + 0.15 < second
    assert second + 0.15 < third < PATIENCE_S
    answer = server.get(f"{API}/submissions/{result['id']}?transcript=true&fields=status").json()
    assert answer == {"id": result["id"], "status": "finished", "transcript": pieces}
    wrong = server.get(f"{API}/submissions/{result['id']}?transcript=1")
    assert (wrong.status, wrong.json()["errors"][0]["field"]) == (422, "transcript")


def test_a_transcript_of_what_has_not_finished_has_the_pieces_until_now(server: Server) -> None:
    id = server.submit(SLEEPS)
    with followed(server, id) as stream:
        stream.until_written("on\n")
    pieces = transcript(server, id)
    assert "".join(each["data"] for each in pieces) == "on\n"
    cancel(server, id)
    assert transcript(server, id, "&wait=60") == pieces


def test_a_transcript_of_silence_is_empty(server: Server) -> None:
    assert transcript(server, server.run("pass")["id"]) == []


def test_a_transcript_names_the_test_of_each_piece(server: Server) -> None:
    tests = [{"stdin": f"{n}\n", "expected_stdout": f"{n}\n"} for n in range(3)]
    result = server.run("print(input())", tests=tests)
    pieces = transcript(server, result["id"])
    for n in range(3):
        assert "".join(each["data"] for each in pieces if each["test"] == n) == f"{n}\n"


# The same over three ways


async def answer_three(server: Server, client: Client, id: str) -> None:
    for name in ("Ann", "7", "blue"):
        await client.ask("stdin", id=id, data=f"{name}\n")


def test_three_questions_have_the_same_transcript_by_every_way(server: Server) -> None:
    source = "for n in range(3): print(n, input(f'{n}? '), flush=True)"

    async def over_the_websocket() -> str:
        async with connected(server) as client:
            id = await client.submit(source, interactive=True)
            await answer_three(server, client, id)
            frames = await client.until(id, "finished")
        return "".join(
            frame["event"]["data"] for frame in frames if frame["event"]["name"] == "output"
        )

    def over_a_stream(stream: Stream, id: str) -> str:
        seen = []
        for n, name in enumerate(("Ann", "7", "blue")):
            seen += stream.until_written(f"{n}? ")
            type_in(server, id, f"{name}\n")
        return written(seen + stream.rest())

    said = {trio.run(over_the_websocket)}
    for name in FORMS:
        id = server.submit(source, interactive=True)
        with followed(server, id, accept=FORMS[name]) as stream:
            said.add(over_a_stream(stream, id))
        said.add("".join(each["data"] for each in transcript(server, id)))
        body = {"language": "python", "source": source, "interactive": True}
        with streamed(server, f"/submissions?stream={name}", body) as stream:
            id = stream.until("accepted")[0].frame["id"]
            said.add(over_a_stream(stream, id))
    assert said == {"0? 0 Ann\n1? 1 7\n2? 2 blue\n"}
