"""Programs that run at a terminal through the real sandbox, and a user who types and reads."""

import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from sandboxed import LONG, PRELUDE, PYTHON, Lab

from occd.inputs import Limits, Terminal
from occd.model import Outcome
from occd.sandbox import Cell, Feed, Run, Running, Sink

WINDOW = Terminal(24, 80)
_PATIENCE_S = 120


@dataclass
class Screen:
    running: Running
    keyboard: trio.MemorySendChannel[bytes]
    shown: bytearray = field(default_factory=bytearray)
    ended: trio.Event = field(default_factory=trio.Event)
    ends: list[Outcome] = field(default_factory=list)
    _seen: int = 0
    _news: trio.Event = field(default_factory=trio.Event)

    async def shows(self, text: bytes) -> bytes:
        """Wait until the terminal shows `text`, behind the text that was waited for last. Returns what it
        shows between the two."""
        with trio.fail_after(_PATIENCE_S):
            while (at := self.shown.find(text, self._seen)) < 0:
                assert not self.ended.is_set(), (
                    f"{self.ends} without {text!r}: {bytes(self.shown[-500:])!r}"
                )
                self._news = trio.Event()
                await self._news.wait()
        between, self._seen = bytes(self.shown[self._seen : at]), at + len(text)
        return between

    async def type(self, keys: bytes) -> None:
        await self.keyboard.send(keys)

    @property
    def end(self) -> Outcome:
        (outcome,) = self.ends
        return outcome

    @property
    def ending(self) -> tuple[int | None, str | None, str | None]:
        return self.end.exit_code, self.end.signal, self.end.limit

    def tell(self, data: bytes) -> None:
        self.shown.extend(data)
        self.wake()

    def wake(self) -> None:
        self._news.set()


@asynccontextmanager
async def at_terminal(
    cell: Cell,
    argv: Sequence[str],
    limits: Limits = LONG,
    window: Terminal = WINDOW,
    **more: Any,
) -> AsyncIterator[Screen]:
    """The program has ended after the block. `more` are fields of `Run`."""
    send, typed = trio.open_memory_channel[bytes](0)
    screen = Screen(None, send)  # type: ignore[arg-type]  # set below
    fields: dict[str, Any] = {"env": (), "stdin": Feed(typed), "tty": window} | more
    run = Run(
        argv, limits=limits, stdout=Sink(limits.output, screen.tell), stderr=Sink(1000), **fields
    )

    async def go(*, task_status: trio.TaskStatus[Running]) -> None:
        with typed:
            screen.ends.append((await cell.run(run, task_status=task_status)).outcome)
        screen.ended.set()
        screen.wake()

    async with trio.open_nursery() as nursery:
        screen.running = await nursery.start(go)
        with send:
            yield screen
            with trio.fail_after(_PATIENCE_S):
                await screen.ended.wait()
    assert screen.end.stdout.size == len(screen.shown)
    assert screen.end.stderr.size == 0


@asynccontextmanager
async def python_at_terminal(
    lab: Lab, source: str, limits: Limits = LONG, window: Terminal = WINDOW, **more: Any
) -> AsyncIterator[Screen]:
    async with lab.cell(limits=limits) as cell:
        argv = [PYTHON, "-c", PRELUDE + textwrap.dedent(source)]
        async with at_terminal(cell, argv, limits, window, **more) as screen:
            yield screen


async def shown_by(lab: Lab, source: str, limits: Limits = LONG, **more: Any) -> bytes:
    """All that a Python program shows that gets no input, with the ends of lines of a pipe."""
    async with python_at_terminal(lab, source, limits, **more) as screen:
        pass
    assert screen.end.succeeded, (screen.end, screen.shown)
    return bytes(screen.shown).replace(b"\r\n", b"\n")
