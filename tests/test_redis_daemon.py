"""The whole daemon over a real Redis: what a client sees when Redis is killed, emptied or full."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from redis_server import RedisServer, redis_server
from serving import API, OCCD, PATIENCE_S, Server, connected, serving, start
from streams import LINES, SSE, followed, type_in

from occd.levels import in_words

WAITS = "print('ready', flush=True); print(input(), flush=True); print(input())"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("redis-daemon")
    with serving(folder / "data", redis__url=redis.url, node="n1") as server:
        yield server


def test_a_program_runs_and_is_known_in_redis(server: Server, redis: RedisServer) -> None:
    result = server.run("print(6 * 7)")
    assert (result["verdict"], result["run"]["stdout"]) == ("ok", "42\n")
    assert redis.command("EXISTS", f"occd2:{{{result['id']}}}") == ":1"
    assert server.get("/readyz").status == 200


# Somebody wrote something of another type over a key of ours (WRONGTYPE)


def overwrite(redis: RedisServer, key: str) -> None:
    redis.command("DEL", key)
    redis.command("XADD", key, "*", "not", "ours")  # no key of ours is a stream


def lines_about(server: Server, id: str) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if id in line]


def kept(server: Server) -> str:
    command = [OCCD, f"--data-dir={server.data_dir}", "queues"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("key", ["", ":e"])
async def test_a_running_submission_that_is_overwritten_ends_with_one_line(
    server: Server, redis: RedisServer, key: str
) -> None:
    async with connected(server) as client:
        id = await client.submit(WAITS, interactive=True, limits={"wall_time": 5})
        await client.until_output(id, "ready\n")
        overwrite(redis, f"occd2:{{{id}}}{key}")
        answer = await client.ask("subscribe", id=id)
        while answer["type"] != "error":  # `done` comes first where only the events are damaged
            answer = await client.receive()
        assert answer["problem"]["type"] == "unreadable"
    with trio.fail_after(PATIENCE_S):
        while id not in await trio.to_thread.run_sync(kept, server):  # noqa: ASYNC110  (another process)
            await trio.sleep(0.1)
    told = await trio.to_thread.run_sync(server.get, f"{API}/submissions/{id}?wait=60")
    assert (told.status, told.json()["type"]) == (500, "unreadable")
    assert "127.0.0.1" not in told.body.decode()
    result = await trio.to_thread.run_sync(server.run, "print(1)")
    assert result["verdict"] == "ok"
    lines = lines_about(server, id)
    assert sum("dead letter" in line for line in lines) == 1
    asked = sum("what is stored cannot be read" in line for line in lines)
    assert len(lines) == 1 + asked <= 4, lines  # and one for each time that a client asked


def test_a_waiting_submission_that_is_overwritten_is_not_tried_for_ever(
    tmp_path: Path, redis: RedisServer
) -> None:
    with serving(
        tmp_path / "data", redis__url=redis.url, redis__prefix="over", execute__slots="1"
    ) as server:
        busy = server.submit("import time; time.sleep(60)")
        server.wait_running(busy)
        whose = {"authorization": "Bearer " + "w" * 22}
        bodies = [{"language": "python", "source": f"print({n})"} for n in range(2)]
        damaged, other = (server.post(each, **whose).json()["id"] for each in bodies)
        overwrite(redis, f"over2:{{{damaged}}}")
        server.request("DELETE", f"{API}/submissions/{busy}")
        assert server.result(other)["verdict"] == "ok"
        listed = server.get(f"{API}/submissions", **whose).json()["submissions"]
        assert [each["id"] for each in listed] == [other]
        deadline = time.monotonic() + PATIENCE_S
        while damaged not in kept(server):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (line,) = lines_about(server, damaged)
        assert "dead letter" in line


def test_a_key_of_everybodys_that_is_overwritten_makes_no_dead_letters(
    tmp_path: Path, redis: RedisServer
) -> None:
    """What was accepted before runs. What comes is refused until somebody removes the damaged key."""
    with serving(
        tmp_path / "data", redis__url=redis.url, redis__prefix="all", execute__slots="1"
    ) as server:
        busy = server.submit("import time; time.sleep(60)")
        server.wait_running(busy)
        waiting = server.submit("print(2)")
        overwrite(redis, "all2:queued")
        answer = server.post({"language": "python", "source": "1"})
        assert (answer.status, answer.json()["type"]) == (500, "unreadable")
        server.request("DELETE", f"{API}/submissions/{busy}")
        assert server.result(waiting)["verdict"] == "ok"
        redis.command("DEL", "all2:queued")
        assert server.run("print(3)")["verdict"] == "ok"
        assert waiting not in kept(server)


def test_nodes_lists_what_runs(server: Server, redis: RedisServer) -> None:
    command, environment = [OCCD, "nodes"], os.environ | {"OCCD_REDIS__URL": redis.url}
    told, until = "", time.monotonic() + PATIENCE_S
    # The node tells every 5 s. Programs of other tests may have run when it told last.
    while "; 0 running" not in told:
        assert time.monotonic() < until, told
        told = subprocess.check_output(command, env=environment, text=True)
    assert told.startswith("n1: execute,notify,submit,ws; 0 running")
    assert "python 3" in told
    told_ready = server.get("/readyz").json()["sandbox"]
    assert f"      {in_words(told_ready['holds'])}\n" in told
    environment.pop("OCCD_REDIS__URL")
    refused = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
    assert (refused.returncode, "redis.url" in refused.stderr) == (125, True)


async def test_a_program_that_runs_while_redis_restarts_is_followed_to_its_end(
    server: Server, redis: RedisServer
) -> None:
    async with connected(server) as client:
        id = await client.submit(WAITS, interactive=True)
        await client.until_output(id, "ready\n")
        redis.kill()
        with trio.move_on_after(0.3):
            await client.receive()
        redis.start()
        assert (await client.ask("stdin", id=id, data="one\n"))["type"] == "done"
        await client.until_output(id, "one\n")
        await client.ask("stdin", id=id, data="two\n")
        await client.until(id, "finished")
        result = await trio.to_thread.run_sync(server.look, id)
        assert result["run"]["stdout"] == "ready\none\ntwo\n"


async def test_a_program_that_runs_while_redis_is_emptied_ends_with_its_whole_output(
    server: Server, redis: RedisServer
) -> None:
    source = "import time; print(1, flush=True); time.sleep(4); print(2, flush=True)"
    async with connected(server) as client:
        id = await client.submit(source)
        await client.until_output(id, "1\n")
        redis.do("FLUSHALL")
        while (frame := await client.receive())["type"] != "error":
            assert frame["event"]["name"] != "finished"
        assert frame["problem"]["type"] == "events-reset"
        await client.ask("subscribe", id=id, after=0)
        frames = await client.until(id, "finished")
        assert frames[0]["event"]["name"] == "queued"
        result = await trio.to_thread.run_sync(server.look, id)
        assert result["run"]["stdout"] == "1\n2\n"


def wait_for_nodes(server: Server) -> None:
    """Until they have told an emptied Redis of themselves again."""
    deadline = time.monotonic() + PATIENCE_S
    while not server.get(f"{API}/languages").json()["languages"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


async def test_a_silent_program_is_known_again_soon_after_redis_was_emptied(
    server: Server, redis: RedisServer
) -> None:
    wait_for_nodes(server)
    async with connected(server) as client:
        id = await client.submit(WAITS, interactive=True)
        await client.until_output(id, "ready\n")
        await client.ask("stdin", id=id, data="one\n")
        await client.until_output(id, "one\n")
        redis.do("FLUSHALL")
        while (frame := await client.receive())["type"] != "error":
            pass
        assert frame["problem"]["type"] == "events-reset"
        await client.ask("subscribe", id=id, after=0)
        assert (await client.ask("stdin", id=id, data="two\n"))["type"] == "done"
        await client.until(id, "finished")
        result = await trio.to_thread.run_sync(server.look, id)
        assert result["run"]["stdout"] == "ready\none\ntwo\n"


@pytest.mark.parametrize("accept", [SSE, LINES])
def test_a_stream_goes_on_by_itself_after_redis_was_emptied(
    server: Server, redis: RedisServer, accept: str
) -> None:
    wait_for_nodes(server)
    id = server.submit(WAITS, interactive=True)
    with followed(server, id, accept=accept) as stream:
        stream.until_written("ready\n")
        type_in(server, id, "one\n")
        stream.until_written("one\n")
        redis.do("FLUSHALL")
        stream.until("events-reset")
        type_in(server, id, "two\n")
        told = stream.rest()
    assert [each.id for each in told] == list(range(1, len(told) + 1))
    assert (told[0].name, told[-1].name) == ("queued", "finished")
    assert "".join(each.written for each in told) == "ready\none\ntwo\n"


async def test_a_silent_program_can_be_cancelled_soon_after_redis_was_emptied(
    server: Server, redis: RedisServer
) -> None:
    wait_for_nodes(server)
    async with connected(server) as client:
        id = await client.submit("import time; print(1, flush=True); time.sleep(30)")
        await client.until_output(id, "1\n")
        redis.do("FLUSHALL")
        with trio.fail_after(PATIENCE_S):
            while (frame := await client.receive())["type"] != "error":
                pass
            assert frame["problem"]["type"] == "events-reset"
            await client.ask("subscribe", id=id, after=0)
            await client.ask("cancel", id=id)
            frames = await client.until(id, "finished")
        assert frames[-1]["event"]["result"]["verdict"] == "cancelled"


def test_while_no_node_is_known_a_submission_is_not_its_clients_fault(
    server: Server, redis: RedisServer
) -> None:
    redis.command("DEL", "occd2:nodes")
    answer = server.post({"language": "python", "source": "1"})
    assert (answer.status, answer.json()["type"]) == (503, "no-nodes")
    wait_for_nodes(server)
    assert server.run("print(1)")["verdict"] == "ok"


async def test_a_damaged_result_is_one_clear_error(server: Server, redis: RedisServer) -> None:
    id = server.submit("print(1)")
    server.result(id)
    redis.do("LSET", f"occd2:{{{id}}}:e", "-1", "damaged")
    for query in ("", "?wait=1"):
        answer = server.get(f"{API}/submissions/{id}{query}")
        assert (answer.status, answer.json()["type"]) == (500, "unreadable")
    async with connected(server) as client:
        await client.ask("subscribe", id=id, after=0)
        told = await client.until(id, "unknown")
        assert [each["seq"] for each in told] == list(range(1, len(told) + 1))
        await client.until(await client.submit("print(2)"), "finished")  # on the same connection


def test_a_full_or_dead_redis_is_a_clear_503_that_heals(server: Server, redis: RedisServer) -> None:
    wait_for_nodes(server)
    redis.do("CONFIG", "SET", "maxmemory", "1")
    answer = server.post({"language": "python", "source": "1"})
    assert (answer.status, answer.json()["type"]) == (503, "unavailable")
    assert answer.headers["Retry-After"]
    ready = server.get("/readyz")
    assert (ready.status, "maxmemory" in ready.json()["detail"]) == (503, True)
    redis.do("CONFIG", "SET", "maxmemory", "0")
    assert server.run("print(1)")["verdict"] == "ok"
    redis.kill()
    ready = server.get("/readyz")
    assert (ready.status, "cannot be reached" in ready.json()["detail"]) == (503, True)
    assert server.post({"language": "python", "source": "1"}).status == 503
    assert server.get("/healthz").status == 200
    redis.start()
    assert server.run("print(1)")["verdict"] == "ok"
    assert server.get("/readyz").status == 200


def test_a_wrong_password_ends_the_start_in_one_line(tmp_path: Path) -> None:
    with redis_server("requirepass right") as closed:
        url = f"redis://:wrong-word@127.0.0.1:{closed.port}"
        server = start(tmp_path / "data", redis__url=url)
        assert server.process.wait(30) == 125
        said = server.log.read_text()
        assert "redis.password_file" in said
        assert "wrong-word" not in said
        assert "Traceback" not in said
