"""Runs programs through the real sandbox, for the suites that attack it and those that use it."""

import os
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from occd.execution.program import Program
from occd.languages import Language
from occd.languages.installed import Installed
from occd.model import Account, File, Limits, Outcome
from occd.sandbox import Cell, Idle, Packed, Run, Running, Sandbox, Sink, Traced, Tree
from occd.sandbox import Feed as Stdin

SHORT = Limits(cpu_time=3.0, wall_time=6.0)
LONG = Limits(cpu_time=20.0, wall_time=60.0, file_size=2**27)
PYTHON = "/usr/bin/python3.11"

PRELUDE = """\
import ctypes, errno, os, signal, socket, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def tell(attempt, *args):
    try:
        print("DONE", attempt(*args), flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
def syscall(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    print(errno.errorcode[ctypes.get_errno()] if result == -1 else f"DONE {result}", flush=True)
"""
"""What hostile Python programs start with: `tell` and `syscall` print DONE or the name of the error."""


@dataclass
class Feed:
    """What a program is fed and gives back while it runs."""

    stdin: bytes = b""
    keep_open: bool = False
    stop: trio.Event = field(default_factory=trio.Event)
    seen: dict[Account, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()}
    )
    output: trio.Event = field(default_factory=trio.Event)
    signals: trio.MemoryReceiveChannel[int] | None = None

    def emit(self, stream: Account, data: bytes) -> None:
        self.seen[stream] += data
        self.output.set()


@dataclass(frozen=True)
class Ran:
    """How a run ended, and all of its output."""

    outcome: Outcome
    stdout: bytes
    stderr: bytes
    tree: Tree | None
    trace: Traced | None = None

    @property
    def stdout_truncated(self) -> bool:
        return self.outcome.stdout.truncated

    @property
    def stderr_truncated(self) -> bool:
        return self.outcome.stderr.truncated

    def __getattr__(self, name: str) -> Any:
        return getattr(self.outcome, name)


async def run_in(
    cell: Cell,
    argv: Sequence[str],
    limits: Limits = SHORT,
    *,
    env: Sequence[tuple[str, str]] = (),
    feed: Feed | None = None,
    tree: Tree | Packed | None = None,
    files: Sequence[File] = (),
    interactive: bool = False,
    keep: bool = False,
    trace: bool = False,
) -> Ran:
    feed = feed or Feed()
    send, stdin = trio.open_memory_channel[bytes](1)
    with send:
        if feed.stdin:
            send.send_nowait(feed.stdin)
        if not feed.keep_open:
            send.close()
        run = Run(
            argv,
            env,
            limits,
            stdout=Sink(limits.output, partial(feed.emit, "stdout")),
            stderr=Sink(limits.output, partial(feed.emit, "stderr")),
            stdin=Stdin(stdin),
            stop=feed.stop,
            signals=feed.signals,
            tree=tree,
            files=files,
            interactive=interactive,
            keep=keep,
            trace=trace,
        )
        ended = await cell.run(run)
    seen = {stream: bytes(data) for stream, data in feed.seen.items()}
    for stream, data in seen.items():
        assert ended.outcome.written(stream).size == len(data)
    return Ran(ended.outcome, **seen, tree=ended.tree, trace=ended.trace)


async def compile_in(
    cell: Cell, argv: Sequence[str], limits: Limits = SHORT, env: Sequence[tuple[str, str]] = ()
) -> tuple[Ran, Tree]:
    """Run a program, and keep its box."""
    ran = await run_in(cell, argv, limits, env=env, keep=True)
    assert ran.tree
    return ran, ran.tree


@dataclass(frozen=True)
class Lab:
    sandbox: Sandbox

    def language(self, name: str) -> tuple[Language, str]:
        """The language and its newest binary; absence is a failure that says what to install."""
        language = self.sandbox.languages[name]
        assert name in self.sandbox.available, f"{language.name} is missing: {language.install}"
        return language, self.sandbox.available[name][0].binary

    @asynccontextmanager
    async def cell(self, *files: File, limits: Limits = SHORT) -> AsyncIterator[Cell]:
        async with self.sandbox.cell(self.language("python")[0], files, limits) as cell:
            yield cell

    async def python(
        self,
        source: str,
        limits: Limits = SHORT,
        *,
        feed: Feed | None = None,
        trace: bool = False,
    ) -> Ran:
        """Run a hostile Python program."""
        main = File("main.py", (PRELUDE + textwrap.dedent(source)).encode())
        async with self.cell(main, limits=limits) as cell:
            return await run_in(cell, [PYTHON, "main.py"], limits, feed=feed, trace=trace)

    async def c(self, source: str, limits: Limits = SHORT, *, trace: bool = False) -> Ran:
        """Compile and run a hostile C program."""
        return (await self.program("c", textwrap.dedent(source), limits=limits, trace=trace))[-1]

    async def program(
        self,
        name: str,
        source: str,
        *,
        stdin: str = "",
        args: Sequence[str] = (),
        env: Sequence[tuple[str, str]] = (),
        compile_args: Sequence[str] = (),
        limits: Limits | None = None,
        trace: bool = False,
        installed: Installed | None = None,
    ) -> list[Ran]:
        """Run a program as a submission is run, by the newest version unless another is given. Gives each
        stage's outcome; the last is the end."""
        language, _ = self.language(name)
        installed = installed or self.sandbox.available[name][0]
        files = [File(language.source_name(source.encode()), source.encode())]
        limits = limits or replace(language.limits, wall_time=30.0)
        program = Program(language, installed, files[0].name, files, compile_args)
        outcomes = []
        tree = None
        async with self.sandbox.cell(language, files, limits, installed.root) as cell:
            if program.is_compiled:
                command = program.to_compile()
                compiled, tree = await compile_in(
                    cell, command.argv, command.limits, tuple(command.env)
                )
                outcomes.append(compiled)
                if not outcomes[0].succeeded:
                    return outcomes
            command = program.to_run(args, env, limits)
            feed, fixed = Feed(stdin.encode()), tuple(command.env)
            ran = await run_in(
                cell, command.argv, limits, env=fixed, feed=feed, tree=tree, trace=trace
            )
            said = ran.stderr.decode(errors="replace")
            outcomes.append(replace(ran, outcome=language.judged(ran.outcome, said)))
        return outcomes


@dataclass
class Talking:
    """A program that has printed its first line."""

    running: Running
    type: trio.MemorySendChannel[bytes]
    said: bytearray
    complaints: bytearray
    """All of its stderr so far."""
    ends: list[Outcome]

    async def heard(self, said: bytes) -> None:
        """Wait until the last that it wrote is this."""
        while not self.said.endswith(said):
            assert not self.ends, (self.said, self.complaints, self.ends)
            await trio.sleep(0.01)

    @property
    def end(self) -> Outcome:
        (outcome,) = self.ends
        return outcome

    @property
    def ending(self) -> tuple[str | None, str | None]:
        return self.end.signal, self.end.limit


@asynccontextmanager
async def running(
    lab: Lab, source: str, limits: Limits = LONG, idle: Idle | None = None
) -> AsyncIterator[Talking]:
    """Its end is known after the block."""
    send, stdin = trio.open_memory_channel[bytes](0)
    said, complaints, up = bytearray(), bytearray(), trio.Event()
    ends: list[Outcome] = []

    def tell(data: bytes) -> None:
        said.extend(data)
        up.set()

    async def run(*, task_status: trio.TaskStatus[Running]) -> None:
        source_ = f"import os, time\nprint('up', flush=True)\n{source}"
        run = Run(
            [PYTHON, "-c", source_],
            (),
            limits,
            Sink(1000, tell),
            Sink(1000, complaints.extend),
            Stdin(stdin),
            idle=idle,
        )
        with stdin:
            ends.append((await cell.run(run, task_status=task_status)).outcome)

    async with lab.cell(limits=limits) as cell, trio.open_nursery() as nursery:
        program = await nursery.start(run)
        await up.wait()
        yield Talking(program, send, said, complaints, ends)


def open_descriptors() -> dict[str, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed the others
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


async def standing_inits() -> list[int]:
    """Those of idle jails, when all have said hello."""
    with trio.fail_after(5):
        while True:
            found = [pid for nsjail in nsjails() for pid in inits(nsjail)]
            if found and all("init) S" in of_process(pid, "stat") for pid in found):
                return found
            await trio.sleep(0.01)


def nsjails() -> list[int]:
    """Ours; the servers of other tests are children of this process too."""
    mine = children(os.getpid())
    return [pid for pid in mine if of_process(pid, "comm").strip() == "nsjail"]


def inits(nsjail: int) -> list[int]:
    """The first processes of the jails that its maker made."""
    return [pid for maker in children(nsjail) for pid in children(maker)]


def children(pid: int) -> list[int]:
    return [int(each) for each in of_process(pid, f"task/{pid}/children").split()]


def of_process(pid: int, name: str) -> str:
    """Nothing when it has just gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""


async def honest_share(lab: Lab, spinning: int, seconds: float) -> float:
    """How many times the processor time of one spinning interactive program another spinning program gets."""
    limits = replace(SHORT, cpu_time=600.0, wall_time=600.0)
    stop = trio.Event()
    rates: dict[bool, list[float]] = {True: [], False: []}

    async def spin(*, interactive: bool, task_status: trio.TaskStatus[None]) -> None:
        main = File("main.py", b"print('begun', flush=True)\nwhile True: pass")
        feed = Feed(stop=stop)
        async with lab.cell(main, limits=limits) as cell, trio.open_nursery() as nursery:

            async def tell() -> None:
                await feed.output.wait()
                task_status.started()

            nursery.start_soon(tell)
            argv = [PYTHON, "main.py"]
            ran = await run_in(cell, argv, limits, feed=feed, interactive=interactive)
            rates[interactive].append(ran.outcome.cpu_time / ran.outcome.wall_time)

    async with trio.open_nursery() as nursery:
        for _ in range(spinning):
            await nursery.start(partial(spin, interactive=True))
        await nursery.start(partial(spin, interactive=False))
        await trio.sleep(seconds)
        stop.set()
    return rates[False][0] / (sum(rates[True]) / spinning)
