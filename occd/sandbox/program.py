"""A program that was just started: feed it, read it, and tell how it ended.

init (`init.c`) starts the program, and holds its wall time, CPU time and idle time. When no process of the
program is left, init reports. We read the output, hold its limit, and ask init to end the program. We kill an
init that does not answer, and the kernel then kills the other processes.

The verdict follows from the program's usage. It does not depend on when we notice: this process may be
busy. Only idle time needs us, because we alone see input and output; so its limit must be far above our own
pauses.
"""

import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Protocol

import trio

from occd.errors import SandboxFailed
from occd.inputs import Limits, Terminal
from occd.model import LimitName, Outcome, Stream
from occd.sandbox import Feed, Given, Idle, Run, Running, Sink
from occd.sandbox.files import Clerk
from occd.sandbox.group import Usage
from occd.sandbox.init import (
    End,
    Init,
    encode_idle,
    encode_limit,
    encode_signal,
    encode_talks,
)
from occd.sandbox.output import Output

_ANSWER_S = 2.0
"""The time for init to end its program after we asked."""

_OVERDUE_S = 15.0
"""init ends its program at the wall time. We give init up after this additional time."""

_MOMENT_S = 0.02
"""So long a program is left to itself that nobody follows. A short one has ended by then."""

_END_TIMEOUT_S = 10.0
_PIECE = 2**16
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/box", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
_ENV_AT_TERMINAL = {"TERM": "xterm-256color"}


class Window(Protocol):
    """The size of a terminal's window."""

    def resize(self, window: Terminal) -> None: ...

    async def run(self) -> None:
        """Set each size that is wanted, until cancelled."""


class Started(Protocol):
    """The program, as the place in which it runs gives it to us.

    It keeps no `Output`, because the output holds it: as a cycle, both and what the program wrote would stay
    until a garbage collection, which is rare."""

    @property
    def init(self) -> Init: ...

    @property
    def stdin(self) -> trio.abc.SendStream: ...

    @property
    def window(self) -> Window | None: ...

    def read(self, output: Output, nursery: trio.Nursery) -> None:
        """Begin to pass the output on."""

    def drain(self, output: Output) -> None:
        """Pass on the rest of the output, when no process of the program is left."""

    async def end(self, output: Output, answered: Callable[[int], None]) -> End | None:
        """Wait for the end. After it no process of the program is left. None when init died without a
        report, as after our kill. `output` gets what comes on the way of the report. `answered` gets the
        errors of work with files, 0 for none.

        Raises SandboxFailed when the program could not be started."""

    async def unreported(self) -> End:
        """How a program ended whose init died without a report, and not by us.

        Raises SandboxFailed when somebody killed init, perhaps the kernel for lack of memory: this is not the
        program's fault."""

    def said(self) -> str:
        """What the operator should know of a failure: nothing, or a colon with the latest lines."""

    def usage(self) -> Usage | None:
        """The exact usage, after the end. None when only init's samples tell it."""


def environment(run: Run) -> list[str]:
    base = _ENV | _ENV_AT_TERMINAL if run.tty else _ENV
    return [f"{name}={value}" for name, value in (base | dict(run.env)).items()]


async def supervise(
    run: Run, started: Started, task_status: trio.TaskStatus[Running], *, unwatched: bool = False
) -> Outcome:
    """Have the program run to its end. After the return no process of the program is left. `unwatched`: for a
    moment nothing is done but to wait for the end, which saves a short program tasks and wake-ups.

    Raises SandboxFailed when the program could not be started or does not end.
    """
    began = time.monotonic()
    init = started.init
    clerk = Clerk(init)
    ending = _Ending(started, clerk, run.limits.wall_time)
    program = _Program(init, ending, clerk, run.idle, started.window)
    sinks: dict[Stream, Sink] = {"stdout": run.stdout}
    if not run.tty:
        sinks["stderr"] = run.stderr
    output = Output(sinks, ending.ask, program.wrote)
    fed = run.stdin != Given()
    if not fed:
        await started.stdin.aclose()
    task_status.started(program)
    try:
        if fed or not unwatched or not await ending.comes_soon(output):
            await _watch(run, started, program, ending, output)
    finally:
        clerk.over()
    end, wall_time = ending.end, time.monotonic() - began
    started.drain(output)
    usage = started.usage()
    if end is None:
        limit: LimitName | None = None if ending.asked else "wall_time"
        cpu_time = usage.cpu_time if usage else most_cpu_time(run.limits, wall_time)
        end = End(signal.SIGKILL, limit, True, wall_time, cpu_time, peak=0)
    return _outcome(run, end, usage, output, asked=ending.asked)


async def _watch(
    run: Run, started: Started, program: "_Program", ending: "_Ending", output: Output
) -> None:
    """Feed the program and read it until its end."""
    failed: SandboxFailed | None = None
    async with trio.open_nursery() as watchers:
        started.read(output, watchers)
        if run.stdin != Given():
            watchers.start_soon(_feed, run.stdin, started.stdin, program)
        if started.window:
            watchers.start_soon(started.window.run)
        if run.signals:
            watchers.start_soon(_forward, run.signals, started.init)
        watchers.start_soon(ending.stopped, run.stop)
        try:
            await ending.wait(output)
        except SandboxFailed as error:
            failed = error  # raised below: the nursery would wrap it
        except trio.Cancelled:
            started.init.kill()  # `window` may wait for the program
            raise
        watchers.cancel_scope.cancel()
    if failed:
        raise failed


def most_cpu_time(limits: Limits, wall_time: float) -> float:
    """The most that a program can have used, for one whose init tells nothing any more. It counts as used: a
    program may bring about the end of its init, and else would have used the processors for nothing."""
    return min(limits.cpu_time, wall_time * (os.cpu_count() or 1))


async def _forward(signals: trio.MemoryReceiveChannel[int], init: Init) -> None:
    async for number in signals:
        init.send(encode_signal(number))


async def _feed(feed: Feed | Given, stdin: trio.abc.SendStream, program: "_Program") -> None:
    with suppress(trio.BrokenResourceError):  # the program need not read its stdin
        if isinstance(feed, Given):
            for at in range(0, len(feed.data), _PIECE):
                await stdin.send_all(feed.data[at : at + _PIECE])
                program.heard()
        else:
            async for chunk in feed.chunks:
                await stdin.send_all(chunk)
                program.heard()
        await stdin.aclose()


class _Program:
    """The program that runs, for those who change its limits or work with its files (`Running`)."""

    def __init__(
        self, init: Init, ending: "_Ending", clerk: Clerk, idle: Idle | None, window: Window | None
    ) -> None:
        """`window` is that of the program's terminal."""
        self._init = init
        self._window = window
        self.put, self.list, self.get = clerk.put, clerk.list, clerk.get
        self._ending = ending
        self._idle = idle

    def arm(self, limit: Literal["cpu_time", "wall_time"], seconds: float | None) -> None:
        self._init.send(encode_limit(limit, seconds))
        if limit == "wall_time":
            self._ending.expect(seconds)

    def arm_idle(self, idle: Idle | None) -> None:
        self._idle = idle
        self._init.send(encode_idle(idle))

    def resize(self, rows: int, cols: int) -> None:
        size = Terminal(rows, cols)
        if self._window:
            self._window.resize(size)

    def heard(self) -> None:
        """Input was written to the program's stdin."""
        if self._idle:
            self._init.send(encode_idle(self._idle))

    def wrote(self) -> None:
        if self._idle:
            self._init.send(encode_talks())


class _Ending:
    """The end of one jail: awaited, asked for, and forced when init does not answer."""

    def __init__(self, started: Started, clerk: Clerk, wall_time: float) -> None:
        self._started = started
        self._clerk = clerk
        self.asked = False
        self.end: End | None = None
        """None also for an init that did not answer us."""
        self._gone = False
        self._patience = trio.CancelScope()
        self.expect(wall_time)

    def expect(self, wall_time: float | None) -> None:
        """init will end the program when this time has passed from now. None: at no time."""
        if not self.asked and not self._gone:
            seconds = math.inf if wall_time is None else wall_time + _OVERDUE_S
            self._patience.deadline = trio.current_time() + seconds

    def ask(self) -> None:
        """Have init end the program and report, as the program's end by SIGKILL."""
        if not self.asked:
            self.asked = True
            self._patience.deadline = trio.current_time() + _ANSWER_S
            self._started.init.send(encode_signal(signal.SIGKILL))

    async def stopped(self, stop: trio.Event) -> None:
        await stop.wait()
        self.ask()

    async def comes_soon(self, output: Output) -> bool:
        """Wait a moment for the end. Whether it has come."""
        try:
            with trio.move_on_after(_MOMENT_S) as moment:
                self.end = await self._started.end(output, self._clerk.answer)
        except trio.Cancelled:
            self._started.init.kill()
            raise
        if moment.cancelled_caught:
            return False
        self.end = self.end or await self._started.unreported()
        return True

    async def wait(self, output: Output) -> None:
        """Wait for the end, as `Started.end` and `Started.unreported` tell it."""
        with self._patience:
            self.end = await self._started.end(output, self._clerk.answer)
            if self.end is None:
                self.expect(None)  # it is gone, and so not late
                self._gone = True
                self.end = await self._started.unreported()
            return
        self._started.init.kill()
        with trio.move_on_after(_END_TIMEOUT_S):
            self.end = await self._started.end(output, self._clerk.answer)
            return
        raise SandboxFailed(
            f"a jail does not end although its init was killed{self._started.said()}"
        )


def _outcome(run: Run, end: End, usage: Usage | None, output: Output, *, asked: bool) -> Outcome:
    """`asked`: we asked init to end the program."""
    limit = _limit(run.limits, end, usage, output)
    output.finish(cut=asked or limit is not None)
    return Outcome(
        exit_code=None if end.ended else end.exit_code,
        signal="SIGKILL" if end.ended else end.signal,
        limit=limit,
        stdout=output.written("stdout"),
        stderr=output.written("stderr"),
        cpu_time=end.cpu_time or (usage.cpu_time if usage else 0.0),  # an init may tell none
        wall_time=end.wall_time,
        memory=(usage.memory if usage else 0) or end.peak,
        tty=run.tty is not None,
    )


def _limit(limits: Limits, end: End, usage: Usage | None, output: Output) -> LimitName | None:
    # A group's peak never exceeds its limit, because the kernel kills before.
    if usage.oom_kills if usage else end.peak > limits.memory:
        return "memory"
    return "output" if output.truncated else end.limit
