"""A container whose init waits for a program, and one run in it.

Theory of operation. A container can be given no open file. So init is the first process of the container,
and a part of init, the relay, talks to us over the container's stdin and stdout (`relay.py`). When our
connection ends, init ends, and the engine removes the container. An engine that dies leaves the container
behind, and its stdin open. So we kill its first process, where this machine is the engine's and we may, and
tell init all the time that we are there: it ends when it has not heard of us for 10 s.

A container serves one run. Its control group counts all that is in it: init, the files of the box, and what
unpacked them. So the limit of memory has room for these, and the figure is without what was there before the
program started.
"""

import os
import signal
import struct
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import trio

from occd import trace
from occd.errors import SandboxFailed
from occd.inputs import Limits
from occd.model import Outcome
from occd.sandbox import TRACE_BYTES, Run, Running, Traced
from occd.sandbox.contained import Contained
from occd.sandbox.engine import Bounds, Engine, Made
from occd.sandbox.init import Hello, decode, encode_go
from occd.sandbox.program import environment, supervise
from occd.sandbox.relay import PART, UNKNOWN, Relay, frame
from occd.scopes import beside

_STATUS = struct.Struct("<i")
_MOST = struct.Struct("<Q")
_UNPACKED = struct.Struct("<i4xQ")
_NO_ROOM = 2 << 8
"""As from waitpid (`sandbox/init/unpack.c`)."""
_TOO_LARGE = 3 << 8
"""As from waitpid (`sandbox/init/pack.c`)."""
_SETUP_S = 30.0
_FILES_S = 120.0
"""To fill a box or to pack one, on the busiest machine."""
_BEAT_S = 2.5
_END_S = 20.0
"""Within this time an engine tells that a container has ended, which init does after 10 s without us."""
_OOM_S = 2.0
"""The engine tells the reason before it takes note of the end, or so much later."""
_ASK_S = 0.05
_MORE_BYTES = 2**19
"""That init may use while its program runs, and by which the kernel counts inexactly."""
_OWN_BYTES = 2 * 2**20
"""Memory of init and of the kernel's account of an empty container, as good as always."""
_PACK_BYTES = 64 * 2**20
"""For the names in the folders on the way to the deepest one."""
_BOX_STEP = 2**20
_OWN_PROCESSES = 2
"""init and a clerk, or at a terminal who sets the window's size. When the program has ended, there is room
for others."""
SHARES = 1024
"""Docker's own, of a container that was given no other."""


def bounds(limits: Limits, box: int, *, traced: bool = False) -> Bounds:
    """The bounds of a container for a job with these limits, whose box has so many bytes."""
    steps = -(-box // _BOX_STEP)  # so that most jobs need what their containers were made with
    return Bounds(
        limits.memory + max(1, steps) * _BOX_STEP + _OWN_BYTES,
        limits.processes + _OWN_PROCESSES + int(traced),
    )


class NoRoom(SandboxFailed):
    """The box has no room for the files."""


class BoxTooLarge(SandboxFailed):
    """The program left more in its box than is packed, as it can where the kernel does not hold the box."""


class Container:
    def __init__(self, engine: Engine, made: Made, bounds: Bounds) -> None:
        """`bounds` are those that it was made with."""
        self._engine = engine
        self._made_with = bounds
        self._wanted: Bounds | None = None
        self.id = made.id
        self.user = made.user
        self.relay = Relay(made.socket)
        self._number = 0
        self._first: int | None = None
        self._used = UNKNOWN
        self._begun = False
        """The program of the run begins behind the files of the box."""
        self.shares = SHARES
        """The weight with which it shares the processors with others."""
        self.gone = False
        """It has ended as a whole while its program ran, because its memory was used up."""

    async def ready(self) -> None:
        """Wait until init waits for a job. Raises SandboxFailed when it does not in time."""
        with trio.move_on_after(_SETUP_S):
            kind, body = await self.relay.next_frame()
            hello = decode(body)
            if kind != b"R" or not isinstance(hello, Hello):
                raise SandboxFailed(
                    f"a container said what its init does not say{self.relay.said()}"
                )
            self._number = hello.number
            self._first = open_first(await self._engine.process(self.id), self.id)
            return
        raise SandboxFailed(f"no container became ready within {_SETUP_S:.0f} s{self.relay.said()}")

    @property
    def waits(self) -> bool:
        """Whether init still waits for its job. It says nothing meanwhile, but for its end."""
        return self.relay.is_silent

    async def beat(self) -> None:
        """Tell init all the time that we are there, until its end."""
        with suppress(SandboxFailed):
            while True:
                await self.relay.send(b"K")
                await trio.sleep(_BEAT_S)

    def close(self) -> None:
        self.hang_up()
        if self._first is not None:
            os.close(self._first)
            self._first = None
        self.relay.close()

    async def ran_out(self) -> bool:
        """Whether the kernel held the memory of this container, which is about to end or has ended. A busy
        engine learns late and answers late, so its word of the end is waited for, and not a time from now."""
        until, ended = trio.current_time() + _END_S, False
        while True:
            running = await self._engine.process(self.id)  # however long the answer takes
            if await self._engine.told_oom(self.id):
                return True
            now = trio.current_time()
            if not running and not ended:
                until, ended = now + _OOM_S, True
            if now > until:
                return False
            await trio.sleep(_ASK_S)

    async def fill(
        self, archives: Sequence[IO[bytes]], run: Run | None = None, bounds: Bounds | None = None
    ) -> None:
        """Unpack streams (`archive.py`) into the box, one after the other. Where the container was made with
        the bounds that `run` needs, its program begins right behind them: the way to an answer and back is
        milliseconds where an engine has slept.

        Raises NoRoom, and SandboxFailed."""
        most = self._most(run, bounds) if run else None
        order = b""
        if run and most is not None:
            order = frame(b"H", _MOST.pack(most) + self._order(run))
        with trio.move_on_after(_FILES_S):
            # The answer may come early: so both go on at once.
            await beside(partial(self._send, archives, order), partial(self._filled, len(archives)))
            # The rest of the order, if the answer came before all had gone. The program may have used up its
            # memory at once, and the container have gone with it: whoever reads tells.
            with suppress(SandboxFailed):
                await self.relay.send_all(b"")
            self._begun = most is not None and (self._used == UNKNOWN or self._used <= most)
            return
        raise SandboxFailed(f"the box was not filled within {_FILES_S:.0f} s{self.relay.said()}")

    async def _send(self, archives: Sequence[IO[bytes]], order: bytes) -> None:
        waiting = b""  # so that a small job goes in one piece
        with suppress(SandboxFailed):  # whoever reads tells
            for archive in archives:
                while part := archive.read(PART):
                    await self.relay.send_all(waiting + frame(b"F", part))
                    waiting = b""
                waiting += frame(b"F")
            await self.relay.send_all(waiting + order)

    async def _filled(self, count: int) -> None:
        for _ in range(count):
            kind, body = await self.relay.next_frame()
            if kind != b"U":
                raise SandboxFailed(
                    f"a container said what its init does not say{self.relay.said()}"
                )
            status, self._used = _UNPACKED.unpack(body)
            if status != 0:
                message = f"the files of the box cannot be unpacked{self.relay.said()}"
                raise NoRoom(message) if status == _NO_ROOM else SandboxFailed(message)

    def _order(self, run: Run) -> bytes:
        return encode_go(
            self._number,
            run.argv,
            environment(run),
            run.limits,
            run.idle,
            0,
            run.tty,
            traced=run.trace,
        )

    def _most(self, run: Run, bounds: Bounds | None) -> int | None:
        """The memory that the container's files may take, so that the program gets what it may have. None:
        the container was made with other bounds."""
        if bounds is None:
            return UNKNOWN
        return bounds.memory - run.limits.memory if bounds == self._made_with else None

    async def run(
        self, run: Run, bounds: Bounds | None, task_status: trio.TaskStatus[Running]
    ) -> tuple[Outcome, Traced | None]:
        """Run the program to its end, within these bounds. None: the container keeps those that it has."""
        self._wanted = bounds
        if not self._begun:
            if bounds:  # the engine takes 10 ms to 30 ms for it
                if self._used != UNKNOWN:
                    bounds = replace(bounds, memory=run.limits.memory + self._used + _MORE_BYTES)
                    self._wanted = bounds
                await self._engine.limit(self.id, bounds)
            await self.relay.send(b"G", self._order(run))
        started = Contained(self.relay, run, self.hang_up, self.ran_out)

        async def to_its_end() -> Outcome:
            if run.tty:
                await started.terminal()
            return await supervise(run, started, task_status)

        with closing(started):
            outcome = await beside(started.write, to_its_end)
        self.gone = started.gone
        return outcome, await self._trace(started.traced) if started.traced else None

    async def _trace(self, ended: trace.End) -> Traced:
        """The tracer's list, once the program has ended. The outcome is known, so nothing is raised."""
        lines = bytearray()
        if self.gone:
            return Traced(ended, b"")
        with trio.move_on_after(_FILES_S), suppress(SandboxFailed):
            while len(lines) <= TRACE_BYTES:
                kind, part = await self.relay.next_frame()
                if kind == b"t":
                    if not part:
                        return Traced(ended, bytes(lines))
                    lines += part
        return Traced("tracer_died", bytes(lines[:TRACE_BYTES]))

    async def pack(self, into: IO[bytes], most: int) -> None:
        """Write the box as a stream (`archive.py`). Nothing of the program is left.

        Raises BoxTooLarge, as when the stream has more than `most` bytes, and SandboxFailed."""
        if self._wanted:  # the program may have left no memory to pack with
            more = replace(self._wanted, memory=self._wanted.memory + _PACK_BYTES)
            await self._engine.limit(self.id, more)
        with trio.move_on_after(_FILES_S):
            await self._pack(into, most)
            return
        raise SandboxFailed(f"the box was not packed within {_FILES_S:.0f} s{self.relay.said()}")

    async def _pack(self, into: IO[bytes], most: int) -> None:
        await self.relay.send(b"C")
        while True:
            kind, body = await self.relay.next_frame()
            if kind == b"d":
                (status,) = _STATUS.unpack(body)
                if status != 0:
                    message = f"the box cannot be packed{self.relay.said()}"
                    raise BoxTooLarge(message) if status == _TOO_LARGE else SandboxFailed(message)
                return
            if kind == b"D":
                if into.tell() > most:
                    raise BoxTooLarge("the box is too large to be packed")
                into.write(body)

    def hang_up(self) -> None:
        """Say that the container is needed no more: its init ends all at once."""
        self.relay.hang_up()
        if self._first is not None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)


def open_first(pid: int, container: str) -> int | None:
    """A pidfd of the container's first process, unless the process is none of this machine's."""
    if not pid:
        return None
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return None
    folder = Path(f"/proc/{pid}")
    with suppress(OSError):  # another engine's machine counts its processes from 1, too
        name = container.encode()  # what a stranger's process is called need not be text
        if any(name in (folder / each).read_bytes() for each in ("mountinfo", "cmdline")):
            return process
    os.close(process)
    return None
