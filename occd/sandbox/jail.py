"""One run in a jail that stands ready: start it, and have it run to its end (`program.py`).

nsjail made the namespaces, dropped every privilege, loaded the seccomp policy and started init
(`launcher.py`). init starts the program in the run's control group, and reports its end over a socket. When
occd dies, init sees the socket close and exits, and the kernel kills the other processes.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace

import trio

from occd.errors import SandboxFailed
from occd.model import Outcome, Stream
from occd.sandbox import TRACE_BYTES, Feed, Given, Run, Running, Traced
from occd.sandbox.group import Group, Usage
from occd.sandbox.init import End, encode_begin, encode_go
from occd.sandbox.jailer import Ready
from occd.sandbox.launcher import Jail, Launcher
from occd.sandbox.output import Output, Pipes
from occd.sandbox.program import environment, supervise
from occd.sandbox.terminal import Keyboard, Window


async def run_in_jail(
    ready: Ready,
    uid: int,
    run: Run,
    group: Group | None,
    box: int | None,
    begun: Callable[[], object],
    task_status: trio.TaskStatus[Running],
) -> tuple[Outcome, Traced | None]:
    """Run a program in the jail that stands ready. After the return no process of the program is left.
    `uid` is the host's id of the jail's user, `box` an open mount for a jail that shows no box yet. `begun`
    is called when the jail has its job, and the box with it.

    Raises SandboxFailed when the program could not be started or does not end.
    """
    launcher = ready.launcher
    # A program that was held has threads.
    whole = ready.template is not None and not ready.forks
    async with AsyncExitStack() as ours:
        stdin: trio.abc.SendStream
        streams: dict[Stream, int]
        with ExitStack() as theirs:
            theirs.callback(begun)
            files: list[int] = []
            if run.tty is None:
                our_stdin, stdout, stderr, files = _pipes(uid, ours, theirs)
                stdin, rest = _stdin(run.stdin, our_stdin)
                ours.push_async_callback(stdin.aclose)
                run = replace(run, stdin=rest)
                streams = {"stdout": stdout, "stderr": stderr}
            groups = theirs.enter_context(group.joinable(whole=whole)) if group else []
            cpu_time = [theirs.enter_context(group.cpu_time_file())] if group else []
            trace = [ours.enter_context(_memory())] if run.trace else []
            boxes = [] if box is None else [box]
            message = encode_go(
                launcher.jail.number,
                run.argv,
                environment(run),
                run.limits,
                run.idle,
                len(groups),
                run.tty,
                traced=run.trace,
                boxed=box is not None,
                held=run.turn is not None,
            )
            await launcher.go(message, [*files, *groups, *cpu_time, *trace, *boxes])
        if run.turn:
            await run.turn()
            if not launcher.jail.send(encode_begin()):
                raise SandboxFailed(f"the jail ended before its program began{launcher.said()}")
        window: Window | None = None
        if run.tty:
            terminal = await launcher.terminal()
            window = Window(terminal)
            stdin, streams = Keyboard(terminal, window), {"stdout": terminal}
        started = _Started(launcher, group, stdin, streams, window)
        outcome = await supervise(run, started, task_status, unwatched=not run.followed)
        if group:  # which does not count what a template's copy began with
            outcome = replace(outcome, memory=outcome.memory + launcher.jail.resident)
        launcher.close_terminal()
        end = started.ended.traced if started.ended else None
        return outcome, Traced(end, os.pread(trace[0], TRACE_BYTES, 0)) if end else None


@contextmanager
def _memory() -> Iterator[int]:
    """A file in memory. Whoever writes to it pays for it."""
    fd = os.memfd_create("trace", os.MFD_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class _Started:
    def __init__(
        self,
        launcher: Launcher,
        group: Group | None,
        stdin: trio.abc.SendStream,
        streams: dict[Stream, int],
        window: Window | None,
    ) -> None:
        self.ended: End | None = None
        self._group = group
        self._streams = streams
        self._launcher = launcher
        self.init: Jail = launcher.jail
        self.stdin = stdin
        self.window = window

    def read(self, output: Output, nursery: trio.Nursery) -> None:
        Pipes(self._streams, output).start(nursery)

    def drain(self, output: Output) -> None:
        Pipes(self._streams, output).drain()

    async def end(self, output: Output, answered: Callable[[int], None]) -> End | None:
        self.ended = await self._launcher.end(answered)
        return self.ended

    async def unreported(self) -> End:
        await trio.lowlevel.checkpoint()
        raise SandboxFailed("the jail's init was killed, not by us")

    def said(self) -> str:
        return self._launcher.said()

    def usage(self) -> Usage | None:
        return self._group.usage() if self._group else None


class _Closed(trio.abc.SendStream):
    """Stdin that has ended already."""

    async def send_all(self, data: object) -> None:
        raise trio.ClosedResourceError

    async def wait_send_all_might_not_block(self) -> None:
        raise trio.ClosedResourceError

    async def aclose(self) -> None:
        pass


def _stdin(stdin: Feed | Given, pipe: int) -> tuple[trio.abc.SendStream, Feed | Given]:
    """The program's stdin, and what of it is still to be sent: what the pipe takes is sent before the program
    starts, which costs no task."""
    os.set_blocking(pipe, False)
    if isinstance(stdin, Given):
        sent = os.write(pipe, stdin.data) if stdin.data else 0
        stdin = Given(stdin.data[sent:])
        if not stdin.data:
            os.close(pipe)
            return _Closed(), stdin
    return trio.lowlevel.FdStream(pipe), stdin


def _pipes(uid: int, ours: AsyncExitStack, theirs: ExitStack) -> tuple[int, int, int, list[int]]:
    """Our ends of the program's stdin, stdout and stderr, and the program's ends. Two stacks close them:
    one our ends of the output, the other the program's."""

    def pipe(*, written_by_us: bool) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        our, their = (write, read) if written_by_us else (read, write)
        theirs.callback(os.close, their)
        if not written_by_us:
            ours.callback(os.close, our)
            os.set_blocking(our, False)
        os.fchown(their, uid, uid)  # so that /dev/stdin and the like can be opened
        return our, their

    our_stdout, stdout = pipe(written_by_us=False)
    our_stderr, stderr = pipe(written_by_us=False)
    our_stdin, stdin = pipe(written_by_us=True)
    return our_stdin, our_stdout, our_stderr, [stdin, stdout, stderr]
