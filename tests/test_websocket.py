"""The WebSocket of a running server."""

import base64
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from everywhere import EVERYWHERE_IN_ALL, serving_at
from serving import (
    API,
    PATIENCE_S,
    Client,
    Server,
    connected,
    output,
    serving,
    talking,
    without_output,
)
from trio_websocket import ConnectionClosed

SLEEPS = "import time; time.sleep(60)"
ECHO = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print("got", line, end="", flush=True)
print("end", flush=True)
"""


@pytest.fixture(scope="module", params=EVERYWHERE_IN_ALL)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("websocket")
    with serving_at(request, folder / "data", request.param, execute__slots="4") as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with connected(server) as client:
        yield client


def assert_problem(frame: dict[str, Any], status: int, kind: str | None = None) -> None:
    assert frame["type"] == "error", frame
    assert frame["problem"]["status"] == status, frame
    assert frame["problem"]["title"]
    assert kind in (None, frame["problem"]["type"]), frame


# Following


async def test_a_submission_is_told_from_queued_to_finished_without_gaps(
    server: Server, client: Client
) -> None:
    id = await client.submit("import sys; print('out'); print('err', file=sys.stderr)")
    frames = await client.until(id, "finished")
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert {(frame["type"], frame["id"]) for frame in frames} == {("event", id)}
    assert [frame["time"] for frame in frames] == sorted(frame["time"] for frame in frames)
    events = [frame["event"] for frame in frames]
    names = [event["name"] for event in events if event["name"] != "output"]
    assert names == ["queued", "started", "stage", "stage", "finished"]
    assert {"position", "estimate_s"} < set(events[0])
    assert events[1]["attempt"] == 1
    assert {"version", "node"} < set(events[1])
    assert (events[2]["stage"], events[2]["phase"], events[2]["outcome"]) == ("run", "start", None)
    assert (events[-2]["phase"], events[-2]["outcome"]["exit_code"]) == ("end", 0)
    assert (output(frames), output(frames, "stderr")) == ("out\n", "err\n")
    result = await trio.to_thread.run_sync(server.look, id)
    assert (result["run"]["stdout"], result["run"]["stderr"]) == ("out\n", "err\n")
    assert events[-1]["result"] == without_output(result)


async def test_output_goes_over_a_connection_once(client: Client) -> None:
    id = await client.submit("import sys; sys.stderr.write('no' * 9999); print('yes' * 9999)")
    frames = await client.until(id, "finished")
    assert (output(frames), output(frames, "stderr")) == ("yes" * 9999 + "\n", "no" * 9999)
    said = json.dumps([frame["event"] for frame in frames if frame["event"]["name"] != "output"])
    assert "yes" not in said
    assert "no" * 2 not in said
    assert (frames[-1]["event"]["result"]["run"]["stdout"], len(said) < 5000) == (None, True)


async def test_a_compiled_program_is_told_stage_by_stage(client: Client) -> None:
    source = '#include <stdio.h>\nint main(void) { puts("hi"); return 3; }'
    id = await client.submit(source, language="c")
    events = [frame["event"] for frame in await client.until(id, "finished")]
    stages = [(event["stage"], event["phase"]) for event in events if event["name"] == "stage"]
    assert stages == [("compile", "start"), ("compile", "end"), ("run", "start"), ("run", "end")]
    assert events[-1]["result"]["run"]["exit_code"] == 3


async def test_lines_are_seen_while_the_program_runs(client: Client) -> None:
    source = "import time\nfor n in range(10): print(n, flush=True); time.sleep(0.2)"
    id = await client.submit(source)
    arrivals, seen = [], ""
    while (event := (await client.next_event(id))["event"])["name"] != "finished":
        if event["name"] == "output":
            arrivals.append(time.monotonic())
            seen += event["data"]
    assert seen == "".join(f"{n}\n" for n in range(10))
    assert len(arrivals) >= 8
    assert arrivals[-1] - arrivals[0] > 1.2


async def test_a_prompt_without_a_newline_is_seen(client: Client) -> None:
    id = await client.submit("input('name? ')", interactive=True)
    assert await client.until_output(id, "name? ") == "name? "
    await client.ask("cancel", id=id)


async def test_split_characters_arrive_whole(client: Client) -> None:
    text = "é€😀"
    source = f"""
import sys, time
for byte in {text.encode()!r}:
    sys.stdout.buffer.write(bytes([byte])); sys.stdout.flush(); time.sleep(0.06)
"""
    id = await client.submit(source)
    frames = await client.until(id, "finished")
    assert output(frames) == text
    assert sum(frame["event"]["name"] == "output" for frame in frames) == len(text)


async def test_output_that_is_no_text_comes_as_base64(client: Client) -> None:
    id = await client.submit(r"import sys; sys.stdout.buffer.write(b'\xff\0')")
    frames = await client.until(id, "finished")
    data = [frame["event"]["data"] for frame in frames if frame["event"]["name"] == "output"]
    assert data == [{"base64": base64.b64encode(b"\xff\0").decode()}]


async def test_output_that_ends_within_a_character_is_not_lost(client: Client) -> None:
    id = await client.submit(r"import sys; sys.stdout.buffer.write(b'a\xe2\x82')")
    frames = await client.until(id, "finished")
    data = [frame["event"]["data"] for frame in frames if frame["event"]["name"] == "output"]
    joined = b"".join(
        each.encode() if isinstance(each, str) else base64.b64decode(each["base64"])
        for each in data
    )
    assert joined == b"a\xe2\x82"


async def test_any_last_number_resumes_exactly(server: Server, client: Client) -> None:
    id = await client.submit(
        "import time\nfor n in range(3): print(n, flush=True); time.sleep(0.1)"
    )
    frames = await client.until(id, "finished")
    for after in range(len(frames)):
        async with connected(server) as other:
            assert await other.ask("subscribe", id=id, after=after) == {
                "type": "done",
                "ref": "ref-0",
                "id": id,
            }
            assert await other.until(id, "finished") == frames[after:]


async def test_following_to_the_end_again_gives_nothing_more(client: Client) -> None:
    id = await client.submit("pass")
    last = (await client.until(id, "finished"))[-1]["seq"]
    assert (await client.ask("subscribe", id=id, after=last))["type"] == "done"
    await client.ask("unsubscribe", id=id)
    assert client.frames == []


async def test_a_number_beyond_the_log_resets(client: Client) -> None:
    id = await client.submit("pass")
    last = (await client.until(id, "finished"))[-1]["seq"]
    await client.ask("subscribe", id=id, after=last + 1)
    frame = client.frames.pop() if client.frames else await client.receive()
    assert_problem(frame, 409, "events-reset")
    assert frame["id"] == id


async def test_unsubscribing_ends_the_events(server: Server, client: Client) -> None:
    id = await client.submit("import time\nwhile True: print('x', flush=True); time.sleep(0.05)")
    await client.until_output(id, "x")
    assert (await client.ask("unsubscribe", id=id))["type"] == "done"
    client.frames.clear()
    await trio.sleep(0.3)
    await client.ask("unsubscribe", id=id)
    assert client.frames == []
    server.request("DELETE", f"{API}/submissions/{id}")


async def test_two_clients_follow_one_submission(server: Server, client: Client) -> None:
    id = await client.submit(ECHO, interactive=True)
    async with connected(server) as other:
        await other.ask("subscribe", id=id)
        await other.until_output(id, "ready")
        await other.ask("stdin", id=id, data="hi\n", eof=True)
        theirs = await other.until(id, "finished")
    ours = await client.until(id, "finished")
    assert ours[-len(theirs) :] == theirs
    assert output(ours) == "ready\ngot hi\nend\n"


async def test_one_connection_follows_many_submissions(client: Client) -> None:
    ids = [await client.submit(f"print({n})") for n in range(8)]
    for n, id in enumerate(ids):
        assert output(await client.until(id, "finished")) == f"{n}\n"


async def test_cancelling_keeps_what_was_printed(server: Server, client: Client) -> None:
    source = "print('before', flush=True)\n" + SLEEPS
    id = await client.submit(source, limits={"wall_time": 60})
    await client.until_output(id, "before\n")
    assert (await client.ask("cancel", id=id))["type"] == "done"
    began = time.monotonic()
    result = (await client.until(id, "finished"))[-1]["event"]["result"]
    assert time.monotonic() - began < 30
    assert result["verdict"] == "cancelled"
    seen = await trio.to_thread.run_sync(server.look, id)
    assert seen["run"]["stdout"] == "before\n"


async def test_a_submission_outlives_its_connection(server: Server) -> None:
    async with connected(server) as client:
        id = await client.submit("import time; time.sleep(0.5); print('done')")
    result = await trio.to_thread.run_sync(server.result, id)
    assert result["run"]["stdout"] == "done\n"


async def test_a_repeated_key_follows_the_same_submission(client: Client) -> None:
    submission = {"language": "python", "source": "print(1)"}
    answers = [
        await client.ask("submit", submission=submission, idempotency_key="ws") for _ in range(2)
    ]
    assert answers[0]["id"] == answers[1]["id"]
    result = (await client.until(answers[0]["id"], "finished"))[-1]["event"]["result"]
    assert result["attempts"] == 1


async def test_a_repeated_key_is_known_in_a_long_frame_as_in_a_short_one(client: Client) -> None:
    submission = {"language": "python", "source": "\n" * 200, "stdin": "é" * 300}
    ids = []
    for space in ("", " " * 40_000):
        frame = {"type": "submit", "idempotency_key": "long", "submission": submission}
        await client.socket.send_message(json.dumps(frame) + space)
        while (answer := await client.receive())["type"] == "event":
            pass
        ids.append(answer["id"])
    assert ids[0] == ids[1]


# Typing


async def test_what_is_typed_reaches_the_program_once_until_the_end_of_file(
    server: Server, client: Client
) -> None:
    id = await client.submit(ECHO, interactive=True, stdin="first\n")
    await client.until_output(id, "got first\n")
    await client.ask("stdin", id=id, data="a\n", offset=0)
    await client.ask("stdin", id=id, data="a\n", offset=0)  # said again after a reconnect
    await client.ask("stdin", id=id, data="a\nb\n", offset=0)  # and again, with more
    await client.ask("stdin", id=id, data={"base64": "w6kK"}, offset=4)
    assert await client.until_output(id, "é\n") == "got a\ngot b\ngot é\n"
    answer = await client.ask("stdin", id=id, data="late\n", offset=100)
    assert_problem(answer, 409, "stdin-gap")
    assert (await client.ask("stdin", id=id, eof=True))["type"] == "done"
    assert_problem(await client.ask("stdin", id=id, data="more\n"), 409)
    await client.until(id, "finished")
    result = await trio.to_thread.run_sync(server.look, id)
    assert result["run"]["stdout"] == "ready\ngot first\ngot a\ngot b\ngot é\nend\n"
    assert_problem(await client.ask("stdin", id=id, data="x"), 409, "finished")


async def test_a_program_that_is_not_interactive_takes_no_messages(client: Client) -> None:
    id = await client.submit("import sys; sys.stdin.read(); print('eof', flush=True); " + SLEEPS)
    await client.until_output(id, "eof\n")
    assert_problem(await client.ask("stdin", id=id, data="x"), 409, "not-interactive")
    await client.ask("cancel", id=id)


async def test_signals_are_for_what_runs_and_only_some_are_allowed(client: Client) -> None:
    running = await client.submit("input(); print('on')", interactive=True)
    await client.until(running, "started")
    assert (await client.ask("signal", id=running, signal="SIGCONT"))["type"] == "done"
    for wrong in ("SIGSEGV", "INT", 2, None):
        answer = await client.ask("signal", id=running, signal=wrong)
        assert_problem(answer, 400, "bad-request")
        assert "SIGTSTP" in answer["problem"]["detail"]
    await client.ask("stdin", id=running, data="", eof=True)
    await client.until(running, "finished")
    assert_problem(await client.ask("signal", id=running, signal="SIGINT"), 409, "finished")
    assert_problem(await client.ask("signal", id="x", signal="SIGINT"), 404, "unknown-submission")


async def test_a_program_that_does_not_read_fills_its_stdin(client: Client) -> None:
    id = await client.submit(SLEEPS, interactive=True)
    await client.until(id, "stage")
    chunk = "x" * 2**18
    answers = [await client.ask("stdin", id=id, data=chunk) for _ in range(8)]
    assert_problem(answers[-1], 429, "stdin-full")
    assert [answer["type"] for answer in answers[:4]] == ["done"] * 4
    await client.ask("cancel", id=id)


# Refusals


async def test_an_answer_repeats_its_ref(client: Client) -> None:
    for ref in ("", "é", 5, None, ["a"], {"a": 1}):
        await client.socket.send_message(json.dumps({"type": "unsubscribe", "id": "x", "ref": ref}))
        assert (await client.receive())["ref"] == ref
    await client.socket.send_message(json.dumps({"type": "unsubscribe", "id": "x"}))
    assert "ref" not in await client.receive()


async def test_a_long_frame_is_understood_as_a_short_one(client: Client) -> None:
    """Strings of more than 256 bytes are read in pieces there."""
    text = {"type": "unsubscribe", "id": "x", "ref": ["é" * 55]}
    await client.socket.send_message(json.dumps(text) + " " * 40_000)
    assert (await client.receive())["ref"] == text["ref"]
    submission = {"language": "python", "source": "#" * 40_000}
    answer = await client.ask("submit", bearer="s" * 512, submission=submission)
    assert answer["type"] == "accepted", answer


HELLO = {"language": "python", "source": "1"}
BAD = [
    *("", "rubbish", "[]", "null", "5", '"submit"', "{}", "[" * 100_000, '{"type":NaN}'),
    *('{"type":5}', '{"type":"dance"}', '{"type":"\\ud800"}', '{"type":"stdin"}'),
    *('{"type":"cancel","id":5}', '{"type":"cancel","id":"../x"}', '{"type":"submit"}'),
    json.dumps({"type": "cancel", "id": "x", "ref": "x" * 1000}),
    json.dumps({"type": "cancel", "id": "x", "ref": "x" * 100_000}),
    *(
        f'{{"type":"cancel","id":"x","ref":{ref}}}'
        for ref in ('"\\ud800"', "1e999", "[-1e999]", "NaN")
    ),
    '{"type":"cancel","id":"x","ref":' + "[" * 900 + "]" * 900 + "}",
    '{"type":"cancel","id":"x","ref":' + "9" * 5000 + "}",
    *(f'{{"type":"cancel","id":{id}}}' for id in ('"\\ud800"', '"\\u0000"', "1e999", "null")),
    json.dumps({"type": "stdin", "id": "x" * 100_000, "data": ""}),
    json.dumps({"type": "stdin", "id": "\ud800", "data": "\ud800"}),
    '{"type":"subscribe","id":"x","after":1e999}',
    '{"type":"signal","id":"x","signal":"\\ud800"}',
    '{"type":"signal","id":"x","signal":{"\\ud800":1e999}}',
    '{"type":"submit","idempotency_key":"\\ud800","submission":{"language":"python","source":"1"}}',
    '{"type":"submit","bearer":"\\ud800","submission":{"language":"python","source":"1"}}',
    '{"type":"submit","submission":{"language":"\\ud800","source":1e999,"\\ud800":"\\ud800"}}',
    '{"type":"submit","submission":{"language":"python","source":"' + "x" * 40_000 + '\\ud800"}}',
    '{"\\ud800":1e999,"type":"dance"}',
    json.dumps({"type": "submit", "submission": []}),
    json.dumps({"type": "submit", "submission": HELLO | {"tests": [1]}}),
    json.dumps({"type": "submit", "submission": HELLO, "idempotency_key": 5}),
]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:60])
@pytest.mark.parametrize("long", [False, True])
async def test_bad_frames_are_answered_and_harmless(
    client: Client, text: str, *, long: bool
) -> None:
    await client.socket.send_message(text + " " * 40_000 * long)
    frame = await client.receive()
    assert frame["type"] == "error"
    assert 400 <= frame["problem"]["status"] < 500
    assert len(json.dumps(frame)) < 5000
    assert (await client.ask("unsubscribe", id="x"))["type"] == "done"


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ({"type": "submit", "submission": HELLO, "key": "k"}, ["key"]),
        ({"type": "submit", "submission": HELLO, "id": "x"}, ["id"]),
        ({"type": "subscribe", "id": "x", "from": 0, "After": 0}, ["After", "from"]),
        ({"type": "stdin", "id": "x", "data": "", "EOF": True}, ["EOF"]),
        ({"type": "cancel", "id": "x", "x" * 30_000: 0}, ["x" * 100]),
        ({"type": "cancel", "id": "x", "\ud800": 0}, ["\\ud800"]),
        ({"type": "cancel", "id": "x"} | {f"x{n:04}": 0 for n in range(2000)},
         [f"x{n:04}" for n in range(5)]),
    ],
)  # fmt: skip
async def test_a_field_that_a_frame_does_not_have_is_named(
    client: Client, frame: dict[str, Any], named: list[str], *, long: bool
) -> None:
    await client.socket.send_message(json.dumps(frame | {"ref": 7}) + " " * 40_000 * long)
    answer = await client.receive()
    assert_problem(answer, 400, "bad-request")
    assert answer["ref"] == 7
    problem = answer["problem"]
    names = [each["field"][:100] for each in problem["errors"]]
    assert names == named
    assert f"is not a field of a {frame['type']} frame" in problem["detail"]


async def test_an_unknown_id_is_an_error(client: Client) -> None:
    for kind in ("subscribe", "stdin", "cancel"):
        answer = await client.ask(kind, id="AAAAAAAAAAAAAAAAAAAAAA")
        assert_problem(answer, 404, "unknown-submission")


@pytest.mark.parametrize("after", [-1, "1", 1.5, True, [], 10**30])
async def test_a_bad_after_is_an_error(client: Client, after: object) -> None:
    id = await client.submit("pass")
    await client.until(id, "finished")
    answer = await client.ask("subscribe", id=id, after=after)
    if answer["type"] == "done":  # a number, but beyond every log
        answer = await client.receive()
    assert answer["type"] == "error"
    assert 400 <= answer["problem"]["status"] < 500


async def test_each_writer_counts_its_own_bytes(client: Client) -> None:
    id = await client.submit("print([input() for _ in range(3)])", interactive=True)
    await client.ask("stdin", id=id, data="a\n", offset=0, writer="tab-1")
    await client.ask("stdin", id=id, data="a\n", offset=0, writer="tab_2")
    await client.ask("stdin", id=id, data="a\nb\n", offset=0, writer="tab-1")
    await client.until_output(id, "['a', 'a', 'b']\n")


@pytest.mark.parametrize("writer", ["", "a b", "x" * 65, "x" * 300, "ä", 1, ["a"]])
async def test_a_bad_writer_is_an_error(client: Client, writer: object) -> None:
    id = await client.submit(SLEEPS, interactive=True)
    answer = await client.ask("stdin", id=id, data="x", writer=writer)
    assert_problem(answer, 400, "bad-request")
    assert answer["problem"]["errors"][0]["field"] == "writer"
    await client.ask("cancel", id=id)


@pytest.mark.parametrize("offset", [-1, "1", 1.5, 10**30])
async def test_a_bad_offset_is_an_error(client: Client, offset: object) -> None:
    id = await client.submit(SLEEPS, interactive=True)
    answer = await client.ask("stdin", id=id, data="x", offset=offset)
    assert answer["type"] == "error"
    assert 400 <= answer["problem"]["status"] < 500
    await client.ask("cancel", id=id)


async def test_a_binary_frame_closes_with_1003(client: Client) -> None:
    await client.socket.send_message(b"{}")
    assert await close_code(client) == 1003


async def test_a_frame_beyond_the_limit_closes_with_1009(client: Client) -> None:
    with suppress(ConnectionClosed):  # before all of it was sent
        await client.socket.send_message("x" * (17 * 2**20))
    assert await close_code(client) == 1009


async def close_code(client: Client) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        await client.receive()
    assert closed.value.reason
    code: int = closed.value.reason.code
    return code


async def test_two_thousand_frames_at_once_are_answered_in_order(client: Client) -> None:
    async def send() -> None:
        for ref in range(2000):
            frame = {"type": "unsubscribe", "id": "x", "ref": ref}
            await client.socket.send_message(json.dumps(frame))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert [(await client.receive())["ref"] for _ in range(2000)] == list(range(2000))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_foreign_page_is_refused(server: Server, origin: str) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_version": "13",
        "sec_websocket_key": "bKdPyn3u98cTfZJSh4TNeQ==",
    }
    assert server.get(f"{API}/ws", origin=origin, **upgrade).status == 403


async def test_our_own_page_and_listed_ones_are_let_in(tmp_path: Path) -> None:
    with serving(tmp_path / "data", http__origins='["https://a.example"]') as server:
        for origin in (f"http://127.0.0.1:{server.port}", "https://a.example"):
            async with connected(server, origin=origin) as client:
                assert (await client.ask("unsubscribe", id="x"))["type"] == "done"


# Slow readers, and the end


@asynccontextmanager
async def connected_narrowly(server: Server) -> AsyncIterator[Client]:
    """A client that takes next to nothing unless it reads."""
    plain = trio.socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await plain.connect(("127.0.0.1", server.port))
    async with talking(trio.SocketStream(plain), server) as client:
        yield client


PRINTS_8_MIB = "for _ in range(8 * 64): print('x' * (16 * 1024 - 1))"


async def test_a_client_that_stops_reading_slows_nobody(server: Server, client: Client) -> None:
    async def seconds(follower: Client) -> float:
        began = time.monotonic()
        id = await follower.submit(PRINTS_8_MIB, limits={"output": 16 * 2**20})
        result = await trio.to_thread.run_sync(server.result, id)
        assert len(result["run"]["stdout"]) == 8 * 2**20
        return time.monotonic() - began

    usual = await seconds(client)
    async with connected_narrowly(server) as slow:
        assert await seconds(slow) < 3 * usual + 3
        assert await seconds(client) < 3 * usual + 3


async def test_clients_that_stop_reading_cost_little_memory(server: Server, client: Client) -> None:
    readers = 24
    id = await client.submit(PRINTS_8_MIB, limits={"output": 16 * 2**20})
    await client.until(id, "finished")
    resident = server.resident
    async with AsyncExitStack() as stack:
        for _ in range(readers):
            slow = await stack.enter_async_context(connected_narrowly(server))
            await slow.ask("subscribe", id=id)
        await trio.sleep(1)
        grown = server.resident - resident
    assert grown < readers * 4 * 2**20, grown  # buffered for each, it would be 8 MiB and more


async def test_sigterm_closes_idle_sockets_with_1001(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        async with connected(server) as one, connected(server) as two:
            assert (await two.ask("unsubscribe", id="x"))["type"] == "done"
            began = time.monotonic()
            server.process.terminate()
            assert [await close_code(each) for each in (one, two)] == [1001, 1001]
        assert await trio.to_thread.run_sync(server.stop) == 0
        assert time.monotonic() - began < PATIENCE_S / 6


async def test_a_program_that_ends_while_the_server_stops_is_followed_to_its_end(
    tmp_path: Path,
) -> None:
    with serving(tmp_path / "data") as server:
        async with connected(server) as client:
            id = await client.submit("import time; print(1, flush=True); time.sleep(1); print(2)")
            await client.until_output(id, "1\n")
            server.process.terminate()
            assert output(await client.until(id, "finished")) == "2\n"
            assert await close_code(client) == 1001
