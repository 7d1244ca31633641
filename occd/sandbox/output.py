"""Reads the streams of a running program in the order of its writes, up to the limit of each stream.

The output goes to whoever runs the program. Only its beginning is kept, and an account of it.
"""

import codecs
import errno
import os
from collections.abc import Callable, Mapping

import trio

from occd.model import HEAD_BYTES, Stream, Written
from occd.sandbox import Sink
from occd.utf8 import unfinished

_READ = 65_536


class Output:
    """Tells each sink the output of its pipe, or of the terminal, in whole characters. When a stream exceeds
    its limit, `exceeded` is called, and the rest of the stream is dropped. `wrote` is called whenever there
    was output."""

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

    def written(self, name: Stream) -> Written:
        """After `finish`. Nothing, for a stream that was not given."""
        return self._streams[name].written if name in self._streams else Written()


class _Stream:
    def __init__(self, fd: int, sink: Sink) -> None:
        self.fd = fd
        self._sink = sink
        self._size = 0
        self._head = bytearray()
        self._half = b""
        """The beginning of a character, held back."""
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._utf8 = True
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
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            read = b""  # of a terminal: nobody has its other side any more, not even init
        if not read:
            self.ended = True
            return False
        if not self.truncated:
            self._keep(read)
        return True

    def _keep(self, read: bytes) -> None:
        room = self._sink.limit - self._size - len(self._half)
        data = self._half + read[:room]
        half = unfinished(data)
        self._half = data[len(data) - half :]
        self._send(data[: len(data) - half])
        if len(read) > room:
            self.truncated = True
            self.finish(cut=True)

    def finish(self, *, cut: bool) -> None:
        """Tell the rest at the end of the stream. With `cut`, drop a part of a character at the end."""
        rest, self._half = self._half, b""
        if not cut:
            self._send(rest)

    def _send(self, data: bytes) -> None:
        if data:
            self._size += len(data)
            self._head += data[: HEAD_BYTES - len(self._head)]
            self._check(data)
            self._sink.told(data)

    def _check(self, data: bytes, *, final: bool = False) -> None:
        if self._utf8:
            try:
                self._text.decode(data, final)
            except UnicodeDecodeError:
                self._utf8 = False

    @property
    def written(self) -> Written:
        self._check(b"", final=True)
        head = bytes(self._head)
        if self._size > len(head):
            head = head[: len(head) - unfinished(head)]
        return Written(self._size, self._utf8, self.truncated, head)
