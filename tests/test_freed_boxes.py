"""The last holder of a program's box frees its memory. A large one takes a tenth of a second.
The loop, for which everybody waits, is never the holder."""

import os
import time
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
from sandboxed import Lab

from occd.model import Limits
from occd.sandbox import Collect, Run, Sink

LARGE = Limits(cpu_time=20.0, wall_time=60.0, memory=2**30, box=400 * 2**20, file_size=2**30)
REPEATS = 5
"""The kernel's haste may decide who is the last."""


class Steps(trio.abc.Instrument):
    """CPU seconds of this thread from one checkpoint of a task to its next."""

    def __init__(self) -> None:
        self.longest, self.began = 0.0, time.thread_time()

    def before_task_step(self, _: trio.lowlevel.Task) -> None:
        self.began = time.thread_time()

    def after_task_step(self, _: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.thread_time() - self.began)


async def fill_box(lab: Lab, more: dict[str, Any]) -> None:
    argv = ["/bin/sh", "-c", "head -c 380M /dev/zero > large; echo > small"]
    async with lab.cell(limits=LARGE) as cell:
        sink = Sink(LARGE.output)
        ended = await cell.run(Run(argv, (), LARGE, sink, sink, **more))
        assert ended.outcome.succeeded


@pytest.mark.parametrize("more", [{"collect": Collect(("small",), 1, 10, 10)}, {"keep": True}])
async def test_a_large_box_is_not_freed_by_the_loop(lab: Lab, more: dict[str, Any]) -> None:
    took = []
    for _ in range(REPEATS):
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await fill_box(lab, more)
        trio.lowlevel.remove_instrument(steps)
        took.append(steps.longest)
    assert max(took) < 0.015, took


async def test_a_box_belongs_to_its_jail_alone_while_the_program_runs(lab: Lab) -> None:
    stop, sink = trio.Event(), Sink(LARGE.output)
    run = Run(["/bin/sleep", "60"], (), LARGE, sink, sink, stop=stop)
    async with lab.cell() as cell, trio.open_nursery() as nursery:
        await nursery.start(partial(cell.run, run))
        files = []
        for each in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # a thread has closed it
                files.append(os.readlink(f"/proc/self/fd/{each}"))
        stop.set()
    assert files
    assert "/" not in files
