"""A program in a container, over the connection to its init."""

import os
import signal
import struct
import time
from collections.abc import Awaitable, Callable

import trio

from occd import trace
from occd.errors import SandboxFailed
from occd.inputs import Terminal
from occd.model import Stream
from occd.sandbox import Run
from occd.sandbox.group import Usage
from occd.sandbox.init import Answer, End, decode
from occd.sandbox.output import Output
from occd.sandbox.program import most_cpu_time
from occd.sandbox.relay import PART, UNKNOWN, Relay, frame
from occd.sandbox.terminal import end_of_file, ends_line

_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<HH")
_FIGURES = struct.Struct("<QQQ")
_WINDOW = 2**16


class Contained:
    """A program in a container, and its init."""

    def __init__(
        self,
        relay: Relay,
        run: Run,
        hang_up: Callable[[], None],
        ran_out: Callable[[], Awaitable[bool]],
    ) -> None:
        """`hang_up` ends the container. `ran_out` tells whether the kernel ended it for lack of memory."""
        self._relay = relay
        self._hang_up = hang_up
        self._ran_out = ran_out
        self.gone = False
        """The container has ended as a whole while its program ran, because its memory was used up."""
        self._unsent = bytearray()
        self._wake = trio.Event()
        self._room = _WINDOW
        self._has_room = trio.Event()
        self._file: int | None = None
        """Where the parts of the order's file go. It is a descriptor of ours: the one that came with the
        order is closed when its sender is cancelled, and its number may be somebody else's then."""
        self._over = False
        self._lost = ""
        """Why no report came."""
        self._figures: tuple[int, int, int] | None = None
        self._cpu_time = 0.0
        self.traced: trace.End | None = None
        """How the tracer ended; None when nothing was to be traced."""
        self.init = self
        self.window = _Window(self) if run.tty else None
        self.stdin: trio.abc.SendStream = _Stdin(self, tty=run.tty is not None)
        self._began = time.monotonic()
        self._limits = run.limits
        self._traces = run.trace

    # Init

    def send(self, order: bytes, *files: int) -> bool:
        if self._over:
            return False
        for file in files:
            self.close()
            try:
                self._file = os.dup(file)
            except OSError:  # no descriptor is left
                return False
            while part := os.read(file, PART):
                self.post(frame(b"B", part))
        self.post(frame(b"O", order))
        return True

    def kill(self) -> None:
        self._over = True
        self._hang_up()

    def close(self) -> None:
        """No part of a file is waited for."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def post(self, data: bytes) -> None:
        self._unsent += data
        self._wake.set()

    async def write(self) -> None:
        """Send what is posted, until cancelled."""
        while True:
            while self._unsent:
                data, self._unsent = self._unsent, bytearray()
                try:
                    await self._relay.send_all(data)
                except SandboxFailed:
                    await trio.sleep_forever()  # whoever reads tells
            self._wake = trio.Event()
            await self._wake.wait()

    async def type(self, data: bytes) -> None:
        """Send stdin, as the relay has room."""
        at = 0
        while at < len(data):
            while not self._room:
                self._has_room = trio.Event()
                await self._has_room.wait()
            part = data[at : at + self._room]
            self._room -= len(part)
            self.post(frame(b"I", part))
            at += len(part)

    # Started

    def read(self, output: Output, nursery: trio.Nursery) -> None:
        """All output comes on the way of the report."""

    def drain(self, output: Output) -> None:
        """All output has come before the end."""

    async def terminal(self) -> None:
        kind, _ = await self._relay.next_frame()
        if kind != b"M":
            raise SandboxFailed(f"the program could not be given a terminal{self._relay.said()}")

    async def end(self, output: Output, answered: Callable[[int], None]) -> End | None:
        while True:
            try:
                kind, body = await self._relay.next_frame()
            except SandboxFailed as error:
                self._lost = str(error)
                return None
            match kind:
                case b"o" | b"e":
                    name: Stream = "stdout" if kind == b"o" else "stderr"
                    output.came(name, body)
                case b"i":
                    self._room += _COUNT.unpack(body)[0]
                    self._has_room.set()
                case b"b" if self._file is not None:
                    os.write(self._file, body)
                case b"W":
                    answer = decode(body)
                    assert isinstance(answer, Answer)
                    self.close()
                    answered(answer.error)
                case b"X":
                    self._over = True
                    self._figures = _FIGURES.unpack(body[-_FIGURES.size :])
                    end = decode(body[: -_FIGURES.size])
                    assert isinstance(end, End)
                    self._cpu_time = end.cpu_time
                    self.traced = end.traced
                    return end
                case b"f":
                    raise SandboxFailed(f"the program could not be started{self._relay.said()}")

    async def unreported(self) -> End:
        wall_time = time.monotonic() - self._began
        self._hang_up()  # it may run on without its engine
        if not await self._ran_out():
            raise SandboxFailed(self._lost)
        self.gone = self._over = True
        self.traced = "tracer_died" if self._traces else None
        cpu_time = most_cpu_time(self._limits, wall_time)
        return End(signal.SIGKILL, "memory", True, wall_time, cpu_time, self._limits.memory)

    def said(self) -> str:
        return self._relay.said()

    def usage(self) -> Usage | None:
        if not self._figures or UNKNOWN in self._figures:
            return None
        peak, before, kills = self._figures
        return Usage(self._cpu_time, max(0, peak - before), kills)


class _Window:
    def __init__(self, started: Contained) -> None:
        self._started = started

    def resize(self, window: Terminal) -> None:
        """The relay takes sizes and keys in their order."""
        self._started.post(frame(b"Z", _SIZE.pack(window.rows, window.cols)))

    async def run(self) -> None:
        """Nothing is left to do."""


class _Stdin(trio.abc.SendStream):
    def __init__(self, started: Contained, *, tty: bool) -> None:
        self._started = started
        self._tty = tty
        self._at_start = True
        """Of a line of the terminal."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        await self._started.type(bytes(data))
        if data:
            self._at_start = ends_line(data[-1])

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        if self._tty:
            await self.send_all(end_of_file(at_start=self._at_start))
        else:
            await trio.lowlevel.checkpoint()
            self._started.post(frame(b"E"))
