"""Runs programs through the real sandbox, for the suites that attack it and those that use it."""

import os
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from occd.languages import Language
from occd.model import File, Limits, Outcome, StageName, Stream
from occd.sandbox import Cell, Job, Sandbox, no_signals

SHORT = Limits(cpu_time=3.0, wall_time=6.0)
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
    """What a stage is fed and gives back while it runs."""

    stdin: bytes = b""
    keep_open: bool = False
    stop: trio.Event = field(default_factory=trio.Event)
    seen: dict[Stream, bytearray] = field(
        default_factory=lambda: {"stdout": bytearray(), "stderr": bytearray()}
    )
    output: trio.Event = field(default_factory=trio.Event)
    signals: trio.MemoryReceiveChannel[int] = field(default_factory=no_signals)

    def emit(self, stream: Stream, data: bytes) -> None:
        self.seen[stream] += data
        self.output.set()


@dataclass(frozen=True)
class Ran:
    """How a run ended, and all of its output."""

    outcome: Outcome
    stdout: bytes
    stderr: bytes

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
    stage: StageName = "run",
    env: Sequence[tuple[str, str]] = (),
    feed: Feed | None = None,
) -> Ran:
    feed = feed or Feed()
    send, stdin = trio.open_memory_channel[bytes](1)
    with send:
        if feed.stdin:
            send.send_nowait(feed.stdin)
        if not feed.keep_open:
            send.close()
        job = Job(stage, argv, env, limits)
        outcome = await cell.run(job, stdin, feed.emit, feed.stop, feed.signals)
    seen = {stream: bytes(data) for stream, data in feed.seen.items()}
    for stream, data in seen.items():
        assert outcome.written(stream).size == len(data)
    return Ran(outcome, **seen)


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

    async def python(self, source: str, limits: Limits = SHORT, *, feed: Feed | None = None) -> Ran:
        """Run a hostile Python program."""
        main = File("main.py", (PRELUDE + textwrap.dedent(source)).encode())
        async with self.cell(main, limits=limits) as cell:
            return await run_in(cell, [PYTHON, "main.py"], limits, feed=feed)

    async def c(self, source: str, limits: Limits = SHORT) -> Ran:
        """Compile and run a hostile C program."""
        return (await self.program("c", textwrap.dedent(source), limits=limits))[-1]

    async def program(
        self,
        name: str,
        source: str,
        *,
        stdin: str = "",
        args: Sequence[str] = (),
        env: Sequence[tuple[str, str]] = (),
        limits: Limits | None = None,
    ) -> list[Ran]:
        """Run a program as a submission is run. Gives each stage's outcome; the last is the end."""
        language, binary = self.language(name)
        files = [File(language.source_name(source.encode()), source.encode())]
        limits = limits or replace(language.limits, wall_time=30.0)
        outcomes = []
        async with self.sandbox.cell(language, files, limits) as cell:
            if language.compile:
                wanted = language.compile_limits
                argv = language.argv(
                    language.compile, binary, files[0].name, files, (), wanted.memory
                )
                fixed = tuple(language.env.items())
                outcomes.append(await run_in(cell, argv, wanted, stage="compile", env=fixed))
                if not outcomes[0].succeeded:
                    return outcomes
            argv = language.argv(language.run, binary, files[0].name, files, (), limits.memory)
            both = (*language.env.items(), *env)
            feed = Feed(stdin.encode())
            outcomes.append(await run_in(cell, [*argv, *args], limits, env=both, feed=feed))
        return outcomes


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
            found = [pid for nsjail in nsjails() for pid in children(nsjail)]
            if found and all("init) S" in of_process(pid, "stat") for pid in found):
                return found
            await trio.sleep(0.01)


def nsjails() -> list[int]:
    """Ours; the servers of other tests are children of this process too."""
    mine = children(os.getpid())
    return [pid for pid in mine if of_process(pid, "comm").strip() == "nsjail"]


def children(pid: int) -> list[int]:
    return [int(each) for each in of_process(pid, f"task/{pid}/children").split()]


def of_process(pid: int, name: str) -> str:
    """Nothing when it has just gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""
