"""Tests go on when Redis is emptied among them, and are run again when their node dies."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from meeting import meeting
from redis_server import RedisServer, redis_server
from serving import Client, connected, serving, start, wait_open

SOURCE = "import time\nif input() == 'wait': time.sleep(3)\nprint('out', flush=True)"
TESTS = [
    {"stdin": "wait" if n == 36 else str(n), "expected_stdout": "out" if n % 2 else "no"}
    for n in range(100)
]
VERDICTS = ["wrong_answer", "accepted"] * 50


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def settings(redis: RedisServer) -> Iterator[dict[str, Any]]:
    with meeting(redis) as found:
        yield found | {"languages": '["python"]'}


async def until_test_37(client: Client, id: str) -> None:
    event: dict[str, Any] = {}
    while (event.get("name"), event.get("test"), event.get("phase")) != ("stage", 36, "start"):
        event = (await client.next_event(id))["event"]


def check(result: dict[str, Any], attempts: int) -> None:
    assert [test["verdict"] for test in result["tests"]] == VERDICTS
    assert [test["run"]["stdout"] for test in result["tests"]] == ["out\n"] * 100
    assert (result["score"], result["attempts"]) == (0.5, attempts)


async def test_tests_whose_node_dies_are_run_again(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        front = stack.enter_context(
            serving(tmp_path / "front", roles="submit,notify,ws", **settings)
        )
        first = start(tmp_path / "first", roles="execute", node="first", **settings)
        stack.callback(first.process.wait)
        stack.callback(first.process.kill)
        wait_open(first)
        async with connected(front) as client:
            id = await client.submit(SOURCE, tests=TESTS)
            await until_test_37(client, id)
            first.signal(signal.SIGKILL)
            stack.enter_context(
                serving(tmp_path / "second", roles="execute", node="second", **settings)
            )
            frames = await client.until(id, "finished")
        again = [frame["event"] for frame in frames if frame["event"]["name"] == "started"]
        assert [event["attempt"] for event in again] == [2]
        check(await trio.to_thread.run_sync(front.look, id), attempts=2)


async def test_a_state_that_is_emptied_among_tests_is_told_all_again(
    settings: dict[str, Any], redis: RedisServer, tmp_path: Path
) -> None:
    with serving(tmp_path / "data", **settings) as server:
        async with connected(server) as client:
            id = await client.submit(SOURCE, tests=TESTS)
            await until_test_37(client, id)
            redis.do("FLUSHALL")
            while (frame := await client.receive())["type"] != "error":
                assert frame["event"]["name"] != "finished"
            assert frame["problem"]["type"] == "events-reset"
            await client.ask("subscribe", id=id, after=0)
            frames = await client.until(id, "finished")
        told = [frame["event"]["test"] for frame in frames if frame["event"]["name"] == "test"]
        assert sorted(told) == list(range(100))  # they run at once
        check(await trio.to_thread.run_sync(server.look, id), attempts=1)
