"""One run in a jail that stands ready: start it, feed it, read it, and tell how it ended.

nsjail made the namespaces, dropped every privilege, loaded the seccomp policy and started init
(`launcher.py`). init starts the program in the run's control group, and holds its wall time, CPU time and
idle time. When no process of the program is left, init reports over a socket. We read the output, hold its
limit, and ask init to end the program. We kill an init that does not answer, and the kernel then kills the
other processes. When occd dies, init sees the socket close and exits, with the same effect.

The verdict follows from the program's usage. It does not depend on when we notice: this process may be
busy. Only idle time needs us, because we alone see input and output; so its limit must be far above our own
pauses.
"""

import math
import os
import signal
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Literal

import trio

from occd.errors import SandboxFailed
from occd.inputs import Limits, Terminal
from occd.model import LimitName, Outcome, Stream
from occd.sandbox import Feed, Idle, Run, Running, Sink
from occd.sandbox.files import Clerk
from occd.sandbox.group import Group, Usage
from occd.sandbox.init import End, encode_go, encode_idle, encode_limit, encode_talks
from occd.sandbox.launcher import Jail, Launcher
from occd.sandbox.output import Output
from occd.sandbox.terminal import Keyboard, Window

_ANSWER_S = 2.0
"""The time for init to end its program after we asked."""

_OVERDUE_S = 15.0
"""init ends its program at the wall time. We give init up after this additional time."""

_END_TIMEOUT_S = 10.0
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/box", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
_ENV_AT_TERMINAL = {"TERM": "xterm-256color"}


async def run_in_jail(
    launcher: Launcher,
    uid: int,
    run: Run,
    group: Group | None,
    task_status: trio.TaskStatus[Running],
) -> Outcome:
    """Run a program in the jail that stands ready. After the return no process of the program is left.
    `uid` is the host's id of the jail's user.

    Raises SandboxFailed when the program could not be started or does not end.
    """
    async with AsyncExitStack() as ours:
        stdin: trio.abc.SendStream
        streams: dict[Stream, tuple[int, Sink]]
        with ExitStack() as theirs:
            files: list[int] = []
            if run.tty is None:
                stdin, stdout, stderr, files = _pipes(uid, ours, theirs)
                streams = {"stdout": (stdout, run.stdout), "stderr": (stderr, run.stderr)}
            groups = theirs.enter_context(group.joinable()) if group else []
            cpu_time = [theirs.enter_context(group.cpu_time_file())] if group else []
            base = _ENV | _ENV_AT_TERMINAL if run.tty else _ENV
            env = [f"{name}={value}" for name, value in (base | dict(run.env)).items()]
            message = encode_go(
                launcher.jail.number, run.argv, env, run.limits, run.idle, len(groups), run.tty
            )
            started = time.monotonic()
            await launcher.go(message, [*files, *groups, *cpu_time])
        window: Window | None = None
        if run.tty:
            terminal = await launcher.terminal()
            window = Window(terminal)
            stdin, streams = Keyboard(terminal, window), {"stdout": (terminal, run.stdout)}
        clerk = Clerk(launcher.jail)
        ending = _Ending(launcher, clerk, run.limits.wall_time)
        program = _Program(launcher.jail, ending, clerk, run.idle, window)
        output = Output(streams, ending.ask, program.wrote)
        failed: SandboxFailed | None = None
        async with trio.open_nursery() as watchers:
            output.start(watchers)
            if isinstance(run.stdin, Feed):
                watchers.start_soon(_feed, run.stdin, stdin, program)
            else:
                await stdin.aclose()
            if window:
                watchers.start_soon(window.run)
            if run.signals:
                watchers.start_soon(_forward, run.signals, launcher.jail)
            watchers.start_soon(ending.stopped, run.stop)
            task_status.started(program)
            try:
                end = await ending.wait()
            except SandboxFailed as error:
                failed = error  # raised below: the nursery would wrap it
            except trio.Cancelled:
                launcher.jail.kill()  # `window` may wait for the program
                raise
            wall_time = time.monotonic() - started
            clerk.over()
            watchers.cancel_scope.cancel()
        if failed:
            raise failed
        output.drain()
        launcher.close_terminal()
        if end is None:
            limit: LimitName | None = None if ending.asked else "wall_time"
            end = End(signal.SIGKILL, limit, True, wall_time, cpu_time=0.0, peak=0)
        return _outcome(run, end, group, output, asked=ending.asked)


def _pipes(
    uid: int, ours: AsyncExitStack, theirs: ExitStack
) -> tuple[trio.lowlevel.FdStream, int, int, list[int]]:
    """Our ends of the program's stdin, stdout and stderr, and the program's ends. Two stacks close them:
    one our ends, the other the program's."""

    def pipe(*, written_by_us: bool) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        our, their = (write, read) if written_by_us else (read, write)
        theirs.callback(os.close, their)
        if not written_by_us:
            ours.callback(os.close, our)
            os.set_blocking(our, False)
        os.fchown(their, uid, uid)  # so that /dev/stdin and the like can be opened
        return our, their

    our_stdin, stdin = pipe(written_by_us=True)
    stream = trio.lowlevel.FdStream(our_stdin)
    ours.push_async_callback(stream.aclose)
    our_stdout, stdout = pipe(written_by_us=False)
    our_stderr, stderr = pipe(written_by_us=False)
    return stream, our_stdout, our_stderr, [stdin, stdout, stderr]


async def _forward(signals: trio.MemoryReceiveChannel[int], jail: Jail) -> None:
    async for number in signals:
        jail.send_signal(number)


async def _feed(feed: Feed, stdin: trio.abc.SendStream, program: "_Program") -> None:
    with suppress(trio.BrokenResourceError):  # the program need not read its stdin
        async for chunk in feed.chunks:
            await stdin.send_all(chunk)
            program.heard()
        await stdin.aclose()


class _Program:
    """The program that runs, for those who change its limits or work with its files (`Running`)."""

    def __init__(
        self, jail: Jail, ending: "_Ending", clerk: Clerk, idle: Idle | None, window: Window | None
    ) -> None:
        """`window` is that of the program's terminal."""
        self._jail = jail
        self._window = window
        self.put, self.list, self.get = clerk.put, clerk.list, clerk.get
        self._ending = ending
        self._idle = idle

    def arm(self, limit: Literal["cpu_time", "wall_time"], seconds: float | None) -> None:
        self._jail.send(encode_limit(limit, seconds))
        if limit == "wall_time":
            self._ending.expect(seconds)

    def arm_idle(self, idle: Idle | None) -> None:
        self._idle = idle
        self._jail.send(encode_idle(idle))

    def resize(self, rows: int, cols: int) -> None:
        size = Terminal(rows, cols)
        if self._window:
            self._window.resize(size)

    def heard(self) -> None:
        """Input was written to the program's stdin."""
        if self._idle:
            self._jail.send(encode_idle(self._idle))

    def wrote(self) -> None:
        if self._idle:
            self._jail.send(encode_talks())


class _Ending:
    """The end of one jail: awaited, asked for, and forced when init does not answer."""

    def __init__(self, launcher: Launcher, clerk: Clerk, wall_time: float) -> None:
        self._launcher = launcher
        self._clerk = clerk
        self._jail = launcher.jail
        self.asked = False
        self._patience = trio.CancelScope()
        self.expect(wall_time)

    def expect(self, wall_time: float | None) -> None:
        """init will end the program when this time has passed from now. None: at no time."""
        if not self.asked:
            seconds = math.inf if wall_time is None else wall_time + _OVERDUE_S
            self._patience.deadline = trio.current_time() + seconds

    def ask(self) -> None:
        """Have init end the program and report, as the program's end by SIGKILL."""
        if not self.asked:
            self.asked = True
            self._patience.deadline = trio.current_time() + _ANSWER_S
            self._jail.send_signal(signal.SIGKILL)

    async def stopped(self, stop: trio.Event) -> None:
        await stop.wait()
        self.ask()

    async def wait(self) -> End | None:
        """Wait for the end, as `launcher.end`. None only for an init that did not answer us.

        Raises SandboxFailed when somebody else killed the jail, perhaps the kernel for lack of memory: this
        is not the program's fault.
        """
        with self._patience:
            end = await self._launcher.end(self._clerk.answer)
            if end is None:
                raise SandboxFailed("the jail's init was killed, not by us")
            return end
        self._jail.kill()
        with trio.move_on_after(_END_TIMEOUT_S):
            return await self._launcher.end(self._clerk.answer)
        raise SandboxFailed(
            f"a jail does not end although its init was killed{self._launcher.said()}"
        )


def _outcome(run: Run, end: End, group: Group | None, output: Output, *, asked: bool) -> Outcome:
    """`asked`: we asked init to end the program."""
    usage = group.usage() if group else None
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
