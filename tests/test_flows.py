"""All that a client can do with a program, over a real daemon, in every kind of sandbox."""

import base64
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from endless import COMPILES_LONG
from everywhere import EVERYWHERE_IN_ALL, serving_at
from serving import API, Client, Server, connected, output

SLOTS = 2
LONG = {"wall_time": 200, "cpu_time": 30}
SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
MIB = 2**20


@pytest.fixture(scope="module", params=EVERYWHERE_IN_ALL)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("flows")
    settings = {"execute__slots": f"{SLOTS}"}
    with serving_at(request, folder / "data", request.param, **settings) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with connected(server) as client:
        yield client


async def do(client: Client, kind: str, id: str, **fields: Any) -> None:
    answer = await client.ask(kind, id=id, **fields)
    assert answer["type"] == "done", answer


async def ended(server: Server, client: Client, id: str) -> dict[str, Any]:
    """The whole result."""
    await client.until(id, "finished")
    return await trio.to_thread.run_sync(server.look, id)


def run_of(result: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = result["run"]
    return run


# Programs


def test_a_program_has_its_files_arguments_and_environment(server: Server) -> None:
    main = """
import os, subprocess, sys
print(sys.argv[1:], os.environ["COLOUR"], os.getcwd())
print(open("data/in/deep.bin", "rb").read())
print(subprocess.run(["./bin/tool"], capture_output=True, text=True).stdout, end="")
print(os.access("data/in/deep.bin", os.X_OK), sorted(os.listdir(".")))
print("wrong", file=sys.stderr)
sys.exit(3)
"""
    files = [
        {"name": "main.py", "content": main},
        {"name": "data/in/deep.bin", "content": {"base64": base64.b64encode(b"\0\xff").decode()}},
        {"name": "bin/tool", "content": "#!/bin/sh\necho it runs", "executable": True},
    ]
    body = {"language": "python", "files": files, "args": ["a b", "é"], "env": {"COLOUR": "red"}}
    result = server.result(server.post(body).json()["id"])
    run = run_of(result)
    assert run["stdout"].splitlines() == [
        "['a b', 'é'] red /box",
        repr(b"\0\xff"),
        "it runs",
        "False ['bin', 'data', 'main.py']",
    ], result
    assert (run["stderr"], run["exit_code"], result["verdict"]) == ("wrong\n", 3, "runtime_error")


def test_a_program_is_compiled_and_what_does_not_compile_is_told(server: Server) -> None:
    source = '#include "more.h"\nint main(void) { puts(WORD); return FLAG; }'
    files = [
        {"name": "main.c", "content": source},
        {"name": "more.h", "content": '#include <stdio.h>\n#define WORD "compiled"\n'},
    ]
    body = {"language": "c", "files": files, "compile_args": ["-DFLAG=7"]}
    result = server.result(server.post(body).json()["id"])
    run = run_of(result)
    assert (run["stdout"], run["exit_code"]) == ("compiled\n", 7), result
    assert result["compile"]["exit_code"] == 0
    wrong = server.run("int main(void) { return }", language="c")
    assert (wrong["verdict"], wrong["run"]) == ("compile_error", None)
    assert "main.c:1" in wrong["compile"]["stderr"]


@pytest.mark.parametrize(
    ("source", "limits", "limit"),
    [
        ("import time; time.sleep(600)", {"wall_time": 1}, "wall_time"),
        ("while True: pass", {"cpu_time": 0.5, "wall_time": 200}, "cpu_time"),
        ("x = b'x' * 2**29", {"memory": 64 * MIB} | LONG, "memory"),
        ("while True: print('x' * 99)", {"output": 10_000} | LONG, "output"),
    ],
    ids=["wall", "cpu", "memory", "output"],
)
def test_a_limit_ends_the_program_and_is_named(
    server: Server, source: str, limits: dict[str, Any], limit: str
) -> None:
    result = server.run(f"print('up', flush=True)\n{source}", limits=limits)
    run = run_of(result)
    assert (run["limit"], run["signal"]) == (limit, "SIGKILL"), result
    verdict = "time_limit" if limit.endswith("_time") else f"{limit}_limit"
    assert result["verdict"] == verdict
    assert run["stdout"].startswith("up\n")
    if limit == "output":
        assert (len(run["stdout"]), run["stdout_truncated"]) == (10_000, True)


def test_limits_that_the_program_sees_for_itself_hold(server: Server) -> None:
    source = """
import errno, os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    open("large", "wb").write(bytes(2**17))
except OSError as error:
    print(errno.errorcode[error.errno], os.stat("large").st_size)
made = 0
try:
    while made < 100:
        if os.fork() == 0: signal.pause()
        made += 1
except OSError as error:
    print(errno.errorcode[error.errno], made < 12)
"""
    result = server.run(source, limits={"file_size": 2**16, "processes": 10} | LONG)
    assert run_of(result)["stdout"] == "EFBIG 65536\nEAGAIN True\n", result


# Stdin


async def test_input_comes_in_pieces_of_any_bytes_and_ends(server: Server, client: Client) -> None:
    source = """
import os
while piece := os.read(0, 2**20):
    print(piece, flush=True)
print("end", flush=True)
"""
    id = await client.submit(source, interactive=True, stdin="first\n", limits=LONG)
    await client.until_output(id, r"b'first\n'")
    await do(client, "stdin", id, data="half", offset=0)
    await client.until_output(id, "b'half'")
    await do(client, "stdin", id, data="half", offset=0)  # said again after a reconnect
    await do(client, "stdin", id, data={"base64": base64.b64encode(b"\0\xff\n").decode()}, offset=4)
    await client.until_output(id, repr(b"\0\xff\n"))
    await do(client, "stdin", id, eof=True)
    result = await ended(server, client, id)
    whole = [b"first\n", b"half", b"\0\xff\n"]
    assert run_of(result)["stdout"] == "".join(f"{each!r}\n" for each in whole) + "end\n"


async def test_much_input_arrives_whole_and_waits_for_who_reads_slowly(
    server: Server, client: Client
) -> None:
    source = """
import hashlib, sys, time
time.sleep(0.5)
print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())
"""
    pieces = [os.urandom(2**15).hex() for _ in range(64)]  # 4 MiB
    id = await client.submit(source, interactive=True, stdin=pieces[0], limits=LONG)
    for piece in pieces[1:]:
        while (await client.ask("stdin", id=id, data=piece))["type"] != "done":  # noqa: ASYNC110
            await trio.sleep(0.05)  # 1 MiB may wait
    await do(client, "stdin", id, eof=True)
    result = await ended(server, client, id)
    wanted = hashlib.sha256("".join(pieces).encode()).hexdigest()
    assert run_of(result)["stdout"] == f"{wanted}\n", result


async def test_a_program_talks_with_its_client(server: Server, client: Client) -> None:
    source = """
import random
for _ in range(20):
    number = random.randrange(10**9)
    if int(input(f"{number} and 1? ")) != number + 1: exit("wrong")
print("right")
"""
    id = await client.submit(source, interactive=True, limits=LONG)
    for _ in range(20):
        asked = await client.until_output(id, " and 1? ")
        await do(client, "stdin", id, data=f"{int(asked.split()[0]) + 1}\n")
    result = await ended(server, client, id)
    assert run_of(result)["stdout"].endswith("right\n"), result


async def test_output_is_seen_while_the_program_runs_and_is_any_bytes(
    server: Server, client: Client
) -> None:
    source = r"""
import os, sys
os.write(1, b"out\xff\n"); input()
os.write(2, "é".encode()[:1]); input()
os.write(2, "é".encode()[1:]); os.write(1, b"last")
"""
    id = await client.submit(source, interactive=True, limits=LONG)
    frames = await client.until(id, "output")
    assert base64.b64decode(frames[-1]["event"]["data"]["base64"]) == b"out\xff\n"
    await do(client, "stdin", id, data="\n")
    await do(client, "stdin", id, data="\n")
    frames = await client.until(id, "finished")
    assert (output(frames, "stderr"), output(frames)) == ("é", "last")


# The terminal

WINDOW = {"rows": 24, "cols": 80}


async def start(client: Client, source: str, **fields: Any) -> str:
    return await client.submit(source, tty=WINDOW, limits=LONG, **fields)


async def test_a_terminal_has_a_prompt_an_echo_and_an_end(server: Server, client: Client) -> None:
    source = 'import sys; print("Hello", input("Name? "), sys.stdin.isatty()); print([*sys.stdin])'
    id = await start(client, source)
    assert await client.until_output(id, "Name? ") == "Name? "
    await do(client, "stdin", id, data="Zoë\r")
    assert await client.until_output(id, "True\r\n") == "Zoë\r\nHello Zoë True\r\n"
    await do(client, "stdin", id, data="line\r")
    await do(client, "stdin", id, data="\x04")
    result = await ended(server, client, id)
    assert run_of(result)["stdout"].endswith("line\r\n['line\\n']\r\n"), result
    assert (result["verdict"], run_of(result)["tty"]) == ("ok", True)


async def test_a_terminal_has_its_size_and_a_key_after_another_size_finds_it(
    server: Server, client: Client
) -> None:
    source = """
import os
while True:
    print(*os.get_terminal_size(), flush=True)
    if input() == "end": break
"""
    id = await start(client, source)
    await client.until_output(id, "80 24\r\n")
    for rows in (50, 1, 1000):
        await do(client, "resize", id, rows=rows, cols=132)
        await do(client, "stdin", id, data="\r")
        await client.until_output(id, f"132 {rows}\r\n")
    await do(client, "stdin", id, data="end\r")
    assert (await ended(server, client, id))["verdict"] == "ok"


async def test_a_program_is_told_of_another_size(server: Server, client: Client) -> None:
    source = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
print("up", flush=True)
signal.sigtimedwait({signal.SIGWINCH}, 60)
print(*os.get_terminal_size(), flush=True)
"""
    id = await start(client, source)
    await client.until_output(id, "up\r\n")
    await do(client, "resize", id, rows=7, cols=77)
    result = await ended(server, client, id)
    assert run_of(result)["stdout"] == "up\r\n77 7\r\n"
    assert run_of(result)["wall_time"] < 50, "nobody told it"


async def test_keys_pass_as_they_are_in_raw_mode(server: Server, client: Client) -> None:
    source = """
import os, tty
tty.setraw(0); os.write(1, b"up"); got = b""
while len(got) < 256: got += os.read(0, 256)
os.write(1, got)
"""
    id = await start(client, source)
    await client.until_output(id, "up")
    keys = bytes(range(256))
    await do(client, "stdin", id, data={"base64": base64.b64encode(keys).decode()})
    written = run_of(await ended(server, client, id))["stdout"]
    assert base64.b64decode(written["base64"]) == b"up" + keys


async def test_ctrl_c_ends_a_program_and_is_for_its_handler(server: Server, client: Client) -> None:
    source = """
import time
for _ in range(2):
    try: print("up", flush=True); time.sleep(60)
    except KeyboardInterrupt: print("caught", flush=True)
"""
    id = await start(client, source)
    for _ in range(2):
        await client.until_output(id, "up\r\n")
        await do(client, "stdin", id, data="\x03")
    result = await ended(server, client, id)
    assert run_of(result)["stdout"] == "up\r\n^Ccaught\r\n" * 2, result
    id = await start(client, SLEEPS + "# of no handler")
    await client.until_output(id, "up\r\n")
    await do(client, "stdin", id, data="\x1c")
    assert run_of(await ended(server, client, id))["signal"] == "SIGQUIT"


async def test_what_is_typed_can_be_erased(server: Server, client: Client) -> None:
    id = await start(client, "print(ascii(input('? ')))")
    await client.until_output(id, "? ")
    await do(client, "stdin", id, data="ab\x15xyé\x7f\r")  # a line, and a character
    result = await ended(server, client, id)
    assert run_of(result)["stdout"].endswith("'xy'\r\n"), result


# Signals and cancels


@pytest.mark.parametrize("tty", [None, WINDOW], ids=["plain", "terminal"])
async def test_signals_reach_the_program(
    server: Server, client: Client, tty: dict[str, int] | None
) -> None:
    source = """
import os, signal, time
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
    signal.signal(getattr(signal, name), lambda number, _: os.write(1, signal.Signals(number).name.encode()))
print("up", flush=True)
while True: time.sleep(1)
"""
    id = await client.submit(source, interactive=True, tty=tty, limits=LONG)
    await client.until_output(id, "up")
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        await do(client, "signal", id, signal=name)
        await client.until_output(id, name)
    await do(client, "signal", id, signal="SIGUSR2")
    result = await ended(server, client, id)
    assert (result["verdict"], run_of(result)["signal"]) == ("runtime_error", "SIGUSR2")


async def test_a_program_is_stopped_and_goes_on(server: Server, client: Client) -> None:
    source = """
import itertools, time
for number in itertools.count(): print(number, flush=True); time.sleep(0.05)
"""
    id = await client.submit(source, interactive=True, limits=LONG)
    await client.until_output(id, "\n")
    await do(client, "signal", id, signal="SIGSTOP")
    with trio.move_on_after(2):  # what was under way
        while True:
            client.frames.append(await client.receive())
    seen = len(client.frames)
    with trio.move_on_after(1) as silent:
        client.frames.append(await client.receive())
    assert silent.cancelled_caught, client.frames[seen:]
    await do(client, "signal", id, signal="SIGCONT")
    client.frames.clear()
    await client.until_output(id, "\n")
    await do(client, "signal", id, signal="SIGKILL")
    assert run_of(await ended(server, client, id))["signal"] == "SIGKILL"


async def test_a_cancel_ends_a_program_and_keeps_what_it_wrote(
    server: Server, client: Client
) -> None:
    # One write each: `print` writes the newline apart, and two programs do it at once.
    source = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork();"
        r"os.write(1, b'up\n'); time.sleep(600)"
    )
    id = await client.submit(source, limits=LONG)
    await client.until_output(id, "up\nup\n")
    await do(client, "cancel", id)
    with trio.fail_after(30):
        result = await ended(server, client, id)
    assert (result["verdict"], run_of(result)["stdout"]) == ("cancelled", "up\nup\n")


async def test_a_cancel_ends_a_compiler(server: Server, client: Client) -> None:
    id = await client.submit(**COMPILES_LONG)
    await client.until(id, "stage")
    await do(client, "cancel", id)
    with trio.fail_after(30):
        result = await ended(server, client, id)
    assert (result["verdict"], result["run"]) == ("cancelled", None)
    assert result["compile"]["signal"] == "SIGKILL"


async def test_a_cancel_in_the_queue_runs_nothing_and_every_slot_is_free_afterwards(
    server: Server, client: Client
) -> None:
    busy = [await client.submit(SLEEPS, limits=LONG) for _ in range(SLOTS)]
    for id in busy:
        await client.until_output(id, "up\n")
    waits = await client.submit("print('never')")
    await client.until(waits, "queued")
    for id in (waits, *busy):
        await do(client, "cancel", id)
        assert (await ended(server, client, id))["verdict"] == "cancelled"
    assert (await trio.to_thread.run_sync(server.look, waits))["run"] is None
    again = [await client.submit(SLEEPS, limits=LONG) for _ in range(SLOTS)]
    for id in again:  # all at once
        await client.until_output(id, "up\n")
    for id in again:
        await do(client, "cancel", id)
        await client.until(id, "finished")


# Files that a program leaves


def test_files_are_kept_whatever_their_names_and_sizes(server: Server) -> None:
    source = r"""
import os
os.makedirs("out/deep/er")
open("out/deep/er/ä b?.txt", "w").write("hello")
open("out/new\nline", "w").write("odd")
open("out/-rf", "w").write("dash")
open("out/" + "x" * 251, "w").write("long")
open("out/empty", "w").close()
open(b"out/\xff", "w").close()
block = bytes(range(256)) * 4096
with open("out/large", "wb") as large:
    for _ in range(5): large.write(block)
with open("out/sparse", "wb") as sparse: sparse.truncate(5 * 2**20)
with open("out/too-large", "wb") as large: large.truncate(9 * 2**20)
os.symlink("/etc/passwd", "out/link"); os.mkfifo("out/fifo"); os.mkdir("out/folder")
os.link("out/large", "out/same")
open("other", "w").close()
os.chmod("out/-rf", 0); os.chmod("out/deep", 0)
os.kill(os.getpid(), 9)
"""
    result = server.run(source, artifacts=["out/**"], limits=LONG)
    large = bytes(range(256)) * 4096 * 5
    kept = {
        "out/deep/er/ä b?.txt": b"hello",
        "out/empty": b"",
        "out/large": large,
        "out/same": large,
        "out/sparse": bytes(5 * MIB),
        "out/" + "x" * 251: b"long",
    }
    assert run_of(result)["signal"] == "SIGKILL"
    assert {each["name"]: (each["bytes"], each["sha256"]) for each in result["artifacts"]} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in kept.items()
    }, result["left_out"]
    reasons = {each["name"]: each["reason"] for each in result["left_out"]}
    assert reasons == {
        "out/-rf": "name",
        "out/fifo": "no_file",
        "out/link": "no_file",
        "out/new\nline": "name",
        "out/too-large": "size",
        r"out/\xff": "name",
    }
    for name, path in (
        ("out/large", "out/large"),
        ("out/deep/er/ä b?.txt", "out/deep/er/%C3%A4%20b%3F.txt"),
    ):
        answer = server.get(f"{API}/submissions/{result['id']}/artifacts/{path}")
        assert (answer.status, answer.body) == (200, kept[name])


# Tests of a submission

CHECKER = """
import sys
given, expected, output = (open(path).read().split() for path in sys.argv[1:4])
print("judged", given[0], output[0])
sys.exit({"fault": 9}.get(output[0], output != expected))
"""
KATTIS = r"""
#include <fstream>
#include <iostream>
#include <string>
int main(int, char **argv) {
    std::string word, folder = argv[3];
    std::cin >> word;
    std::ofstream(folder + "score.txt") << "0.5";
    std::ofstream(folder + "judgemessage.txt") << "half of " << word;
    return 42;
}
"""
SOLUTION = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
    char how[99], word[99] = "";
    if (scanf("%98s", how) != 1) return 1;
    if (!strcmp(how, "exit")) return 3;
    if (!strcmp(how, "crash")) abort();
    while (!strcmp(how, "spin")) {}
    while (!strcmp(how, "memory")) memset(malloc(1 << 20), 1, 1 << 20);
    while (!strcmp(how, "flood")) printf("%099d", 0);
    FILE *left = fopen("left", "r");
    if (left) return 4;
    fclose(fopen("left", "w"));
    FILE *given = fopen("given.txt", "r");
    if (given && fscanf(given, "%98s", word) == 1) printf("%s ", word);
    puts(argc > 1 ? argv[1] : how);
}
"""


def test_a_submission_is_judged_test_by_test(server: Server) -> None:
    program = {"language": "python", "source": CHECKER, "protocol": "plain"}
    kattis = {"language": "cpp", "source": KATTIS, "protocol": "kattis"}
    wanted = {
        "right": "accepted",
        "wrong": "wrong_answer",
        "file": "accepted",
        "argument": "accepted",
        "checked": "accepted",
        "fault": "checker_error",
        "half": "accepted",
        "exit": "runtime_error",
        "crash": "runtime_error",
        "spin": "time_limit",
        "memory": "memory_limit",
        "flood": "output_limit",
    }
    tests: dict[str, dict[str, Any]] = {
        how: {"name": how, "stdin": f"{how}\n", "expected_stdout": f"{how}\n"} for how in wanted
    }
    tests["wrong"]["expected_stdout"] = "right"
    tests["file"] |= {
        "files": [{"name": "given.txt", "content": "of-this-test"}],
        "expected_stdout": "of-this-test file\n",
    }
    tests["argument"] |= {"args": ["word"], "expected_stdout": "word\n"}
    tests["checked"]["checker"] = tests["fault"]["checker"] = {"program": program}
    tests["half"]["checker"] = {"program": kattis}
    result = server.run(
        SOLUTION,
        language="c",
        tests=list(tests.values()),
        limits={"cpu_time": 1, "wall_time": 100, "memory": 64 * MIB, "output": 2**16},
    )
    found = {test["name"]: test for test in result["tests"]}
    assert {name: test["verdict"] for name, test in found.items()} == wanted, result
    assert found["checked"]["message"] == "judged checked checked"
    assert (found["half"]["score"], found["half"]["message"]) == (0.5, "half of half")
    assert found["file"]["run"]["stdout"] == "of-this-test file\n"
    assert found["crash"]["run"]["signal"] == "SIGABRT"
    assert (result["verdict"], result["points"]) == ("wrong_answer", 4.5)


# Traces

ASKS = {
    "python": """
import ctypes, socket
print("Hello, world!", flush=True)
try: socket.socket().connect(("93.184.216.34", 80))
except OSError as error: print(error.strerror)
ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
""",
    "c": r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/mount.h>
int main(void) {
    puts("Hello, world!");
    fflush(stdout);
    struct sockaddr_in far = {AF_INET, htons(80), {inet_addr("93.184.216.34")}};
    if (connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&far, sizeof far)) puts("Network is unreachable");
    mount("none", "/tmp", "tmpfs", 0, NULL);
}
""",
}


@pytest.mark.parametrize("language", ASKS)
def test_a_trace_lists_the_calls_of_a_program_and_names_what_was_refused(
    server: Server, language: str
) -> None:
    result = server.run(ASKS[language], language=language, trace=True, limits=LONG)
    trace = result["trace"]
    assert (result["verdict"], run_of(result)["stdout"]) == (
        "ok",
        "Hello, world!\nNetwork is unreachable\n",
    ), result
    assert trace["ended"] == "whole"
    assert trace["refused"] == ["connect: not permitted here", "mount: not permitted here"]
    answer = server.get(f"{API}/submissions/{result['id']}/trace")
    calls = answer.json()["calls"]
    assert answer.status == 200
    assert len(calls) == trace["calls"] == sum(each["count"] for each in trace["counts"])
    assert (calls[0]["call"], calls[0]["result"]) == ("execve", "0")
    written = [each["arguments"][1] for each in calls if each["call"] == "write"]
    assert any("Hello, world!" in each for each in written), written
    refused = {each["call"]: each for each in calls if each["refused"]}
    assert refused.keys() == {"connect", "mount"}
    assert "93.184.216.34" in " ".join(refused["connect"]["arguments"])
    assert "'/tmp'" in refused["mount"]["arguments"]


# Both ends


def test_many_programs_at_once_are_told_apart(server: Server) -> None:
    source = "import sys; print(sys.stdin.read() * 1000)"
    ids = [server.submit(source, stdin=f"<{number}>") for number in range(8)]
    for number, id in enumerate(ids):
        assert run_of(server.result(id))["stdout"] == f"<{number}>" * 1000 + "\n"


async def test_a_flood_does_not_keep_a_client_from_cancelling(
    server: Server, client: Client
) -> None:
    source = "import os\nwhile True: os.write(1, b'x' * 2**16)"
    id = await client.submit(source, interactive=True, limits={"output": 16 * MIB} | LONG)
    await client.until(id, "output")
    await client.ask("cancel", id=id)
    result = await ended(server, client, id)
    assert (result["verdict"], run_of(result)["limit"]) in (
        ("cancelled", None),
        ("output_limit", "output"),
    )
    assert run_of(result)["signal"] == "SIGKILL"
