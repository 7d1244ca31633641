"""A trace as the API gives it: asked for, refused, kept, and gone with its submission."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer, redis_server
from serving import API, Server, connected, serving

ASKS = """
import ctypes, socket
try: socket.socket().connect(("93.184.216.34", 80))
except OSError as error: print(error.strerror)
ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
ctypes.CDLL(None).ptrace(16, 1, 0, 0)
"""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("trace") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def in_redis(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("trace-redis") / "data"
    with serving(folder, redis__url=redis.url, node="n1") as server:
        yield server


@pytest.fixture(params=["embedded", "in_redis"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def calls_of(server: Server, result: dict[str, Any]) -> list[dict[str, Any]]:
    answer = server.get(f"{API}/submissions/{result['id']}/trace")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    calls: list[dict[str, Any]] = answer.json()["calls"]
    return calls


def test_trace_counts_calls_and_names_those_that_were_refused(server: Server) -> None:
    result = server.run(ASKS, trace=True)
    trace = result["trace"]
    assert (result["verdict"], result["run"]["stdout"]) == ("ok", "Network is unreachable\n")
    assert trace["ended"] == "whole"
    assert trace["refused"] == [
        "connect: not permitted here",
        "mount: not permitted here",
        "ptrace: not permitted here",
    ]
    assert [each["call"] for each in trace["counts"][:3]] == ["connect", "mount", "ptrace"]
    calls = calls_of(server, result)
    assert len(calls) == trace["calls"] == sum(each["count"] for each in trace["counts"])
    assert calls[0]["call"] == "execve"
    assert set(calls[0]) == {
        *("number", "process", "at", "seconds", "call", "arguments", "result", "error", "refused")
    }
    assert [each["call"] for each in calls if each["refused"]] == ["connect", "mount", "ptrace"]


def test_run_without_trace_has_none(server: Server) -> None:
    result = server.run("print(1)")
    assert result["trace"] is None
    answer = server.get(f"{API}/submissions/{result['id']}/trace")
    assert (answer.status, answer.json()["type"]) == (404, "unknown-artifact")


def test_compile_error_leaves_no_trace(embedded: Server) -> None:
    result = embedded.run("int main(void) {", language="c", trace=True)
    assert (result["verdict"], result["trace"]) == ("compile_error", None)


def test_compiled_program_alone_is_traced(embedded: Server) -> None:
    result = embedded.run(
        '#include <stdio.h>\nint main(void){puts("x");}', language="c", trace=True
    )
    calls = calls_of(embedded, result)
    assert calls[0]["arguments"][0].startswith("'./")
    assert len(calls) < 200


async def test_program_at_a_terminal_is_traced_and_followers_are_told(embedded: Server) -> None:
    async with connected(embedded) as client:
        source = "print(input('? '))"
        id = await client.submit(source, tty={"rows": 24, "cols": 80}, trace=True)
        await client.until(id, "output")
        await client.ask("stdin", id=id, data="typed\n")
        frames = await client.until(id, "finished")
    result = frames[-1]["event"]["result"]
    assert (result["verdict"], result["trace"]["ended"]) == ("ok", "whole")
    assert any(
        "typed" in each["arguments"][1]
        for each in calls_of(embedded, {"id": id})
        if each["call"] == "read"
    )


async def test_cancelled_program_keeps_what_was_traced(embedded: Server) -> None:
    async with connected(embedded) as client:
        id = await client.submit("print('up', flush=True)\nwhile True: pass", trace=True)
        await client.until(id, "output")
        assert embedded.request("DELETE", f"{API}/submissions/{id}").status == 202
        result = (await client.until(id, "finished"))[-1]["event"]["result"]
    assert result["verdict"] == "cancelled"
    assert result["trace"]["ended"] == "whole"
    written = [each for each in calls_of(embedded, {"id": id}) if each["call"] == "write"]
    assert "'up" in written[0]["arguments"][1]


def test_tests_and_formatting_are_not_traced(embedded: Server) -> None:
    for more in ({"tests": [{"expected_stdout": "1"}]}, {"format": True}):
        body = {"language": "python", "source": "print(1)", "trace": True} | more
        answer = embedded.post(body)
        assert answer.status == 422
        assert answer.json()["errors"] == [
            {"field": "trace", "message": f"cannot go together with {next(iter(more))}"}
        ]


def test_languages_tell_whether_a_trace_can_be_asked_for(embedded: Server) -> None:
    languages = embedded.get(f"{API}/languages").json()["languages"]
    assert all(each["trace"] is True for each in languages)


def test_setting_switches_it_off(tmp_path: Path) -> None:
    with serving(tmp_path / "data", sandbox__trace="false") as server:
        answer = server.post({"language": "python", "source": "1", "trace": True})
        assert answer.status == 422
        assert answer.json()["errors"] == [
            {"field": "trace", "message": "this server traces no programs"}
        ]
        languages = server.get(f"{API}/languages").json()["languages"]
        assert not any(each["trace"] for each in languages)


def test_class_may_be_without(tmp_path: Path) -> None:
    accounts = {
        "anonymous": {"class": "exam"},
        "default_class": "exam",
        "classes": {"exam": {"trace": False}},
    }
    with serving(tmp_path / "data", accounts=json.dumps(accounts)) as server:
        answer = server.post({"language": "python", "source": "1", "trace": True})
        assert answer.status == 422
        assert answer.json()["errors"] == [{"field": "trace", "message": "is not for your class"}]
        assert not server.get(f"{API}/languages").json()["languages"][0]["trace"]


def test_damaged_trace_is_told_and_no_other_is_shown(
    in_redis: Server, redis: RedisServer, embedded: Server
) -> None:
    id = in_redis.run("print(1)", trace=True)["id"]
    key = f"occd2:{{{id}}}:b"
    name = redis.command("HKEYS", key).split("\r\n")[2]
    redis.command("HSET", key, name, "damaged")
    assert in_redis.get(f"{API}/submissions/{id}/trace").status == 500
    id = embedded.run("print(1)", trace=True)["id"]
    (file,) = (embedded.data_dir / "blobs" / id).iterdir()
    file.write_bytes(b"damaged")
    assert embedded.get(f"{API}/submissions/{id}/trace").status == 500
    file.unlink()
    assert embedded.get(f"{API}/submissions/{id}/trace").status == 404


def test_trace_is_erased_with_its_submission(embedded: Server) -> None:
    id = embedded.run("print(1)", trace=True)["id"]
    assert embedded.request("DELETE", f"{API}/submissions/{id}?erase=true").status in (200, 204)
    assert embedded.get(f"{API}/submissions/{id}/trace").status == 404
    assert not (embedded.data_dir / "blobs" / id).exists()


async def test_death_of_the_daemon_ends_program_and_tracer(tmp_path: Path) -> None:
    from serving import start, wait_open

    server = start(tmp_path / "data", "--listen=127.0.0.1:0")
    wait_open(server)
    mark = f"occd-trace-{os.getpid()}"
    source = f"import time\nprint('up', flush=True)\nmark = '{mark}'\ntime.sleep(50)"
    async with connected(server) as client:
        id = await client.submit(source, args=[mark], trace=True, limits={"wall_time": 60})
        await client.until(id, "output")
        tracers = [pid for pid in _with("tracer.py") if _is_below(pid, server.process.pid)]
        assert len(tracers) == 1
        server.process.kill()
        server.process.wait()
        ends = time.monotonic() + 10
        while _with(mark) or any(pid in _with("tracer.py") for pid in tracers):
            assert time.monotonic() < ends, "a traced program outlived its daemon"


def _with(word: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _is_below(pid: int, above: int) -> bool:
    while pid > 1:
        if pid == above:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False
