"""The sandbox seam: runs one untrusted program, tells its exact outcome, leaves nothing behind.

A `Cell` is the isolated place of one submission. Its `run` may be called many times, also at once. Each run
has a jail and a box of its own. A run that keeps its box leaves a `Tree`, and later runs begin with a copy
of the tree. What a stranger's program did is an `Outcome`. An exception is about us, and the attempt may be
repeated elsewhere.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import trio

from occd import rules, trace
from occd.config import Config
from occd.errors import ConfigError
from occd.inputs import File, Limits, Terminal
from occd.languages import Language
from occd.languages.installed import Available, Formatters, Installed
from occd.levels import Holds
from occd.model import LeftOut, Outcome


@dataclass(frozen=True, slots=True)
class Feed:
    """Stdin from a channel. A chunk is taken when the program has room for it. The channel's end is the
    program's end of file.

    At a terminal a chunk is typed: the terminal may edit it, echo it, make signals of it, and cut a line of
    more than 4,095 bytes. The channel's end is Ctrl-D, typed once at the start of a line, and three
    times within a line. A program may go on to read after it, and then waits.
    """

    chunks: trio.MemoryReceiveChannel[bytes]


@dataclass(frozen=True, slots=True)
class Given:
    """Stdin that is known before the program starts, as `Feed` gives it. Without data it is end of file from
    the start."""

    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Sink:
    """One stream of output, at most `limit` bytes. `told` takes each piece as it comes, and must not
    block."""

    limit: int
    told: Callable[[bytes], None] = lambda _data: None


@dataclass(frozen=True, slots=True)
class Idle:
    """A limit on the time that a program waits for somebody, in seconds.

    `quiet` ends a program that in all this time got no input, wrote nothing, and used less than 1/200 of
    one processor. `longest` ends a program that got no input in all this time, whatever else it did.
    """

    quiet: float
    longest: float


@dataclass(frozen=True, slots=True)
class Tree:
    """The files that a run left in its box. Nobody can change them any more. A run gets a copy, which
    belongs to the run. A tree lives as long as its cell."""

    folder: Path


@dataclass(frozen=True, slots=True)
class Packed:
    """A tree as bytes, which outlive its cell (`Cell.pack`). Only a sandbox of the same kind reads them."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Collect:
    """Files to take out of the box when the program has ended: those that match a pattern
    (`sandbox/collect.py`), at most so many `files`, each of at most `file_bytes`, together at most
    `bytes`."""

    patterns: Sequence[str]
    files: int
    file_bytes: int
    bytes: int


Reason = Literal["name", "no_file", "size", "count", "total", "entries"]
"""Why a file that matches was left out: its name cannot be a file's name of ours; it is no regular file; it
is too long by itself; there were enough files before it; or they had too many bytes. `entries`: a folder
was not looked through to its end."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The first 100 of what was left out, each for a `Reason`, and how many there were."""

    files: tuple[File, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    left_out_count: int = 0


TRACE_BYTES = 8 * 2**20
"""The most that a tracer writes."""


@dataclass(frozen=True, slots=True)
class Traced:
    """The lines of a tracer (`sandbox/shown/trace/tracer.py`), and how it ended. A program may have had a
    hand in what was written, but not in how the tracer ended."""

    ended: trace.End
    lines: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one program. `argv` and `env` reach the program as they are: no shell reads them.

    Raises ValueError for a run that begins with a tree and shall leave one, and rules.Broken (which is one)
    for files whose names do not go together, and for patterns that could leave the box.
    """

    argv: Sequence[str]
    env: Sequence[tuple[str, str]]
    limits: Limits
    stdout: Sink
    stderr: Sink
    stdin: Feed | Given = Given()
    tty: Terminal | None = None
    """The program runs at a terminal with this window. Stdin, stdout and stderr are the terminal, which is
    the controlling terminal of the program's session. Everything that the terminal shows goes to `stdout`,
    also the echo of what is typed, and nothing to `stderr`. Lines end with CR LF. TERM is
    `xterm-256color`."""
    stop: trio.Event = field(default_factory=trio.Event)
    """Ends the program. What the program wrote until then is kept."""
    signals: trio.MemoryReceiveChannel[int] | None = None
    """Numbers of signals for the program and its process group, as from a terminal."""
    idle: Idle | None = None
    tree: Tree | Packed | None = None
    """The contents of the box; without a tree the box has the cell's files."""
    files: Sequence[File] = ()
    """More files, for this run alone. They take the place of files and folders of the same names."""
    interactive: bool = False
    """Whether the program belongs to those that mostly wait for their clients. There can be many of them, so
    all of them together get as much of the processors as one other program."""
    keep: bool = False
    """Whether the box is kept as a tree when the program has ended, however it ended."""
    collect: Collect | None = None
    followed: bool = True
    """Whether somebody may wait for what the program writes. Else the sandbox may tell it, take signals and
    notice `stop` some milliseconds later."""
    turn: Callable[[], Awaitable[None]] | None = None
    """Awaited before the program begins, when all is ready for it, if the sandbox can do this ahead. The
    program does not begin if this raises."""
    trace: bool = False
    """Whether the program's system calls are listed. The tracer's time, memory and CPU time count as the
    program's."""

    def __post_init__(self) -> None:
        if self.keep and self.tree:
            raise ValueError("a run that begins with a tree leaves none")
        rules.file_names([file.name for file in self.files])
        if self.collect:
            rules.patterns(self.collect.patterns)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, and what the run was told to leave."""

    outcome: Outcome
    tree: Tree | None = None
    collected: Collected = Collected()
    trace: Traced | None = None


class FileFault(Exception):
    """Work with files of a running program failed, as `errno` says. The program or the caller caused it."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


@dataclass(frozen=True, slots=True)
class Entry:
    """`name` is as from `os.fsdecode`: a program may choose names that are not UTF-8. `mode` is as from
    `stat`, `changed` in seconds since the epoch, as the program wants it."""

    name: str
    mode: int
    size: int
    changed: float


@dataclass(frozen=True, slots=True)
class Listing:
    """`more`: the folder has more entries than were asked for."""

    entries: tuple[Entry, ...]
    more: bool


class Running(Protocol):
    """A program that runs.

    The files are those of the program's box. Paths have no link, no `..` and no empty part in them. Work
    with files takes 2 s at most, and fails (FileFault) when the program hinders it or has ended. The
    program may change the files at any moment: contents are what was read, not what was there at one time.
    """

    def arm(self, limit: Literal["cpu_time", "wall_time"], seconds: float | None) -> None:
        """Set a limit anew, counted from now. None takes the limit away. Does nothing after the program's
        end."""

    def arm_idle(self, idle: Idle | None) -> None:
        """Set the limit on idle time anew, as `arm` does."""

    def resize(self, rows: int, cols: int) -> None:
        """Give the terminal's window another size, of which the program is told by SIGWINCH. Does nothing
        without a terminal, and after the program's end.

        Raises rules.Broken for a size that no `Terminal` may have."""

    async def put(self, file: File) -> None:
        """Write a file of at most 16 MiB, which the program then sees as a whole. Makes absent folders, and
        takes the place of a file, but not of a folder, of this name."""

    async def list(self, folder: str, most: int) -> Listing:
        """At most `most` entries of a folder (4,096 in any case), in no order. The empty path is the
        box."""

    async def get(self, name: str, most: int) -> bytes:
        """The contents of a regular file, of at most `most` bytes (16 MiB in any case). EFBIG when it has
        more."""


class Cell(Protocol):
    async def run(
        self, run: Run, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> Ended:
        """Run one program to its end. `task_status` gets the running program.

        Cancelling kills the jail and leaves nothing.

        Raises SandboxFailed when the jail could not be made or watched.
        """

    async def pack(self, tree: Tree, most: int) -> Packed | None:
        """A tree of this cell, exactly. None when that takes more than about `most` bytes, or cannot be
        done."""


class Shows(Protocol):
    async def show(self, folder: Path, place: str, root: str) -> None:
        """Show a folder to the programs of this root, read-only, at a `place` below `occd.shown.PLACE`. A
        cell that is used now may not see it. Raises OSError and SandboxFailed."""

    async def hide(self, place: str, root: str) -> None:
        """Show it no more; it may be gone then. A cell that is used now may still see it."""


class Sandbox(Protocol):
    @property
    def languages(self) -> dict[str, Language]: ...

    @property
    def roots(self) -> Sequence[str]:
        """The names of the file systems that programs can see, the best first. Each is an image's name, or ""
        for the machine's."""

    @property
    def available(self) -> Available:
        """The languages, with versions, that were found to run inside the jail on this machine."""

    @property
    def formatters(self) -> Formatters:
        """Those of `available` that can be formatted inside the jail."""

    @property
    def untraced(self) -> Mapping[str, str]:
        """Why programs cannot be traced, by the names of the roots in which they cannot."""

    @property
    def unforked(self) -> str | None:
        """Why jails are not forked, where they could be. Then each takes longer, and no program is a copy of
        a template that forks."""

    @property
    def isolation(self) -> Sequence[str]:
        """How programs are isolated, and what is weaker than it should be: one line each."""

    @property
    def holds(self) -> Holds:
        """The properties that were found to hold when the sandbox was opened."""

    @property
    def stuck(self) -> str | None:
        """Why no program can be run now, where this shows without a trial: what a jail needs does not answer,
        or somebody has been waiting for long for a jail, which takes milliseconds."""

    def identity(self, installed: Installed) -> str:
        """Changes when the files change that programs of this version see, or the processor does, and differs
        between kinds of sandboxes."""

    @property
    def templates(self) -> Sequence[str]:
        """The languages of which a program was a copy of an interpreter that had started already, and the
        next one may be."""

    @property
    def shows(self) -> Shows | None:
        """Through which programs see more folders of this machine, where that is possible."""

    async def look_further(self) -> bool:
        """Find the languages that have not been found, beside the programs that run. Whether that was all:
        False where programs are left that could not be asked now."""

    async def trial(self) -> None:
        """Run one real job, which proves what `isolation` claims: all that a jail needs, this needs.

        Raises SandboxUnavailable when it does not come out as it should.
        """

    def cell(
        self,
        language: Language,
        files: Sequence[File],
        limits: Limits,
        root: str | None = None,
    ) -> AbstractAsyncContextManager[Cell]:
        """A cell that holds `files`, as `language` can read them; `limits.box` bounds its tree. It may have
        been prepared, for `language`, before anything else was known. Programs in it see the files of `root`,
        which is one of `roots`. None: the first."""


def check_sandbox_settings(config: Config) -> None:
    """Raises ConfigError for what can be told without a sandbox."""
    if "execute" not in config.roles:
        return
    if config.sandbox.kind != "docker":
        if config.sandbox.runtime:
            raise ConfigError(
                f"sandbox.runtime: {config.sandbox.runtime} needs sandbox.kind: docker, for nsjail has none"
            )
        return
    from occd.images.users import AT_ONCE

    programs = config.execute.slots + config.execute.interactive
    most = AT_ONCE - 1  # the other is a trial's
    if programs > most:
        raise ConfigError(
            f"execute.slots and execute.interactive come to {programs}; with Docker they may come to {most}, "
            "since so many users are for containers"
        )


Tell = Callable[[str], None]
"""Hears, in a few words, what is being done now."""


def unheard(_: str) -> None:
    pass


@asynccontextmanager
async def open_sandbox(
    config: Config,
    cache: Path | None = None,
    only: str | None = None,
    tell: Tell = unheard,
    *,
    soon: bool = False,
    languages: dict[str, Language] | None = None,
) -> AsyncIterator[Sandbox]:
    """The sandbox that the configuration names. `cache` is a file in which the probed language
    versions are kept until a compiler changes; `only` is the one language to probe. `soon`: it is opened
    before all languages have been found, and `Sandbox.look_further` finds the others. `languages` are taken
    instead of those that occd knows.

    Raises SandboxUnavailable, which names the remedy, when this machine cannot isolate programs, and
    ConfigError when a property that `sandbox.require` names does not hold.
    """
    if config.sandbox.kind == "docker":
        from occd.sandbox.docker import open_docker

        opened: AbstractAsyncContextManager[Sandbox] = open_docker(
            config, cache, only, tell, soon, languages
        )
    else:
        from occd.sandbox.nsjail import open_nsjail

        opened = open_nsjail(config, cache, only, tell, soon, languages)
    async with opened as sandbox:
        yield sandbox
