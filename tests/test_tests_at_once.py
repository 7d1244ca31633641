"""Tests of one submission that run at once, by a real daemon: in slots that nobody else wants."""

import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import trio
from serving import API, PATIENCE_S, Server, connected, serving

EACH_S = 0.5
SLEEPS = f"import time; time.sleep({EACH_S}); print(input())"


def submitted(server: Server, source: str, count: int, **fields: Any) -> str:
    """Each test's input and expected output is its number."""
    tests = [{"stdin": f"{at}\n", "expected_stdout": f"{at}\n"} for at in range(count)]
    return server.submit(source, tests=tests, **fields)


def events(server: Server, *ids: str) -> dict[str, list[dict[str, Any]]]:
    """All events of each submission, with their times."""

    async def read() -> dict[str, list[dict[str, Any]]]:
        found = {}
        async with connected(server) as client:
            for id in ids:
                await client.ask("subscribe", id=id)
                frames = await client.until(id, "finished")
                found[id] = [each["event"] | {"time": each["time"]} for each in frames]
        return found

    return trio.run(read)


def at_once(events: list[dict[str, Any]]) -> list[int]:
    """How many tests ran, after each start and end."""
    running, found = 0, []
    for event in events:
        if event["name"] == "stage" and event["stage"] == "run":
            running += 1 if event["phase"] == "start" else -1
            found.append(running)
    return found


def test_tests_run_at_once_in_slots_that_nobody_wants(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots="4") as server:
        id = submitted(server, SLEEPS, 12)
        assert server.result(id)["verdict"] == "accepted"
        seen = at_once(events(server, id)[id])
        assert max(seen) == 3  # a slot is kept for the next submission
        assert len(seen) == 24


def test_in_one_slot_one_test_runs_after_the_other(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots="1") as server:
        id = submitted(server, "print(input())", 12)
        assert server.result(id)["verdict"] == "accepted"
        assert at_once(events(server, id)[id]) == [1, 0] * 12


def test_a_test_does_not_pay_for_its_wait_while_the_one_before_runs(tmp_path: Path) -> None:
    """It is made ready meanwhile."""
    source = "import time; time.sleep(2 * (int(input()) % 2))"
    with serving(tmp_path / "data", execute__slots="1") as server:
        id = submitted(server, source, 4)
        runs = [test["run"] for test in server.result(id)["tests"]]
    assert all(run["wall_time"] >= 2 for run in runs[1::2])
    assert all(run["wall_time"] < 1.5 and run["cpu_time"] < 1 for run in runs[::2])


def test_each_test_is_a_copy_of_the_template_that_serves_one_at_a_time(tmp_path: Path) -> None:
    """An interpreter of its own would cost a test ten times as much as this program."""
    is_copy = "print('adopt' in open('/proc/1/cmdline').read())"
    with serving(tmp_path / "data", execute__slots="1") as server:
        deadline = time.monotonic() + PATIENCE_S
        while server.run(is_copy)["run"]["stdout"] != "True\n":
            assert time.monotonic() < deadline, "no template serves"
        tests = server.result(submitted(server, is_copy, 12))["tests"]
    copies = [test["run"]["stdout"] for test in tests].count("True\n")
    assert copies >= 10  # a busy machine may have one late


def test_outputs_of_tests_that_run_at_once_are_told_apart(tmp_path: Path) -> None:
    source = """
import sys, time
number = int(input())
for line in range(40):
    print(number, line, flush=True)
    print(number, file=sys.stderr, flush=True)
    time.sleep(0.02)
"""
    tests = [{"stdin": f"{at}\n", "expected_stdout": ""} for at in range(3)]
    with serving(tmp_path / "data", execute__slots="4") as server:
        id = server.submit(source, tests=tests)
        found = server.result(id)["tests"]
        told = [each for each in events(server, id)[id] if each["name"] == "output"]
    for at, test in enumerate(found):
        out, err = "".join(f"{at} {line}\n" for line in range(40)), f"{at}\n" * 40
        assert (test["run"]["stdout"], test["run"]["stderr"]) == (out, err)
        for stream, text in (("stdout", out), ("stderr", err)):
            mine = (e["data"] for e in told if (e["test"], e["stream"]) == (at, stream))
            assert "".join(mine) == text
    order = [each["test"] for each in told]
    changes = sum(one != other for one, other in pairwise(order))
    assert changes > 10, order  # they did run at once


def test_who_waits_in_the_queue_goes_before_further_tests(tmp_path: Path) -> None:
    """Slots that were lent go to others test by test, and come back when the queue is empty."""
    with serving(tmp_path / "data", execute__slots="4") as server:
        id = submitted(server, SLEEPS, 60, limits={"wall_time": 60})
        while server.look(id)["status"] == "queued" or not _over(server, id):
            time.sleep(0.02)
        hello = server.submit("print('hello')")
        assert server.result(hello)["verdict"] == "ok"
        assert server.look(id)["status"] != "finished"
        others = [server.submit(f"import time; time.sleep({EACH_S})") for _ in range(16)]
        assert {server.result(each)["verdict"] for each in others} == {"ok"}
        assert server.result(id)["verdict"] == "accepted"
        found = events(server, id, *others)
    mine = [e for e in found[id] if e["name"] == "stage" and e["stage"] == "run"]
    begins = sorted(found[each][1]["time"] for each in others)
    running, high = 0, Counter[str]()
    for event in mine:
        running += 1 if event["phase"] == "start" else -1
        when = "between" if begins[3] < event["time"] < begins[-1] else "else"
        if event["phase"] == "start":
            high[when] = max(high[when], running)
    assert high["else"] == 3
    assert high["between"] == 1


def _over(server: Server, id: str) -> bool:
    """Whether a test is over: only then do all lent slots run one."""
    return any(event["name"] == "test" for event in _so_far(server, id))


def _so_far(server: Server, id: str) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with connected(server) as client:
            await client.ask("subscribe", id=id)
            with trio.move_on_after(0.2):
                while True:
                    client.frames.append(await client.receive())
        return [each["event"] for each in client.frames if each["type"] == "event"]

    return trio.run(read)


def test_a_failure_ends_the_tests_above_it_and_not_those_below(tmp_path: Path) -> None:
    source = """
import time
number = int(input())
time.sleep({0: 6, 1: 3, 2: 100}.get(number, 200))
print(number + (number == 1))
"""
    with serving(tmp_path / "data", execute__slots="4") as server:
        id = submitted(server, source, 10, stop_on_failure=True, limits={"wall_time": 250})
        result = server.result(id)
    verdicts = [test["verdict"] for test in result["tests"]]
    assert verdicts == ["accepted", "wrong_answer"] + ["skipped"] * 8
    assert result["verdict"] == "wrong_answer"
    ended = [test["run"] and test["run"]["signal"] for test in result["tests"]]
    assert ended == [None, None, "SIGKILL"] + [None] * 7


def test_a_cancel_ends_all_tests_that_run(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots="4") as server:
        source = "print(input(), flush=True); import time; time.sleep(200)"
        id = submitted(server, source, 10, limits={"wall_time": 250})
        while sum(event["name"] == "output" for event in _so_far(server, id)) < 3:
            time.sleep(0.02)
        server.request("DELETE", f"{API}/submissions/{id}")
        result = server.result(id)
        assert result["verdict"] == "cancelled"
        assert {test["verdict"] for test in result["tests"]} == {"cancelled"}
        assert [test["run"]["stdout"] for test in result["tests"][:3]] == [
            f"{at}\n" for at in range(3)
        ]
        again = submitted(server, "print(input())", 8)
        assert server.result(again)["verdict"] == "accepted"
