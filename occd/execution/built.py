"""The checkers that this node has compiled, as files.

All submissions of a contest bring the same checker. With testlib.h, compiling the checker takes 3.5 s of
processor time, while a solution takes milliseconds. What is kept is named by all that it was made from, so
nobody can put another program in its place.
"""

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from occd.execution.program import Program
from occd.model import File
from occd.sandbox import Collect, Collected

EACH_MAX = 8 * 2**20
"""Bytes of one compiled checker, with its sources."""
ALL_MAX = 32 * 2**20
FILE_BYTES = 2048
"""Each file counts so much beside its bytes, which is more than its name and objects take: a file may be
empty."""
_FILES_MAX = 100

WHOLE = Collect(("**",), _FILES_MAX, EACH_MAX, EACH_MAX)
"""The compile stage collects all files, within these bounds."""

Files = tuple[File, ...]


class Built:
    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Files] = OrderedDict()
        """The one that was used last is the last."""
        self._size = 0
        self._making: dict[bytes, trio.Event] = {}

    @asynccontextmanager
    async def turn(
        self, program: Program, stop: trio.Event
    ) -> AsyncIterator[tuple[Files | None, Callable[[Collected], None]]]:
        """Gives the files of the compiled program, if they are kept, and else a function that keeps them.
        While one compiles, the others wait for its files, until `stop`. They wait once: a program of which
        nothing is kept, as one with a fault, would else be compiled by one after the other, and each holds
        a slot."""
        key = await trio.to_thread.run_sync(_key, program)
        if (making := self._making.get(key)) is not None:
            await _either(making, stop)
        if files := self._kept.get(key):
            self._kept.move_to_end(key)
            yield files, _nothing
            return
        mine = self._making[key] = trio.Event()
        try:
            yield None, lambda collected: self._keep(key, collected)
        finally:
            if self._making.get(key) is mine:
                del self._making[key]
            mine.set()

    def _keep(self, key: bytes, collected: Collected) -> None:
        """Only a tree of which nothing is missing. All files are executable, because modes are not known."""
        if collected.left_out_count or not collected.files:
            return
        files = tuple(replace(file, executable=True) for file in collected.files)
        self._size += _size(files) - _size(self._kept.pop(key, ()))
        self._kept[key] = files
        while self._size > ALL_MAX:
            _, oldest = self._kept.popitem(last=False)
            self._size -= _size(oldest)


def _key(program: Program) -> bytes:
    made_from = (
        program.language.id,
        program.installed,
        program.main,
        tuple(program.compile_args),
        [
            (each.name, each.executable, hashlib.sha256(each.content).digest())
            for each in program.files
        ],
    )
    return hashlib.sha256(repr(made_from).encode()).digest()


def _size(files: Files) -> int:
    return sum(len(file.content) + FILE_BYTES for file in files)


def _nothing(_: Collected) -> None:
    pass


async def _either(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
