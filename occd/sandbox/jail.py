"""One stage in one jail: start it, feed it, read it, watch its limits, and tell how it ended.

nsjail makes the namespaces, drops every privilege, loads the seccomp policy and starts init, which
reports over a socket. Then init joins the job's control group and starts the program; to end a jail
we kill its init, and the kernel kills the rest. When occd dies, init sees the socket close and does
the same.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress

import trio

from occd.errors import SandboxFailed
from occd.model import LimitName, Limits, Outcome, Stream
from occd.sandbox import Emit, Job
from occd.sandbox.cgroup import Group
from occd.sandbox.init import Control, End, encode_go
from occd.sandbox.spawn import Process

CONTROL_FD, LOG_FD = 3, 4
"""Descriptors of nsjail: init's socket, and where nsjail logs."""

_SETUP_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0
_READ = 65_536
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/box", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}


class Jail:
    """One nsjail with our ends of its pipes. Leaving the context kills whatever still runs."""

    def __init__(self, argv: Sequence[str], uid: int) -> None:
        self._argv = argv
        self._uid = uid

    async def __aenter__(self) -> "Jail":
        with ExitStack() as theirs, ExitStack() as ours:
            ours_control, control = socket.socketpair()
            theirs.callback(control.close)
            self._control = Control(ours_control)
            ours.callback(self._control.close)
            stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
            self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
            self._stderr, stderr = os.pipe2(os.O_CLOEXEC)
            for fd in (stdin, stdout, stderr):
                theirs.callback(os.close, fd)
                os.fchown(fd, self._uid, self._uid)  # so that /dev/stdin and the like can be opened
            for fd in (self._stdin, self._stdout, self._stderr):
                os.set_blocking(fd, False)
            self._log = os.memfd_create("nsjail-log", os.MFD_CLOEXEC)
            ours.callback(os.close, self._log)
            self._process = Process(
                self._argv,
                {0: stdin, 1: stdout, 2: stderr, CONTROL_FD: control.fileno(), LOG_FD: self._log},
            )
            ours.callback(self._process.close)
            self._pidfd: int | None = None
            self._ours = ours.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._kill()
        self._control.close()  # at which an init that we do not know yet ends by itself
        # nsjail then reaps it and ends. Killed before that, it would leave a process to nobody.
        with trio.move_on_after(_END_TIMEOUT_S, shield=True):
            await self._process.wait()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._ours.close()

    async def run(
        self,
        job: Job,
        group: Group | None,
        stdin: trio.MemoryReceiveChannel[bytes],
        emit: Emit,
        stop: trio.Event,
    ) -> Outcome:
        async with (
            trio.lowlevel.FdStream(self._stdin) as stdin_pipe,
            trio.lowlevel.FdStream(self._stdout) as stdout_pipe,
            trio.lowlevel.FdStream(self._stderr) as stderr_pipe,
        ):
            await self._start(job, group)
            watch = _Watch(job.limits, emit, self._kill)
            started = time.monotonic()
            async with trio.open_nursery() as pipes, trio.open_nursery() as watchers:
                pipes.start_soon(watch.read, "stdout", stdout_pipe)
                pipes.start_soon(watch.read, "stderr", stderr_pipe)
                watchers.start_soon(_feed, stdin, stdin_pipe)
                watchers.start_soon(watch.wall_time)
                watchers.start_soon(watch.stopped, stop)
                if group:
                    watchers.start_soon(watch.cpu_time, group)
                end = await self._control.end()
                wall_time = time.monotonic() - started
                with trio.move_on_after(_END_TIMEOUT_S) as ending:
                    await self._process.wait()
                watchers.cancel_scope.cancel()
                if ending.cancelled_caught:
                    pipes.cancel_scope.cancel()
        if ending.cancelled_caught:
            raise SandboxFailed("a jail does not end although its init has")
        return watch.outcome(end, group, wall_time)

    async def _start(self, job: Job, group: Group | None) -> None:
        try:
            with trio.fail_after(_SETUP_TIMEOUT_S):
                pid = await self._control.ready()
                self._pidfd = os.pidfd_open(pid)
                env = [f"{name}={value}" for name, value in (_ENV | dict(job.env)).items()]
                joinable: AbstractContextManager[list[int]] = nullcontext([])
                with group.joinable() if group else joinable as files:
                    message = encode_go(job.argv, env, job.limits, len(files))
                    await self._control.go(message, files)
        except (SandboxFailed, trio.TooSlowError, ProcessLookupError) as error:
            raise SandboxFailed(
                f"{error or 'the jail took too long to set up'}{self._said()}"
            ) from error

    def _said(self) -> str:
        """What nsjail logged, for the operator."""
        log = os.pread(self._log, 4096, 0).decode(errors="replace").strip()
        return f": {log}" if log else ""

    def _kill(self) -> None:
        """End the jail: the death of its init ends every process in it."""
        with suppress(ProcessLookupError):  # it has ended by itself
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


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
        self._broken: LimitName | None = None
        self._seen: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        self._truncated: set[Stream] = set()

    def _kill(self, limit: LimitName) -> None:
        self._broken = self._broken or limit
        self._kill_jail()

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
        self._kill_jail()

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
