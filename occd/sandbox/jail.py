"""One stage in a jail that stands ready: start it, feed it, read it, watch its limits, and tell how it
ended.

nsjail made the namespaces, dropped every privilege, loaded the seccomp policy and started init
(`launcher.py`). Init lets the program join the job's control group and become what the job says, and
reports over a socket; to end a jail we kill its init, and the kernel kills the rest. When occd dies,
init sees the socket close and does the same.
"""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, nullcontext

import trio

from occd.errors import SandboxFailed
from occd.model import LimitName, Limits, Outcome, Stream
from occd.sandbox import Emit, Job
from occd.sandbox.cgroup import Group
from occd.sandbox.init import End, encode_go
from occd.sandbox.launcher import Launcher

_END_TIMEOUT_S = 10.0
_READ = 65_536
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
    """Run a stage in the jail that stands; when this returns nothing of it is left. `uid` is what the
    jail's user is to us.

    Raises SandboxFailed when it could not be started or does not end.
    """
    async with AsyncExitStack() as stack:
        with ExitStack() as theirs:
            ours, files = _pipes(uid, theirs)
            stdin_pipe, stdout_pipe, stderr_pipe = [
                await stack.enter_async_context(trio.lowlevel.FdStream(fd)) for fd in ours
            ]
            joinable: AbstractContextManager[list[int]] = nullcontext([])
            groups = theirs.enter_context(group.joinable() if group else joinable)
            env = [f"{name}={value}" for name, value in (_ENV | dict(job.env)).items()]
            message = encode_go(launcher.number, job.argv, env, job.limits, len(groups))
            await launcher.go(message, [*files, *groups])
        watch = _Watch(job.limits, emit, launcher.kill)
        failed: SandboxFailed | None = None
        started = time.monotonic()
        async with trio.open_nursery() as pipes, trio.open_nursery() as watchers:
            pipes.start_soon(watch.read, "stdout", stdout_pipe)
            pipes.start_soon(watch.read, "stderr", stderr_pipe)
            watchers.start_soon(_feed, stdin, stdin_pipe)
            watchers.start_soon(watch.wall_time)
            watchers.start_soon(watch.stopped, stop)
            watchers.start_soon(_forward, signals, launcher)
            if group:
                watchers.start_soon(watch.cpu_time, group)
            try:
                end = await watch.end(launcher)
            except SandboxFailed as error:
                failed = error  # raised below: the nurseries would wrap it
                pipes.cancel_scope.cancel()
            wall_time = time.monotonic() - started
            watchers.cancel_scope.cancel()
        if failed:
            raise failed
        return watch.outcome(end, group, wall_time)


def _pipes(uid: int, theirs: ExitStack) -> tuple[list[int], list[int]]:
    """Our ends and the program's ends of its stdin, stdout and stderr; `theirs` closes the latter."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
    files = [pipes[0][0], pipes[1][1], pipes[2][1]]
    for fd in files:
        theirs.callback(os.close, fd)
        os.fchown(fd, uid, uid)  # so that /dev/stdin and the like can be opened
    return ours, files


async def _forward(signals: trio.MemoryReceiveChannel[int], launcher: Launcher) -> None:
    async for number in signals:
        await launcher.send_signal(number)


async def _feed(stdin: trio.MemoryReceiveChannel[bytes], pipe: trio.lowlevel.FdStream) -> None:
    try:
        async with pipe:
            async for chunk in stdin:
                await pipe.send_all(chunk)
    except trio.BrokenResourceError:
        pass  # the program closed its stdin; what it does not want is not our concern


class _Watch:
    """The limits of one running stage, and why it was killed if it was."""

    def __init__(self, limits: Limits, emit: Emit, kill: Callable[[], None]) -> None:
        self._limits = limits
        self._emit = emit
        self._kill_jail = kill
        self._ending = trio.CancelScope()
        self._killed = False
        self._broken: LimitName | None = None
        self._seen: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._truncated: set[Stream] = set()

    def _kill(self, limit: LimitName) -> None:
        self._broken = self._broken or limit
        self._end_jail()

    def _end_jail(self) -> None:
        self._killed = True
        self._ending.deadline = min(self._ending.deadline, trio.current_time() + _END_TIMEOUT_S)
        self._kill_jail()

    async def end(self, launcher: Launcher) -> End | None:
        """As `launcher.end`; what we killed has to end soon. Raises SandboxFailed when somebody else
        killed the jail, the kernel for want of memory perhaps: the program is not to blame."""
        with self._ending:
            end = await launcher.end()
            if end is None and not self._killed:
                raise SandboxFailed("the jail's init was killed, not by us")
            return end
        raise SandboxFailed(f"a jail does not end although its init was killed{launcher.said()}")

    async def read(self, stream: Stream, pipe: trio.lowlevel.FdStream) -> None:
        """Read to the end whatever happens: a program never waits for us. Past the limit it is killed
        and the rest dropped."""
        seen = self._seen[stream]
        while data := await pipe.receive_some(_READ):
            kept = data[: self._limits.output - len(seen)]
            if kept:
                seen += kept
                self._emit(stream, bytes(kept))
            if len(kept) < len(data):
                self._truncated.add(stream)
                self._kill("output")

    async def wall_time(self) -> None:
        await trio.sleep(self._limits.wall_time)
        self._kill("wall_time")

    async def cpu_time(self, group: Group) -> None:
        """Look again when the limit could be reached at the earliest, all processors being busy."""
        processors = os.cpu_count() or 1
        # The kernel tells nobody when a group has used so much.
        while (left := self._limits.cpu_time - group.cpu_time()) > 0:  # noqa: ASYNC110
            await trio.sleep(max(left / processors, 0.002))
        self._kill("cpu_time")

    async def stopped(self, stop: trio.Event) -> None:
        await stop.wait()
        self._end_jail()

    def outcome(self, end: End | None, group: Group | None, wall_time: float) -> Outcome:
        usage = group.usage() if group else None
        limit = self._broken or (end.guarded if end else None)
        if usage and usage.oom_kills:
            limit = "memory"
        exact = end if end and not end.guarded else None
        return Outcome(
            exit_code=exact.exit_code if exact else None,
            signal=exact.signal if exact else "SIGKILL",
            limit=limit,
            stdout=bytes(self._seen["stdout"]),
            stderr=bytes(self._seen["stderr"]),
            stdout_truncated="stdout" in self._truncated,
            stderr_truncated="stderr" in self._truncated,
            cpu_time=usage.cpu_time if usage else end.cpu_time if end else 0.0,
            wall_time=end.wall_time if end else wall_time,
            memory=(usage.memory if usage else 0) or (end.peak if end else 0),
        )
