"""A container whose init waits for a program, and one run in it.

Theory of operation. A container can be given no open file. So init is the first process of the container,
and a part of init, the relay (`sandbox/init/relay.c`), talks to us over the container's stdin and stdout,
in frames. The engine wraps what comes from the container once more, and tells stdout from stderr. When our
connection ends, init ends, and the engine removes the container. An engine that dies leaves the container
behind, and its stdin open. So we kill its first process, where this machine is the engine's and we may, and
tell init all the time that we are there: it ends when it has not heard of us for 10 s.

A container serves one run. Its control group counts all that is in it: init, the files of the box, and what
unpacked them. So the limit of memory has room for these, and the figure is without what was there before the
program started.
"""

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import trio

from occd import trace
from occd.errors import SandboxFailed
from occd.inputs import Limits, Terminal
from occd.model import Outcome, Stream
from occd.sandbox import TRACE_BYTES, Run, Running, Traced
from occd.sandbox.engine import Bounds, Engine, Made
from occd.sandbox.group import Usage
from occd.sandbox.init import Answer, End, Hello, decode, encode_go
from occd.sandbox.output import Output
from occd.sandbox.program import environment, supervise
from occd.sandbox.terminal import end_of_file, ends_line

_FRAME = struct.Struct("<B3xI")
_WRAP = struct.Struct(">B3xI")
_COUNT = struct.Struct("<I")
_STATUS = struct.Struct("<i")
_UNPACKED = struct.Struct("<i4xQ")
_SIZE = struct.Struct("<HH")
_FIGURES = struct.Struct("<QQQ")
_UNKNOWN = 2**64 - 1
_NO_ROOM = 2 << 8
"""As from waitpid (`sandbox/init/unpack.c`)."""
_WINDOW = 2**16
_PART = 2**15
_SETUP_S = 30.0
_FILES_S = 120.0
"""To fill a box or to pack one, on the busiest machine."""
_BEAT_S = 2.5
_END_S = 20.0
"""Within this time an engine tells that a container has ended, which init does after 10 s without us."""
_OOM_S = 2.0
"""The engine tells the reason before it takes note of the end, or so much later."""
_ASK_S = 0.05
_READ = 2**17
_MORE_BYTES = 2**19
"""That init may use while its program runs, and by which the kernel counts inexactly."""
_OWN_BYTES = 2 * 2**20
"""Memory of init and of the kernel's account of an empty container, as good as always."""
_PACK_BYTES = 64 * 2**20
"""For the names in the folders on the way to the deepest one."""
_BOX_STEP = 2**20
_OWN_PROCESSES = 2
"""init and a clerk. When the program has ended, there is room for others."""
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


class Container:
    def __init__(self, engine: Engine, made: Made, bounds: Bounds) -> None:
        """`bounds` are those that it was made with."""
        self._engine = engine
        self._made_with = bounds
        self._wanted: Bounds | None = None
        self.id = made.id
        self.user = made.user
        self._socket = trio.SocketStream(trio.socket.from_stdlib_socket(made.socket))
        self._came = bytearray()
        self._frames = bytearray()
        self._said = bytearray()
        self._unsent = bytearray()
        """The rest of a frame whose sender was cancelled goes before the next frame."""
        self._number = 0
        self._sending = trio.Lock()
        self._first: int | None = None
        self._used = _UNKNOWN
        self.shares = SHARES
        """The weight with which it shares the processors with others."""
        self.gone = False
        """It has ended as a whole while its program ran, because its memory was used up."""

    async def ready(self) -> None:
        """Wait until init waits for a job. Raises SandboxFailed when it does not in time."""
        with trio.move_on_after(_SETUP_S):
            kind, body = await self.next_frame()
            hello = decode(body)
            if kind != b"R" or not isinstance(hello, Hello):
                raise SandboxFailed(f"a container said what its init does not say{self.said()}")
            self._number = hello.number
            self._first = open_first(await self._engine.process(self.id), self.id)
            return
        raise SandboxFailed(f"no container became ready within {_SETUP_S:.0f} s{self.said()}")

    @property
    def waits(self) -> bool:
        """Whether init still waits for its job. It says nothing meanwhile, but for its end."""
        poll = select.poll()
        poll.register(self._socket.socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    async def beat(self) -> None:
        """Tell init all the time that we are there, until its end."""
        with suppress(SandboxFailed):
            while True:
                await self._send(b"K")
                await trio.sleep(_BEAT_S)

    def close(self) -> None:
        self.hang_up()
        if self._first is not None:
            os.close(self._first)
            self._first = None
        self._socket.socket.close()

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

    async def fill(self, archives: Sequence[IO[bytes]]) -> None:
        """Unpack streams (`archive.py`) into the box, one after the other.

        Raises NoRoom, and SandboxFailed."""
        with trio.move_on_after(_FILES_S):
            for archive in archives:
                kind, body = await self._unpack(archive)
                if kind != b"U":
                    raise SandboxFailed(f"a container said what its init does not say{self.said()}")
                status, self._used = _UNPACKED.unpack(body)
                if status != 0:
                    message = f"the files of the box cannot be unpacked{self.said()}"
                    raise NoRoom(message) if status == _NO_ROOM else SandboxFailed(message)
            return
        raise SandboxFailed(f"the box was not filled within {_FILES_S:.0f} s{self.said()}")

    async def _unpack(self, archive: IO[bytes]) -> tuple[bytes, bytes]:
        """Send an archive, and read the answer. It may come early: so both go on at once."""
        answer: tuple[bytes, bytes] | None = None
        failed: SandboxFailed | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_archive, archive)
            try:
                answer = await self.next_frame()
            except SandboxFailed as error:
                failed = error  # raised below: the nursery would wrap it
            nursery.cancel_scope.cancel()
        if failed:
            raise failed
        assert answer
        return answer

    async def _send_archive(self, archive: IO[bytes]) -> None:
        with suppress(SandboxFailed):  # whoever reads tells
            while part := archive.read(_PART):
                await self._send(b"F", part)
            await self._send(b"F")

    async def run(
        self, run: Run, bounds: Bounds | None, task_status: trio.TaskStatus[Running]
    ) -> tuple[Outcome, Traced | None]:
        """Run the program to its end, within these bounds. None: the container keeps those that it has."""
        limits = run.limits
        self._wanted = bounds
        if bounds and not self._fits(bounds, limits):  # the engine takes 10 ms to 30 ms for it
            if self._used != _UNKNOWN:
                bounds = replace(bounds, memory=limits.memory + self._used + _MORE_BYTES)
                self._wanted = bounds
            await self._engine.limit(self.id, bounds)
        message = encode_go(
            self._number,
            run.argv,
            environment(run),
            limits,
            run.idle,
            0,
            run.tty,
            traced=run.trace,
        )
        await self._send(b"G", message)
        outcome: Outcome | None = None
        failed: SandboxFailed | None = None
        started = _Started(self, run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(started.write)
            try:
                if run.tty:
                    await started.terminal()
                outcome = await supervise(run, started, task_status)
            except SandboxFailed as error:
                failed = error  # raised below: the nursery would wrap it
            nursery.cancel_scope.cancel()
        if failed:
            raise failed
        assert outcome
        return outcome, await self._trace(started.traced) if started.traced else None

    async def _trace(self, ended: trace.End) -> Traced:
        """The tracer's list, once the program has ended. The outcome is known, so nothing is raised."""
        lines = bytearray()
        if self.gone:
            return Traced(ended, b"")
        with trio.move_on_after(_FILES_S), suppress(SandboxFailed):
            while len(lines) <= TRACE_BYTES:
                kind, part = await self.next_frame()
                if kind == b"t":
                    if not part:
                        return Traced(ended, bytes(lines))
                    lines += part
        return Traced("tracer_died", bytes(lines[:TRACE_BYTES]))

    def _fits(self, bounds: Bounds, limits: Limits) -> bool:
        """Whether the container was made with these bounds, and the program gets what it may have."""
        needs = 0 if self._used == _UNKNOWN else limits.memory + self._used
        return bounds == self._made_with and needs <= bounds.memory

    async def pack(self, into: IO[bytes], most: int) -> None:
        """Write the box as a stream (`archive.py`). Nothing of the program is left.

        Raises SandboxFailed when the stream has more than `most` bytes."""
        if self._wanted:  # the program may have left no memory to pack with
            more = replace(self._wanted, memory=self._wanted.memory + _PACK_BYTES)
            await self._engine.limit(self.id, more)
        with trio.move_on_after(_FILES_S):
            await self._pack(into, most)
            return
        raise SandboxFailed(f"the box was not packed within {_FILES_S:.0f} s{self.said()}")

    async def _pack(self, into: IO[bytes], most: int) -> None:
        await self._send(b"C")
        while True:
            kind, body = await self.next_frame()
            if kind == b"d":
                if _STATUS.unpack(body)[0] != 0:
                    raise SandboxFailed(f"the box cannot be packed{self.said()}")
                return
            if kind == b"D":
                if into.tell() > most:
                    raise SandboxFailed("the box is too large to be packed")
                into.write(body)

    def said(self) -> str:
        said, self._said = self._said.decode(errors="replace").strip(), bytearray()
        return said and f": {said}"

    def hang_up(self) -> None:
        """Say that the container is needed no more: its init ends all at once."""
        with suppress(OSError):
            self._socket.socket.shutdown(socket.SHUT_WR)
        if self._first is not None:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)

    async def _send(self, kind: bytes, body: bytes = b"") -> None:
        await self.send_all(frame(kind, body))

    async def send_all(self, data: bytes | bytearray) -> None:
        try:
            async with self._sending:
                self._unsent += data
                while self._unsent:
                    sent = await self._socket.socket.send(self._unsent)
                    del self._unsent[:sent]
        except (OSError, trio.ClosedResourceError) as error:
            raise SandboxFailed(f"a container has ended{self.said()}") from error

    async def next_frame(self) -> tuple[bytes, bytes]:
        """The next frame of the relay. Raises SandboxFailed when the container has ended."""
        while True:
            if len(self._frames) >= _FRAME.size:
                kind, size = _FRAME.unpack_from(self._frames)
                end = _FRAME.size + size
                if len(self._frames) >= end:
                    body = bytes(self._frames[_FRAME.size : end])
                    del self._frames[:end]
                    return bytes([kind]), body
            await self._receive()

    async def _receive(self) -> None:
        try:
            data = await self._socket.receive_some(_READ)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise SandboxFailed(f"a container has ended{self.said()}")
        self._came += data
        at = 0
        while len(self._came) - at >= _WRAP.size:
            stream, size = _WRAP.unpack_from(self._came, at)
            body = at + _WRAP.size
            if len(self._came) - body < size:
                break
            part = self._came[body : body + size]
            if stream == 2:
                self._said = (self._said + part)[-4096:]
            else:
                self._frames += part
            at = body + size
        del self._came[:at]


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
        if any(container in (folder / each).read_text() for each in ("mountinfo", "cmdline")):
            return process
    os.close(process)
    return None


def frame(kind: bytes, body: bytes = b"") -> bytes:
    return _FRAME.pack(kind[0], len(body)) + body


class _Started:
    """A program in a container, and its init."""

    def __init__(self, container: Container, run: Run) -> None:
        self._container = container
        self._unsent = bytearray()
        self._wake = trio.Event()
        self._room = _WINDOW
        self._has_room = trio.Event()
        self._file: int | None = None
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
        self._memory = run.limits.memory
        self._traces = run.trace

    # Init

    def send(self, order: bytes, *files: int) -> bool:
        if self._over:
            return False
        for file in files:
            self._file = file
            while part := os.read(file, _PART):
                self.post(frame(b"B", part))
        self.post(frame(b"O", order))
        return True

    def kill(self) -> None:
        self._over = True
        self._container.hang_up()

    def post(self, data: bytes) -> None:
        self._unsent += data
        self._wake.set()

    async def write(self) -> None:
        """Send what is posted, until cancelled."""
        while True:
            while self._unsent:
                data, self._unsent = self._unsent, bytearray()
                try:
                    await self._container.send_all(data)
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
        kind, _ = await self._container.next_frame()
        if kind != b"M":
            raise SandboxFailed(
                f"the program could not be given a terminal{self._container.said()}"
            )

    async def end(self, output: Output, answered: Callable[[int], None]) -> End | None:
        while True:
            try:
                kind, body = await self._container.next_frame()
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
                    self._file = None
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
                    raise SandboxFailed(f"the program could not be started{self._container.said()}")

    async def unreported(self) -> End:
        wall_time = time.monotonic() - self._began
        self._container.hang_up()  # it may run on without its engine
        if not await self._container.ran_out():
            raise SandboxFailed(self._lost)
        self._container.gone = self._over = True
        self.traced = "tracer_died" if self._traces else None
        return End(signal.SIGKILL, "memory", True, wall_time, 0.0, self._memory)

    def said(self) -> str:
        return self._container.said()

    def usage(self) -> Usage | None:
        if not self._figures or _UNKNOWN in self._figures:
            return None
        peak, before, kills = self._figures
        return Usage(self._cpu_time, max(0, peak - before), kills)


class _Window:
    def __init__(self, started: _Started) -> None:
        self._started = started

    def resize(self, window: Terminal) -> None:
        """The relay takes sizes and keys in their order."""
        self._started.post(frame(b"Z", _SIZE.pack(window.rows, window.cols)))

    async def run(self) -> None:
        """Nothing is left to do."""


class _Stdin(trio.abc.SendStream):
    def __init__(self, started: _Started, *, tty: bool) -> None:
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
