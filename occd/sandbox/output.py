"""The streams of a running program in the order of its writes, up to the limit of each stream.

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
    """Tells each sink the output of its stream in whole characters. When a stream exceeds its limit,
    `exceeded` is called, and the rest of the stream is dropped. `wrote` is called whenever there was
    output."""

    def __init__(
        self,
        sinks: Mapping[Stream, Sink],
        exceeded: Callable[[], None],
        wrote: Callable[[], None],
    ) -> None:
        self._streams = {name: _Stream(sink) for name, sink in sinks.items()}
        self._exceeded = exceeded
        self._wrote = wrote

    def came(self, name: Stream, data: bytes) -> None:
        """The program has written this."""
        stream = self._streams[name]
        stream.came(data)
        if stream.truncated:
            self._exceeded()
        self._wrote()

    def finish(self, *, cut: bool) -> None:
        """Tell the bytes that were held back. `cut`: the program was ended, perhaps within a character."""
        for stream in self._streams.values():
            stream.finish(cut=cut)

    @property
    def truncated(self) -> bool:
        return any(stream.truncated for stream in self._streams.values())

    def written(self, name: Stream) -> Written:
        """After `finish`. Nothing, for a stream that was not given."""
        return self._streams[name].written if name in self._streams else Written()


class Pipes:
    """Reads the output of pipes, or of a terminal. `fds` do not block."""

    def __init__(self, fds: Mapping[Stream, int], output: Output) -> None:
        self._open = dict(fds)
        self._output = output

    def start(self, nursery: trio.Nursery) -> None:
        """Read the pipes to their ends, also past a limit, so that a program never waits for us."""
        for name, fd in self._open.items():
            nursery.start_soon(self._read, name, fd)

    async def _read(self, name: Stream, fd: int) -> None:
        while name in self._open:
            await trio.lowlevel.wait_readable(fd)
            self._take()

    def drain(self) -> None:
        """Read the rest when no process of the program is left: the pipes hold all remaining output. We do
        not wait for their end, because the kernel keeps a pipe open that is in flight between two
        sockets."""
        while self._take():
            pass

    def _take(self) -> bool:
        """Read each pipe once, stdout first: both may have output since the last look."""
        took = False
        for name, fd in tuple(self._open.items()):
            try:
                data = os.read(fd, _READ)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                data = b""  # of a terminal: nobody has its other side any more, not even init
            if data:
                took = True
                self._output.came(name, data)
            else:
                del self._open[name]
        return took


class _Stream:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._size = 0
        self._head = bytearray()
        self._half = b""
        """The beginning of a character, held back."""
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._utf8 = True
        self.truncated = False

    def came(self, data: bytes) -> None:
        if not self.truncated:
            self._keep(data)

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
