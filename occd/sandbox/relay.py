"""The connection to the relay of a container's init (`sandbox/init/relay.c`).

Both sides send frames: a letter, three unused bytes, the size of the body, and the body. The engine wraps
what comes from the container once more, and tells stdout, which has the frames, from stderr, on which init
complains.
"""

import select
import socket
import struct
from contextlib import suppress

import trio

from occd.errors import SandboxFailed
from occd.log import printable

_FRAME = struct.Struct("<B3xI")
_WRAP = struct.Struct(">B3xI")
_READ = 2**17
_SAID_BYTES = 4096
PART = 2**15
"""Longer texts go in frames of this size."""
UNKNOWN = 2**64 - 1
"""A figure that init cannot tell."""


def frame(kind: bytes, body: bytes = b"") -> bytes:
    return _FRAME.pack(kind[0], len(body)) + body


class Relay:
    def __init__(self, connected: socket.socket) -> None:
        self._socket = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
        self._came = bytearray()
        self._frames = bytearray()
        self._said = bytearray()
        self._unsent = bytearray()
        """The rest of a frame whose sender was cancelled goes before the next frame."""
        self._sending = trio.Lock()

    @property
    def is_silent(self) -> bool:
        """Whether nothing came that was not read, not even the end of the connection."""
        poll = select.poll()
        poll.register(self._socket.socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def said(self) -> str:
        """Init's complaints since the last time: nothing, or a colon with the latest lines. They may have
        names from the box."""
        lines, self._said = self._said.decode(errors="backslashreplace").split("\n"), bytearray()
        said = "; ".join(line for line in lines if line)
        return said and f": {printable(said)}"

    def hang_up(self) -> None:
        with suppress(OSError):
            self._socket.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.socket.close()

    async def send(self, kind: bytes, body: bytes = b"") -> None:
        await self.send_all(frame(kind, body))

    async def send_all(self, data: bytes | bytearray) -> None:
        """Send whole frames. Raises SandboxFailed when the container has ended."""
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
        except (trio.BrokenResourceError, trio.ClosedResourceError):
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
                self._said = (self._said + part)[-_SAID_BYTES:]
            else:
                self._frames += part
            at = body + size
        del self._came[:at]
