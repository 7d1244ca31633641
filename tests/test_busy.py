"""Verdicts come from what a program used, however busy the daemon is. These tests block the event loop."""

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from sandboxed import SHORT, Feed, Lab, Ran, standing_inits

import occd.sandbox.program
from occd.model import Limits

PAUSE_S = 0.02
FLOOD = "while True: os.write(1, b'x' * 65536)"
SPIN = "while time.process_time() < {}: pass"


async def run_while_blocked(lab: Lab, source: str, limits: Limits, blocked_s: float) -> Ran:
    """Run a program. When it has begun, block the loop."""
    feed = Feed()
    outcomes: list[Ran] = []

    async def run() -> None:
        source_ = "print('begun', flush=True)\n" + source
        outcomes.append(await lab.python(source_, limits, feed=feed))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await feed.output.wait()
        time.sleep(blocked_s)  # noqa: ASYNC251
    return outcomes[0]


@asynccontextmanager
async def standing_still_often() -> AsyncIterator[None]:
    async def pause() -> None:
        while True:
            time.sleep(PAUSE_S)  # noqa: ASYNC251
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pause)
        yield
        nursery.cancel_scope.cancel()


async def test_a_kill_for_a_flood_never_hits_the_next_program(lab: Lab) -> None:
    flooding = replace(SHORT, output=100_000)
    async with standing_still_often():
        for _ in range(20):
            assert (await lab.python(FLOOD, flooding)).limit == "output"
            outcome = await lab.python("print('innocent')")
            assert outcome.succeeded, outcome
            assert outcome.stdout == b"innocent\n"


async def test_a_program_within_its_wall_time_is_believed_later(lab: Lab) -> None:
    limits = replace(SHORT, wall_time=2.0)
    outcome = await run_while_blocked(lab, "time.sleep(0.2); sys.exit(3)", limits, 2.5)
    assert (outcome.exit_code, outcome.limit) == (3, None), outcome
    assert 0.2 <= outcome.wall_time <= 2.0


async def test_the_wall_time_ends_a_program_while_nobody_looks(lab: Lab) -> None:
    limits = replace(SHORT, wall_time=2.0)
    outcome = await run_while_blocked(lab, "time.sleep(60)", limits, 2.5)
    assert (outcome.signal, outcome.limit) == ("SIGKILL", "wall_time"), outcome


async def test_the_cpu_time_ends_a_program_while_nobody_looks(lab: Lab) -> None:
    limits = replace(SHORT, cpu_time=0.3, wall_time=30.0)
    outcome = await run_while_blocked(lab, SPIN.format(2.5), limits, 3.0)
    assert (outcome.signal, outcome.limit) == ("SIGKILL", "cpu_time"), outcome
    assert 0.3 < outcome.cpu_time < 1.0


async def test_cpu_time_beyond_its_limit_is_the_verdict_whoever_noticed(lab: Lab) -> None:
    """Children on both processors, which end by themselves a moment after the limit."""
    source = f"""
        for _ in range(2):
            if os.fork() == 0:
                {SPIN.format(0.32)}
                os._exit(0)
        for _ in range(2): os.wait()
        """
    used = [await lab.python(source, replace(SHORT, cpu_time=0.64)) for _ in range(5)]
    for outcome in used:
        beyond = outcome.cpu_time > 0.64
        assert outcome.limit == ("cpu_time" if beyond else None), outcome


@pytest.mark.parametrize("asked", [False, True])
async def test_an_init_that_does_not_answer_is_killed(
    lab: Lab, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(occd.sandbox.program, "_OVERDUE_S", 0.5)
    monkeypatch.setattr(occd.sandbox.program, "_ANSWER_S", 0.5)
    feed = Feed()
    limits = replace(SHORT, wall_time=60.0 if asked else 3.0)
    outcomes: list[Ran] = []

    async def run() -> None:
        outcomes.append(
            await lab.python("print('up', flush=True); time.sleep(99)", limits, feed=feed)
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await feed.output.wait()
        (init,) = await standing_inits()
        os.kill(init, signal.SIGSTOP)
        if asked:
            feed.stop.set()
    (outcome,) = outcomes
    assert (outcome.signal, outcome.limit) == ("SIGKILL", None if asked else "wall_time"), outcome
    assert outcome.stdout == b"up\n"
    assert (await lab.python("")).succeeded


async def test_limits_are_counted_from_the_start_of_the_program(lab: Lab) -> None:
    """What making a jail costs on a busy machine is not the program's."""
    async with standing_still_often():
        for _ in range(5):
            outcome = await lab.python("time.sleep(0.5)", replace(SHORT, wall_time=1.0))
            assert outcome.limit is None or outcome.wall_time > 1.0, outcome


@pytest.mark.parametrize("what", ["stdout", "stderr"])
async def test_output_beyond_its_limit_is_the_verdict_of_a_program_that_has_ended(
    lab: Lab, what: str
) -> None:
    source = f"sys.{what}.write('x' * 50_000); time.sleep(0.1)"
    outcome = await run_while_blocked(lab, source, replace(SHORT, output=49_000), 0.5)
    assert (outcome.limit, len(getattr(outcome, what))) == ("output", 49_000), outcome
