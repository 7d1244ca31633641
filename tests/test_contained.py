"""A program in a container, as the relay tells of it. The test is the relay."""

import os
import socket
import struct
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

import occd.sandbox.program
from occd.inputs import Limits
from occd.sandbox import Run, Sink, archive
from occd.sandbox.contained import Contained
from occd.sandbox.container import Container, bounds, open_first
from occd.sandbox.engine import Made
from occd.sandbox.files import Clerk
from occd.sandbox.output import Output
from occd.sandbox.relay import Relay, frame

LIMITS = Limits()


def wrapped(data: bytes) -> bytes:
    """As the engine passes on what init writes to stdout."""
    return struct.pack(">B3xI", 1, len(data)) + data


class Gone:
    """An engine whose container the kernel has ended for its memory."""

    async def process(self, _: str) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    async def told_oom(self, _: str) -> bool:
        await trio.lowlevel.checkpoint()
        return True


async def no() -> bool:
    await trio.lowlevel.checkpoint()
    return False


async def test_a_file_that_nobody_waits_for_any_more_reaches_nobody_else() -> None:
    """The caller was cancelled, and the number of its descriptor is somebody else's now."""
    ours, theirs = socket.socketpair()
    sinks = Sink(LIMITS.output), Sink(LIMITS.output)
    run = Run(["program"], (), LIMITS, *sinks)
    relay = Relay(ours)
    contained = Contained(relay, run, relay.hang_up, no)
    clerk = Clerk(contained.init)
    output = Output({"stdout": sinks[0], "stderr": sinks[1]}, lambda: None, lambda: None)
    answered = trio.Event()

    def answer(error: int) -> None:
        clerk.answer(error)
        answered.set()

    async def ask(cancel: trio.CancelScope) -> None:
        with cancel:
            await clerk.get("file", 1000)

    with theirs, ExitStack() as held:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(contained.end, output, answer)
            asking = trio.CancelScope()
            nursery.start_soon(ask, asking)
            await trio.testing.wait_all_tasks_blocked()
            asking.cancel()
            await trio.testing.wait_all_tasks_blocked()
            others = [held.enter_context(each) for _ in range(8) for each in socket.socketpair()]
            told = frame(b"b", b"of the program") + frame(b"W", struct.pack("=B3xi", ord("W"), 0))
            theirs.sendall(wrapped(told))
            with trio.fail_after(60):
                await answered.wait()
            for each in others:
                each.setblocking(False)
                with pytest.raises(BlockingIOError):
                    each.recv(100)
            nursery.cancel_scope.cancel()
    contained.close()
    relay.close()


def test_a_process_of_this_machine_is_not_taken_for_a_containers_whatever_it_is_called() -> None:
    """An engine elsewhere counts its processes from 1, too."""
    container = "0123456789abcdef"
    for called, ours in ((b"\xff", False), (b"\xff" + container.encode(), True)):
        argv = [b"/bin/sh", b"-c", b"read line", called]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes():  # the kernel sets it last
                time.sleep(0.001)
            found = open_first(process.pid, container)
            process.kill()
        assert (found is not None) == ours
        if found is not None:
            os.close(found)


async def test_a_program_whose_memory_ran_out_at_once_is_no_failure_to_fill_its_box() -> None:
    """Its container has gone before occd has read that its files are there, and a beat could not be sent."""
    ours, theirs = socket.socketpair()
    limits = Limits()
    sinks = Sink(limits.output), Sink(limits.output)
    run = Run(["program"], (), limits, *sinks)
    container = Container(Gone(), Made("container", 1, ours), bounds(limits, 0))  # type: ignore[arg-type]
    theirs.sendall(wrapped(frame(b"U", struct.pack("<i4xQ", 0, 2**20))))
    theirs.close()
    await container.beat()  # until the end of the container
    with trio.fail_after(60):
        await container.fill([archive.pack([])], run, bounds(limits, 0))
        outcome, _ = await container.run(run, bounds(limits, 0), trio.TASK_STATUS_IGNORED)
    container.close()
    assert (outcome.signal, outcome.limit) == ("SIGKILL", "memory")


@pytest.mark.parametrize("silent", [False, True], ids=["init has ended", "init is silent"])
@pytest.mark.parametrize("cpu_limit", [0.01, 60.0])
async def test_what_the_processors_did_is_never_free(
    monkeypatch: pytest.MonkeyPatch, silent: bool, cpu_limit: float
) -> None:
    """Else a program that ends its init with itself, or keeps init from its work, would pay nothing."""
    monkeypatch.setattr(occd.sandbox.program, "_OVERDUE_S", 0.0)
    ours, theirs = socket.socketpair()
    limits = Limits(cpu_time=cpu_limit, wall_time=0.1)
    run = Run(["program"], (), limits, Sink(limits.output), Sink(limits.output))
    container = Container(Gone(), Made("container", 1, ours), bounds(limits, 0))  # type: ignore[arg-type]
    with theirs:
        theirs.sendall(wrapped(frame(b"U", struct.pack("<i4xQ", 0, 2**20))))
        with trio.fail_after(60):
            await container.fill([archive.pack([])], run, bounds(limits, 0))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_it, theirs, silent)
                outcome, _ = await container.run(run, bounds(limits, 0), trio.TASK_STATUS_IGNORED)
    container.close()
    assert outcome.limit == ("wall_time" if silent else "memory")
    assert outcome.wall_time > 0.04
    most = outcome.wall_time * (os.cpu_count() or 1)
    assert outcome.cpu_time == pytest.approx(min(cpu_limit, most))


async def _end_it(theirs: socket.socket, silent: bool) -> None:
    """End the connection as a container's end does: after a while, or when occd has killed its init."""
    if silent:
        theirs.setblocking(False)
        while True:
            await trio.lowlevel.wait_readable(theirs)
            if not theirs.recv(2**16):
                break
    else:
        await trio.sleep(0.05)
    theirs.shutdown(socket.SHUT_RDWR)
