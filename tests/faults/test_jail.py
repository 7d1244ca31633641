"""Output, ends and limits: what once came out in the wrong order, cut, late or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from serving import Server, connected

from faults.conftest import Run

FAULTS = Path(__file__).parent
SLOTS = 4
TRIES = 20


def test_output_that_a_cycle_of_sockets_keeps_open_ends_with_the_program(run_fault: Run) -> None:
    for _ in range(SLOTS + 1):  # and each gives its slot back
        result = run_fault("unclear-stdout-in-a-socket-cycle")
        assert result["verdict"] == "ok", result
        assert result["run"]["stdout"] == "cycle made\n"


def test_our_cut_at_the_output_limit_leaves_text(run_fault: Run) -> None:
    run = run_fault("utf8-cut-at-output-limit")["run"]
    assert run["limit"] == "output"
    assert run["stdout_truncated"]
    assert run["stdout"] == "日" * 349_525


def test_the_stack_limit_can_be_raised(run_fault: Run, server: Server) -> None:
    assert run_fault("setrlimit-stack-infinity")["run"]["stdout"] == "ok\n"
    bash = server.run("ulimit -s unlimited && ulimit -Ss && ulimit -Hs", language="bash")
    assert bash["run"]["stdout"] == "unlimited\nunlimited\n", bash


async def test_output_comes_in_the_order_in_which_it_was_written(server: Server) -> None:
    """Two writes that we see at once have no order, which a busy machine makes of 5 ms now and then."""
    fault = json.loads((FAULTS / "streams-out-of-order.json").read_text())
    wanted = "".join(f"{name} {number}\n" for number in range(1, 5) for name in ("out", "err"))
    seen: list[str] = []
    async with connected(server) as client:
        while wanted not in seen:
            id = await client.submit(**fault)
            frames = await client.until(id, "finished")
            assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
            seen.append(written(frames))
            assert len(seen) < TRIES, seen


def written(frames: list[dict[str, Any]]) -> str:
    events = [frame["event"] for frame in frames]
    return "".join(event["data"] for event in events if event["name"] == "output")


@pytest.mark.alone
async def test_a_job_of_many_sessions_leaves_its_neighbour_its_share(server: Server) -> None:
    """In turn alone and beside it, so that what else runs on this machine counts the same."""
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    fault = json.loads((FAULTS / "cpu-starvation-by-sessions.json").read_text())
    alone: list[float] = []
    beside: list[float] = []
    async with connected(server) as client:
        for _ in range(3):
            alone.append(server.run(spin)["run"]["wall_time"])
            hog = await client.submit(**fault)
            running = {"stage": "run", "phase": "start"}
            while not running.items() <= (await client.next_event(hog))["event"].items():
                pass
            beside.append(server.run(spin, limits={"wall_time": 60})["run"]["wall_time"])
            assert server.look(hog)["status"] == "running"
            assert (await client.ask("cancel", id=hog))["type"] == "done"
    assert min(beside) < 3 * min(alone), (alone, beside)


async def test_output_is_seen_as_it_is_written_and_kept_at_a_crash(server: Server) -> None:
    fault = json.loads((FAULTS / "c-output-not-live.json").read_text())
    async with connected(server) as client:
        id = await client.submit(**fault)
        frames = await client.until(id, "finished")
    assert written(frames) == "0\n1\n2\n"
    assert sum(frame["event"]["name"] == "output" for frame in frames) == 3
    run = server.look(id)["run"]
    assert (run["signal"], run["stdout"]) == ("SIGSEGV", "0\n1\n2\n"), run


def test_a_flood_of_prints_is_all_there(run_fault: Run) -> None:
    """What it costs is measured by `make bench`."""
    run = run_fault("python-print-cost")["run"]
    assert run["stdout"] == "".join(f"{n}\n" for n in range(2_000_000))
