"""Reads both streams of a running program in the order of its writes, up to the limit of each stream."""

import os
from collections.abc import Callable, Mapping

import trio

from occd.model import Stream
from occd.sandbox import Sink
from occd.utf8 import unfinished

_READ = 65_536


class Output:
    """Tells each sink the output of its pipe in whole characters. When a stream exceeds its limit,
    `exceeded` is called, and the rest of the stream is dropped. `wrote` is called whenever there was
    output."""

    def __init__(
        self,
        pipes: Mapping[Stream, tuple[int, Sink]],
        exceeded: Callable[[], None],
        wrote: Callable[[], None],
    ) -> None:
        self._streams = {name: _Stream(fd, sink) for name, (fd, sink) in pipes.items()}
        self._exceeded = exceeded
        self._wrote = wrote

    def start(self, nursery: trio.Nursery) -> None:
        """Read both pipes to their ends, also past a limit, so that a program never waits for us."""
        for stream in self._streams.values():
            nursery.start_soon(self._read, stream)

    async def _read(self, awaited: "_Stream") -> None:
        while not awaited.ended:
            await trio.lowlevel.wait_readable(awaited.fd)
            self._take()

    def drain(self) -> None:
        """Read the rest when no process of the program is left: the pipes hold all remaining output. We do
        not wait for their end, because the kernel keeps a pipe open that is in flight between two
        sockets."""
        while self._take():
            pass

    def finish(self, *, cut: bool) -> None:
        """Tell the bytes that were held back. `cut`: the program was ended, perhaps within a character."""
        for stream in self._streams.values():
            stream.finish(cut=cut)

    def _take(self) -> bool:
        """Read each pipe once, stdout first: both may have output since the last look."""
        took = False
        for stream in self._streams.values():
            took |= stream.take()
            if stream.truncated:
                self._exceeded()
        if took:
            self._wrote()
        return took

    @property
    def truncated(self) -> bool:
        return any(stream.truncated for stream in self._streams.values())

    def __getitem__(self, name: Stream) -> "_Stream":
        return self._streams[name]


class _Stream:
    def __init__(self, fd: int, sink: Sink) -> None:
        self.fd = fd
        self._sink = sink
        self._told = 0
        self.data = bytearray()
        self.truncated = False
        self.ended = False

    def take(self) -> bool:
        """Read once, if the pipe has output."""
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
        room = self._sink.limit - len(self.data)
        self.data += read[:room]
        half = unfinished(self.data)
        self._send(len(self.data) - half)
        if len(read) > room:
            self.truncated = True
            self.finish(cut=True)

    def finish(self, *, cut: bool) -> None:
        """Tell the rest at the end of the stream. With `cut`, drop a part of a character at the end."""
        if cut and (half := unfinished(self.data)):
            del self.data[-half:]
        self._send(len(self.data))

    def _send(self, end: int) -> None:
        if end > self._told:
            self._sink.told(bytes(self.data[self._told : end]))
            self._told = end
