"""The sandbox seam: runs one untrusted job, tells its exact outcome, leaves nothing behind.

A `Cell` is the isolated place of one submission. Its `run` may be called many times, also at once;
each call has a jail of its own. The compile stage writes the cell's tree; when its processes are
dead the tree is frozen, and each run stage sees it under a fresh writable layer. What their program
did is an `Outcome`; an exception is about us, and the attempt may be repeated elsewhere.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from occd.config import Config
from occd.languages import Available, Language
from occd.model import File, Limits, Outcome, StageName, Stream

Emit = Callable[[Stream, bytes], None]
"""Takes output as it comes, at most the stage's limit a stream. It must not block."""


@dataclass(frozen=True, slots=True)
class Job:
    """One stage to run. `argv` and `env` reach the program as they are: no shell reads them. `started` is
    called once, when a jail has the job; it must not block. A job that no jail could take never started."""

    stage: StageName
    argv: Sequence[str]
    env: Sequence[tuple[str, str]]
    limits: Limits
    started: Callable[[], object] = lambda: None


class Cell(Protocol):
    async def run(
        self,
        job: Job,
        stdin: trio.MemoryReceiveChannel[bytes],
        emit: Emit,
        stop: trio.Event,
        signals: trio.MemoryReceiveChannel[int],
    ) -> Outcome:
        """Run one stage to its end, or until `stop` is set, which kills it and keeps what it printed.

        A chunk is taken from `stdin` when the program has room for it; the channel's end is the
        program's end of file. `signals` are sent to the program and its process group, as a terminal
        would. Cancelling kills the jail and leaves nothing.

        Raises SandboxFailed when the jail could not be made or watched.
        """


class Sandbox(Protocol):
    @property
    def languages(self) -> dict[str, Language]: ...

    @property
    def available(self) -> Available:
        """The languages, with versions, that run inside the jail on this machine."""

    @property
    def isolation(self) -> Sequence[str]:
        """How programs are isolated, and what is weaker than it should be: one line each."""

    @property
    def waits_s(self) -> float:
        """For how long somebody has been waiting for a jail that does not stand yet: milliseconds."""

    async def trial(self) -> None:
        """Run one real job, which proves what `isolation` claims: all that a jail needs, this needs.

        Raises SandboxUnavailable when it does not come out as it should.
        """

    def cell(
        self, language: Language, files: Sequence[File], limits: Limits
    ) -> AbstractAsyncContextManager[Cell]:
        """A cell that holds `files`; `limits.box` bounds its tree. It may have been prepared, for
        `language`, before anything else was known."""


def no_stdin() -> trio.MemoryReceiveChannel[bytes]:
    send, receive = trio.open_memory_channel[bytes](0)
    send.close()
    return receive


def no_signals() -> trio.MemoryReceiveChannel[int]:
    send, receive = trio.open_memory_channel[int](0)
    send.close()
    return receive


@asynccontextmanager
async def open_sandbox(
    config: Config, cache: Path | None = None, only: str | None = None
) -> AsyncIterator[Sandbox]:
    """The sandbox that the configuration names. `cache` is a file in which the probed language
    versions are kept until a compiler changes; `only` is the one language to probe.

    Raises SandboxUnavailable, which names the remedy, when this machine cannot isolate programs.
    """
    from occd.sandbox.nsjail import open_nsjail

    async with open_nsjail(config, cache, only) as sandbox:
        yield sandbox
