"""A terminal from end to end: a client types and reads, and the program runs in the real sandbox."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from everywhere import at, serving_at
from meeting import meeting
from serving import PATIENCE_S, Client, Server, connected, output, serving
from streams import followed

SLOTS = 4
WINDOW = {"rows": 24, "cols": 80}
LONG = {"wall_time": 300, "cpu_time": 30}
ASKS = 'name = input("Name? "); print(f"Hello {name}")'


@pytest.fixture(
    scope="module",
    params=["embedded", "apart", *at("docker", "gvisor", marks=pytest.mark.long)],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("terminal")
    settings: dict[str, Any] = {"execute__slots": str(SLOTS)}
    if request.param == "embedded":
        with serving(folder / "data", **settings) as server:
            yield server
    elif request.param == "apart":
        with meeting() as shared, serving(folder / "data", **settings, **shared) as server:
            yield server
    else:
        with serving_at(request, folder / "data", request.param, **settings) as server:
            yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with connected(server) as client:
        yield client


async def start(client: Client, source: str, language: str = "python", **fields: Any) -> str:
    """A program at a terminal. Its id."""
    asked = {"tty": WINDOW, "limits": LONG, "language": language} | fields
    return await client.submit(source, **asked)


async def type_in(client: Client, id: str, keys: str, *, eof: bool = False) -> None:
    answer = await client.ask("stdin", id=id, data=keys, eof=eof)
    assert answer["type"] == "done", answer


async def resize(client: Client, id: str, rows: Any, cols: Any) -> dict[str, Any]:
    return await client.ask("resize", id=id, rows=rows, cols=cols)


async def end_of(server: Server, client: Client, id: str) -> dict[str, Any]:
    """The whole result."""
    await client.until(id, "finished")
    return await trio.to_thread.run_sync(server.look, id)


def assert_problem(frame: dict[str, Any], status: int, kind: str, field: str = "") -> None:
    assert frame["type"] == "error", frame
    problem = frame["problem"]
    assert (problem["status"], problem["type"]) == (status, kind), frame
    assert [each["field"] for each in problem.get("errors", [])] == ([field] if field else [])


async def test_a_prompt_is_seen_before_its_answer_is_typed(server: Server, client: Client) -> None:
    id = await start(client, ASKS)
    assert await client.until_output(id, "Name? ") == "Name? "
    await type_in(client, id, "Ada\r")
    frames = await client.until(id, "finished")
    shown = "Name? Ada\r\nHello Ada\r\n"
    assert "Name? " + output(frames, "tty") == shown
    assert output(frames) == output(frames, "stderr") == ""
    result = await trio.to_thread.run_sync(server.look, id)
    assert (result["verdict"], result["run"]["tty"]) == ("ok", True)
    assert (result["run"]["stdout"], result["run"]["stderr"]) == (shown, "")
    assert frames[-1]["event"]["result"]["run"]["tty"] is True
    asked = await trio.to_thread.run_sync(
        server.get, f"/api/v1/submissions/{id}?fields=status&transcript=true"
    )
    pieces = asked.json()["transcript"]
    assert {piece["stream"] for piece in pieces} == {"tty"}
    assert "".join(piece["data"] for piece in pieces) == shown


async def test_a_plain_run_has_no_terminal(server: Server) -> None:
    source = "import sys; print(sys.stdin.isatty(), sys.stdout.isatty())"
    result = await trio.to_thread.run_sync(server.run, source)
    assert (result["run"]["stdout"], result["run"]["tty"]) == ("False False\n", False)


async def test_the_window_has_its_size_from_the_start_and_is_resized(
    server: Server, client: Client
) -> None:
    source = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})  # one that comes early waits for sigwait
while True:
    cols, rows = os.get_terminal_size()
    print(rows, cols)
    if cols == 1:
        break
    signal.sigwait({signal.SIGWINCH})
print("got", input())
"""
    id = await start(client, source, tty={"rows": 11, "cols": 1000})
    await client.until_output(id, "11 1000\r\n")
    assert await resize(client, id, 50, 132) == {"type": "done", "id": id, "ref": "ref-1"}
    await client.until_output(id, "50 132\r\n")
    for number in range(2, 20):
        assert (await resize(client, id, number, 100))["type"] == "done"
    await client.until_output(id, "19 100\r\n")
    await resize(client, id, 1, 1)
    await client.until_output(id, "1 1\r\n")
    await type_in(client, id, "on\n")
    result = await end_of(server, client, id)
    assert result["run"]["stdout"].endswith("on\r\ngot on\r\n")


async def test_a_window_that_is_resized_during_the_compilation_has_its_size_at_the_start(
    server: Server, client: Client
) -> None:
    source = """
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <sys/ioctl.h>
int main() {
    std::regex word("a+");
    winsize size;
    ioctl(0, TIOCGWINSZ, &size);
    std::cout << size.ws_row << " x " << size.ws_col << std::endl;
}
"""
    id = await start(client, source, "cpp")
    await client.until(id, "stage")
    answer = await resize(client, id, 7, 77)
    assert answer["type"] == "done", answer
    assert (await end_of(server, client, id))["run"]["stdout"] == "7 x 77\r\n"


async def test_ctrl_c_ends_a_program_and_is_caught_by_one(server: Server, client: Client) -> None:
    catches = """
import time
try:
    print("up")
    time.sleep(300)
except KeyboardInterrupt:
    print("caught")
time.sleep(300)
"""
    id = await start(client, catches)
    await client.until_output(id, "up")
    await type_in(client, id, "\x03")
    await client.until_output(id, "^Ccaught\r\n")
    sleeps = await start(client, "echo up; exec sleep 300", "bash")
    await client.until_output(sleeps, "up")
    await type_in(client, sleeps, "\x03")
    result = await end_of(server, client, sleeps)
    assert (result["verdict"], result["run"]["signal"]) == ("runtime_error", "SIGINT")
    await client.ask("cancel", id=id)
    assert (await end_of(server, client, id))["verdict"] == "cancelled"


async def test_ctrl_backslash_ends_a_program(server: Server, client: Client) -> None:
    # Not a program of bash, which ignores the signal until it has become another program.
    id = await start(client, "import time; print('up'); time.sleep(300)")
    await client.until_output(id, "up")
    await type_in(client, id, "\x1c")
    assert (await end_of(server, client, id))["run"]["signal"] == "SIGQUIT"


@pytest.mark.parametrize("way", ["typed", "eof"])
async def test_ctrl_d_is_an_end_of_file(server: Server, client: Client, way: str) -> None:
    id = await start(client, "import sys; print('up'); print(repr(sys.stdin.read()))")
    await client.until_output(id, "up")
    if way == "typed":
        await type_in(client, id, "a\nb")
        await type_in(client, id, "\x04")
        await type_in(client, id, "\x04")
    else:
        await type_in(client, id, "a\nb", eof=True)
        refused = (await client.ask("stdin", id=id, data="c"))["problem"]
        assert refused["status"] == 409
        assert refused["type"] in ("not-interactive", "finished")  # it may have ended already
    result = await end_of(server, client, id)
    assert result["run"]["stdout"].endswith("'a\\nb'\r\n"), result


async def test_ctrl_z_does_not_stop_a_program_for_ever(server: Server, client: Client) -> None:
    id = await start(client, ASKS)
    await client.until_output(id, "Name? ")
    await type_in(client, id, "\x1a")
    await type_in(client, id, "Ada\n")
    result = await end_of(server, client, id)
    assert result["verdict"] == "ok"
    assert result["run"]["stdout"].endswith("Hello Ada\r\n")


async def test_a_shell_and_its_tools_are_at_a_terminal(server: Server, client: Client) -> None:
    id = await start(client, "test -t 0 && test -t 1 && tty; tput cols; echo $TERM", "bash")
    result = await end_of(server, client, id)
    assert result["run"]["stdout"] == "/dev/pts/0\r\n80\r\nxterm-256color\r\n"


async def test_stdin_that_is_sent_with_it_is_typed_first(server: Server, client: Client) -> None:
    id = await start(client, ASKS + "; input()", stdin="Ada\n")
    await client.until_output(id, "Hello Ada\r\n")
    await type_in(client, id, "\n")
    assert (await end_of(server, client, id))["verdict"] == "ok"


async def test_a_terminal_may_show_more_than_a_pipe_by_default(
    server: Server, client: Client
) -> None:
    id = await start(client, "print('x' * 1_500_000)")
    result = await end_of(server, client, id)
    assert (result["verdict"], len(result["run"]["stdout"])) == ("ok", 1_500_002)
    id = await start(client, "print('x' * 1_500_000)", limits={"output": 1000})
    result = await end_of(server, client, id)
    assert (result["verdict"], len(result["run"]["stdout"])) == ("output_limit", 1000)


async def test_a_stream_shows_a_terminal_while_a_websocket_types(
    server: Server, client: Client
) -> None:
    id = await start(client, ASKS)

    def follow() -> tuple[list[str], str]:
        with followed(server, id) as stream:
            told = stream.until_written("Name? ")
            trio.from_thread.run(type_in, client, id, "Ada\n")
            told += stream.rest()
        streams = [each.frame["event"].get("stream") for each in told if each.name == "output"]
        return streams, "".join(each.written for each in told)

    streams, shown = await trio.to_thread.run_sync(follow)
    assert set(streams) == {"tty"}
    assert shown == "Name? Ada\r\nHello Ada\r\n"


async def test_what_is_run_again_has_a_terminal_again(server: Server, client: Client) -> None:
    id = await start(client, "import os; print(*os.get_terminal_size())")
    first = await end_of(server, client, id)
    path = f"/api/v1/submissions/{id}/rerun?wait={PATIENCE_S}"
    again = (await trio.to_thread.run_sync(server.request, "POST", path)).json()
    assert first["run"]["stdout"] == again["run"]["stdout"] == "80 24\r\n"
    batch = {"submissions": [{"language": "bash", "source": "stty size", "tty": WINDOW}]}
    body = json.dumps(batch).encode()
    path = "/api/v1/submissions/batch"
    sent = (await trio.to_thread.run_sync(server.request, "POST", path, body)).json()
    found = await trio.to_thread.run_sync(server.result, sent["submissions"][0]["id"])
    assert found["run"]["stdout"] == "24 80\r\n"


async def test_a_size_is_refused_where_it_has_no_meaning(server: Server, client: Client) -> None:
    id = await start(client, ASKS)
    await client.until_output(id, "Name? ")
    for rows, field in {0: "rows", -1: "rows", 10_000: "rows", 2**60: "rows"}.items():
        assert_problem(await resize(client, id, rows, 80), 400, "bad-request", field)
    for strange in ("24", 24.5, True, None):
        assert_problem(await resize(client, id, strange, 80), 400, "bad-request", "rows")
    assert_problem(await resize(client, id, 24, 0), 400, "bad-request", "cols")
    assert_problem(await client.ask("resize", id=id, rows=24), 400, "bad-request", "cols")
    frame = {"id": id, "rows": 24, "cols": 80, "pixels": 1}
    assert_problem(await client.ask("resize", **frame), 400, "bad-request", "pixels")
    await type_in(client, id, "Ada\n")
    await client.until(id, "finished")
    assert_problem(await resize(client, id, 24, 80), 409, "finished")
    assert_problem(await resize(client, "unknown", 24, 80), 404, "unknown-submission")
    plain = await client.submit("input()", interactive=True)
    await client.until(plain, "stage")
    assert_problem(await resize(client, plain, 24, 80), 409, "no-terminal")
    await type_in(client, plain, "\n")


async def test_a_terminal_that_waits_for_a_slot_takes_no_size(client: Client) -> None:
    busy = [await client.submit("import time; time.sleep(300)", limits=LONG) for _ in range(SLOTS)]
    for id in busy:
        await client.until(id, "stage")
    waits = await start(client, ASKS)
    assert_problem(await resize(client, waits, 24, 80), 409, "not-running")
    for id in (*busy, waits):
        await client.ask("cancel", id=id)
        await client.until(id, "finished")


async def test_python_has_a_prompt_with_history(server: Server, client: Client) -> None:
    source = "import code, readline; code.interact(banner='', exitmsg='')"
    id = await start(client, source)
    await client.until_output(id, ">>> ")
    await type_in(client, id, "6*7\n")
    await client.until_output(id, "42\r\n")
    await type_in(client, id, "\x1b[A\n")  # the key that goes up
    await client.until_output(id, "42\r\n")
    await type_in(client, id, "\x04")
    assert (await end_of(server, client, id))["verdict"] == "ok"


async def test_a_program_without_input_ends_and_says_so(
    server: Server, client: Client, request: pytest.FixtureRequest
) -> None:
    id = await start(client, ASKS, limits={"idle": 2})
    (started,) = [
        frame["event"]
        for frame in await client.until(id, "started")
        if frame["event"]["name"] == "started"
    ]
    wall_time = 1500 if "apart" in request.node.name else 3600  # RabbitMQ waits for 30 minutes
    assert (started["wall_time"], started["idle"]) == (wall_time, 2)
    result = await end_of(server, client, id)
    assert (result["verdict"], result["run"]["limit"]) == ("time_limit", "idle")
    assert result["message"] == "The program got no input for 2 s, so it was ended."
    assert 2 <= result["run"]["wall_time"] < 60


async def test_input_gives_a_program_its_time_again(server: Server, client: Client) -> None:
    id = await start(client, "while True: print('got', input())", limits={"idle": 5})
    for number in range(8):
        await type_in(client, id, f"{number}\n")
        await client.until_output(id, f"got {number}")
        await trio.sleep(1)
    assert (await end_of(server, client, id))["run"]["wall_time"] > 11


async def test_output_alone_does_not_keep_a_program_for_ever(
    server: Server, client: Client
) -> None:
    source = "import time\nwhile True: print('tick', flush=True); time.sleep(0.1)"
    id = await start(client, source, limits={"idle": 1})
    result = await end_of(server, client, id)
    assert (result["verdict"], result["run"]["limit"]) == ("time_limit", "idle")
    assert result["run"]["wall_time"] > 2.9


async def test_a_wall_time_that_is_asked_for_is_the_only_one(
    server: Server, client: Client
) -> None:
    id = await start(client, ASKS, limits={"wall_time": 1})
    frames = await client.until(id, "finished")
    (started,) = [each["event"] for each in frames if each["event"]["name"] == "started"]
    assert (started["wall_time"], started["idle"]) == (1, None)
    assert frames[-1]["event"]["result"]["run"]["limit"] == "wall_time"


async def test_a_program_without_input_of_clients_has_no_clock(client: Client) -> None:
    id = await client.submit("pass")
    frames = await client.until(id, "finished")
    (started,) = [each["event"] for each in frames if each["event"]["name"] == "started"]
    assert (started["wall_time"], started["idle"]) == (None, None)
