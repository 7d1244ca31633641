"""One stage in a jail that stands ready: start it, feed it, read it, and tell how it ended.

nsjail made the namespaces, dropped every privilege, loaded the seccomp policy and started init
(`launcher.py`). init starts the program in the job's control group, and holds its wall time and CPU time.
When no process of the program is left, init reports over a socket. We read the output, hold its limit, and
ask init to end the program. We kill an init that does not answer, and the kernel then kills the other
processes. When occd dies, init sees the socket close and exits, with the same effect.

The verdict follows from the program's usage. It does not depend on when we notice: this process may be busy.
"""

import os
import signal
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace

import trio

from occd.errors import SandboxFailed
from occd.model import LimitName, Limits, Outcome, Stream
from occd.sandbox import Emit, Job
from occd.sandbox.cgroup import Group, Usage
from occd.sandbox.init import End, encode_go
from occd.sandbox.launcher import Jail, Launcher
from occd.sandbox.output import Output

_ANSWER_S = 2.0
"""The time for init to end its program after we asked."""

_OVERDUE_S = 15.0
"""init ends its program at the wall time. We give init up after this additional time."""

_END_TIMEOUT_S = 10.0
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/box", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}


async def run_in_jail(
    launcher: Launcher,
    uid: int,
    job: Job,
    group: Group | None,
    stdin: trio.MemoryReceiveChannel[bytes],
    emit: Emit,
    stop: trio.Event,
    signals: trio.MemoryReceiveChannel[int],
) -> Outcome:
    """Run a stage in the jail that stands ready. After the return no process of the stage is left. `uid` is
    the host's id of the jail's user.

    Raises SandboxFailed when the stage could not be started or does not end.
    """
    async with AsyncExitStack() as ours:
        with ExitStack() as theirs:
            stdin_pipe, streams, files = _pipes(uid, ours, theirs)
            groups = theirs.enter_context(group.joinable()) if group else []
            cpu_time = [theirs.enter_context(group.cpu_time_file())] if group else []
            env = [f"{name}={value}" for name, value in (_ENV | dict(job.env)).items()]
            message = encode_go(launcher.jail.number, job.argv, env, job.limits, len(groups))
            started = time.monotonic()
            await launcher.go(message, [*files, *groups, *cpu_time])
            job.started()
        ending = _Ending(launcher, job.limits)
        output = Output(streams, job.limits.output, emit, ending.ask)
        failed: SandboxFailed | None = None
        async with trio.open_nursery() as watchers:
            output.start(watchers)
            watchers.start_soon(_feed, stdin, stdin_pipe)
            watchers.start_soon(_forward, signals, launcher.jail)
            watchers.start_soon(ending.stopped, stop)
            try:
                end = await ending.wait()
            except SandboxFailed as error:
                failed = error  # raised below: the nursery would wrap it
            wall_time = time.monotonic() - started
            watchers.cancel_scope.cancel()
        if failed:
            raise failed
        output.drain()
        end = end or End(signal.SIGKILL, None, wall_time, cpu_time=0.0, peak=0)
        return _outcome(job.limits, end, group, output, asked=ending.asked)


def _pipes(
    uid: int, ours: AsyncExitStack, theirs: ExitStack
) -> tuple[trio.lowlevel.FdStream, dict[Stream, int], list[int]]:
    """Our ends of the program's stdin, stdout and stderr, and the program's ends. Two stacks close them: one
    our ends, the other the program's."""

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
    return stream, {"stdout": our_stdout, "stderr": our_stderr}, [stdin, stdout, stderr]


async def _forward(signals: trio.MemoryReceiveChannel[int], jail: Jail) -> None:
    async for number in signals:
        jail.send_signal(number)


async def _feed(stdin: trio.MemoryReceiveChannel[bytes], pipe: trio.lowlevel.FdStream) -> None:
    with suppress(trio.BrokenResourceError):  # the program need not read its stdin
        async with pipe:
            async for chunk in stdin:
                await pipe.send_all(chunk)


class _Ending:
    """The end of one jail: awaited, asked for, and forced when init does not answer."""

    def __init__(self, launcher: Launcher, limits: Limits) -> None:
        self._launcher = launcher
        self._jail = launcher.jail
        self.asked = False
        self._patience = trio.CancelScope(
            deadline=trio.current_time() + limits.wall_time + _OVERDUE_S
        )

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
            end = await self._launcher.end()
            if end is None:
                raise SandboxFailed("the jail's init was killed, not by us")
            return end
        self._jail.kill()
        with trio.move_on_after(_END_TIMEOUT_S):
            return await self._launcher.end()
        raise SandboxFailed(
            f"a jail does not end although its init was killed{self._launcher.said()}"
        )


def _outcome(
    limits: Limits, end: End, group: Group | None, output: Output, *, asked: bool
) -> Outcome:
    """`asked`: we asked init to end the program."""
    usage = group.usage() if group else None
    if usage:
        end = replace(end, cpu_time=usage.cpu_time, peak=usage.memory or end.peak)
    limit = _limit(limits, end, usage, output)
    output.finish(cut=asked or limit is not None)
    stdout, stderr = output["stdout"], output["stderr"]
    return Outcome(
        exit_code=None if end.guarded else end.exit_code,
        signal="SIGKILL" if end.guarded else end.signal,
        limit=limit,
        stdout=bytes(stdout.data),
        stderr=bytes(stderr.data),
        stdout_truncated=stdout.truncated,
        stderr_truncated=stderr.truncated,
        cpu_time=end.cpu_time,
        wall_time=end.wall_time,
        memory=end.peak,
    )


def _limit(limits: Limits, end: End, usage: Usage | None, output: Output) -> LimitName | None:
    """The first limit that the usage exceeds. Of the two times, the one at which init ended the program."""
    # A group's peak never exceeds its limit, because the kernel kills before.
    if usage.oom_kills if usage else end.peak > limits.memory:
        return "memory"
    if output.truncated:
        return "output"
    if end.guarded:
        return end.guarded
    if end.cpu_time > limits.cpu_time:
        return "cpu_time"
    return "wall_time" if end.wall_time > limits.wall_time else None
