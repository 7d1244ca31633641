"""A sandbox that runs what a test says."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import trio

from occd.languages import Language
from occd.languages.installed import Available, Formatters, Installed
from occd.languages.loading import load_languages
from occd.levels import Holds
from occd.model import File, Limits, Outcome, Stream
from occd.sandbox import Cell, Collected, Ended, Packed, Run, Running, Tree

Emit = Callable[[Stream, bytes], None]


class FakeWindow:
    """Of a program that runs: the sizes that its terminal had."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.told = trio.Event()

    def resize(self, rows: int, cols: int) -> None:
        self.sizes.append((rows, cols))
        self.told.set()


@dataclass
class FakeSandbox:
    """Runs what the test says: an outcome, or an exception of ours."""

    behave: Callable[[Emit, trio.Event], Awaitable[Outcome]]
    isolation: Sequence[str] = ()
    holds: Holds = ("memory",)
    runs: int = 0
    ran: list[tuple[str, ...]] = field(default_factory=list)
    seen: list[str | None] = field(default_factory=list)
    """The root of each cell."""
    collected: Collected = field(default_factory=Collected)
    signals: trio.MemoryReceiveChannel[int] | None = None
    window: FakeWindow = field(default_factory=FakeWindow)
    languages: dict[str, Language] = field(default_factory=load_languages)
    roots: Sequence[str] = ("",)
    available: Available = field(
        default_factory=lambda: {"python": (Installed("3.11.2", "/usr/bin/python3"),)}
    )
    formatters: Formatters = field(default_factory=dict)
    untraced: Mapping[str, str] = field(default_factory=dict)
    unforked: str | None = None
    stuck: str | None = None
    shows: None = None
    templates: Sequence[str] = ()

    async def trial(self) -> None:
        """It is always fit."""

    async def look_further(self) -> bool:
        """There is nothing else."""
        return True

    def identity(self, installed: Installed) -> str:
        return "fake"

    async def pack(self, tree: Tree, most: int) -> Packed | None:
        return None

    @asynccontextmanager
    async def cell(
        self,
        language: Language,
        files: Sequence[File],
        limits: Limits,
        root: str | None = None,
    ) -> AsyncIterator[Cell]:
        self.seen.append(root)
        yield self

    async def run(
        self, run: Run, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> Ended:
        def emit(stream: Stream, data: bytes) -> None:
            (run.stdout if stream == "stdout" else run.stderr).told(data)

        if run.turn:
            await run.turn()
        self.signals = run.signals
        self.runs += 1
        self.ran.append(tuple(run.argv))
        if run.tty:
            self.window.resize(run.tty.rows, run.tty.cols)
        task_status.started(cast(Running, self.window))
        emit("stdout", b"done\n")
        return Ended(await self.behave(emit, run.stop), None, self.collected)
