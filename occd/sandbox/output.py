"""Both streams of a running program: read in the order in which it writes, as long as it writes, up to the
limit of each."""

import os
from collections.abc import Callable, Mapping

import trio

from occd.model import Stream
from occd.sandbox import Emit
from occd.utf8 import unfinished

_READ = 65_536


class Output:
    """What comes out of two pipes, in whole characters. Past the limit of a stream `exceeded` is called, and
    the rest of the stream is dropped."""

    def __init__(
        self, pipes: Mapping[Stream, int], limit: int, emit: Emit, exceeded: Callable[[], None]
    ) -> None:
        self._streams = {name: _Stream(name, fd, limit, emit) for name, fd in pipes.items()}
        self._exceeded = exceeded

    def start(self, nursery: trio.Nursery) -> None:
        """Read to the end whatever happens: a program never waits for us."""
        for stream in self._streams.values():
            nursery.start_soon(self._read, stream)

    async def _read(self, awaited: "_Stream") -> None:
        while not awaited.ended:
            await trio.lowlevel.wait_readable(awaited.fd)
            self._take()

    def drain(self) -> None:
        """Take what is left when no process of the program is: the pipes hold all that was written. They
        may have no end, since the kernel can keep a pipe open that is on its way between two sockets."""
        while self._take():
            pass

    def finish(self, *, cut: bool) -> None:
        """Tell what was held back. `cut`: the program was ended, perhaps in the middle of a character."""
        for stream in self._streams.values():
            stream.finish(cut=cut)

    def _take(self) -> bool:
        """Whatever is there, stdout first: both may have been written since we looked last."""
        took = False
        for stream in self._streams.values():
            took |= stream.take()
            if stream.truncated:
                self._exceeded()
        return took

    @property
    def truncated(self) -> bool:
        return any(stream.truncated for stream in self._streams.values())

    def __getitem__(self, name: Stream) -> "_Stream":
        return self._streams[name]


class _Stream:
    def __init__(self, name: Stream, fd: int, limit: int, emit: Emit) -> None:
        self._name = name
        self.fd = fd
        self._limit = limit
        self._emit = emit
        self._emitted = 0
        self.data = bytearray()
        self.truncated = False
        self.ended = False

    def take(self) -> bool:
        """Read once, if there is something to read."""
        if self.ended:
            return False
        try:
            read = os.read(self.fd, _READ)
        except BlockingIOError:
            return False
        if not read:
            self.ended = True
            return False
        if not self.truncated:
            self._keep(read)
        return True

    def _keep(self, read: bytes) -> None:
        room = self._limit - len(self.data)
        self.data += read[:room]
        half = unfinished(self.data)
        self._send(len(self.data) - half)
        if len(read) > room:
            self.truncated = True
            self.finish(cut=True)

    def finish(self, *, cut: bool) -> None:
        """Nothing follows. What a cut left of a character goes; what the program left so is its own."""
        if cut and (half := unfinished(self.data)):
            del self.data[-half:]
        self._send(len(self.data))

    def _send(self, end: int) -> None:
        if end > self._emitted:
            self._emit(self._name, bytes(self.data[self._emitted : end]))
            self._emitted = end
